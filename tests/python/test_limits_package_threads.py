"""Storages of the `limits` package that take their time: who waits for them, and who does not."""

from __future__ import annotations

import asyncio
import threading

import limits.aio.strategies
import limits.strategies
import pytest
from conftest import Client
from faulty_storages import URIS, AsyncFaultyStorage, Faults, FaultyStorage, MakeApp, app_of, limiter_on

import slidegate._storage.circuit_breaker
from slidegate import Limiter
from slidegate.middleware import SlowAPIMiddleware
from slidegate.util import get_remote_address


@pytest.mark.parametrize("is_by_middleware", [False, True])
def test_a_synchronous_storage_does_not_stop_the_event_loop(
    make_app: MakeApp, faults: Faults, is_by_middleware: bool
) -> None:
    limiter = limiter_on(URIS[0], default_limits=["2/minute"])
    app = app_of(make_app, limiter)
    app.get("/exempt")(limiter.exempt(lambda: "ok"))
    if is_by_middleware:
        app.add_middleware(SlowAPIMiddleware)
    check_held(Client(app), faults, held="/free" if is_by_middleware else "/async", free=["/exempt"])


def test_a_storage_that_does_not_answer_leaves_its_threads_to_synchronous_endpoints(
    make_app: MakeApp, faults: Faults
) -> None:
    app = app_of(make_app, limiter_on(URIS[0]), "100/minute")
    check_held(Client(app), faults, held="/async", free=["/sync/free", "/free"], times=60)


def test_strategies_of_limits_that_replaced_the_counter_do_not_stop_it_either(
    make_app: MakeApp, faults: Faults
) -> None:
    limiter = Limiter(get_remote_address)
    limiter._limiter = limits.strategies.MovingWindowRateLimiter(FaultyStorage())
    check_held(Client(app_of(make_app, limiter)), faults, held="/async", free=["/free"])


def check_held(client: Client, faults: Faults, held: str, free: list[str], times: int = 1) -> None:
    hold = faults.hold = threading.Event()

    async def run() -> tuple[list[int], list[int]]:
        waiting = [asyncio.ensure_future(client.send("GET", held)) for _ in range(times)]
        while len(faults.threads) < min(times, 40):
            await asyncio.sleep(0.001)
        answers = [(await client.send("GET", path)).status_code for path in free]
        assert not any(each.done() for each in waiting)
        hold.set()
        return answers, [answer.status_code for answer in await asyncio.gather(*waiting)]

    answers, late = asyncio.run(asyncio.wait_for(run(), 20))
    assert (answers, late) == ([200] * len(free), [200] * times)
    assert threading.get_ident() not in faults.threads


def test_a37_calls_at_the_same_moment_wait_together(make_app: MakeApp, faults: Faults) -> None:
    client = Client(app_of(make_app, limiter_on(URIS[0]), "20/minute"))
    faults.meeting = threading.Barrier(20)

    async def run() -> list[int]:
        answers = await asyncio.gather(*(client.send("GET", "/async") for _ in range(20)))
        return [answer.status_code for answer in answers]

    assert asyncio.run(run()) == [200] * 20


@pytest.mark.parametrize("path", ["/async", "/sync"])
@pytest.mark.parametrize("uri", URIS)
def test_nobody_waits_while_a_storage_is_asked_whether_it_is_back(
    make_app: MakeApp, faults: Faults, monkeypatch: pytest.MonkeyPatch, uri: str, path: str
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(slidegate._storage.circuit_breaker, "monotonic", lambda: now_s[0])
    limiter = limiter_on(uri, in_memory_fallback_enabled=True)
    client = Client(app_of(make_app, limiter, "9/minute"))
    faults.is_down = True
    assert client.statuses(path, 1) == [200]
    hold = faults.hold = threading.Event()

    async def run() -> list[int]:
        now_s[0] += 1
        statuses = [(await client.send("GET", path)).status_code for _ in range(2)]
        while not faults.checks:
            await asyncio.sleep(0.001)
        statuses += [(await client.send("GET", path)).status_code for _ in range(2)]
        assert (limiter._storage_dead, faults.checks) == (True, 1)
        faults.is_down = False
        hold.set()
        while limiter._storage_dead:
            await asyncio.sleep(0.001)
        return statuses

    assert asyncio.run(asyncio.wait_for(run(), 20)) == [200] * 4


@pytest.mark.parametrize("path", ["/async", "/sync"])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.usefixtures("faults")
def test_what_replaced_the_counter_is_told_in_headers(make_app: MakeApp, is_async: bool, path: str) -> None:
    limiter = Limiter(get_remote_address, headers_enabled=True)
    limiter._limiter = (
        limits.aio.strategies.MovingWindowRateLimiter(AsyncFaultyStorage())
        if is_async
        else limits.strategies.MovingWindowRateLimiter(FaultyStorage())
    )
    client = Client(app_of(make_app, limiter, "5/hour; 2/minute"))
    answers = [client.get(path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {"2"}
    assert 0 < int(answers[2].headers["Retry-After"]) <= 60
