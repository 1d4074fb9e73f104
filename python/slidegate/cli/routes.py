"""`slidegate routes`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from ..report import BY_PATH, limiters_of, report_of
from .errors import FAILED, Unusable


def add_routes(commands: Any) -> None:
    """Adds the command to the subparsers."""
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
        "--strict",
        action="store_true",
        help="exit with status 1 if a route has no limit and is not exempt, or counts each of its paths apart",
    )
    routes.set_defaults(run=_routes)


def _routes(options: argparse.Namespace) -> int:
    app = _imported(options.app, options.app_dir, options.factory)
    try:
        limiters = limiters_of(app)
    except TypeError as error:
        raise Unusable(f"{options.app}: {error}") from error
    if not limiters:
        raise Unusable(f"{options.app} has no limiter; set app.state.limiter = limiter, or decorate a route")
    reports = [report_of(limiter, app) for limiter in limiters]
    if options.json:
        print(json.dumps([report.as_json() for report in reports], indent=2))
    else:
        for at, report in enumerate(reports):
            print(*([f"\nlimiter {at + 1} of {len(reports)}:"] if len(reports) > 1 else []), report, sep="\n")
    names = [{route.name for route in report.unlimited} for report in reports]
    varied = dict.fromkeys(route.name for report in reports for route in report.varied)
    if options.strict and varied:
        print(f"each path counts apart, so whoever varies it is not limited: {', '.join(varied)}", file=sys.stderr)
        print(BY_PATH, file=sys.stderr)
    return FAILED if options.strict and (varied or set.intersection(*names)) else 0


def _imported(target: str, directory: str, is_factory: bool) -> Any:
    module_name, _, attributes = target.partition(":")
    if not module_name or not attributes:
        raise Unusable(f'{target!r} names no application; write MODULE:APP, such as "main:app"')
    sys.path.insert(0, str(Path(directory).resolve()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise Unusable(f"there is no module {module_name!r} in {directory!r}; see --app-dir") from error
    for name in attributes.split("."):
        if not hasattr(found, name):
            raise Unusable(f"{module_name!r} has no {attributes!r}")
        found = getattr(found, name)
    return found() if is_factory else found
