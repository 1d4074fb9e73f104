"""How a storage for `limits` is opened, and what it says when that, or a limit, makes no sense."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import limits.errors
import pytest
from limits import RateLimitItemPerMinute, RateLimitItemPerYear, parse
from limits.storage import storage_from_string
from limits.strategies import STRATEGIES

from slidegate.limits_storage import AsyncSlidegateStorage, SlidegateStorage
from slidegate.testing import ManualClock, advance

T = TypeVar("T")
SCHEMES = ["slidegate", "async+slidegate"]


def told(answer: T | Coroutine[Any, Any, T]) -> T:
    """What a storage answers, async or not. An async one has to answer at once, without an event loop."""
    if not isinstance(answer, Coroutine):
        return answer
    try:
        answer.send(None)
    except StopIteration as returned:
        return cast(T, returned.value)
    raise AssertionError("the storage waits for something")


def open_storage(uri: str, **options: Any) -> Any:
    return storage_from_string(uri, **options)


def capacity_bytes(storage: Any) -> int:
    storage = getattr(storage, "_counts", storage)
    return int(storage._engine.stats().capacity_bytes)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [64 << 20, str(64 << 20), "64MiB", "65536 KiB"])
def test_the_size_is_a_number_of_bytes_or_has_a_unit(scheme: str, size: int | str) -> None:
    expected = capacity_bytes(SlidegateStorage(size=64 << 20))
    assert capacity_bytes(storage_from_string(f"{scheme}://?size={size}")) == expected
    assert capacity_bytes(storage_from_string(f"{scheme}://", size=size)) == expected
    assert expected < capacity_bytes(SlidegateStorage(size="1GiB"))


def test_a_keyword_wins_over_the_uri() -> None:
    storage = SlidegateStorage("slidegate://?size=64MiB&on_full=never", size="2MiB", on_full="refuse")
    assert capacity_bytes(storage) == capacity_bytes(SlidegateStorage(size="2MiB"))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("rest", "keywords", "said"),
    [
        ("?sise=64MiB", {}, r"no option sise; known: size, on_full, clock"),
        ("", {"max_connections": 5, "b": 1}, r"no option b, max_connections; known: size, on_full, clock"),
        ("?size=64MB", {}, r"size='64MB' is neither"),
        ("?size=", {}, r"size='' is neither"),
        ("?size=1", {}, r"size=1: size must be from 1048576 to 68719476736 bytes"),
        ("?size=999999999999999GiB", {}, r"size must be from 1048576 to 68719476736 bytes"),
        ("", {"size": -1}, r"size=-1 is neither"),
        ("?size=2MiB&size=4MiB", {}, r"size is there twice"),
        ("?on_full=explode", {}, r"on_full is 'evict', 'refuse' or 'admit', not 'explode'"),
        ("?clock=mine", {}, r"clock is a keyword"),
        ("", {"clock": 3}, r"cannot be opened with clock=3"),
        ("localhost:6379", {}, r"names a place"),
        ("/countersounts", {}, r"names a place"),
    ],
)
def test_options_that_make_no_sense_are_configuration_errors(
    scheme: str, rest: str, keywords: dict[str, Any], said: str
) -> None:
    with pytest.raises(limits.errors.ConfigurationError, match=said):
        storage_from_string(f"{scheme}://{rest}", **keywords)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_full_storage_refuses_or_admits_as_it_was_told(scheme: str) -> None:
    clock = ManualClock(10**18)
    for on_full, expected in (("refuse", False), ("admit", True)):
        storage = open_storage(f"{scheme}://?size=1MiB&on_full={on_full}", clock=clock)
        first = [told(storage.acquire_entry(f"key {i}", 1, 60)) for i in range(20_000)]
        assert all(first) == expected
        assert first[0]
        late = [told(storage.incr(f"free {i}", 60)) for i in range(20_000)]
        assert all(count == 1 for count in late) == expected


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("call", "arguments", "said"),
    [
        ("incr", ("free", 0), r"cannot count 8388607 per 0 seconds \(fixed-window\): the window"),
        ("incr", ("free", float("nan")), r"per nan seconds"),
        ("incr", ("free", RateLimitItemPerYear(1, 10).get_expiry()), r"1553 days"),
        ("acquire_entry", ("free", 8_388_608, 60), r"must be from 1 to 8388607, not 8388608"),
        ("acquire_sliding_window_entry", ("free", 8_388_608, 60), r"must be from 1 to 8388607, not 8388608"),
        ("acquire_sliding_window_entry", ("free", 1, 135_000_000), r"per 135000000 seconds .*1553 days"),
    ],
)
def test_a_limit_that_cannot_be_counted_is_a_configuration_error(
    scheme: str, call: str, arguments: tuple[Any, ...], said: str
) -> None:
    storage: Any = storage_from_string(f"{scheme}://")
    with pytest.raises(limits.errors.ConfigurationError, match=said):
        told(getattr(storage, call)(*arguments))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("item", [RateLimitItemPerMinute(2**40), RateLimitItemPerYear(5, 10), parse("2000000/minute")])
def test_a_limit_that_cannot_be_counted_can_be_cleared(scheme: str, item: RateLimitItemPerMinute) -> None:
    storage: Any = storage_from_string(f"{scheme}://")
    assert told(storage.clear(item.key_for("ada"))) is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_errors_are_wrapped_for_those_who_ask(scheme: str) -> None:
    storage: Any = storage_from_string(f"{scheme}://", wrap_exceptions=True)
    for call in (storage.incr, lambda key, expiry: storage.acquire_entry(key, 1, expiry)):
        with pytest.raises(limits.errors.StorageError) as raised:
            told(call("free", 0))
        assert isinstance(raised.value.storage_error, limits.errors.ConfigurationError)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_elastic_expiry_is_refused(scheme: str) -> None:
    storage: Any = storage_from_string(f"{scheme}://")
    with pytest.raises(limits.errors.ConfigurationError, match="no elastic expiry"):
        told(storage.incr("free", 60, elastic_expiry=True))
    assert told(storage.incr("free", 60, elastic_expiry=False)) == 1


def test_the_clock_of_the_machine_is_the_default() -> None:
    limiter = STRATEGIES["moving-window"](storage_from_string("slidegate://"))
    assert [limiter.hit(parse("1/day")) for _ in range(2)] == [True, False]


def test_another_clock_can_be_given() -> None:
    clock = ManualClock(10**18)
    limiter = STRATEGIES["moving-window"](open_storage("slidegate://", clock=clock))
    assert [limiter.hit(parse("1/day")) for _ in range(2)] == [True, False]
    advance(clock, seconds=86_400)
    assert limiter.hit(parse("1/day"))


def test_schemes_are_known_after_the_import_only() -> None:
    script = (
        "import slidegate\n"
        "from limits.storage import storage_from_string\n"
        "from limits.errors import ConfigurationError\n"
        "try: storage_from_string('slidegate://')\n"
        "except ConfigurationError: print('unknown')\n"
        "import slidegate.limits_storage\n"
        "for uri in ('slidegate://', 'async+slidegate://'): print(type(storage_from_string(uri)).__name__)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["unknown", SlidegateStorage.__name__, AsyncSlidegateStorage.__name__]
