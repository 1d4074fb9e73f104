"""What is said, or refused, when an application starts."""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Client
from fastapi import APIRouter, Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import Message

from slidegate import ConfigurationError, Limiter, RateLimit
from slidegate.middleware import SlowAPIMiddleware
from slidegate.util import get_ipaddr

MakeLimiter = Callable[..., Limiter]
MakeApp = Callable[[Limiter], FastAPI]


def start(app: Any) -> list[Message]:
    """What an application answers to the first event of a server."""
    sent: list[Message] = []
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Message:
        return next(events)

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await app({"type": "lifespan", "app": app}, receive, send)

    asyncio.run(run())
    return sent


def test_a05_default_limits_without_the_middleware_are_warned_about_with_the_fix(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = make_limiter(default_limits="1/minute")
    app = make_app(limiter)
    router = APIRouter()
    router.get("/included")(lambda: "ok")
    app.include_router(router, prefix="/api")
    app.get("/own")(limiter.limit("1/minute")(lambda: "ok"))
    assert start(app)[0] == {"type": "lifespan.startup.complete"}
    (warning,) = caplog.messages
    assert "GET /api/included" in warning
    assert "app.add_middleware(SlowAPIMiddleware)" in warning
    assert "/own" not in warning
    assert "/docs" not in warning


def test_nothing_is_said_when_nothing_is_amiss(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = make_limiter(default_limits="1/minute")
    app = make_app(limiter)
    app.add_middleware(SlowAPIMiddleware)
    app.add_middleware(CORSMiddleware)
    app.get("/plain")(lambda: "ok")
    app.get("/{id}/shared")(limiter.shared_limit("1/minute", "all")(lambda: "ok"))
    start(app)
    other = make_app(make_limiter())
    other.get("/")(lambda: "ok")
    start(other)
    assert caplog.messages == []


async def decorated_above(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


@pytest.mark.parametrize("kind", [FastAPI, Starlette])
def test_a06_an_application_with_an_inert_decorator_does_not_start_and_serves_nothing(
    kind: Any, limiter: Limiter
) -> None:
    app = kind(routes=[Route("/above", decorated_above)])
    app.state.limiter = limiter
    wrapper = limiter.limit("1/minute")(decorated_above)
    with pytest.raises(ConfigurationError, match=r"GET,HEAD /above: .*stands above"):
        start(app)
    assert Client(app).get("/above").status_code == 500
    assert wrapper is not decorated_above


INERT = """
from fastapi import FastAPI
from slidegate import Limiter
from slidegate.util import get_remote_address

limiter = Limiter(get_remote_address)
app = FastAPI()

@limiter.limit("1/minute")
@app.get("/above")
async def above():
    return "ok"
"""


def test_a06_a_server_ends_and_tells_the_route(tmp_path: Path) -> None:
    (tmp_path / "inert.py").write_text(INERT)
    command = [sys.executable, "-m", "uvicorn", "inert:app", "--port", "0"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 3
    assert "GET /above: @limiter.limit stands above" in ended.stderr


def test_a_function_that_another_application_limits_is_no_mistake(limiter: Limiter, make_limiter: MakeLimiter) -> None:
    limited = limiter.limit("1/minute")(decorated_above)
    app = Starlette(routes=[Route("/plain", decorated_above)])
    app.state.limiter = make_limiter()
    assert start(app)[0]["type"] == "lifespan.startup.complete"
    both = Starlette(routes=[Route("/plain", decorated_above), Route("/limited", functools.partial(limited))])
    both.state.limiter = limiter
    assert start(both)[0]["type"] == "lifespan.startup.complete"


def test_a08_paths_with_parameters_that_count_apart_are_warned_about(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    def user(user_id: int) -> int:
        return user_id

    for style in ("url", "endpoint"):
        caplog.clear()
        limiter = make_limiter(key_style=style)
        app = make_app(limiter)
        app.get("/users/{user_id}")(limiter.limit("2/minute")(user))
        start(app)
        statuses = [Client(app).get(f"/users/{number}").status_code for number in range(3)]
        if style == "url":
            assert statuses == [200, 200, 200]
            (warning,) = caplog.messages
            assert "GET /users/{user_id}" in warning
            assert 'key_style="endpoint"' in warning
        else:
            assert statuses == [200, 200, 429]
            assert "key_style" not in caplog.text


def test_a07_cors_inside_of_the_middleware_is_warned_about(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(make_limiter(default_limits="1/minute"))
    app.add_middleware(CORSMiddleware)
    app.add_middleware(SlowAPIMiddleware)
    start(app)
    assert "CORSMiddleware is inside of SlowAPIMiddleware" in caplog.text


def test_an_application_that_is_mounted_where_the_middleware_is_needs_none_of_its_own(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    for is_late in (False, True):
        limiter = make_limiter(default_limits="2/minute")
        outer, mounted = make_app(limiter), FastAPI()
        outer.add_middleware(SlowAPIMiddleware)
        mounted.get("/plain")(lambda: "ok")
        mounted.get("/own")(limiter.limit("1/minute")(lambda: "ok"))
        limiter.limit("1/minute")(mounted.get("/above")(decorated_above))
        if is_late:
            start(outer)
        outer.mount("/sub", mounted)
        client = Client(outer)
        assert client.statuses("/sub/plain", 3) == [200, 200, 429]
        for path in ("/sub/own", "/sub/above"):
            assert client.statuses(path, 2) == [200, 429], path
    assert [record.getMessage() for record in caplog.records if record.name == "slidegate"] == []


def test_a_decorator_that_is_inert_in_a_mounted_application_is_told_when_the_outer_one_starts(
    limiter: Limiter, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    for middleware_limiter in (None, make_limiter()):
        outer, mounted = make_app(limiter), FastAPI()
        if middleware_limiter is not None:
            outer.add_middleware(SlowAPIMiddleware, limiter=middleware_limiter)
        limiter.limit("1/minute")(mounted.get("/above")(decorated_above))
        outer.mount("/sub", mounted)
        with pytest.raises(ConfigurationError, match=r"GET /sub/above: .*stands above"):
            start(outer)


def test_a_limiter_that_is_switched_off_is_not_spoken_of(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = make_limiter(default_limits="1/minute", enabled=False)
    app = make_app(limiter)
    app.get("/{id}")(lambda: "ok")
    start(app)
    assert caplog.messages == []


def test_a_limiter_that_is_made_before_fastapi_is_imported_is_watched_all_the_same() -> None:
    program = (
        "import slidegate, sys; from slidegate.util import get_remote_address;"
        "assert 'fastapi' not in sys.modules; limiter = slidegate.Limiter(get_remote_address);"
        "from fastapi import FastAPI; limiter.limit('1/minute')(lambda: None);"
        "print(hasattr(FastAPI.build_middleware_stack, '__slidegate_watched__'))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "True"


def test_applications_are_watched_once(limiter: Limiter, make_limiter: MakeLimiter) -> None:
    kinds = [FastAPI, Starlette]
    before = [kind.build_middleware_stack for kind in kinds]
    make_limiter()
    importlib.import_module("slidegate._fastapi.startup_hook").watch_start_up()
    assert [kind.build_middleware_stack for kind in kinds] == before


class Permissive:
    """Has every attribute, as mocks and proxies have."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("ok")(scope, receive, send)


def test_an_application_of_odd_parts_starts_all_the_same() -> None:
    app = Starlette(routes=[Mount("/odd", Permissive()), Route("/", Permissive(), name="odd")])
    assert Client(app).statuses("/odd/x", 1) == [200]


def test_that_an_application_with_a_limiter_could_not_be_looked_at_is_told(
    limiter: Limiter, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise AttributeError("something that is not as it was")

    monkeypatch.setattr("slidegate._startup.report_of", fail)
    app = FastAPI()
    app.state.limiter = limiter
    assert Client(app).get("/openapi.json").status_code == 200
    [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "could not be looked at" in record.message


async def started(app: FastAPI) -> list[str]:
    """What an application says to a server when it starts and ends."""
    told: list[str] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        told.append(f"{message['type']} {message.get('message', '')}".strip())

    await app({"type": "lifespan", "app": app, "state": {}}, receive, send)
    return told


@pytest.mark.parametrize("has_lifespan", [True, False], ids=["at start", "with the first request"])
def test_a_limiter_that_a_lifespan_brings_is_looked_at_then(
    has_lifespan: bool, make_limiter: Callable[..., Limiter], caplog: pytest.LogCaptureFixture
) -> None:
    limiter = make_limiter(key_func=get_ipaddr, headers="ietf")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.limiter = limiter
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(request: Request) -> str:
        await limiter.check(request, "9/minute")
        return "ok"

    app.get("/limited", dependencies=[Depends(RateLimit("1/minute"))])(lambda: "ok")
    if has_lifespan:
        assert asyncio.run(started(app)) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    else:
        app.build_middleware_stack()
        app.state.limiter = limiter
    assert Client(app).get("/").headers["RateLimit"]
    assert caplog.text.count("get_ipaddr believes") == 1


def test_a_limit_that_is_wrong_by_the_limiter_of_a_lifespan_stops_the_start(
    make_limiter: Callable[..., Limiter],
) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.limiter = make_limiter()
        yield

    app = FastAPI(lifespan=lifespan)
    app.get("/", dependencies=[Depends(RateLimit(name="nowhere"))])(lambda: "ok")
    assert asyncio.run(refusal(app)).startswith("RateLimit(name='nowhere')")


def test_a_mounted_application_without_a_limiter_for_its_limits_is_told(make_limiter: Callable[..., Limiter]) -> None:
    app, mounted = FastAPI(), FastAPI()
    app.state.limiter = make_limiter()
    mounted.get("/", dependencies=[Depends(RateLimit("1/minute"))])(lambda: "ok")
    app.mount("/sub", mounted)
    assert "the application that is mounted has no limiter" in asyncio.run(refusal(app))
    mounted.state.limiter = app.state.limiter
    app.middleware_stack = None
    assert Client(app).statuses("/sub/", 2) == [200, 429]


def test_a_method_of_a_limit_is_no_dependency(make_limiter: Callable[..., Limiter]) -> None:
    app = FastAPI()
    app.state.limiter = make_limiter()
    app.get("/", dependencies=[Depends(RateLimit("1/minute").take)])(lambda: "ok")
    assert "would let clients choose the limit; write Depends(RateLimit('1/minute'))" in asyncio.run(refusal(app))


async def refusal(app: FastAPI) -> str:
    """What a server is told instead of that the application has started."""
    try:
        return (await started(app))[0]
    except ConfigurationError as error:
        return str(error)
