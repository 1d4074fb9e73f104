"""What came from outside is escaped and cut before it is logged or shown."""

from __future__ import annotations

import io
import logging
import socket
import threading
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Client
from fastapi import Depends, FastAPI, Request
from rich.console import Console

from slidegate import Limiter, RateLimit
from slidegate._storage.circuit_breaker import CircuitBreaker
from slidegate._support.escaping import escaped, escaped_error, escaped_traceback
from slidegate._support.text_table import aligned
from slidegate.cli.top import View
from slidegate.inspection import Inspection, segment_named, segments

MakeLimiter = Callable[..., Limiter]
MakeApp = Callable[[Limiter], FastAPI]

LINE = "a\r\n2026-11-30 00:00:00 root CRITICAL login ok for admin\n\x1b[2J\x1b]0;pwned\x07\x9b31m\u202etxt\u2066\ud800"
EVIL = [LINE, "\x85\u2028\u2029", "\ufeff\u200b\u200f\u061c", "x" * 900_000, "\x1b" * 900_000]


def is_harmless(text: str, most: int = 2500) -> bool:
    kinds = {unicodedata.category(each) for each in text}
    return len(text) <= most and kinds.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co"})


def quoted(text: str) -> str:
    return "".join(f"%{each:02x}" for each in text.encode("utf-8", "ignore"))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines that a file of logs would have."""
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    return lambda: "\n".join(map(formatter.format, caplog.records)).split("\n")


@pytest.mark.parametrize("text", EVIL)
def test_fault_14_what_is_shown_is_one_short_line_of_what_can_be_printed(text: str) -> None:
    assert is_harmless(escaped(text))
    assert is_harmless(escaped_error(ValueError(text)))
    assert is_harmless(aligned([["NAME"], [text]])[1], 12_000)
    assert escaped("Zoë 測試 [bold]") == "Zoë 測試 [bold]"
    assert escaped("x" * 201) == "x" * 200 + "..."


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_fault_14_an_error_that_cannot_tell_why_is_shown_by_its_type() -> None:
    assert escaped_error(_Mute()) == "_Mute"
    assert escaped_error(ValueError()) == "ValueError"


@pytest.mark.parametrize("per_method", [True, False])
def test_fault_14_the_path_of_a_refusal_is_one_line(
    per_method: bool, app: FastAPI, limiter: Limiter, log: Callable[[], list[str]]
) -> None:
    app.get("/items/{x}")(limiter.limit("1/hour", per_method=per_method)(lambda x: "ok"))
    client = Client(app)
    for path in (quoted(LINE), quoted("\x1b" * 5000)):
        assert client.statuses(f"/items/{path}", 2) == [200, 429]
    lines = [line for line in log() if "slidegate.refusals" in line]
    assert len(log()) == 1 + len(lines) == 3
    assert all(map(is_harmless, lines))
    assert "\\r\\n2026-11-30" in lines[0]


@pytest.mark.parametrize("is_structured", [True, False])
def test_fault_14_keys_and_scopes_of_refusals_are_one_line(
    is_structured: bool, make_limiter: MakeLimiter, make_app: MakeApp, log: Callable[[], list[str]]
) -> None:
    text = [""]
    options: dict[str, Any] = {"log_salt": "salt"} if is_structured else {}
    limiter = make_limiter(key_func=lambda: text[0], **options)
    app = make_app(limiter)
    by_text = RateLimit("1/hour", scope=lambda request: text[0])
    app.get("/depends", dependencies=[Depends(by_text)])(lambda: "ok")
    app.get("/shared")(limiter.shared_limit("1/hour", scope=lambda endpoint: text[0])(lambda: "ok"))
    for text[0] in EVIL:
        assert Client(app).statuses("/shared", 2) == [200, 429]
        assert Client(app).statuses("/depends", 1) == [429]
    assert len(log()) == 2 * len(EVIL)
    assert all(map(is_harmless, log()))


def test_fault_14_errors_of_callables_repeat_nothing_that_breaks_a_line(
    make_limiter: MakeLimiter, make_app: MakeApp, log: Callable[[], list[str]]
) -> None:
    def tier(request: Request) -> str:
        try:
            raise KeyError(LINE)
        except KeyError as error:
            raise LookupError(f"no tier {LINE}{'x' * 900_000}") from error

    limiter = make_limiter(default_limits=["1/hour"], swallow_errors=True)
    app = make_app(limiter)
    app.get("/tier")(limiter.limit(tier)(lambda: "ok"))
    app.get("/key")(limiter.limit("1/hour", key_func=tier)(lambda: "ok"))
    Client(app).get("/tier")
    Client(app).get("/key")
    lines = log()
    assert any("LookupError: no tier a\\r\\n" in line for line in lines)
    assert any("Swallowing error" in line for line in lines)
    assert not any(line.startswith("2026-11-30") for line in lines)
    assert all(map(is_harmless, lines))
    assert "That led to" in "".join(lines)


def test_fault_14_a_trace_ends_although_its_causes_do_not() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert escaped_traceback(one).count("ValueError") == 5


@pytest.fixture
def liar() -> Iterator[tuple[str, list[bytes]]]:
    """The URI of what answers every command with what is in the list."""
    said = [b""]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(client,), daemon=True).start()

        def answer(client: socket.socket) -> None:
            with client:
                try:
                    while client.recv(65536):
                        client.sendall(said[0])
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}?command_timeout_ms=5000&connect_timeout_ms=5000", said
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "answer",
    [
        b"-ERR \x1b[2Jpwned " + b"x" * 900_000 + b"\r\n",
        b"-" + b"\x1b" * 900_000 + b"\r\n",
        "-ERR \u202etxt\u2028 2026 root CRITICAL\r\n".encode(),
        b"\x1b\x9b31m nonsense\r\n",
    ],
)
def test_fault_14_what_a_server_says_is_one_short_line(
    answer: bytes, liar: tuple[str, list[bytes]], make_app: MakeApp, log: Callable[[], list[str]]
) -> None:
    uri, said = liar
    said[0] = answer
    limiter = Limiter(key_func=lambda: "ada", storage_uri=uri, on_error="closed")
    try:
        app = make_app(limiter)
        app.get("/")(limiter.limit("1/hour")(lambda: "ok"))
        assert Client(app).statuses("/", 4) == [503] * 4
        assert any("127.0.0.1" in line for line in log())
        assert all(map(is_harmless, log()))
        assert is_harmless(limiter.health().last_error or "")
    finally:
        limiter.close()


def test_fault_14_what_a_storage_of_limits_says_is_one_short_line(log: Callable[[], list[str]]) -> None:
    breaker = CircuitBreaker(logging.getLogger("slidegate"))
    breaker.failed(ConnectionError(LINE + "x" * 900_000))
    assert len(log()) == 1
    assert is_harmless(log()[0])
    assert is_harmless(breaker.health().last_error or "")


def test_fault_14_the_live_table_takes_no_markup_and_emits_no_links(make_app: MakeApp) -> None:
    name = f"slidegate-test-shown-{id(make_app)}"
    evil = "[link=http://evil.example]bob[/link] [red]x[/red] [/]"
    limiter = Limiter(
        lambda request: request.headers["user"], storage_uri=f"shared://{name}?size=1MiB", record_keys=True
    )
    try:
        app = make_app(limiter)
        by_room = RateLimit("2/minute", scope=lambda request: "[link=http://evil.example]room[/link]")
        app.get("/", dependencies=[Depends(by_room)])(lambda: "ok")
        assert Client(app).get("/", headers={"user": evil}).status_code == 200
        console = Console(width=300, file=io.StringIO(), force_terminal=True, color_system="truecolor")
        console.print(View(Inspection(segment_named(name)), 10).drawn(40))
        drawn = console.file.getvalue()  # type: ignore[attr-defined]
    finally:
        segment_named(name).unlink()
    assert "\x1b]8;" not in drawn
    assert evil in drawn
    assert "[link=http://evil.example]room[/link]" in drawn
    assert not any(row.name == name for row in segments())
