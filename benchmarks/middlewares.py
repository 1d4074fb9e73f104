"""What middleware adds to an endpoint of FastAPI that has no decorator."""

from __future__ import annotations

from typing import Any

import slowapi
import slowapi.middleware
import slowapi.util
from fastapi import FastAPI, Request, Response
from figures import Figure, Rounds
from in_process import take_turns

import slidegate
import slidegate.middleware
import slidegate.util

_LIMIT = "1000000/minute"
_AT_MOST_US = 4.0
_OTHER_ROUTES = (4, 644)


def measure(rounds: int) -> list[Figure]:
    return [figure for others in _OTHER_ROUTES for figure in _measured(others, rounds)]


def _measured(others: int, rounds: int) -> list[Figure]:
    ours, theirs = slidegate.middleware.SlowAPIMiddleware, slowapi.middleware
    apps = {
        "plain": _app(others),
        "slidegate": _app(others, ours, _limiter(slidegate, False)),
        "slidegate, headers": _app(others, ours, _limiter(slidegate, True)),
        "slowapi's SlowAPIASGIMiddleware, headers": _app(others, theirs.SlowAPIASGIMiddleware, _limiter(slowapi, True)),
        "slowapi's SlowAPIMiddleware, headers": _app(others, theirs.SlowAPIMiddleware, _limiter(slowapi, True)),
    }
    return list(_figures(others + 1, take_turns(apps, "/ping", rounds)))


def _figures(routes: int, measured: Rounds) -> list[Figure]:
    section = f"Middleware in process, {routes} routes; one default limit that nothing reaches, by address"

    def adds(name: str, **options: Any) -> Figure:
        added, least = measured.added(name, to="plain"), measured.added_least(name, to="plain")
        return Figure(section, f"{name}: adds", "us", added, least, **options)

    asgi, base = (name for name in measured.ns if name.startswith("slowapi"))
    return [
        Figure(section, "endpoint without middleware", "us", measured.typical("plain"), measured.least("plain")),
        adds("slidegate"),
        adds(
            "slidegate, headers",
            at_most=_AT_MOST_US,
            peer_name="slowapi ASGI",
            peer=measured.added(asgi, to="plain"),
        ),
        adds(asgi),
        adds(base),
    ]


def _limiter(package: Any, headers_enabled: bool) -> Any:
    return package.Limiter(
        key_func=package.util.get_remote_address, default_limits=[_LIMIT], headers_enabled=headers_enabled
    )


def _app(others: int, middleware: Any = None, limiter: Any = None) -> FastAPI:
    app = FastAPI()
    app.state.limiter = limiter
    if middleware is not None:
        app.add_middleware(middleware)

    async def endpoint(request: Request) -> Response:
        return Response("pong")

    # First, so that to dispatch takes no longer with more routes.
    app.get("/ping")(endpoint)
    for number in range(others):
        app.get(f"/resources/{number}")(endpoint)
    return app
