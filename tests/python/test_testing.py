"""`slidegate.testing`: limiters whose time passes when tests say so."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import limits.strategies
import pytest
from conftest import Client
from fakes import NEW_YEAR_2020, TOOLS
from fastapi import FastAPI
from flask import Flask
from limits import parse

from slidegate import Limiter, _core
from slidegate.decision import NS_PER_S
from slidegate.limits_storage import AsyncSlidegateStorage, SlidegateStorage
from slidegate.testing import ManualClock, frozen
from slidegate.util import get_remote_address

MakeLimiter = Callable[..., Limiter]


@pytest.fixture(params=["no clock", "manual clock"])
def limiter(request: pytest.FixtureRequest, make_limiter: MakeLimiter) -> Limiter:
    return make_limiter(clock=None) if request.param == "no clock" else make_limiter()


@pytest.fixture
def client(app: FastAPI, limiter: Limiter) -> Client:
    app.get("/")(limiter.limit("2/minute")(lambda: "ok"))
    return Client(app)


def test_a43_windows_are_tested_without_sleeping(client: Client, limiter: Limiter) -> None:
    with frozen(limiter) as time:
        assert client.statuses("/", 3) == [200, 200, 429]
        time.advance(seconds=59.999)
        assert client.statuses("/", 1) == [429]
        time.advance(seconds=0.001)
        assert client.statuses("/", 3) == [200, 200, 429]


def test_hits_are_forgotten_before_and_after(client: Client, limiter: Limiter) -> None:
    assert client.statuses("/", 3) == [200, 200, 429]
    with frozen(limiter):
        assert client.statuses("/", 3) == [200, 200, 429]
    assert client.statuses("/", 3) == [200, 200, 429]


def test_hits_are_forgotten_after_a_test_that_fails(client: Client, limiter: Limiter) -> None:
    def failing_test() -> None:
        with frozen(limiter):
            assert client.statuses("/", 3) == [200, 200, 429]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_test()
    assert client.statuses("/", 1) == [200]


def test_real_time_does_not_pass(make_limiter: MakeLimiter) -> None:
    limiter, boot = make_limiter(clock=None), _core.BootClock()
    engine = limiter._storage._engine
    with frozen(limiter) as time:
        start_ns, boot_start_ns = engine.now(), boot.now()
        while boot.now() < boot_start_ns + 2_000_000:
            pass
        assert engine.now() == start_ns
        time.advance(seconds=0)
        assert engine.now() == start_ns
    assert engine.now() >= start_ns
    start_ns = engine.now()
    boot_start_ns = boot.now()
    while boot.now() < boot_start_ns + 2_000_000:
        pass
    assert engine.now() > start_ns


def test_fakes_do_not_move_what_is_frozen(client: Client, limiter: Limiter) -> None:
    with frozen(limiter) as time, TOOLS["freezegun"](NEW_YEAR_2020) as fake:
        assert client.statuses("/", 3) == [200, 200, 429]
        fake.advance(60)
        assert client.statuses("/", 1) == [429]
        time.advance(seconds=60)
        assert client.statuses("/", 1) == [200]


def test_a_fake_is_followed_again_afterwards(make_limiter: MakeLimiter) -> None:
    limiter, item = make_limiter(clock=None), parse("1/minute")
    with TOOLS["freezegun"](NEW_YEAR_2020) as fake:
        with frozen(limiter):
            fake.advance(600)
        assert limiter.limiter.hit(item, "ada", "/")
        fake.advance(59)
        assert not limiter.limiter.hit(item, "ada", "/")
        fake.advance(1)
        assert limiter.limiter.hit(item, "ada", "/")


def test_it_may_be_frozen_twice(client: Client, limiter: Limiter) -> None:
    with frozen(limiter) as outer:
        with frozen(limiter, limiter) as inner:
            assert client.statuses("/", 3) == [200, 200, 429]
            inner.advance(seconds=30)
            assert client.statuses("/", 1) == [429]
            inner.advance(seconds=30)
            assert client.statuses("/", 3) == [200, 200, 429]
        assert client.statuses("/", 3) == [200, 200, 429]
        outer.advance(seconds=60)
        assert client.statuses("/", 1) == [200]


def test_several_limiters_are_in_one_time(make_limiter: MakeLimiter) -> None:
    limiters, item = [make_limiter(clock=None), make_limiter()], parse("1/hour")
    with frozen(*limiters) as time:
        for wait_s, is_admitted in ((0, True), (3599, False), (1, True)):
            time.advance(seconds=wait_s)
            assert [each.limiter.hit(item, "ada", "/") for each in limiters] == [is_admitted] * 2


@pytest.mark.parametrize("days", [1, 400, 40_000])
def test_any_time_may_pass(days: int, make_limiter: MakeLimiter) -> None:
    limiter, item = make_limiter(clock=None), parse("1/year")
    with frozen(limiter) as time:
        assert limiter.limiter.hit(item, "ada", "/")
        time.advance(seconds=days * 86_400)
        assert limiter.limiter.hit(item, "ada", "/") == (days > 365)


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan"), float("inf"), 5e9])
def test_time_passes_forward_only(seconds: float, limiter: Limiter) -> None:
    with frozen(limiter) as time, pytest.raises(ValueError, match="seconds="):
        time.advance(seconds=seconds)


def limits_strategy() -> Any:
    return limits.strategies.MovingWindowRateLimiter(SlidegateStorage())


def slowapi_limiter() -> Any:
    slowapi = importlib.import_module("slowapi")
    return slowapi.Limiter(key_func=get_remote_address, storage_uri="slidegate://", strategy="moving-window")


def flask_limiter() -> Any:
    limiter = importlib.import_module("flask_limiter").Limiter(
        lambda: "ada", app=Flask(__name__), storage_uri="slidegate://", strategy="moving-window"
    )
    assert limiter.enabled
    return limiter


@pytest.mark.parametrize("make", [limits_strategy, slowapi_limiter, flask_limiter])
def test_whatever_counts_in_the_storage_for_limits_can_be_frozen(make: Callable[[], Any]) -> None:
    limiter = make()
    strategy = limiter if make is limits_strategy else limiter.limiter
    item = parse("1/minute")
    with frozen(limiter) as time:
        assert [strategy.hit(item, "ada"), strategy.hit(item, "ada")] == [True, False]
        time.advance(seconds=60)
        assert [strategy.hit(item, "ada"), strategy.hit(item, "ada")] == [True, False]
    assert strategy.hit(item, "ada")


@pytest.mark.parametrize("make", [SlidegateStorage, AsyncSlidegateStorage])
def test_storages_can_be_frozen_themselves(make: Callable[[], Any]) -> None:
    storage = make()
    policy = storage._engine.policy([(_core.Quota(1, NS_PER_S), "")])
    with frozen(storage) as time:
        assert [policy.hit("ada")[0], policy.hit("ada")[0]] == [True, False]
        time.advance(seconds=1)
        assert [policy.hit("ada")[0], policy.hit("ada")[0]] == [True, False]


def slowapi_in_memory() -> Any:
    return importlib.import_module("slowapi").Limiter(key_func=get_remote_address)


@pytest.mark.parametrize("make", [object, slowapi_in_memory, lambda: None])
def test_others_cannot_be_frozen(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="cannot be frozen; pass a slidegate"), frozen(make()):
        pass


def test_nothing_is_frozen_when_something_cannot_be(make_limiter: MakeLimiter) -> None:
    good, bad = make_limiter(clock=None), make_limiter(clock=_core.BootClock())
    with pytest.raises(TypeError, match=r"clock=BootClock\(\) cannot be frozen"), frozen(good, bad):
        pass
    assert not good._storage._engine.clock.is_held


def test_a_clock_that_is_not_held_cannot_be_advanced() -> None:
    clock = _core.PythonClock()
    with pytest.raises(RuntimeError, match="held"):
        clock.advance(1)
    clock.release()
    clock.hold()
    with pytest.raises(ValueError, match="-1 ns"):
        clock.advance(-1)
    start_ns = clock.now()
    clock.advance(5)
    clock.release()
    assert clock.now() >= start_ns


def test_a_manual_clock_is_advanced_by_itself(make_limiter: MakeLimiter) -> None:
    clock = ManualClock(3)
    with frozen(make_limiter(clock=clock)) as time:
        time.advance(seconds=1.5)
    assert clock.now() == 1_500_000_003


CONFTEST = """
import shop
from slidegate.testing import frozen_fixture

