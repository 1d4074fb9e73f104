"""Mistakes that are told when an application starts, or where they are written, and not with each request."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import pytest
from conftest import Client
from fastapi import APIRouter, Depends, FastAPI
from starlette.types import Message
from test_start_up import refusal

from slidegate import Limiter, RateLimit
from slidegate.errors import ConfigurationError
from slidegate.keys import combine, first_of, header, jwt_subject, remote_address
from slidegate.middleware import SlowAPIMiddleware

MakeLimiter = Callable[..., Limiter]


def endpoint() -> str:
    return "ok"


def without_parentheses(app: FastAPI, limiter: Any) -> None:
    app.get("/")(limiter.limit(endpoint))


def decorator_as_endpoint(app: FastAPI, limiter: Any) -> None:
    app.get("/")(limiter.limit("1/minute"))


def decorator_as_dependency(app: FastAPI, limiter: Any) -> None:
    app.get("/", dependencies=[Depends(limiter.limit("1/minute"))])(endpoint)


def class_as_dependency(app: FastAPI, limiter: Any) -> None:
    app.get("/", dependencies=[Depends(RateLimit)])(endpoint)


def messages_of_http(app: FastAPI, limiter: Any) -> None:
    app.get("/", dependencies=[Depends(RateLimit("1/minute").per_message)])(endpoint)


def default_without_depends(app: FastAPI, limiter: Any) -> None:
    @app.get("/")
    def defaulted(left: Any = RateLimit("1/minute")) -> str:  # noqa: B008
        return "ok"


def annotation_without_depends(app: FastAPI, limiter: Any) -> None:
    @app.get("/")
    def annotated(left: Annotated[int, RateLimit("1/minute")] = 0) -> str:
        return "ok"


MISTAKES = [
    (without_parentheses, "@limiter.limit has taken .*endpoint for its limit; write @limiter.limit"),
    (decorator_as_endpoint, "is a decorator, and no endpoint"),
    (decorator_as_dependency, "limits nothing; write Depends(RateLimit('1/minute'))"),
    (class_as_dependency, 'would let clients choose the limit; write Depends(RateLimit("10/minute"))'),
    (messages_of_http, "limits the messages of WebSockets, and this is none; write Depends(RateLimit('1/minute'))"),
    (default_without_depends, "parameter 'left'; write Depends(RateLimit('1/minute'))"),
    (annotation_without_depends, "parameter 'left'; write Depends(RateLimit('1/minute'))"),
]


@pytest.mark.parametrize("has_limiter", [True, False])
@pytest.mark.parametrize(("mistake", "told"), MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_fault_26_what_fastapi_takes_for_something_else_stops_the_start(
    mistake: Callable[[FastAPI, Any], None], told: str, has_limiter: bool, make_limiter: MakeLimiter
) -> None:
    app = FastAPI()
    limiter = make_limiter()
    if has_limiter:
        app.state.limiter = limiter
    mistake(app, limiter)
    message = asyncio.run(refusal(app))
    assert message.removeprefix("lifespan.startup.failed ").startswith("GET /: ")
    first, _, last = told.partition(".*")
    assert first in message
    assert last in message


def test_fault_26_a_limit_without_depends_is_an_error_where_it_is_written(make_limiter: MakeLimiter) -> None:
    app = FastAPI()
    app.state.limiter = make_limiter()
    dependencies: Any = [RateLimit("1/minute")]
    with pytest.raises(ConfigurationError, match=r"write Depends\(RateLimit\('1/minute'\)\)"):
        app.get("/", dependencies=dependencies)(endpoint)


def test_fault_26_a_limit_without_a_limiter_stops_the_start() -> None:
    app = FastAPI()
    router = APIRouter(dependencies=[Depends(RateLimit("1/minute"))])
    router.get("/")(endpoint)
    app.include_router(router)
    assert "RateLimit('1/minute') found no limiter; set app.state.limiter" in asyncio.run(refusal(app))


def test_fault_26_a_start_that_is_refused_after_the_lifespan_has_begun_ends_it() -> None:
    done: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            done.append("cleaned up")

    app = FastAPI(lifespan=lifespan)
    app.get("/", dependencies=[Depends(RateLimit("1/minute"))])(endpoint)
    asked, sent = [{"type": "lifespan.startup"}], []

    async def receive() -> Any:
        # Nobody asks for a shutdown after a failure: to wait for it would be to wait for ever.
        return asked.pop()

    async def send(message: Any) -> None:
        sent.append(message["type"])

    with pytest.raises(ConfigurationError, match="found no limiter"):
        asyncio.run(app({"type": "lifespan", "state": {}}, receive, send))
    assert (sent, done) == (["lifespan.startup.failed"], ["cleaned up"])


@pytest.mark.parametrize("function", [header, jwt_subject, first_of, combine])
def test_fault_26_what_makes_key_functions_and_was_not_called_is_an_error_when_declared(
    function: Any, make_limiter: MakeLimiter
) -> None:
    told = f"{function.__name__} makes key functions, and is none itself"
    with pytest.raises(ConfigurationError, match=told):
        make_limiter(key_func=function).limit("1/minute")(endpoint)
    with pytest.raises(ConfigurationError, match=told):
        RateLimit("1/minute", key=function)


def test_fault_26_a_parameter_of_that_type_without_depends_is_an_error_where_it_is_written() -> None:
    def typed(left: RateLimit = RateLimit("1/minute")) -> str:  # noqa: B008
        return "ok"

    def depends(left: RateLimit = Depends(RateLimit("1/minute"))) -> str:  # noqa: B008
        return "ok"

    with pytest.raises(ConfigurationError, match="has the type RateLimit and no Depends; write Depends"):
        FastAPI().get("/")(typed)
    FastAPI().get("/")(depends)


def test_fault_26_a_lifespan_that_suppresses_errors_does_not_start_either() -> None:
    told: list[Message] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with suppress(Exception):
            yield

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        told.append(message)

    app = FastAPI(lifespan=lifespan)
    app.get("/", dependencies=[Depends(RateLimit("1/minute"))])(endpoint)
    with pytest.raises(ConfigurationError, match="found no limiter"):
        asyncio.run(app({"type": "lifespan", "app": app, "state": {}}, receive, send))
    assert [each["type"] for each in told] == ["lifespan.startup.failed"]


def test_fault_26_middleware_without_a_limiter_stops_the_start_where_nobody_has_made_one() -> None:
    program = """
