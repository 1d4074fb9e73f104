"""Private names of slowapi that programs read, and what they do by hand with a storage and a strategy."""

from __future__ import annotations

import importlib
import logging
from typing import Any
from unittest.mock import patch

import limits.storage
import limits.strategies
import pytest
from compat.conftest import SLOWAPI
from compat.library import Library, same
from conftest import Client
from fastapi import Request
from limits import parse
from limits.strategies import STRATEGIES

from slidegate import Limiter
from slidegate._rules.notation import ELASTIC
from slidegate.errors import ConfigurationError
from slidegate.util import get_remote_address

NAMES = sorted(STRATEGIES.keys() - {ELASTIC})
FLAT = "LIMITER/192.0.2.1//items/2/1/minute"


@pytest.fixture(params=[SLOWAPI, "slidegate"])
def library(request: pytest.FixtureRequest) -> Library:
    return Library(request.param, {})


def ours() -> Library:
    return Library("slidegate", {})


def limited(library: Library, limit: Any = "2/minute", **options: Any) -> tuple[Any, Client]:
    limiter = library.limiter(**options)
    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit(limit)
    async def items(request: Request) -> str:
        return "ok"

    return limiter, Client(app)


def test_fault_40_what_was_declared_can_be_read(library: Library) -> None:
    limiter, _ = limited(library, lambda: "5/minute", default_limits=["60/minute"], application_limits=["9/hour"])
    (default,), (application,) = limiter._default_limits, limiter._application_limits
    ((dynamic,),) = limiter._dynamic_route_limits.values()
    (limit,) = default
    told = (
        default._LimitGroup__limit_provider,
        (default._LimitGroup__scope, application._LimitGroup__scope),
        dynamic._LimitGroup__limit_provider(),
        [str(each.limit) for each in dynamic],
        (limit._Limit__scope, bool(limit._exempt_when_takes_request)),
        [name.rpartition(".")[2] for name in limiter._Limiter__marked_for_limiting],
        [len(functions) for functions in limiter._Limiter__marked_for_limiting.values()],
        limiter._request_filters,
    )
    expected = (
        "60/minute",
        (None, "global"),
        "5/minute",
        ["5 per 1 minute"],
        (None, False),
        ["items"],
        [1],
        [],
    )
    assert told == library.expected(same(expected))


def test_fault_40_what_falls_back_can_be_read(library: Library) -> None:
    limiter = library.limiter(in_memory_fallback_enabled=True)
    told = (
        isinstance(limiter._fallback_storage, limits.storage.MemoryStorage),
        isinstance(limiter._fallback_limiter, limits.strategies.RateLimiter),
        library.limiter()._fallback_limiter,
    )
    assert told == library.expected(same((True, True, None)))


def test_fault_40_refusals_have_a_limit_before_there_is_one(library: Library) -> None:
    assert library.RateLimitExceeded.limit is library.expected(same(None))


def test_fault_40_storages_are_of_the_kind_that_they_stand_for(library: Library) -> None:
    storage = library.limiter(storage_uri="memory://")._storage
    told = [
        isinstance(storage, kind)
        for kind in (limits.storage.MemoryStorage, limits.storage.Storage, limits.storage.RedisStorage)
    ]
    assert told == library.expected(same([True, True, False]))


@pytest.mark.parametrize("strategy", NAMES)
def test_fault_40_strategies_are_of_the_kind_that_they_stand_for(strategy: str, library: Library) -> None:
    limiter = library.limiter(strategy=strategy)
    told = [name for name in NAMES if isinstance(limiter._limiter, STRATEGIES[name])]
    assert (told, isinstance(limiter.limiter, limits.strategies.RateLimiter)) == library.expected(
        same(([strategy], True))
    )


def test_fault_40_redis_is_of_the_kind_that_it_stands_for() -> None:
    limiter = Limiter(get_remote_address, storage_uri="redis://127.0.0.1:1")
    assert isinstance(limiter._storage, limits.storage.RedisStorage)
    assert not isinstance(limiter._storage, limits.storage.MemoryStorage)


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("uri", ["memory://", "redis"])
def test_fault_40_strategies_of_limits_count_on_our_storages(
    strategy: str, uri: str, request: pytest.FixtureRequest
) -> None:
    if uri == "redis":
        uri = request.getfixturevalue("server").uri
    by_hand = STRATEGIES[strategy](Limiter(get_remote_address, storage_uri=uri)._storage)
    for identifiers in (("k", strategy), ("k", f"/{strategy}"), (strategy,), ("a", "b", "c", strategy)):
        item = parse("3/minute")
        assert by_hand.test(item, *identifiers, cost=3)
        assert [by_hand.hit(item, *identifiers) for _ in range(4)] == [True] * 3 + [False]
        assert not by_hand.test(item, *identifiers)
        assert by_hand.get_window_stats(item, *identifiers).remaining == 0
        by_hand.clear(item, *identifiers)
        assert by_hand.hit(item, *identifiers, cost=2)
        assert not by_hand.hit(item, *identifiers, cost=2)
        # A fixed window of `limits` counts what it refuses; a limiter does not.
        is_counted = strategy == "fixed-window" and len(identifiers) == 1
        assert by_hand.get_window_stats(item, *identifiers).remaining == (0 if is_counted else 1)
        assert not by_hand.hit(item, *identifiers, cost=4)


