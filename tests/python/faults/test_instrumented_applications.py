"""Others look at the applications of a process, too: OpenTelemetry, Sentry, and whatever wraps what is built."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from types import MethodType
from typing import Any

import pytest
from conftest import Client
from fastapi import Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from test_start_up import start

from slidegate import Limiter, RateLimit
from slidegate.middleware import SlowAPIMiddleware

MakeLimiter = Callable[..., Limiter]

INSTRUMENTED = """
import contextlib, json, sys, warnings
warnings.simplefilter("ignore")
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

way, is_global = sys.argv[1], sys.argv[2] == "global"
spans, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
if is_global:
    FastAPIInstrumentor().instrument()
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
import slidegate
from slidegate.middleware import SlowAPIMiddleware

def run(way):
    limiter = slidegate.Limiter(lambda: "key", headers="ietf", storage_uri="memory://")
    default = slidegate.Limiter(lambda: "key", default_limits=["2/minute"], headers="ietf", storage_uri="memory://")

    @contextlib.asynccontextmanager
    async def lifespan(app):
        if way == "lifespan":
            app.state.limiter = limiter
        yield

    app = FastAPI(lifespan=lifespan if way == "lifespan" else None)
    if way not in ("none", "lifespan"):
        app.state.limiter = default if way == "middleware" else limiter
    if way == "middleware":
        app.add_middleware(SlowAPIMiddleware)
    dependencies = [Depends(slidegate.RateLimit("2/minute"))] if way in ("dependency", "lifespan") else []

    async def endpoint():
        return "ok"

    app.get("/a", dependencies=dependencies)(limiter.limit("2/minute")(endpoint) if way == "decorator" else endpoint)
    if not is_global:
        FastAPIInstrumentor.instrument_app(app)
    spans.clear()
    with TestClient(app) as client:
        responses = [client.get("/a") for _ in range(3)]
        names = [span.name for span in spans.get_finished_spans() if span.kind.name == "SERVER"]
    return [each.status_code for each in responses], ["ratelimit" in each.headers for each in responses], names

print(json.dumps([run("none"), run(way)]))
"""


@pytest.mark.parametrize("scope", ["application", "global"])
@pytest.mark.parametrize("way", ["decorator", "dependency", "middleware", "lifespan", "none"])
def test_fault_16_opentelemetry_sees_every_request_of_every_application(way: str, scope: str) -> None:
    pytest.importorskip("opentelemetry.instrumentation.fastapi")
    pytest.importorskip("opentelemetry.sdk")
    command = [sys.executable, "-c", INSTRUMENTED, way, scope]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    plain, limited = json.loads(ran.stdout)
    is_limited = way != "none"
    assert limited[0] == ([200, 200, 429] if is_limited else [200] * 3)
    assert limited[1] == [is_limited] * 3
    assert limited[2] == plain[2] == ["GET /a"] * 3
    assert "Skipping" not in ran.stderr


def chain(stack: Any) -> Iterator[type]:
    """The kinds of middleware of an application, from the outside in."""
    while stack is not None:
        yield type(stack)
        stack = getattr(stack, "app", None)


def limited_by_dependency(app: Any, limiter: Limiter) -> None:
    app.get("/", dependencies=[Depends(RateLimit("1/minute"))])(lambda: "ok")


def limited_by_middleware(app: Any, limiter: Limiter) -> None:
    app.add_middleware(SlowAPIMiddleware)


@pytest.mark.parametrize("limit", [limited_by_dependency, limited_by_middleware])
def test_fault_16_the_outermost_middleware_of_a_limited_application_is_the_frameworks_own(
    limit: Callable[[Any, Limiter], None], make_limiter: MakeLimiter
) -> None:
    app = FastAPI()
    app.state.limiter = make_limiter(headers="ietf", default_limits=["1/minute"])
    limit(app, app.state.limiter)
    start(app)
    assert type(app.middleware_stack) is ServerErrorMiddleware
    assert type(app.build_middleware_stack()) is ServerErrorMiddleware


@pytest.mark.parametrize("is_late", [True, False])
@pytest.mark.parametrize("has_lifespan", [True, False])
def test_fault_16_nothing_is_left_in_an_application_without_a_limiter(
    is_late: bool, has_lifespan: bool, make_limiter: MakeLimiter
) -> None:
    make_limiter(headers="ietf")

    async def lifespan(app: Any) -> Any:
        yield

    def made() -> FastAPI:
        app = FastAPI()
        if has_lifespan:
            app.router.lifespan_context = asynccontextmanager(lifespan)
        app.get("/")(lambda: "ok")
        return app

    app, untouched = made(), made()
    if is_late:
        # The server has no lifespans, and the first request tells that the application has started.
        Client(app).get("/")
    else:
        start(app)
    original: Any = FastAPI.build_middleware_stack.__wrapped__  # type: ignore[attr-defined]
    assert list(chain(app.middleware_stack)) == list(chain(original(untouched)))
    if not has_lifespan:
        assert list(chain(made().build_middleware_stack())) == list(chain(original(untouched)))


def test_fault_16_the_answer_to_an_error_has_the_headers_and_comes_from_the_programs_handler(
    make_limiter: MakeLimiter,
) -> None:
    handled: list[Exception] = []

    def handler(request: Any, error: Exception) -> PlainTextResponse:
        handled.append(error)
        return PlainTextResponse("broken", status_code=500)

    app = FastAPI(exception_handlers={Exception: handler})
    app.state.limiter = make_limiter(headers="ietf")
    app.get("/", dependencies=[Depends(RateLimit("9/minute"))])(lambda: 1 / 0)
    response = Client(app).get("/")
    assert (response.text, "ratelimit" in response.headers, len(handled)) == ("broken", True, 1)


class Wrapper:
    """What somebody wraps around all that is built, calling what is inside by another name."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._wrapped(scope, receive, send)


@pytest.mark.parametrize("is_per_class", [True, False])
def test_fault_16_whoever_wraps_what_is_built_gets_it_and_is_called(
    is_per_class: bool, make_limiter: MakeLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_limiter()
    built = FastAPI.build_middleware_stack
    seen: list[type] = []

    def build(self: Any) -> Any:
        stack = built(self)
        seen.append(type(stack))
        return Wrapper(stack)

    app = FastAPI()
    if is_per_class:
        monkeypatch.setattr(FastAPI, "build_middleware_stack", build)
        # As if the first limiter were made only now.
        make_limiter()
    else:
        app.build_middleware_stack = MethodType(build, app)  # type: ignore[method-assign]
    app.state.limiter = make_limiter(headers="ietf")
    app.get("/", dependencies=[Depends(RateLimit("2/minute"))])(lambda: "ok")
    responses = [Client(app).get("/") for _ in range(3)]
    assert [each.status_code for each in responses] == [200, 200, 429]
    assert ["ratelimit" in each.headers for each in responses] == [True] * 3
    assert seen == [ServerErrorMiddleware]


def test_fault_16_a_subclass_that_builds_in_its_own_way_is_left_its_stack(make_limiter: MakeLimiter) -> None:
    class Own(Starlette):
        def build_middleware_stack(self) -> Any:
            return Wrapper(super().build_middleware_stack())

    limiter = make_limiter()

    @limiter.limit("2/minute")
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    app = Own(routes=[Route("/", endpoint)])
    app.state.limiter = limiter
    assert Client(app).statuses("/", 3) == [200, 200, 429]
    assert type(app.middleware_stack) is Wrapper
