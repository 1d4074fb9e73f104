"""Which server a process is a worker of shows in the functions that servers start workers in, which have other names in
other versions.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import servers
from servers import running

from slidegate._storage.server_process import find_server, is_starting

# Of each server: from which version on, up to the newest that was tried, it has this function in this module.
FUNCTIONS = [
    ("uvicorn", "0.30.0", "0.54.0", "uvicorn._subprocess", "subprocess_started"),
    ("uvicorn", "0.30.0", "0.54.0", "uvicorn.config", "load"),
    ("gunicorn", "22.0.0", "27.0.1", "gunicorn.arbiter", "spawn_worker"),
    ("hypercorn", "0.17.0", "0.18.0", "hypercorn.asyncio.run", "asyncio_worker"),
    ("hypercorn", "0.17.0", "0.18.0", "hypercorn.asyncio.run", "uvloop_worker"),
    ("hypercorn", "0.17.0", "0.18.0", "hypercorn.trio.run", "trio_worker"),
    ("granian", "2.0.1", "2.8.9", "granian.server.mp", "_spawn_asgi_worker"),
    ("granian", "2.0.1", "2.8.9", "granian.server.mp", "_spawn_asgi_lifespan_worker"),
    ("granian", "2.8.9", "2.8.9", "granian.server.mp", "wrapped"),
]
# As they are started, and whether workers are forked from a process that has imported the application.
STARTED = [
    ("uvicorn", "uvicorn", ()),
    ("uvicorn", "fastapi_cli", ()),
    ("gunicorn", "gunicorn", ()),
    ("gunicorn", "gunicorn --preload", ()),
    ("hypercorn", "hypercorn", ()),
    ("hypercorn", "hypercorn", ("--worker-class", "uvloop")),
    ("granian", "granian", ()),
]

PROGRAM = """
import os
from contextlib import asynccontextmanager
from fastapi import FastAPI
from slidegate._storage.server_process import find_server, is_starting

at_import = [is_starting(), os.getpid()]
in_lifespan = []

@asynccontextmanager
async def lifespan(app):
    in_lifespan.append(is_starting())
    yield

app = FastAPI(lifespan=lifespan)

@app.get("/pid")
async def pid():
    server = find_server()
    return {
        "server": None if server is None else [server.pid, server.is_this],
        "starting": [at_import[0], *in_lifespan, is_starting()],
        "imported_here": at_import[1] == os.getpid(),
    }
"""


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(".") if each.isdigit())


def functions_in(module: str) -> set[str]:
    """Of its source, those inside of others too: some modules need more packages to be imported."""
    package, *names = module.split(".")
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    tree = ast.parse(Path(found.origin).parent.joinpath(*names).with_suffix(".py").read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def named(case: Sequence[Any]) -> str:
    return " ".join(map(str, [*case[:3], *case[4:]]))


@pytest.mark.parametrize("case", FUNCTIONS, ids=named)
def test_a_server_has_the_function_that_its_workers_are_known_by(case: tuple[str, str, str, str, str]) -> None:
    server, oldest, newest, module, function = case
    installed = version_of(server)
    if installed is None or numbers(installed) < numbers(oldest):
        pytest.skip(f"was written for {server} {oldest} to {newest}, and {installed} is here")
    assert function in functions_in(module), f"written for {server} {oldest} to {newest}, {installed} has another"


@pytest.mark.parametrize(
    ("package", "kind", "words"),
    [pytest.param(*case, id=f"{case[1]}, {case[0]} {version_of(case[0])} {case[2][1:]}") for case in STARTED],
)
def test_a_worker_finds_its_server_and_knows_when_it_starts(
    package: str, kind: str, words: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(kind.split()[0]) is None or version_of(package) is None:
        pytest.skip("is not installed here")
    monkeypatch.setitem(servers.COMMANDS, kind, [*servers.COMMANDS[kind], *words])
    with running(kind, tmp_path, workers=2, program=PROGRAM) as server:
        told = json.loads(server.get("/pid")[1])
        assert told["server"] == [server.process.pid, False], (package, version_of(package))
        # A program that was imported before the fork has made its limiters in the server itself.
        is_forked = kind == "gunicorn --preload"
        assert told["imported_here"] is not is_forked
        assert told["starting"] == [not is_forked, True, False], (package, version_of(package))


@pytest.mark.parametrize("kind", ["uvicorn", "hypercorn"])
def test_a_server_with_one_worker_is_none(kind: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(kind) is None:
        pytest.skip("is not installed here")
    with running(kind, tmp_path, workers=1, program=PROGRAM) as server:
        assert json.loads(server.get("/pid")[1])["server"] is None


def test_a_process_of_its_own_has_no_server() -> None:
    assert find_server() is None
    assert not is_starting()
