"""The command `slidegate`, also `python -m slidegate`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .._core import SegmentError
from ..errors import ConfigurationError, StorageError
from .bench import add_bench
from .errors import UNUSABLE, Unusable
from .memory import add_memory_commands
from .routes import add_routes

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 for what was looked for, 2 for what cannot be done."""
    parser = argparse.ArgumentParser(prog="slidegate", description="Looks into rate limits.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_routes(commands)
    add_memory_commands(commands)
    add_bench(commands)
    demo = commands.add_parser(
        "demo", add_help=False, help="start a server, call it until it refuses, show what happened"
    )
    demo.set_defaults(run=None)
    options, rest = parser.parse_known_args(arguments)
    if options.run is None:
        from ..demo.__main__ import main as run_demo

        return run_demo(rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        status: int = options.run(options)
        return status
    except (Unusable, ConfigurationError, StorageError, SegmentError) as error:
        print(f"slidegate: {error}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:
        # Whoever read has had enough. Nothing is to be flushed to them at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