from fastapi import FastAPI
from fastapi.testclient import TestClient
from slidegate.middleware import SlowAPIMiddleware

app = FastAPI()
app.add_middleware(SlowAPIMiddleware)
with TestClient(app):
    print("started")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "SlowAPIMiddleware found None for a limiter; set app.state.limiter" in ended.stderr
    assert ended.stdout == ""


def test_fault_26_a_limit_that_a_test_has_overridden_needs_no_limiter() -> None:
    app, limit = FastAPI(), RateLimit("1/minute")
    app.get("/", dependencies=[Depends(limit)])(endpoint)
    app.dependency_overrides[limit] = lambda: None
    assert asyncio.run(refusal(app)) == "lifespan.startup.complete"
    assert Client(app).statuses("/", 2) == [200, 200]


@pytest.mark.parametrize("brought", [None, "limiter"])
def test_fault_26_middleware_without_a_limiter_stops_the_start_unless_a_lifespan_brings_one(
    brought: str | None, make_limiter: MakeLimiter
) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if brought:
            app.state.limiter = make_limiter(default_limits=["1/minute"])
        yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(SlowAPIMiddleware)
    app.get("/")(endpoint)
    told = asyncio.run(refusal(app))
    if brought:
        assert told == "lifespan.startup.complete"
        assert Client(app).statuses("/", 2) == [200, 429]
    else:
        assert "SlowAPIMiddleware found None for a limiter; set app.state.limiter" in told


def by_limiter(app: FastAPI, make_limiter: MakeLimiter) -> None:
    app.state.limiter = limiter = make_limiter(key_func=remote_address)
    app.get("/")(limiter.limit("1/minute")(endpoint))


def by_decorator(app: FastAPI, make_limiter: MakeLimiter) -> None:
    app.state.limiter = limiter = make_limiter()
    app.get("/")(limiter.limit("1/minute", key_func=remote_address)(endpoint))


def by_dependency(app: FastAPI, make_limiter: MakeLimiter) -> None:
    app.state.limiter = make_limiter()
    app.get("/", dependencies=[Depends(RateLimit("1/minute", key=remote_address))])(endpoint)


def by_fallback(app: FastAPI, make_limiter: MakeLimiter) -> None:
    key: Any = first_of(header("X-User", trusted_proxies=["10.0.0.1"]), remote_address)  # type: ignore[arg-type]
    app.state.limiter = limiter = make_limiter(key_func=key)
    app.get("/")(limiter.limit("1/minute")(endpoint))


@pytest.mark.parametrize("limit", [by_limiter, by_decorator, by_dependency, by_fallback])
def test_fault_26_remote_address_that_nobody_has_called_is_the_address(
    limit: Callable[[FastAPI, MakeLimiter], None], make_limiter: MakeLimiter
) -> None:
    app = FastAPI()
    limit(app, make_limiter)
    assert Client(app).statuses("/", 2) == [200, 429]
    assert Client(app, "192.0.2.2").statuses("/", 2) == [200, 429]
    assert Client(app, "2001:db8::1").statuses("/", 1) == [200]
    assert Client(app, "2001:db8::2").statuses("/", 1) == [429]


@pytest.mark.parametrize("name", ["X User", "X-User:", "", "X-Üser", "X-User\r\n", "x/y"])
def test_fault_26_what_cannot_be_the_name_of_a_header_is_an_error(name: str) -> None:
    with pytest.raises(ConfigurationError, match="names no header"):
        header(name, trusted_proxies=["10.0.0.1"])
