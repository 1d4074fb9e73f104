"""How servers start, or refuse to, and how they stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from e2e.client import PATIENCE_S
from e2e.conftest import VARIANTS
from e2e.server import HERE, Server, Servers, complaints_in, running
from e2e.test_websockets import opened

INERT = """
from contextlib import asynccontextmanager
from fastapi import APIRouter, FastAPI
from slidegate import Limiter
from slidegate.util import get_remote_address

limiter, router = Limiter(get_remote_address), APIRouter(prefix="/included")

@asynccontextmanager
async def lifespan(app):
    print("THE APPLICATION STARTS")
    yield

@limiter.limit("1/minute")
@router.get("/inert")
async def inert():
    return "ok"

app = FastAPI(lifespan=lifespan)
app.include_router(router, prefix="/api")
"""


def test_a06_a_server_does_not_start_an_application_with_an_inert_decorator(tmp_path: Any, servers: Servers) -> None:
    (tmp_path / "inert.py").write_text(INERT)
    command = [sys.executable, "-m", "uvicorn", "inert:app", "--port", "0", *servers.options]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode != 0
    assert "GET /api/included/inert: @limiter.limit stands above" in ended.stderr
    assert "Application startup failed" in ended.stderr
    assert "Uvicorn running" not in ended.stderr
    assert ended.stdout == ""


def test_the_command_prints_the_limits_of_every_route() -> None:
    command = [sys.executable, "-m", "slidegate", "routes", "e2e.application:limited", "--factory"]
    ended = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = {" ".join(line.split()[:2]): line for line in ended.stdout.splitlines()}
    assert "100 per 1 hour" in rows["GET /streams/async"]
    assert "50 per 1 hour" in rows["GET /streams/async/decorated"]
    assert "50 per 1 hour" in rows["GET /mounted/state/decorated"]
    assert "2 per 1 hour" in rows["WEBSOCKET /sockets/few"]
    assert "exempt" in rows["POST /journal/open"]


def test_a_server_that_is_stopped_finishes_what_it_can_and_gives_up_the_rest(servers: Servers) -> None:
    with ExitStack() as stack:
        started = [stack.enter_context(running(each, (*servers.options, *IN_ONE_SECOND))) for each in VARIANTS]
        seen = list(stack.enter_context(ThreadPoolExecutor()).map(stop_in_mid_stream, started))
    assert seen[1:] == [seen[0]] * 2
    assert seen[0]["ending"] == ["chunk 0\n", "chunk 1\n", "chunk 2\n", ""]
    assert seen[0]["socket"] == 1012
    assert seen[0]["notes"]["ending"] == ["chunk 0", "chunk 1", "chunk 2", "closed", "background"]
    assert seen[0]["notes"]["endless"][:2] == ["CancelledError", "closed"]
    assert seen[0]["log"][-3:] == ["mounted stops", "main stops", "Application shutdown complete."]


IN_ONE_SECOND = ("--timeout-graceful-shutdown", "1")


def stop_in_mid_stream(server: Server) -> dict[str, Any]:
    """Has a stream that is waiting for an upload, which ends after the signal; one that never ends; and a WebSocket."""
    server.name = "socket"
    with (
        server.connect("ending") as ending,
        server.connect("endless") as endless,
        server.connect("opening") as opening,
        opened(server, "/sockets/echo/decorated") as socket,
    ):
        stream = ending.begin("GET", "/streams/async/decorated")
        stream.head()
        upload = opening.begin("POST", "/journal/open/after-body?name=ending&times=3", [("content-length", "1")], None)
        hopeless = endless.begin("GET", "/streams/endless/decorated")
        hopeless.head()
        hopeless.chunk()
        server.process.send_signal(signal.SIGTERM)
        server.logged("Shutting down")
        upload.send(b"1", is_last=True)
        chunks = [stream.chunk().decode() for _ in range(4)]
        while endless.receive():
            pass
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
        opening_status = upload.answer().status
    status = server.stop()
    log = [line.partition("INFO:")[2].strip() for line in server.log if line.startswith("INFO:")]
    (notes,) = (json.loads(line.removeprefix("notes ")) for line in log if line.startswith("notes "))
    stopping = log.index("Shutting down")
    return {
        "status": status,
        "ending": chunks,
        "upload": opening_status,
        "socket": closed.value.rcvd.code if closed.value.rcvd is not None else None,
        "notes": notes,
        "log": [line for line in log[stopping:] if not line.startswith(("Finished", "notes"))],
        "complaints": complaints_in(server.log[server.log.index(server.logged("Shutting down")) :]),
    }
