"""Applications with a limit on /items, of either package, and their clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conftest import Client
from fastapi import FastAPI, Request, Response
from limits import parse
from starlette.responses import PlainTextResponse

from compat.library import Library

ADDRESS = "192.0.2.1"


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


async def plain(request: Request) -> Response:
    return PlainTextResponse("ok")


def threaded(request: Request) -> Response:
    return PlainTextResponse("ok")


def answer() -> str:
    return "ok"


def limited(
    library: Library, limit: Any = "1/minute", middleware: str | None = None, **options: Any
) -> tuple[Any, Client]:
    """A limiter with these options and a client of an application that has this limit on /items, none on /plain."""
    limiter = library.limiter(**options)
    app = library.app(limiter, middleware)
    app.get("/items")(limiter.limit(limit)(endpoint))
    app.get("/plain")(plain)
    return limiter, Client(app)


def client_of(library: Library, limit: Any = "2/minute", limiter: Any = None, **options: Any) -> Client:
    """A client of an application that has this limit, declared with these options, on /items."""
    limiter = limiter or library.limiter()
    app = library.app(limiter)
    app.get("/items")(limiter.limit(limit, **options)(endpoint))
    return Client(app)


def stacked(library: Library, *limits: Any, **options: Any) -> tuple[Any, Client]:
    """A limiter and a client of an application that has these limits stacked on /items, which runs in a thread."""
    limiter = library.limiter()
    app = library.app(limiter)
    function: Callable[..., Any] = threaded
    for limit in reversed(limits):
        function = limiter.limit(limit, **options)(function)
    app.get("/items")(function)
    return limiter, Client(app)


def left(limiter: Any, notation: str, scope: str = "/items") -> int:
    """What a limit still admits."""
    remaining: int = limiter.limiter.get_window_stats(parse(notation), ADDRESS, scope)[1]
    return remaining


def limited_app(library: Library, middleware: str | None, **options: Any) -> tuple[Any, FastAPI, Client]:
    """A limiter with a default limit, its application, which has no routes yet, and a client."""
    limiter = library.limiter(default_limits=["1/minute"], **options)
    app = library.app(limiter, middleware)
    return limiter, app, Client(app)
