"""Measures everything in one run and prints one table. See README.md beside this file.

.venv/bin/python benchmarks/run.py [--http] [--json FILE]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import counting
import dependencies
import endpoints
import engine
import memory
import middlewares
import processes
import remote
import remote_endpoints
import report
import served
from figures import Figure

_ENGINE_ROUNDS = 21
_COUNTING_ROUNDS = 41
_PROCESSES_ROUNDS = 11
_REMOTE_ROUNDS = 11
_SERVED_ROUNDS = 8
_ENDPOINT_ROUNDS = 1000
_DEPENDENCY_ROUNDS = 1000
_REMOTE_ENDPOINT_ROUNDS = 300
_REMOTE_ENDPOINT_ROUNDS_AT_ONCE = 60
_MIDDLEWARE_ROUNDS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures slidegate and its peers, in one run.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    parser.add_argument("--http", action="store_true", help="measure servers under wrk, and nothing else")
    arguments = parser.parse_args()

    about = report.machine()
    figures = _under_wrk() if arguments.http else _in_process()
    print(report.table(about, figures))
    if arguments.json is not None:
        report.write_json(arguments.json, about, figures)


def _under_wrk() -> list[Figure]:
    if not served.IS_POSSIBLE:
        sys.exit("wrk is missing (Debian package: wrk), and nothing was measured")
    _say("uvicorn under wrk")
    return served.measure(_SERVED_ROUNDS)


def _in_process() -> list[Figure]:
    _say("building slidegate_bench")
    try:
        program = engine.build()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.output}\nslidegate_bench could not be built")
    _say("memory")
    figures = memory.measure()
    _say("engine")
    figures = engine.measure(program, _ENGINE_ROUNDS) + figures
    _say("Python")
    figures += counting.measure(_COUNTING_ROUNDS)
    _say("processes")
    figures += processes.measure(_PROCESSES_ROUNDS)
    _say("Redis")
    figures += remote.measure(_REMOTE_ROUNDS)
    _say("FastAPI")
    figures += endpoints.measure(_ENDPOINT_ROUNDS)
    figures += dependencies.measure(_DEPENDENCY_ROUNDS)
    figures += remote_endpoints.measure(_REMOTE_ENDPOINT_ROUNDS, _REMOTE_ENDPOINT_ROUNDS_AT_ONCE)
    figures += middlewares.measure(_MIDDLEWARE_ROUNDS)
    return figures


def _say(what: str) -> None:
    print(f"==> {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
