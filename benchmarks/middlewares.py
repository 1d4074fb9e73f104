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
_TIMES_BETTER_THAN_ASGI = 10
# Than slowapi's other middleware, by the number of routes.
_TIMES_BETTER = {5: 40, 60: 40, 645: 50}


def measure(rounds: int) -> list[Figure]:
    return [figure for routes in _TIMES_BETTER for figure in _measured(routes, rounds)]


def _measured(routes: int, rounds: int) -> list[Figure]:
    ours, theirs = slidegate.middleware.SlowAPIMiddleware, slowapi.middleware
    apps = {
        "plain": _app(routes),
        "slidegate": _app(routes, ours, _limiter(slidegate, False)),
        "slidegate, headers": _app(routes, ours, _limiter(slidegate, True)),
        "slowapi's SlowAPIASGIMiddleware, headers": _app(routes, theirs.SlowAPIASGIMiddleware, _limiter(slowapi, True)),
        "slowapi's SlowAPIMiddleware, headers": _app(routes, theirs.SlowAPIMiddleware, _limiter(slowapi, True)),
    }
    return _figures(routes, take_turns(apps, "/ping", rounds))


def _figures(routes: int, measured: Rounds) -> list[Figure]:
    section = f"Middleware in process, {routes} routes; one default limit that nothing reaches, by address"

    def adds(name: str, **aims: Any) -> Figure:
        return measured.figure_of_added(section, name, to="plain", **aims)

    asgi, base = (name for name in measured.ns if name.startswith("slowapi"))
    against_asgi: dict[str, Any] = {"peer_name": "slowapi ASGI", "peer": measured.added(asgi, to="plain")}
    against_base: dict[str, Any] = {"peer_name": "slowapi", "peer": measured.added(base, to="plain")}
    ours = "slidegate, headers"
    return [
        Figure(section, "endpoint without middleware", "us", measured.typical("plain"), measured.least("plain")),
        adds("slidegate"),
        adds(ours, times_better=_TIMES_BETTER_THAN_ASGI, **against_asgi),
        adds(ours, times_better=_TIMES_BETTER[routes], **against_base),
        adds(asgi),
        adds(base),
    ]


def _limiter(package: Any, headers_enabled: bool) -> Any:
    return package.Limiter(
        key_func=package.util.get_remote_address, default_limits=[_LIMIT], headers_enabled=headers_enabled
    )


def _app(routes: int, middleware: Any = None, limiter: Any = None) -> FastAPI:
    app = FastAPI()
    app.state.limiter = limiter
    if middleware is not None:
        app.add_middleware(middleware)

    async def endpoint(request: Request) -> Response:
        return Response("pong")

    # First, so that to dispatch takes no longer with more routes.
    app.get("/ping")(endpoint)
    for number in range(routes - 1):
        app.get(f"/resources/{number}")(endpoint)
    return app