limits = frozen_fixture(shop.limiter, autouse=True)
patience = frozen_fixture(shop.other)
"""
SHOP = """
from fastapi import FastAPI
from fastapi.testclient import TestClient
from slidegate import Limiter, RateLimitExceeded, _rate_limit_exceeded_handler

limiter = Limiter(key_func=lambda: "ada")
other = Limiter(key_func=lambda: "ada")
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

@app.get("/")
@limiter.limit("2/minute")
def index():
    return "ok"

@app.get("/other")
@other.limit("1/minute")
def index_of_others():
    return "ok"

client = TestClient(app)
"""
TESTS = """
from shop import client

def statuses(count, path="/"):
    return [client.get(path).status_code for _ in range(count)]

def test_one():
    assert statuses(3) == [200, 200, 429]

def test_two(limits):
    assert statuses(3) == [200, 200, 429]
    limits.advance(seconds=60)
    assert statuses(3) == [200, 200, 429]

def test_three(patience):
    assert statuses(2, "/other") == [200, 429]
    patience.advance(seconds=60)
    assert statuses(2, "/other") == [200, 429]
"""


def test_a43_a_fixture_gives_every_test_whole_limits(tmp_path: Path) -> None:
    for name, text in {"conftest.py": CONFTEST, "shop.py": SHOP, "test_shop.py": TESTS}.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=prepend"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "3 passed" in ran.stdout, ran.stdout + ran.stderr
