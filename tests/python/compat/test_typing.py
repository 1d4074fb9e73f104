"""Programs check as strictly typed ones, and run without a warning."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compat.library import Library, differs, same

PROGRAM = """
from fastapi import FastAPI, Request

from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from slowapi.util import get_remote_address

limiter = Limiter(key_func=get_remote_address, default_limits=["9/minute"], headers_enabled=False)
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
app.add_middleware(SlowAPIMiddleware)
app.add_middleware(SlowAPIASGIMiddleware)


def cost(request: Request) -> int:
    return 1


@app.get("/items/{number}")
@limiter.limit("5/minute", cost=cost, exempt_when=lambda: False)
@limiter.shared_limit("9/hour", scope="shop")
async def items(request: Request, number: int) -> dict[str, int]:
    return {"number": number}


@app.get("/free")
@limiter.exempt
def free(request: Request) -> str:
    return "ok"
"""
MISUSE = """

async def misuse(request: Request) -> None:
    await items(request, "seven")
"""
needs_type_checkers = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("mypy", "basedpyright"))), reason="the type checkers are not installed here"
)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the programs, where mypy finds what it has found out about their imports."""
    return tmp_path_factory.mktemp("typed")


def write(library: Library, directory: Path, text: str) -> Path:
    program = directory / "program.py"
    program.write_text(text.replace("slowapi", library.name))
    return program


def with_mypy(program: Path) -> set[str]:
    """The codes of what mypy has against a program."""
    options = ["--strict", "--cache-dir", str(program.parent / "cache"), "--no-error-summary"]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "python")}
    command = [sys.executable, "-m", "mypy", *options, str(program)]
    told = subprocess.run(command, cwd=program.parent, env=environment, capture_output=True, text=True, check=False)
    assert not told.stderr
    return {line.rpartition("[")[2].rstrip("]") for line in told.stdout.splitlines() if ": error:" in line}


def with_pyright(program: Path) -> set[str]:
    """The rules of pyright that a program breaks."""
    # Of what basedpyright adds to pyright, "strict" turns nothing on.
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT / "python")]}
    (program.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, program.name]
    told = subprocess.run(command, cwd=program.parent, capture_output=True, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(told.stdout)["generalDiagnostics"]
    return {each.get("rule", each["message"]) for each in found}


# What slowapi's types make of the handler, and of functions below its decorators.
REPORTED = {with_mypy: {"arg-type"}, with_pyright: {"reportArgumentType", "reportUntypedFunctionDecorator"}}


@needs_type_checkers
@pytest.mark.parametrize("check", [with_mypy, with_pyright])
def test_a44_a_program_checks_strictly(check: Any, library: Library, cached: Path) -> None:
    found = check(write(library, cached, PROGRAM))
    told = found if library.name == "slidegate" else found & REPORTED[check]
    assert told == library.expected(differs(slowapi=REPORTED[check], slidegate=set(), difference="typed"))


@needs_type_checkers
@pytest.mark.parametrize("check", [with_mypy, with_pyright])
def test_a44_a_decorated_endpoint_keeps_its_signature(check: Any, library: Library, cached: Path) -> None:
    kept = {with_mypy: "arg-type", with_pyright: "reportArgumentType"}[check]
    new = check(write(library, cached, PROGRAM + MISUSE)) - check(write(library, cached, PROGRAM))
    assert new == library.expected(differs(slowapi=set(), slidegate={kept}, difference="typed"))


RUN = """
import asyncio
import httpx

async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        print([(await client.get("/items/7")).status_code for _ in range(6)])

# Not told of what takes long on a busy machine.
asyncio.run(main(), debug=False)
"""


def test_a45_a_program_runs_with_warnings_as_errors(library: Library, tmp_path: Path) -> None:
    program = write(library, tmp_path, PROGRAM + RUN)
    environment = {**os.environ, "PYTHONDEVMODE": "1"}
    command = [sys.executable, "-W", "error", str(program)]
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    quiet = ("[200, 200, 200, 200, 200, 429]\n", 0)
    # There slowapi uses what asyncio is about to drop.
    expected = (
        same(quiet)
        if sys.version_info < (3, 14)
        else differs(slowapi=("", 1), slidegate=quiet, difference="no-warnings")
    )
    assert (told.stdout, told.returncode) == library.expected(expected), told.stderr
    if library.name == "slidegate":
        # What PROGRAM is warned of in its log, as every path of /items/{number} is counted apart.
        assert [line.partition(" ")[0] for line in told.stderr.splitlines()] == ['key_style="url"']
