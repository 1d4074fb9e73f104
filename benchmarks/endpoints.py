"""What a decorator adds to an endpoint of FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import slowapi
import slowapi.util
from fastapi import FastAPI, Request, Response
from figures import Figure, Rounds
from in_process import take_turns

import slidegate
import slidegate.util

_LIMIT = "1000000/minute"
_SECTION = "FastAPI in process; one limit that nothing reaches, by address"
_Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def measure(rounds: int) -> list[Figure]:
    apps = {
        "plain": _app(),
        "slidegate": _app(slidegate.Limiter(key_func=slidegate.util.get_remote_address)),
        "slowapi": _app(slowapi.Limiter(key_func=slowapi.util.get_remote_address)),
        "slidegate, headers": _app(slidegate.Limiter(key_func=slidegate.util.get_remote_address, headers_enabled=True)),
        "slowapi, headers": _app(slowapi.Limiter(key_func=slowapi.util.get_remote_address, headers_enabled=True)),
    }
    return _figures(take_turns(apps, "/ping", rounds))


def _figures(measured: Rounds) -> list[Figure]:
    figures = [Figure(_SECTION, "endpoint without a limit", "us", measured.typical("plain"), measured.least("plain"))]
    for suffix, at_most in (("", 2.5), (", headers", None)):
        ours, theirs = f"slidegate{suffix}", f"slowapi{suffix}"
        added_by_slowapi = measured.added(theirs, to="plain")
        figures += [
            Figure(
                _SECTION,
                f"{ours}: adds",
                "us",
                measured.added(ours, to="plain"),
                measured.added_least(ours, to="plain"),
                at_most=at_most,
                peer_name="slowapi",
                peer=added_by_slowapi,
            ),
            Figure(_SECTION, f"{theirs}: adds", "us", added_by_slowapi, measured.added_least(theirs, to="plain")),
        ]
    return figures


def _app(limiter: Any = None) -> FastAPI:
    app = FastAPI()
    app.state.limiter = limiter
    limit: _Decorator = limiter.limit(_LIMIT) if limiter else lambda function: function

    @app.get("/ping")
    @limit
    async def ping(request: Request) -> Response:
        return Response("pong")

    return app
