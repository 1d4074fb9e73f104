"""The command `slidegate`, also `python -m slidegate`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._start_up import limiters_of
from .errors import ConfigurationError
from .report import report_of

__all__ = ["main"]

_FAILED = 1
_UNUSABLE = 2


class _Unusable(Exception):
    """What was asked for cannot be had; the message says what would be right."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 for what was looked for, 2 for what cannot be done."""
    parser = argparse.ArgumentParser(prog="slidegate", description="Looks into rate limits.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    routes = commands.add_parser(
        "routes",
        help="list every route of an application with the limits that will be enforced on it, and why",
        description="Imports an application, as a server would, and lists every route with its limits. Starts nothing.",
    )
    routes.add_argument("app", metavar="MODULE:APP", help='where the application is, such as "main:app"')
    routes.add_argument("--app-dir", default=".", metavar="DIR", help="where the module is looked for (default: here)")
    routes.add_argument("--factory", action="store_true", help="APP is a function that returns the application")
    routes.add_argument("--json", action="store_true", help="print JSON")
    routes.add_argument(
        "--strict", action="store_true", help="exit with status 1 if a route has no limit and is not exempt"
    )
    options = parser.parse_args(arguments)
    try:
        return _routes(options)
    except (_Unusable, ConfigurationError) as error:
        print(f"slidegate: {error}", file=sys.stderr)
        return _UNUSABLE


def _routes(options: argparse.Namespace) -> int:
    app = _imported(options.app, options.app_dir, options.factory)
    try:
        limiters = limiters_of(app)
    except TypeError as error:
        raise _Unusable(f"{options.app}: {error}") from error
    if not limiters:
        raise _Unusable(f"{options.app} has no limiter; set app.state.limiter = limiter, or decorate a route")
    reports = [report_of(limiter, app) for limiter in limiters]
    if options.json:
        print(json.dumps([report.as_json() for report in reports], indent=2))
    else:
        for at, report in enumerate(reports):
            print(*([f"\nlimiter {at + 1} of {len(reports)}:"] if len(reports) > 1 else []), report, sep="\n")
    names = [{route.name for route in report.unlimited} for report in reports]
    return _FAILED if options.strict and set.intersection(*names) else 0


def _imported(target: str, directory: str, is_factory: bool) -> Any:
    module_name, _, attributes = target.partition(":")
    if not module_name or not attributes:
        raise _Unusable(f'{target!r} names no application; write MODULE:APP, such as "main:app"')
    sys.path.insert(0, str(Path(directory).resolve()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise _Unusable(f"there is no module {module_name!r} in {directory!r}; see --app-dir") from error
    for name in attributes.split("."):
        if not hasattr(found, name):
            raise _Unusable(f"{module_name!r} has no {attributes!r}")
        found = getattr(found, name)
    return found() if is_factory else found