@pytest.mark.parametrize("strategy", NAMES)
def test_fault_40_a_strategy_by_hand_counts_in_the_buckets_of_requests(strategy: str, library: Library) -> None:
    limiter, client = limited(library, strategy=strategy)
    by_hand = STRATEGIES[strategy](limiter._storage)
    told: list[Any] = [client.statuses("/items", 1), by_hand.hit(parse("2/minute"), "192.0.2.1", "/items")]
    told += [client.statuses("/items", 1), by_hand.hit(parse("2/minute"), "192.0.2.1", "/items")]
    assert told == library.expected(same([[200], True, [429], False]))


def test_fault_40_a_strategy_on_the_own_storage_can_count_requests(library: Library) -> None:
    limiter, client = limited(library)
    limiter._limiter = limits.strategies.FixedWindowRateLimiter(limiter._storage)
    told = [client.statuses("/items", 3)]
    limiter.reset()
    told.append(client.statuses("/items", 1))
    assert told == library.expected(same([[200, 200, 429], [200]]))


def test_fault_40_a_storage_counts_by_hand(library: Library) -> None:
    storage = library.limiter()._storage
    told = [storage.incr("own", 60), storage.incr("own", 60, amount=3), storage.get("own"), storage.get("other")]
    told.append(round(storage.get_expiry("own") - storage.get_expiry("other")))
    storage.clear("own")
    told += [storage.get("own"), storage.acquire_entry("moving", 2, 60), storage.acquire_entry("moving", 2, 60, 2)]
    told += [storage.get_moving_window("moving", 2, 60)[1], storage.acquire_entry("moving", 2, 60, 3)]
    storage.reset()
    told.append(storage.get_moving_window("moving", 2, 60)[1])
    assert told == library.expected(same([1, 4, 4, 0, 60, 0, True, False, 1, False, 0]))


def test_fault_40_a_bucket_of_requests_can_be_used_up_by_hand(library: Library) -> None:
    limiter, client = limited(library, strategy="fixed-window")
    limiter._storage.incr(FLAT, 60, amount=2)
    assert client.statuses("/items", 1) == library.expected(same([429]))


def test_fault_40_elastic_expiry_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="elastic"):
        Limiter(get_remote_address)._storage.incr("own", 60, elastic_expiry=True)


def test_fault_40_what_is_counted_can_be_looked_through(library: Library) -> None:
    options = {"record_keys": True, "storage_uri": "memory://"} if library.name == "slidegate" else {}
    limiter, client = limited(library, strategy="fixed-window", **options)
    storage = limiter._storage
    told: list[Any] = [list(storage.storage.keys()), len(storage.storage), dict(storage.expirations)]
    client.statuses("/items", 1)
    told += [list(storage.storage), dict(storage.storage), len(storage.storage), FLAT in storage.storage]
    told += [
        storage.storage[FLAT],
        storage.storage["other"],
        storage.storage.get("other", 0),
        list(storage.expirations),
    ]
    told.append(round(storage.expirations[FLAT] - storage.get_expiry("none")))
    told.append(bool(storage.storage.pop(FLAT)))
    told.append(client.statuses("/items", 3))
    storage.storage.clear()
    storage.expirations.clear()
    told += [len(storage.storage), client.statuses("/items", 3)]
    expected = [[], 0, {}, [FLAT], {FLAT: 1}, 1, True, 1, 0, 0, [FLAT], 60, True, [200, 200, 429], 0, [200, 200, 429]]
    assert told == library.expected(same(expected))


def test_fault_40_the_hits_of_a_moving_window_can_be_looked_through(library: Library) -> None:
    options = {"record_keys": True, "storage_uri": "memory://"} if library.name == "slidegate" else {}
    limiter, client = limited(library, strategy="moving-window", **options)
    events = limiter._storage.events
    told: list[Any] = [len(events)]
    client.statuses("/items", 2)
    told += [list(events), len(events[FLAT]), [round(each.expiry - each.atime) for each in events[FLAT]]]
    events.clear()
    told.append(client.statuses("/items", 1))
    assert told == library.expected(same([0, [FLAT], 2, [60, 60], [200]]))


