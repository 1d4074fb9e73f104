"""Requests to an application, which is called as a server calls it, but by no server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from time import perf_counter_ns
from typing import Any, TypeAlias

from figures import Rounds

REQUESTS_OF_A_TURN = 10  # short enough that many turns pass undisturbed
_WARM_UP = 500
_Message: TypeAlias = MutableMapping[str, Any]


def take_turns(apps: Mapping[str, Any], path: str, rounds: int) -> Rounds:
    """Microseconds for a GET of this path, of each application in every round.

    Raises RuntimeError unless each answers 200, with headers about limits if its name ends with "headers".
    """
    return asyncio.run(_take_turns(apps, path, rounds))


async def _take_turns(apps: Mapping[str, Any], path: str, rounds: int) -> Rounds:
    for name, app in apps.items():
        await _prove(name, app, path)
        await _elapsed_ns(app, path, _WARM_UP)
    us: dict[str, list[float]] = {name: [] for name in apps}
    order = list(apps)
    for _ in range(rounds):
        order.append(order.pop(0))
        for name in order:
            us[name].append(await _elapsed_ns(apps[name], path, REQUESTS_OF_A_TURN) / REQUESTS_OF_A_TURN / 1000)
    return Rounds(us)


async def _prove(name: str, app: Any, path: str) -> None:
    sent: list[_Message] = []

    async def send(message: _Message) -> None:
        sent.append(message)

    await app(_scope(path), _receive, send)
    headers = dict(sent[0]["headers"])
    if sent[0]["status"] != 200 or (b"x-ratelimit-remaining" in headers) != name.endswith("headers"):
        raise RuntimeError(f"{name}: unexpected answer {sent[0]}")


async def _elapsed_ns(app: Any, path: str, times: int) -> int:
    start = perf_counter_ns()
    for _ in range(times):
        await app(_scope(path), _receive, _send)
    return perf_counter_ns() - start


async def _receive() -> _Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: _Message) -> None:
    pass


def _scope(path) -> _Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("203.0.113.42", 50_000),
        "scheme": "http",
        "root_path": "",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")],
        "state": {},
    }
