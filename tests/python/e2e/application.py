"""One application, without limits and with them: `uvicorn e2e.application:limited --factory`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from fastapi import FastAPI
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from e2e import requests_of, sockets_of, streams_of
from e2e.journal import Journal, requests_running
from slidegate import Limiter, RateLimitExceeded, _rate_limit_exceeded_handler
from slidegate.middleware import SlowAPIMiddleware
from slidegate.util import get_remote_address

DEFAULT = 100
OUTER: ContextVar[str] = ContextVar("OUTER", default="unset")
INNER: ContextVar[str] = ContextVar("INNER", default="unset")


class Limits:
    """What routes are decorated with; nothing without a limiter."""

    def __init__(self, limiter: Limiter | None, *, holds: bool) -> None:
        self._limiter = limiter
        self._holds = holds

    def limit(self, limit: str) -> Callable[[Any], Any]:
        return self._limiter.limit(limit) if self._limiter is not None else _unchanged

    def failures(self, limit: str) -> Callable[[Any], Any]:
        """Limits how often the answer may be 401; how often any may be where nothing is held."""
        if self._limiter is None or not self._holds:
            return self.limit(limit)
        return self._limiter.limit(limit, deduct_when=lambda response: response.status_code == 401)

    def exempt(self, function: Any) -> Any:
        return self._limiter.exempt(function) if self._limiter is not None else function


class Outer:
    """Middleware of somebody else around everything."""

    def __init__(self, app: ASGIApp, journal: Journal) -> None:
        self.app = app
        self.journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = HTTPConnection(scope).headers.get("x-client", "") if scope["type"] in {"http", "websocket"} else ""
        is_watched = scope.get("path", "").startswith("/context")
        OUTER.set(f"outer of {scope.get('path')}")
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            self.journal.note(name, f"raised {type(error).__name__}")
            raise
        finally:
            if is_watched:
                self.journal.note(name, f"inner is {INNER.get()}")


def plain() -> FastAPI:
    return _application(None)


def limited() -> FastAPI:
    """Limits that are decided at once, on the shortest way there is."""
    return _application(Limiter(get_remote_address, default_limits=[f"{DEFAULT}/hour"], headers_enabled=True))


def holding() -> FastAPI:
    """Limits that are awaited, one of which is given back when the response says so."""

    async def client(request: Any) -> str:
        return str(request.headers["x-client"])

    limiter = Limiter(client, default_limits=[f"{DEFAULT}/hour"], headers_enabled=True)
    return _application(limiter, holds=True)


def _unchanged(function: Any) -> Any:
    return function


def _application(limiter: Limiter | None, *, holds: bool = False) -> FastAPI:
    journal, limits = Journal(), Limits(limiter, holds=holds)
    mounted = FastAPI(lifespan=_lifespan_of("mounted"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        # The routers of mounted applications are not started by the one that they are mounted in.
        async with _lifespan_of("main")(app) as state, mounted.router.lifespan_context(mounted) as inner:
            yield {**state, "inner": inner}
            while requests_running():
                await asyncio.sleep(0.002)
            logging.getLogger("uvicorn.error").info("notes %s", json.dumps(journal.all_notes))

    app = FastAPI(lifespan=lifespan)
    for routes in (requests_of, streams_of, sockets_of):
        routes.add(app, limits, journal)
    requests_of.add_state(mounted, limits)
    app.mount("/mounted", mounted)
    router = journal.routes()
    app.include_router(router)
    for route in router.routes:
        limits.exempt(getattr(route, "endpoint", None))

    @app.post("/mark")
    @limits.exempt
    async def mark(text: str) -> None:
        logging.getLogger("uvicorn.error").info(text)

    if limiter is not None:
        app.state.limiter = limiter
        app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
        app.add_middleware(SlowAPIMiddleware)
    app.add_middleware(Outer, journal=journal)
    return app


def _lifespan_of(name: str) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        log = logging.getLogger("uvicorn.error")
        log.info("%s starts", name)
        yield {"name": name, "calls": []}
        log.info("%s stops", name)

    return lifespan