PLACES: dict[str, tuple[dict[str, Any], str]] = {
    "shared": ({}, "LIMITER/192.0.2.1/everything/5/2/hour"),
    "prefix": ({"key_prefix": "own"}, "LIMITER/own/192.0.2.1/everything/5/2/hour"),
}


@pytest.mark.parametrize("place", PLACES)
def test_fault_40_keys_of_all_places_are_those_of_limits(place: str, library: Library) -> None:
    options, key = PLACES[place]
    own = {"record_keys": True, "storage_uri": "memory://"} if library.name == "slidegate" else {}
    limiter = library.limiter(strategy="fixed-window", **options, **own)
    app = library.app(limiter)

    @app.get("/items")
    @limiter.shared_limit("5/2 hours", scope="everything")
    async def items(request: Request) -> str:
        return "ok"

    Client(app).get("/items")
    assert (list(limiter._storage.storage), limiter._storage.get(key)) == library.expected(same(([key], 1)))


def test_fault_40_a_method_is_in_the_key(library: Library) -> None:
    own = {"record_keys": True, "storage_uri": "memory://"} if library.name == "slidegate" else {}
    limiter = library.limiter(strategy="fixed-window", **own)
    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit("5/minute", per_method=True)
    async def items(request: Request) -> str:
        return "ok"

    Client(app).get("/items")
    assert list(limiter._storage.storage) == library.expected(same(["LIMITER/192.0.2.1//items:GET/5/1/minute"]))


def test_fault_40_without_recorded_keys_there_is_a_digest_for_each() -> None:
    limiter, client = limited(ours(), storage_uri="memory://")
    assert (len(limiter._storage.storage), bool(limiter._storage.storage)) == (0, True)
    client.statuses("/items", 1)
    (key,) = limiter._storage.storage
    assert key.startswith("#")
    assert limiter._storage.storage[FLAT] == 1


EXTENSION = ["RateLimitItem", "RateLimiter", "Request", "time", "STRATEGIES", "MemoryStorage", "storage_from_string"]
EXTENSION += [
    "Config",
    "JSONResponse",
    "Response",
    "MutableHeaders",
    "RateLimitExceeded",
    "Limit",
    "LimitGroup",
    "logging",
]


@pytest.mark.parametrize("name", EXTENSION)
def test_fault_40_names_of_the_module_can_be_imported(name: str, library: Library) -> None:
    found = getattr(library.module("extension"), name)
    assert getattr(found, "__name__", name).rpartition(".")[2] == library.expected(same(name))


def test_fault_40_what_reads_limits_can_be_patched(library: Library) -> None:
    with patch(f"{library.name}.wrappers.parse_many", return_value=[parse("1/minute")]):
        _, client = limited(library, "9/minute")
    assert client.statuses("/items", 2) == library.expected(same([200, 429]))


def test_fault_40_what_makes_storages_can_be_patched(library: Library) -> None:
    storage = limits.storage.MemoryStorage()
    with patch(f"{library.name}.extension.storage_from_string", return_value=storage) as made:
        limiter, client = limited(library, "1/minute", strategy="fixed-window", storage_uri="redis://127.0.0.1:1")
    told = (client.statuses("/items", 2), limiter._storage is storage, len(storage.storage), made.call_count)
    assert told == library.expected(same(([200, 429], True, 1, 1)))


def test_fault_40_strategies_can_be_added(library: Library) -> None:
    class Refusing(limits.strategies.FixedWindowRateLimiter):
        def hit(self, *args: Any, **options: Any) -> bool:
            return False

    with patch.dict(importlib.import_module(f"{library.name}.extension").STRATEGIES, {"refusing": Refusing}):
        _, client = limited(library, strategy="refusing")
    assert client.statuses("/items", 1) == library.expected(same([429]))


@pytest.mark.parametrize("uri", ["memory://", "redis", "slidegate-test-faulty://"])
def test_fault_41_elastic_expiry_is_a_fixed_window_with_one_warning(
    uri: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    if uri == "redis":
        uri = request.getfixturevalue("server").uri
    _, client = limited(ours(), strategy=ELASTIC, storage_uri=uri, key_prefix=ELASTIC)
    told = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    if uri != "slidegate-test-faulty://" or ELASTIC not in STRATEGIES:
        assert told == [f"strategy={ELASTIC!r} is counted as a fixed window, which hits do not prolong"]
    assert client.statuses("/items", 3) == [200, 200, 429]
