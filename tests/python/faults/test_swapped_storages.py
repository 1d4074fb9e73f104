"""What counts is replaced at run time, or said to be out of reach, and what a reset then forgets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock, patch

import limits.aio.storage
import limits.aio.strategies
import pytest
from compat.apps import limited
from compat.conftest import SLOWAPI
from compat.library import Library, same
from conftest import Client
from fastapi import Request, Response
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.datastructures import Address, State

from slidegate import Limiter
from slidegate.errors import ConfigurationError
from slidegate.util import get_remote_address

NOBODY = "redis://127.0.0.1:1"


@pytest.fixture(params=[SLOWAPI, "slidegate"])
def library(request: pytest.FixtureRequest) -> Library:
    return Library(request.param, {})


@pytest.mark.parametrize("attribute", ["_limiter", "limiter"])
@pytest.mark.parametrize("uri", ["memory://", NOBODY])
def test_fault_39_a_storage_of_limits_can_be_put_below_what_counts(uri: str, attribute: str, library: Library) -> None:
    limiter, client = limited(library, "2/minute", storage_uri=uri)
    before = client.statuses("/items", 3) if uri == "memory://" else []
    getattr(limiter, attribute).storage = storage = MemoryStorage()
    after = client.statuses("/items", 3)
    left = limiter.limiter.get_window_stats(parse("2/minute"), "192.0.2.1", "/items").remaining
    left_of_others = limiter.limiter.test(parse("2/minute"), "192.0.2.2", "/items")
    storage.reset()
    told = (before, after, left, left_of_others, client.statuses("/items", 1))
    expected = ([200, 200, 429] if uri == "memory://" else [], [200, 200, 429], 0, True, [200])
    assert told == library.expected(same(expected))


def test_fault_39_the_storage_of_another_limiter_can_be_put_there(library: Library) -> None:
    limiter, client = limited(library, "2/minute")
    other, other_client = limited(library, "2/minute")
    before = client.statuses("/items", 3)
    limiter._limiter.storage = other._storage
    told = (before, client.statuses("/items", 1), other_client.statuses("/items", 2), client.statuses("/items", 1))
    assert told == library.expected(same(([200, 200, 429], [200], [200, 429], [429])))


def test_fault_39_what_stands_for_a_storage_needs_its_methods_only(library: Library) -> None:
    class Full:
        def incr(self, key: str, expiry: int, amount: int = 1, **rest: Any) -> int:
            return 99

        def get(self, key: str) -> int:
            return 99

        def get_expiry(self, key: str) -> float:
            return time.time() + 60

    limiter, client = limited(library, "2/minute", strategy="fixed-window")
    limiter._limiter.storage = Full()
    assert client.statuses("/items", 2) == library.expected(same([429, 429]))


def test_fault_39_a_storage_of_limits_may_be_asynchronous() -> None:
    limiter, client = limited(Library("slidegate", {}), "2/minute")
    limiter._limiter.storage = limits.aio.storage.MemoryStorage()
    assert client.statuses("/items", 3) == [200, 200, 429]


def test_fault_39_a_storage_below_a_strategy_of_limits_can_be_replaced() -> None:
    limiter, client = limited(Library("slidegate", {}), "2/minute", storage_uri="slidegate-test-faulty://")
    before = client.statuses("/items", 3)
    limiter._limiter.storage = MemoryStorage()
    after = client.statuses("/items", 3)
    limiter.reset()
    assert (before, after, client.statuses("/items", 1)) == ([200, 200, 429], [200, 200, 429], [200])


def test_fault_39_a_storage_that_has_no_such_strategy_is_an_error_at_the_assignment() -> None:
    limiter = Limiter(get_remote_address, strategy="gcra")
    with pytest.raises(ConfigurationError, match="'gcra'"):
        limiter._limiter.storage = MemoryStorage()


def swap_for_limits(limiter: Any) -> None:
    limiter._storage = MemoryStorage()
    limiter._limiter = FixedWindowRateLimiter(limiter._storage)


def swap_the_storage(limiter: Any) -> None:
    limiter._storage = limiter._limiter.storage = MemoryStorage()


def swap_for_another(limiter: Any) -> None:
    other = type(limiter)(get_remote_address, storage_uri="memory://")
    limiter._storage, limiter._limiter = other._storage, other._limiter


@pytest.mark.parametrize("swap", [swap_for_limits, swap_the_storage, swap_for_another])
@pytest.mark.parametrize("uri", ["memory://", NOBODY])
def test_fault_18_a_reset_forgets_what_counts_now(swap: Callable[[Any], None], uri: str, library: Library) -> None:
    limiter, client = limited(library, "2/minute", storage_uri=uri)
    swap(limiter)
    before = client.statuses("/items", 3)
    limiter.reset()
    after = client.statuses("/items", 3)
    limiter._storage.reset()
    told = (before, after, client.statuses("/items", 1))
    assert told == library.expected(same(([200, 200, 429], [200, 200, 429], [200])))


def test_fault_18_a_reset_forgets_what_counts_where_only_the_strategy_was_replaced() -> None:
    limiter, client = limited(Library("slidegate", {}), "2/minute")
    limiter._limiter = FixedWindowRateLimiter(MemoryStorage())
    before = client.statuses("/items", 3)
    limiter.reset()
    assert (before, client.statuses("/items", 1)) == ([200, 200, 429], [200])


def test_fault_18_a_reset_that_cannot_be_is_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter(get_remote_address)
    limiter._storage = limits.aio.storage.MemoryStorage()
    limiter._limiter = limits.aio.strategies.FixedWindowRateLimiter(limiter._storage)
    limiter.reset()
    assert "does not support being reset the storage is asynchronous" in caplog.text


FALLBACKS: list[dict[str, Any]] = [
    {"in_memory_fallback_enabled": True},
    {"in_memory_fallback": ["1/minute"]},
]


@pytest.mark.parametrize("fallback", FALLBACKS)
def test_fault_41_a_hit_that_fails_falls_back(fallback: Any, library: Library) -> None:
    limiter, client = limited(library, "2/minute", **fallback)
    with patch.object(limiter.limiter, "hit", side_effect=ConnectionError("down")):
        patched = client.statuses("/items", 3)
        is_dead = limiter._storage_dead
    limiter._storage_dead = False
    is_back = limiter._storage_dead
    expected = [200, 429, 429] if "in_memory_fallback" in fallback else [200, 200, 429]
    assert (patched, is_dead, is_back) == library.expected(same((expected, True, False)))


def test_fault_41_without_a_fallback_a_hit_that_fails_is_an_error(library: Library) -> None:
    limiter, client = limited(library, "2/minute")
    with patch.object(limiter.limiter, "hit", side_effect=ConnectionError("down")):
        assert client.statuses("/items", 1) == library.expected(same([500]))


def test_fault_41_a_swapped_storage_that_fails_falls_back(library: Library) -> None:
    class Failing(MemoryStorage):
        STORAGE_SCHEME = None  # type: ignore[assignment]

        def incr(self, *args: Any, **options: Any) -> int:
            raise ConnectionError("down")

    limiter, client = limited(library, "2/minute", strategy="fixed-window", in_memory_fallback_enabled=True)
    limiter._limiter = FixedWindowRateLimiter(Failing())
    assert client.statuses("/items", 3) == library.expected(same([200, 200, 429]))


def test_fault_39_a_storage_can_be_said_to_be_dead_and_alive(library: Library) -> None:
    limiter, client = limited(library, "9/minute", in_memory_fallback=["1/minute"])
    told = [client.statuses("/items", 2)]
    limiter._storage_dead = True
    with patch.object(limiter._storage, "check", return_value=False):
        told.append(client.statuses("/items", 2))
    limiter._storage_dead = False
    told.append(client.statuses("/items", 2))
    assert told == library.expected(same([[200, 200], [200, 429], [200, 200]]))


def test_fault_39_without_a_fallback_nothing_comes_of_a_dead_storage(library: Library) -> None:
    limiter, client = limited(library, "2/minute")
    limiter._storage_dead = True
    told = (client.statuses("/items", 3), limiter._storage_dead)
    assert told == library.expected(same(([200, 200, 429], True)))


@pytest.mark.parametrize(("on_error", "statuses"), [("open", [200] * 3), ("closed", [503] * 3)])
def test_fault_39_a_dead_storage_is_what_on_error_says(on_error: Any, statuses: list[int]) -> None:
    limiter, client = limited(Library("slidegate", {}), "2/minute", on_error=on_error)
    limiter._storage_dead = True
    assert limiter.health().is_available is False
    assert client.statuses("/items", 3) == statuses
    limiter._storage_dead = False
    assert client.statuses("/items", 3) == [200, 200, 429]


def test_fault_39_a_dead_storage_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from slidegate._storage import circuit_breaker as breaker

    now_s = [100.0]
    monkeypatch.setattr(breaker, "monotonic", lambda: now_s[0])
    limiter, client = limited(Library("slidegate", {}), "9/minute", in_memory_fallback=["1/minute"])
    limiter._storage_dead = True
    assert client.statuses("/items", 2) == [200, 429]
    now_s[0] += 2
    assert client.statuses("/items", 2) == [200, 200]
    assert not limiter._storage_dead


@pytest.mark.parametrize("strategy", ["fixed-window", "moving-window"])
@pytest.mark.parametrize("middleware", [None, "SlowAPIMiddleware"])
def test_fault_39_a_storage_whose_method_is_patched_is_counted_with_it(
    strategy: str, middleware: str | None, library: Library
) -> None:
    limiter = library.limiter(strategy=strategy, default_limits=["2/minute"])
    app = library.app(limiter, middleware)

    async def items(request: Request) -> str:
        return "ok"

    app.get("/items")(items if middleware else limiter.limit("2/minute")(items))
    client = Client(app)
    method, answer = ("incr", 99) if strategy == "fixed-window" else ("acquire_entry", False)
    told = [client.statuses("/items", 1)]
    with patch.object(limiter._storage, method, return_value=answer) as count:
        told.append(client.statuses("/items", 1))
    told.append(client.statuses("/items", 2))
    assert (told[:2], count.call_count) == library.expected(same(([[200], [429]], 1)))
    assert told[2] == [200, 429]


@pytest.mark.parametrize("options", [{}, {"in_memory_fallback_enabled": True}])
def test_fault_41_a_storage_whose_method_fails_falls_back(options: Any, library: Library) -> None:
    limiter, client = limited(library, "2/minute", strategy="fixed-window", **options)
    with patch.object(limiter._storage, "incr", side_effect=ConnectionError("down")):
        told = client.statuses("/items", 3)
    assert told == library.expected(same([200, 200, 429] if options else [500] * 3))


@pytest.mark.parametrize("path", ["/items", "/plain"])
def test_fault_39_what_headers_tell_can_be_patched(path: str, library: Library) -> None:
    limiter = library.limiter(headers_enabled=True, default_limits=["9/minute"])
    app = library.app(limiter, "SlowAPIMiddleware")

    async def items(request: Request, response: Response) -> str:
        return "ok"

    async def plain(request: Request) -> str:
        return "ok"

    app.get("/items")(limiter.limit("9/minute")(items))
    app.get("/plain")(plain)
    client = Client(app)

    def left() -> str:
        return client.get(path).headers["X-RateLimit-Remaining"]

    before = left(), left()
    with patch.object(limiter.limiter, "get_window_stats", return_value=(time.time() + 30, 77)):
        patched = left(), left()
    assert (before, patched, left()) == library.expected(same((("8", "7"), ("77", "77"), "4")))


def test_fault_38_checks_for_middleware_of_ones_own_take_mocks(library: Library) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = library.app(limiter)

    async def plain(request: Request) -> str:
        return "ok"

    def refused() -> bool:
        request = MagicMock(spec=Request)
        request.client, request.headers, request.state, request.app = Address("192.0.2.1", 1), {}, State(), app
        request.__getitem__.side_effect = {"path": "/plain", "type": "http"}.__getitem__
        request.method = "GET"
        return library.module("middleware").sync_check_limits(limiter, request, plain, app)[0] is not None

    assert [refused(), refused()] == library.expected(same([False, True]))
