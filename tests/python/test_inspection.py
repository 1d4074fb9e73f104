"""`slidegate ls`, `inspect`, `reset`, `rm` and `top`: what is seen of limits from outside."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Client
from fastapi import FastAPI

from slidegate import Limiter
from slidegate._core import Segment
from slidegate._rules.limit_texts import scope_text
from slidegate.cli import main
from slidegate.cli.top import View
from slidegate.inspection import Inspection, key_and_place, segment_named
from slidegate.util import get_remote_address

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    (Path(Segment.shared_directory) / f"{Segment.shared_prefix}{name}").unlink(missing_ok=True)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def client_on(limiter: Limiter, make_app: Callable[[Limiter], FastAPI]) -> Client:
    app = make_app(limiter)

    @app.get("/chat")
    @limiter.limit("3/minute")
    def chat() -> str:
        return "ok"

    @app.get("/mail")
    @limiter.shared_limit("2/second; 100/hour", scope="post")
    def mail() -> str:
        return "ok"

    @app.get("/per-method")
    @limiter.limit("5/minute", per_method=True)
    def per_method() -> str:
        return "ok"

    return Client(app)


@pytest.fixture(params=[False, True], ids=["digests", "recorded"])
def is_recorded(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def client(name: str, is_recorded: bool, make_app: Callable[[Limiter], FastAPI]) -> Client:
    limiter = Limiter(get_remote_address, storage_uri=f"shared://{name}?size=1MiB", record_keys=is_recorded)
    client = client_on(limiter, make_app)
    assert client.statuses("/chat", 4) == [200, 200, 200, 429]
    assert client.get("/mail").status_code == 200
    return client


def test_ls_lists_segments(run: Run, client: Client, name: str) -> None:
    status, out, _ = run("ls")
    (line,) = (line for line in out.splitlines() if line.startswith(name))
    assert status == 0
    assert "1 MiB" in line
    assert line.endswith("in order")
    rows = {row["name"]: row for row in json.loads(run("ls", "--json")[1])}
    assert rows[name]["size"] == 1 << 20
    assert rows[name]["server_pid"] is None


def test_top_shows_names_when_they_are_recorded(run: Run, client: Client, name: str, is_recorded: bool) -> None:
    status, out, _ = run("top", name, "--once")
    keys, limits, memory = out.split("\n\n")
    first = keys.splitlines()[1]
    assert status == 0
    assert first.endswith("3 of 3, refused")
    if is_recorded:
        assert first.split()[0] == "192.0.2.1"
        assert "/chat" in first
    else:
        assert "192.0.2.1" not in out
        assert first.startswith("#")
    (chat,) = (line for line in limits.splitlines() if line.startswith("3 per minute"))
    assert chat.split()[-2:] == ["3", "1"]
    assert memory.endswith("0 keys evicted, 0 not taken in, no errors\n")


def test_top_as_json(run: Run, client: Client, name: str) -> None:
    told = json.loads(run("top", name, "--json", "--most", "2")[1])
    assert len(told["keys"]) == 2
    assert told["keys"][0]["is_used_up"]
    assert {(each["limit"], each["admitted"], each["refused"]) for each in told["limits"]} == {
        ("3 per minute, moving-window", 3, 1),
        ("2 per second, moving-window", 1, 0),
        ("100 per hour, moving-window", 1, 0),
    }
    assert told["errors"] == {"raised": 0, "passed": 0, "fallback": 0}
    assert 0 < told["used_bytes"] <= told["capacity_bytes"]


def test_a_key_that_is_given_is_found(run: Run, client: Client, name: str, is_recorded: bool) -> None:
    status, out, _ = run("inspect", name, "192.0.2.1", "--path", "/chat")
    assert status == 0
    assert "3 of 3, refused" in out
    assert "1 of 100" in out
    without = run("inspect", name, "192.0.2.1")[1]
    assert ("3 of 3, refused" in without) is is_recorded
    assert "1 of 100" in without
    for command in ("inspect", "reset"):
        status, out, err = run(command, name, "192.0.2.9")
        assert (status, out) == (1, "")
        assert "nothing is counted for '192.0.2.9'" in err
        assert "--path" in err
        assert ("recorded keys like it: '192.0.2.1'" in err) is is_recorded
    assert json.loads(run("inspect", name, "192.0.2.99", "--json")[1]) == []
    (row, *_) = json.loads(run("inspect", name, "192.0.2.1", "--path", "/chat", "--json")[1])
    assert 0 < row["reset_after_s"] <= 3600


def test_reset_forgets_a_key_and_everything(run: Run, client: Client, name: str) -> None:
    other = Client(client.app, "192.0.2.7")
    assert other.statuses("/chat", 4)[-1] == 429
    assert run("reset", name, "192.0.2.1", "--path", "/chat")[0] == 0
    assert [each.get("/chat").status_code for each in (client, other)] == [200, 429]
    assert run("reset", name, "192.0.2.99")[0] == 1
    assert run("reset", name)[0] == 0
    assert other.get("/chat").status_code == 200


def test_rm_takes_the_name_away_and_leaves_those_who_are_there(run: Run, client: Client, name: str) -> None:
    assert run("rm", name)[0] == 0
    status, _, err = run("inspect", name, "x")
    assert status == 2
    assert "slidegate ls" in err
    assert client.get("/chat").status_code == 429


def test_files_are_looked_into_by_their_path(run: Run, tmp_path: Path, make_app: Callable[[Limiter], FastAPI]) -> None:
    path = tmp_path / "limits"
    client_on(Limiter(get_remote_address, storage_uri=f"file://{path}?size=1MiB"), make_app).get("/mail")
    for name in (str(path), f"file://{path}"):
        assert "1 of 100" in run("inspect", name, "192.0.2.1")[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("top", "no-such-name", "--once"), "there is no"),
        (("top", "no/such/path", "--once"), "there is no"),
        (("rm", "no-such-name"), "there is no"),
        (("inspect", "bad name!", "x"), "letters, digits"),
        (("reset", "redis:/ada:hush@host"), "redis://user:password@host"),
        (("inspect", "ada:hush@host:6379", "x"), "redis://user:password@host"),
        (("top", "x", "--interval", "0"), "--interval"),
        (("bench", "--rounds", "0"), "--rounds"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, arguments: tuple[str, ...], told: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "hush" not in err
    assert told in err


def test_terminals_are_not_at_the_mercy_of_keys(run: Run, name: str, make_app: Callable[[Limiter], FastAPI]) -> None:
    limiter = Limiter(
        lambda request: request.headers["user"], storage_uri=f"shared://{name}?size=1MiB", record_keys=True
    )
    client_on(limiter, make_app).get("/mail", headers={"user": b"\x1b[2Jbob"})
    out = run("top", name, "--once")[1]
    assert "\x1b" not in out
    assert "\\x1b[2Jbob" in out


def test_the_live_table_has_rates(client: Client, name: str, is_recorded: bool) -> None:
    from rich.console import Console

    view = View(Inspection(segment_named(name)), 10)
    view.drawn(30)
    client.get("/chat")
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(view.drawn(30))
    text = console.export_text()
    assert "3 of 3" in text
    assert ("192.0.2.1" in text) is is_recorded
    (chat,) = (line.split() for line in text.splitlines() if "3 per minute" in line and "each path" in line)
    assert float(chat[-1].replace(",", "")) > 0


def test_the_live_table_ends_with_ctrl_c(client: Client, name: str) -> None:
    command = [sys.executable, "-m", "slidegate", "top", name, "--interval", "0.05"]
    terminal, its_end = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen(command, stdin=its_end, stdout=its_end, stderr=subprocess.PIPE, env=environment) as process:
        os.close(its_end)
        shown = b""
        while b"3 per minute" not in shown:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        # What is left in the terminal has to be read, or it is never closed.
        while process.poll() is None:
            with contextlib.suppress(OSError):
                os.read(terminal, 4096)
        assert process.stderr is not None
        assert process.stderr.read() == b""
    os.close(terminal)
    assert process.returncode == 130


def test_bench_measures_both_in_turns() -> None:
    command = [sys.executable, "-m", "slidegate", "bench", "--rounds", "2"]
    told = json.loads(subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout)
    assert [each["name"] for each in told["measured"]] == ["one key, 2 processes", "one key", "10,000 keys"]
    for each in told["measured"]:
        assert min(each["slidegate_ns"], each["limits_ns"], each["times_faster"]) > 0
    table = subprocess.run(command, check=True, capture_output=True, text=True)
    assert table.stderr == ""
    assert [line.split("  ")[0] for line in table.stdout.splitlines()[1:3]] == ["one key, 2 processes*", "one key"]


def test_scopes_and_keys_are_told_in_words() -> None:
    assert scope_text("0:3:url") == "each path"
    assert scope_text("0:6:shared4:post") == "shared post"
    assert scope_text("3:app8:endpoint3:m.f") == "app: m.f"
    assert scope_text("0:10:url/method") == "each path by method"
    assert scope_text("anything") == "anything"
    assert key_and_place("5:/chatada", "0:3:url") == ("ada", "/chat")
    assert key_and_place("5:/chat3:GETada", "0:10:url/method") == ("ada", "/chat GET")
    assert key_and_place("3:GETada", "0:15:endpoint/method3:m.f") == ("ada", "m.f by method GET")
    assert key_and_place("5:ada", "0:6:shared4:post") == ("5:ada", "shared post")
    assert key_and_place("9:x", "0:3:url") == ("9:x", "each path")
