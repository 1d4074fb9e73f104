"""What the package offers, and that programs for slowapi find what they look for."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import slowapi.errors
import slowapi.extension
import slowapi.util
import slowapi.wrappers
from conftest import needs_mypy

import slidegate
import slidegate.testing
from slidegate import _core

USE = """
from fastapi import FastAPI, Request

from slidegate import Limiter, RateLimitExceeded, _rate_limit_exceeded_handler
from slidegate.util import get_remote_address

limiter = Limiter(key_func=get_remote_address, default_limits=["1/second"])
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


@app.get("/chat")
@limiter.limit("10/minute")
async def chat(request: Request, name: str, loud: bool = False) -> dict[str, str]:
    return {"name": name}


@limiter.shared_limit("10/minute", scope="chat", cost=lambda request: 2)
@limiter.exempt
def shout(name: str) -> str:
    return name.upper()


reveal_type(chat)
reveal_type(shout)
shout(5)
"""


def test_the_public_names_are_these() -> None:
    assert set(slidegate.__all__) == {
        *("ConfigurationError", "Decision", "Gate", "Limiter", "RateLimit", "RateLimitExceeded"),
        "WebSocketRateLimitExceeded",
        *("__version__", "_rate_limit_exceeded_handler"),
    }
    assert all(hasattr(slidegate, name) for name in slidegate.__all__)
    assert slidegate.__version__ == _core.__version__


@pytest.mark.parametrize("module", ["extension", "errors", "util", "wrappers"])
def test_the_modules_of_slowapi_have_their_names_here(module: str) -> None:
    theirs = importlib.import_module(f"slowapi.{module}")
    ours = importlib.import_module(f"slidegate.{module}")
    own = [name for name, value in vars(theirs).items() if inspect.isclass(value) or inspect.isfunction(value)]
    own = [name for name in own if getattr(theirs, name).__module__ == theirs.__name__]
    assert own
    assert [name for name in own if not hasattr(ours, name)] == []


@pytest.mark.parametrize("name", ["Limit", "LimitGroup"])
def test_limits_are_made_with_the_parameters_of_slowapi(name: str) -> None:
    theirs = inspect.signature(getattr(slowapi.wrappers, name)).parameters.values()
    ours = inspect.signature(getattr(importlib.import_module("slidegate.wrappers"), name)).parameters.values()
    assert [p.name for p in theirs] == [p.name for p in ours if p.kind is not p.KEYWORD_ONLY]


@needs_mypy
def test_a44_the_package_is_typed_and_decorators_keep_signatures(tmp_path: Path) -> None:
    assert (Path(slidegate.__file__).parent / "py.typed").exists()
    program = tmp_path / "program.py"
    program.write_text(USE)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    environment = {**os.environ, "MYPYPATH": str(Path(__file__).resolve().parents[2] / "python")}
    checked = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    told = [line.partition(" ")[2] for line in checked.stdout.splitlines()]
    assert len(told) == 4, checked.stdout + checked.stderr
    assert "(request: starlette.requests.Request" in told[0]
    assert "name: str, loud: bool" in told[0]
    assert "def (name: str) -> str" in told[1]
    assert 'Argument 1 to "shout" has incompatible type "int"' in told[2]


def test_a45_importing_everything_gives_no_warning() -> None:
    modules = ("extension", "errors", "util", "wrappers", "testing", "_slowapi.counter", "decision", "demo", "demo.app")
    program = "; ".join(f"import slidegate.{module}" for module in modules)
    command = [sys.executable, "-W", "error", "-c", program]
    imported = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (imported.returncode, imported.stderr) == (0, "")


def test_the_clock_of_tests_is_the_engines() -> None:
    clock = slidegate.testing.ManualClock(5)
    slidegate.testing.advance(clock, seconds=1.5)
    assert clock.now() == 1_500_000_005
