"""What limiting adds to an endpoint of FastAPI: the application is called as a server calls it, but by no server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from time import perf_counter_ns
from typing import Any, TypeAlias

import slowapi
import slowapi.util
from fastapi import FastAPI, Request, Response
from figures import Figure, Rounds

import slidegate
import slidegate.util

_REQUESTS = 10  # in a turn: short enough that many turns pass undisturbed
_WARM_UP = 500
_LIMIT = "1000000/minute"
_SECTION = "FastAPI in process; one limit that nothing reaches, by address"
_Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
_Message: TypeAlias = MutableMapping[str, Any]


def measure(rounds: int) -> list[Figure]:
    return asyncio.run(_measure(rounds))


async def _measure(rounds: int) -> list[Figure]:
    apps = {
        "plain": _app(),
        "slidegate": _app(slidegate.Limiter(key_func=slidegate.util.get_remote_address)),
        "slowapi": _app(slowapi.Limiter(key_func=slowapi.util.get_remote_address)),
        "slidegate, headers": _app(slidegate.Limiter(key_func=slidegate.util.get_remote_address, headers_enabled=True)),
        "slowapi, headers": _app(slowapi.Limiter(key_func=slowapi.util.get_remote_address, headers_enabled=True)),
    }
    for name, app in apps.items():
        await _prove(name, app)
        await _elapsed_ns(app, _WARM_UP)
    ns: dict[str, list[float]] = {name: [] for name in apps}
    order = list(apps)
    for _ in range(rounds):
        order.append(order.pop(0))
        for name in order:
            ns[name].append(await _elapsed_ns(apps[name], _REQUESTS) / _REQUESTS / 1000)
    return _figures(Rounds(ns))


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


async def _prove(name: str, app: FastAPI) -> None:
    """Raises RuntimeError unless the application answers, with the headers that its name says."""
    sent: list[_Message] = []

    async def send(message: _Message) -> None:
        sent.append(message)

    await app(_scope(), _receive, send)
    headers = dict(sent[0]["headers"])
    if sent[0]["status"] != 200 or (b"x-ratelimit-remaining" in headers) != name.endswith("headers"):
        raise RuntimeError(f"{name}: unexpected answer {sent[0]}")


async def _elapsed_ns(app: FastAPI, times: int) -> int:
    start = perf_counter_ns()
    for _ in range(times):
        await app(_scope(), _receive, _send)
    return perf_counter_ns() - start


async def _receive() -> _Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: _Message) -> None:
    pass


def _scope() -> _Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("203.0.113.42", 50_000),
        "scheme": "http",
        "root_path": "",
        "method": "GET",
        "path": "/ping",
        "raw_path": b"/ping",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")],
        "state": {},
    }
