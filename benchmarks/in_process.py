"""Requests to an application, which is called as a server calls it, but by no server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from random import Random
from time import process_time_ns
from typing import Any, TypeAlias

from figures import Rounds

REQUESTS_OF_A_TURN = 10  # short enough that many turns pass undisturbed
_WARM_UP = 500
_Message: TypeAlias = MutableMapping[str, Any]
Clock: TypeAlias = Callable[[], int]
"""Nanoseconds: of this process on its processor, which other programs hardly disturb, or of the world."""


def take_turns(
    apps: Mapping[str, Any], path: str, rounds: int, at_once: int = 1, clock: Clock = process_time_ns
) -> Rounds:
    """Microseconds for a GET of this path, of each application in every round; so many come at once.

    Raises RuntimeError unless each answers 200, with headers about limits if its name ends with "headers".
    """
    return asyncio.run(_take_turns(apps, path, rounds, at_once, clock))


async def _take_turns(apps: Mapping[str, Any], path: str, rounds: int, at_once: int, clock: Clock) -> Rounds:
    for name, app in apps.items():
        await _prove(name, app, path)
        await _call(app, path, _WARM_UP, at_once)
    us: dict[str, list[float]] = {name: [] for name in apps}
    order, requests = list(apps), max(REQUESTS_OF_A_TURN, at_once)
    # Each comes after each of the others, as what the one before leaves in the caches of the processor is felt.
    shuffled = Random(0)
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            start = clock()
            await _call(apps[name], path, requests, at_once)
            us[name].append((clock() - start) / requests / 1000)
    return Rounds(us)


async def _prove(name: str, app: Any, path: str) -> None:
    sent: list[_Message] = []

    async def send(message: _Message) -> None:
        sent.append(message)

    await app(_scope(path), _receive, send)
    headers = dict(sent[0]["headers"])
    if sent[0]["status"] != 200 or (b"x-ratelimit-remaining" in headers) != name.endswith("headers"):
        raise RuntimeError(f"{name}: unexpected answer {sent[0]}")


async def _call(app: Any, path: str, times: int, at_once: int) -> None:
    if at_once == 1:
        for _ in range(times):
            await app(_scope(path), _receive, _send)
    else:
        for _ in range(times // at_once):
            await asyncio.gather(*(app(_scope(path), _receive, _send) for _ in range(at_once)))


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
