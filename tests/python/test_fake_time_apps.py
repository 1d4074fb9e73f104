"""Applications whose tests fake the time: what clients get, and what they are told."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import limits
import limits.aio.strategies
import pytest
from conftest import Client
from fakes import NEW_YEAR_2020, NEW_YEAR_2100, TOOLS, FakeFrom
from fastapi import FastAPI, Request, Response
from freezegun import freeze_time
from limits import parse
from limits.strategies import STRATEGIES

from slidegate import Limiter
from slidegate.limits_storage import AsyncSlidegateStorage, SlidegateStorage

MakeApp = Callable[[Limiter], FastAPI]
MakeLimiter = Callable[..., Limiter]
NAMES = sorted({"moving-window", "fixed-window", "sliding-window-counter"} & STRATEGIES.keys())


@pytest.fixture(params=TOOLS)
def fake_from(request: pytest.FixtureRequest) -> FakeFrom:
    return TOOLS[request.param]


@pytest.fixture
def limiter(make_limiter: MakeLimiter) -> Limiter:
    return make_limiter(clock=None, headers_enabled=True)


@pytest.fixture(params=["def", "async def", "dynamic"])
def client(request: pytest.FixtureRequest, app: FastAPI, limiter: Limiter) -> Client:
    """Of "/", limited to 2/minute."""
    limit = limiter.limit((lambda: "2/minute") if request.param == "dynamic" else "2/minute")

    async def asynchronous() -> str:
        return "ok"

    app.get("/")(limit(asynchronous if request.param == "async def" else lambda: "ok"))
    return Client(app)


def test_a43_limits_pass_with_the_fake(fake_from: FakeFrom, client: Client) -> None:
    with fake_from(NEW_YEAR_2020) as fake:
        assert client.statuses("/", 3) == [200, 200, 429]
        fake.advance(59)
        assert client.statuses("/", 1) == [429]
        fake.advance(1)
        assert client.statuses("/", 3) == [200, 200, 429]
        fake.move_to(NEW_YEAR_2100)
        assert client.statuses("/", 3) == [200, 200, 429]


@pytest.mark.parametrize("start", [NEW_YEAR_2020, NEW_YEAR_2100], ids=["past", "future"])
def test_a43_headers_tell_moments_of_the_fake(fake_from: FakeFrom, start: datetime, client: Client) -> None:
    with fake_from(start) as fake:
        first = client.get("/")
        assert first.headers["X-RateLimit-Reset"] == str(int(start.timestamp()) + 60)
        fake.advance(10)
        assert client.statuses("/", 1) == [200]
        fake.advance(10)
        refused = client.get("/")
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "40"
        assert refused.headers["X-RateLimit-Reset"] == str(int(start.timestamp()) + 70)


def test_dates_are_of_the_fake(fake_from: FakeFrom, make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(clock=None, headers_enabled=True, retry_after="http-date")
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/hour")(lambda: "ok"))
    with fake_from(NEW_YEAR_2100):
        client = Client(app)
        assert client.statuses("/", 1) == [200]
        retry_after = parsedate_to_datetime(client.get("/").headers["Retry-After"])
    assert retry_after == NEW_YEAR_2100 + timedelta(hours=1)


def test_a43_real_time_and_fakes_take_turns(fake_from: FakeFrom, client: Client) -> None:
    assert client.statuses("/", 3) == [200, 200, 429]
    with fake_from(NEW_YEAR_2020):
        assert client.statuses("/", 3) == [429, 429, 429]
    assert client.statuses("/", 3) == [200, 200, 429]


@pytest.mark.parametrize(
    "forget",
    [
        lambda limiter: limiter.reset(),
        lambda limiter: limiter._storage.reset(),
        lambda limiter: limiter._storage.storage.clear(),
    ],
    ids=["reset", "_storage.reset", "_storage.storage.clear"],
)
def test_a43_limits_are_forgotten_and_switched_off_in_a_fake(
    forget: Callable[[Limiter], None], fake_from: FakeFrom, client: Client, limiter: Limiter
) -> None:
    with fake_from(NEW_YEAR_2020) as fake:
        assert client.statuses("/", 3) == [200, 200, 429]
        forget(limiter)
        assert client.statuses("/", 3) == [200, 200, 429]
        limiter.enabled = False
        assert client.statuses("/", 3) == [200, 200, 200]
        limiter.enabled = True
        assert client.statuses("/", 1) == [429]
        fake.move_to(NEW_YEAR_2020 - timedelta(days=400))
        forget(limiter)
        assert client.statuses("/", 3) == [200, 200, 429]


@freeze_time("2024-02-29 12:00:00")
def test_a43_tests_may_be_decorated(app: FastAPI, limiter: Limiter) -> None:
    @app.get("/")
    @limiter.limit("1/day")
    def index(request: Request, response: Response) -> str:
        return "ok"

    client = Client(app)
    assert client.statuses("/", 2) == [200, 429]
    with freeze_time("2024-03-01 11:59:59"):
        assert client.statuses("/", 1) == [429]
    with freeze_time("2024-03-01 12:00:00"):
        assert client.statuses("/", 2) == [200, 429]


def test_a43_async_tests_stay_in_their_time(fake_from: FakeFrom, client: Client) -> None:
    async def burst() -> list[int]:
        responses = await asyncio.gather(*(client.send("GET", "/") for _ in range(8)))
        return sorted(response.status_code for response in responses)

    async def run() -> list[list[int]]:
        with fake_from(NEW_YEAR_2020) as fake:
            first = await burst()
            fake.advance(60)
            return [first, await burst()]

    once = [200] * 2 + [429] * 6
    assert asyncio.run(run()) == [once, once]


def test_buckets_by_hand_tell_moments_of_the_fake(fake_from: FakeFrom, limiter: Limiter) -> None:
    item = parse("5/minute")
    with fake_from(NEW_YEAR_2100):
        assert limiter.limiter.hit(item, "ada", "/")
        assert limiter.limiter.get_window_stats(item, "ada", "/").reset_time == NEW_YEAR_2100.timestamp() + 60


# --- the storages of `limits` -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a43_storages_of_limits_follow(fake_from: FakeFrom, name: str) -> None:
    strategy, item = STRATEGIES[name](SlidegateStorage()), parse("10/minute")
    with fake_from(NEW_YEAR_2020) as fake:
        assert [strategy.hit(item, "ada") for _ in range(12)] == [True] * 10 + [False] * 2
        fake.advance(120)
        assert [strategy.hit(item, "ada") for _ in range(12)] == [True] * 10 + [False] * 2
        told = strategy.get_window_stats(item, "ada").reset_time
        assert time.time() < told <= time.time() + 60
        if name != "sliding-window-counter":
            assert told == NEW_YEAR_2020.timestamp() + 180


def test_a43_async_storages_of_limits_follow(fake_from: FakeFrom) -> None:
    strategy, item = limits.aio.strategies.MovingWindowRateLimiter(AsyncSlidegateStorage()), parse("2/minute")

    async def run() -> list[Any]:
        with fake_from(NEW_YEAR_2100) as fake:
            first = [await strategy.hit(item, "ada") for _ in range(3)]
            told = (await strategy.get_window_stats(item, "ada")).reset_time
            fake.advance(60)
            return [first, [await strategy.hit(item, "ada") for _ in range(3)], told]

    once = [True, True, False]
    assert asyncio.run(run()) == [once, once, NEW_YEAR_2100.timestamp() + 60]


def test_slowapi_on_the_engine_follows(fake_from: FakeFrom) -> None:
    slowapi = importlib.import_module("slowapi")
    limiter = slowapi.Limiter(key_func=lambda: "ada", storage_uri="slidegate://", strategy="moving-window")
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(slowapi.errors.RateLimitExceeded, slowapi._rate_limit_exceeded_handler)

    @app.get("/")
    @limiter.limit("2/minute")
    def index(request: Request) -> str:
        return "ok"

    client = Client(app)
    with fake_from(NEW_YEAR_2020) as fake:
        assert client.statuses("/", 3) == [200, 200, 429]
        fake.advance(60)
        assert client.statuses("/", 3) == [200, 200, 429]
