"""`def` endpoints whose limits have asynchronous callables: threads that wait are lent, and not without end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import anyio.to_thread
import pytest
from conftest import Client
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from slidegate import Limiter
from slidegate._support import waiting as waits

MakeLimiter = Callable[..., Limiter]
MakeApp = Callable[[Limiter], FastAPI]
POOL = 40
MOST = POOL + waits.MOST_LENT


def application(make_limiter: MakeLimiter, make_app: MakeApp, key: Callable[[Request], Awaitable[str]]) -> FastAPI:
    # That a lambda is asynchronous is only seen when it is called.
    limiter = make_limiter(key_func=lambda request: key(request))
    app = make_app(limiter)

    @app.get("/decorated")
    @limiter.limit("10000/minute")
    def decorated(request: Request) -> str:
        return "ok"

    @app.get("/hand")
    def hand(request: Request) -> str:
        limiter.check_sync(request, "10000/minute")
        return "ok"

    return app


async def call(app: FastAPI, path: str, count: int) -> Counter[int]:
    client = Client(app)
    sent = asyncio.gather(*(client.send("GET", path) for _ in range(count)))
    return Counter(each.status_code for each in await asyncio.wait_for(sent, 60))


@pytest.mark.parametrize("path", ["/decorated", "/hand"])
def test_fault_09_many_requests_that_wait_take_no_more_threads_than_a_reserve(
    path: str, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    peaks: list[int] = []

    async def slow_key(request: Request) -> str:
        peaks.append(int(anyio.to_thread.current_default_thread_limiter().total_tokens))
        # As long as a look-up, in which as many requests begin as can.
        while len(peaks) < MOST:
            await asyncio.sleep(0)
        return "k"

    app = application(make_limiter, make_app, slow_key)

    async def main() -> tuple[Counter[int], float]:
        statuses = await call(app, path, 200)
        return statuses, anyio.to_thread.current_default_thread_limiter().total_tokens

    statuses, left = asyncio.run(main())
    assert statuses == {200: 200}
    assert max(peaks) == MOST
    assert left == POOL


def test_fault_09_what_waits_may_need_a_thread_of_the_pool(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    async def in_thread(request: Request) -> str:
        return await run_in_threadpool(str, "k")

    app = application(make_limiter, make_app, in_thread)
    assert asyncio.run(call(app, "/decorated", MOST - 1)) == {200: MOST - 1}


def test_fault_09_threads_that_wait_for_each_other_are_not_stuck_for_ever(
    make_limiter: MakeLimiter, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waits, "_PATIENCE_S", 0.2)
    waiting = 0

    async def in_thread(request: Request) -> str:
        nonlocal waiting
        waiting += 1
        # Until all wait, or one has given up before that.
        while waiting < MOST and not caplog.records:
            await asyncio.sleep(0)
        return await run_in_threadpool(str, "k")

    app = application(make_limiter, make_app, in_thread)

    async def main() -> tuple[Counter[int], Counter[int]]:
        return await call(app, "/hand", 300), await call(app, "/hand", 10)

    first, afterwards = asyncio.run(main())
    assert first.keys() == {200, 503}
    assert first[200] >= POOL
    assert afterwards == {200: 10}
    assert "declare these endpoints `async def`" in caplog.text
