"""The demonstration and the example, as people run them."""

from __future__ import annotations

import importlib.util
import re
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path

import pytest
import uvicorn
from conftest import Client

from slidegate.demo import __main__ as demo

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COMMAND = [sys.executable, "-m", "slidegate.demo"]


def test_fault_30_the_demo_posts_to_the_calendar() -> None:
    names = [route.name for route in demo.routes()]
    assert names == ["POST /agent/chat", "POST /agent/calendar", "GET /audit/logs", "GET /health"]


@pytest.mark.parametrize("storage", [[], ["--storage", "redis"]])
def test_the_demo_shows_every_limit_at_work_and_leaves_no_server(storage: list[str]) -> None:
    done = subprocess.run([*COMMAND, *storage], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {
        line.split()[1]: line.split()[2:] for line in done.stdout.splitlines() if line.startswith(("GET ", "POST "))
    }
    assert {path: row[:6] for path, row in rows.items()} == {
        "/agent/chat": ["10/minute", "11", "10", "1", "call", "11"],
        "/agent/calendar": ["20/minute", "22", "20", "2", "call", "21"],
        "/audit/logs": ["30/minute", "33", "30", "3", "call", "31"],
        "/health": ["100/minute", "103", "100", "3", "call", "101"],
    }
    answer = done.stdout[done.stdout.index("HTTP/1.1") :].splitlines()
    assert answer[:3] == ["HTTP/1.1 429 Too Many Requests", "X-RateLimit-Limit: 10", "X-RateLimit-Remaining: 0"]
    assert re.fullmatch(r"X-RateLimit-Reset: \d{10}", answer[3])
    assert re.fullmatch(r"Retry-After: [1-6]?\d", answer[4])
    assert answer[6] == '{"error":"Rate limit exceeded: 10 per 1 minute"}'
    address = re.search(r"curl -i -X POST http://127.0.0.1:(\d+)/agent/chat", done.stdout)
    assert address is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address[1])))
    redis = re.search(r"counting in redis\+unix://(\S+)", done.stdout)
    assert (redis is None) == (not storage)
    if redis is not None:
        assert not Path(redis[1]).exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_can_be_kept_until_it_is_stopped(stop: signal.Signals) -> None:
    process = subprocess.Popen([*COMMAND, "--keep"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("Serving on"))
        port = int(line.rpartition(":")[2].split()[0])
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/agent/chat")
        response = connection.getresponse()
        assert (response.status, response.headers["Retry-After"].isdigit()) == (429, True)
        connection.close()
        process.send_signal(stop)
        assert process.wait(30) == (0 if stop == signal.SIGINT else 128 + stop)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_the_demo_says_so_when_its_port_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert demo.main(["--port", str(taken.getsockname()[1])]) == 1
    assert re.fullmatch(r"FAILED: .*[Aa]ddress already in use.*\n", capsys.readouterr().err)


def test_the_demo_says_so_when_something_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    assert demo.main([]) == 1
    assert capsys.readouterr().err == "The demo needs uvicorn: pip install uvicorn\n"


def test_the_demo_says_so_when_its_server_dies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: None)
    assert demo.main([]) == 1
    assert capsys.readouterr().err.startswith("FAILED: the server does not answer: ")


@pytest.mark.parametrize(
    ("statuses", "retry_after", "body", "complaint"),
    [
        ([200, 200, 429], "60", '{"error": "Rate limit exceeded: 2 per 1 minute"}', None),
        ([200, 200, 200], "60", "{}", "2 requests a minute are promised, answered were [200, 200, 200]"),
        ([200, 429, 429], "60", "{}", "2 requests a minute are promised, answered were [200, 429, 429]"),
        ([200, 200, 429], "62", "{}", "Retry-After is 62, not from 1 to 61"),
        ([200, 200, 429], None, "{}", "Retry-After is None, not from 1 to 61"),
        ([200, 200, 429], "60", '{"detail": "2 per 1 minute"}', "the body is"),
    ],
)
def test_the_demo_fails_when_a_promise_is_broken(
    statuses: list[int], retry_after: str | None, body: str, complaint: str | None
) -> None:
    route = demo.Route("GET", "/", 2, excess=1)
    for status in statuses:
        headers = HTTPMessage()
        if retry_after is not None:
            headers["Retry-After"] = retry_after
        route.answers.append(demo.Answer(status, "", headers, body))
    found = route.complaint()
    assert found is None if complaint is None else complaint in (found or "")


def test_the_quickstart_limits_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    specification = importlib.util.spec_from_file_location("quickstart", EXAMPLES / "quickstart.py")
    assert specification is not None
    assert specification.loader is not None
    quickstart = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "quickstart", quickstart)
    specification.loader.exec_module(quickstart)
    client = Client(quickstart.app)
    assert client.statuses("/agent/chat", 11) == [200] * 10 + [429]
    assert client.statuses("/reports/sales?full=1", 2) == [200, 429]
    assert client.statuses("/reports/sales?full=1", 3, headers={"X-API-Key": "k-3f9a1c"}) == [200] * 3
