"""The engine as a storage of the `limits` package.

Importing this module registers `slidegate://` and `async+slidegate://`: whatever counts through `limits` (slowapi,
Flask-Limiter, plain `limits`) counts natively when it is given that URI. `docs/limits-storage.md` says what differs
from `memory://`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import parse_qs, urlsplit

import limits.aio.storage.base
import limits.storage.base
from limits.limits import GRANULARITIES

from ._core import Limiter, Policy, PythonClock, Quota, SegmentError
from ._rules.notation import MOST_AMOUNT, Strategy
from ._storage.uri import bytes_in
from ._storage.uri_secrets import hiding_secrets, shown_uri
from ._support.clock import wall_time_s
from ._support.errors import ConfigurationError
from ._support.fork import ForkableLock
from .decision import NS_PER_S

if TYPE_CHECKING:
    from limits.aio.storage.base import SlidingWindowCounterSupport as AsyncSlidingWindowCounterSupport
    from limits.storage.base import SlidingWindowCounterSupport, TimestampedSlidingWindow
else:
    # The strategy came with limits 4.1, and asks for the methods only.
    SlidingWindowCounterSupport = getattr(limits.storage.base, "SlidingWindowCounterSupport", object)
    AsyncSlidingWindowCounterSupport = getattr(limits.aio.storage.base, "SlidingWindowCounterSupport", object)
    TimestampedSlidingWindow = getattr(limits.storage.base, "TimestampedSlidingWindow", type("Nothing", (), {}))

__all__ = ["AsyncSlidegateStorage", "SlidegateStorage"]

_BEYOND_ANY_LIMIT = (1 << 63) - 1
"""What a fixed window answers that cannot count further: whoever compares it with a limit refuses."""
_LONGEST_NS = (1 << 27) * NS_PER_S
"""The longest window of the engine."""
_RULES_KEPT = 256

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")


class SlidegateStorage(
    limits.storage.base.Storage,
    limits.storage.base.MovingWindowSupport,
    TimestampedSlidingWindow,
    SlidingWindowCounterSupport,
):
    """Counts in the memory of this process; each instance apart. Thread-safe, and nothing waits for another thread.

    Options, in the query of the URI or as keywords (which win): `size`, the bytes that counters may take, as a number
    or like "64MiB"; `on_full`, "evict" (default), "refuse" or "admit"; and, as a keyword only, `clock`.

    Raises ConfigurationError for other options, and when it is asked to count a limit or a window that the engine
    cannot: amounts above 8,388,607, windows outside 10 ms to 1,553 days.
    """

    STORAGE_SCHEME = ["slidegate"]  # noqa: RUF012 - declared so by `limits`

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._engine = _open_engine(uri, options)
        self._clock = self._engine.clock
        self._fixed = _Rules(self._engine, "fixed-window")
        self._moving = _Rules(self._engine, "moving-window")
        self._sliding = _SlidingRules(self._engine)

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What `wrap_exceptions` turns into `limits.errors.StorageError`."""
        return (ValueError, SegmentError)

    def incr(self, key: str, expiry: float, amount: int = 1, *, elastic_expiry: bool = False) -> int:
        """Adds `amount` and says what the window that the first hit opened has come to, its limit notwithstanding.

        Nothing is added when that would be more than 8,388,607, and the answer is then above any limit. An amount
        below 1 adds nothing; a fraction counts as the next whole number.
        """
        if elastic_expiry:
            raise ConfigurationError("slidegate:// has no elastic expiry; use fixed-window or moving-window")
        policy = self._fixed.policy(MOST_AMOUNT, expiry)
        cost = _whole(amount)
        if cost < 1:
            return _count(policy.peek(key)[2])
        allowed, _, remaining, reset_after_ns, _ = policy.hit(key, cost)
        if not allowed:
            return _BEYOND_ANY_LIMIT
        # Only what was admitted without being counted (on_full="admit") leaves nothing to reset.
        return MOST_AMOUNT - remaining if reset_after_ns else cost

    def get(self, key: str) -> int:
        """What the fixed window of the key has come to: 0 when there is none."""
        return self._fixed_window(key)[0]

    def get_expiry(self, key: str) -> float:
        """When the fixed window of the key ends, in seconds since the epoch: now when there is none."""
        return wall_time_s() + self._fixed_window(key)[1] / NS_PER_S

    def check(self) -> bool:
        """Whether hits can be counted now."""
        return True

    def reset(self) -> int | None:
        """Forgets all hits of all keys. Returns how many counters there are, expired ones among them."""
        self._engine.reset()
        return self._engine.stats().cells

    def clear(self, key: str) -> None:
        """Forgets the hits of the key, whichever strategy counted them."""
        for limit, expiry in _limit_told_by(key):
            # What cannot be counted has no hits.
            with suppress(ConfigurationError):
                self._fixed.policy(MOST_AMOUNT, expiry).reset(key)
                self._moving.policy(limit, expiry).reset(key)
        for rules in (self._fixed, self._moving):
            for _, _, policy in rules:
                policy.reset(key)
        expiries: set[float] = {expiry for _, expiry in _limit_told_by(key)}
        for length in expiries.union(expiry for _, expiry, _ in self._sliding):
            self._clear_windows(key, length)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Takes `amount` from the moving window, if it has as much left, and says whether it had.

        An amount below 1 takes nothing and is let through; a fraction counts as the next whole number.
        """
        return self._acquire(self._moving, key, limit, expiry, amount)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest hit in the window happened, in seconds since the epoch (now without one), and the hits."""
        if limit < 1:
            return wall_time_s(), 0
        used, wait_ns = _usage(self._moving.policy(limit, expiry), key, limit)
        now = wall_time_s()
        return (now - expiry + wait_ns / NS_PER_S if used else now), used

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """As `acquire_entry`, of two windows that begin at multiples of `expiry` on the wall's clock.

        What the window before has counted weighs by how much of it lies less than `expiry` ago.
        """
        cost = _whole(amount)
        if cost > limit or cost < 1:
            return cost <= limit
        policy = self._sliding.policy(limit, expiry)
        windows = self._windows(key, expiry)
        previous = _taken(policy, windows.previous, limit)
        if not previous:
            return policy.hit(windows.current, cost)[0]
        if windows.weighted(previous, _taken(policy, windows.current, limit)) + cost > limit:
            return False
        (allowed, _, remaining, reset_after_ns, _), ticket = policy.reserve(windows.current, cost)
        # What was admitted without being counted (on_full="admit") has nothing to reset.
        if ticket is not None and reset_after_ns and windows.weighted(previous, limit - remaining) > limit:
            # Others came between.
            policy.refund(ticket)
            return False
        return allowed

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """`(previous, seconds, current, seconds)`: what two windows have counted, and until when they weigh.

        That is until the end of the current window for the one before, and of the next one for the current.
        """
        windows = self._windows(key, expiry)
        previous, current = self._sliding_counts(windows, key, expiry)
        # `limits` reads the time modulo the expiry: a window that has just begun would be over now.
        current_left_s = min(windows.current_left_s, math.nextafter(2 * expiry, 0))
        return previous, windows.previous_left_s if previous else 0.0, current, current_left_s

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forgets the hits of the key in the windows of the sliding-window counter."""
        self._clear_windows(key, expiry)

    def _clear_windows(self, key: str, expiry: float) -> None:
        windows = self._windows(key, expiry)
        for limit in _limits_told_by(key, expiry):
            # What cannot be counted has no hits.
            with suppress(ConfigurationError):
                self._sliding.policy(limit, expiry)
        for _, kept_expiry, policy in self._sliding:
            if kept_expiry == expiry:
                policy.reset(windows.previous)
                policy.reset(windows.current)

    def _fixed_window(self, key: str) -> tuple[int, int]:
        """Count, and nanoseconds until the window ends."""
        for _, expiry in _limit_told_by(key):
            _, _, remaining, reset_after_ns, _ = self._fixed.policy(MOST_AMOUNT, expiry).peek(key)
            if remaining < MOST_AMOUNT:
                return _count(remaining), reset_after_ns
        peeks = (policy.peek(key) for _, _, policy in self._fixed)
        return max(((_count(peek[2]), peek[3]) for peek in peeks), default=(0, 0))

    def _windows(self, key: str, expiry: float) -> _Windows:
        # Where a test moves the clock by hand, windows begin by that.
        is_moved_by_hand = not isinstance(self._clock, PythonClock) or self._clock.is_held
        return _Windows(key, expiry, self._engine.now() / NS_PER_S if is_moved_by_hand else wall_time_s())

    def _sliding_counts(self, windows: _Windows, key: str, expiry: int) -> tuple[int, int]:
        """What the window before and the current one have come to."""
        for limit in _limits_told_by(key, expiry):
            counts = windows.counts(self._sliding.policy(limit, expiry), limit)
            if any(counts):
                return counts
        rules = [(policy, limit) for limit, kept_expiry, policy in self._sliding if kept_expiry == expiry]
        every = [windows.counts(policy, limit) for policy, limit in rules]
        return max(every, key=lambda counts: windows.weighted(*counts), default=(0, 0))

    @staticmethod
    def _acquire(rules: _Rules, key: str, limit: int, expiry: int, amount: int) -> bool:
        cost = _whole(amount)
        if cost > limit:
            return False
        return cost < 1 or rules.policy(limit, expiry).hit(key, cost)[0]


def _async(
    method: Callable[Concatenate[SlidegateStorage, _Given], _Answer],
) -> Callable[Concatenate[AsyncSlidegateStorage, _Given], Coroutine[Any, Any, _Answer]]:
    @functools.wraps(method)
    async def answered(self: AsyncSlidegateStorage, /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Answer:
        return method(self._counts, *args, **kwargs)

    return answered


class AsyncSlidegateStorage(
    limits.aio.storage.base.Storage,
    limits.aio.storage.base.MovingWindowSupport,
    TimestampedSlidingWindow,
    AsyncSlidingWindowCounterSupport,
):
    """`SlidegateStorage` for the strategies of `limits.aio`. Nothing is awaited: nothing takes long enough to be."""

    STORAGE_SCHEME = ["async+slidegate"]  # noqa: RUF012 - declared so by `limits`

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._counts = SlidegateStorage(uri, **options)
        self._engine = self._counts._engine

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What `wrap_exceptions` turns into `limits.errors.StorageError`."""
        return self._counts.base_exceptions

    incr = _async(SlidegateStorage.incr)
    get = _async(SlidegateStorage.get)
    get_expiry = _async(SlidegateStorage.get_expiry)
    check = _async(SlidegateStorage.check)
    reset = _async(SlidegateStorage.reset)
    clear = _async(SlidegateStorage.clear)
    acquire_entry = _async(SlidegateStorage.acquire_entry)
    get_moving_window = _async(SlidegateStorage.get_moving_window)
    acquire_sliding_window_entry = _async(SlidegateStorage.acquire_sliding_window_entry)
    get_sliding_window = _async(SlidegateStorage.get_sliding_window)
    clear_sliding_window = _async(SlidegateStorage.clear_sliding_window)


class _Rules:
    """The policies of one strategy by limit and expiry. Thread-safe.

    The oldest is dropped when there are too many, and made again when it is used: its counts are the engine's.
    """

    def __init__(self, engine: Limiter, strategy: Strategy, scope: str = "limits") -> None:
        self._engine = engine
        self._strategy = strategy
        self._scope = scope
        self._policies: dict[tuple[int, float], Policy] = {}
        self._making = ForkableLock()

    def __iter__(self) -> Iterator[tuple[int, float, Policy]]:
        return iter([(limit, expiry, policy) for (limit, expiry), policy in list(self._policies.items())])

    def policy(self, limit: int, expiry: float) -> Policy:
        """Raises ConfigurationError when the engine cannot count the limit."""
        policy = self._policies.get((limit, expiry))
        return self._make(limit, expiry) if policy is None else policy

    def _make(self, limit: int, expiry: float) -> Policy:
        try:
            quota = self._quota(limit, round(expiry * NS_PER_S))
        except (ValueError, OverflowError, TypeError) as error:
            raise ConfigurationError(
                f"slidegate:// cannot count {limit!r} per {expiry!r} seconds ({self._strategy}): {error}"
            ) from error
        policy = self._engine.policy([(quota, self._scope)])
        with self._making:
            if len(self._policies) >= _RULES_KEPT:
                del self._policies[next(iter(self._policies))]
            self._policies[limit, expiry] = policy
        return policy

    def _quota(self, limit: int, window_ns: int) -> Quota:
        return Quota(limit, window_ns, self._strategy)


class _SlidingRules(_Rules):
    """Those of the sliding-window counter: each window of a key is a fixed one, kept until the next one is over."""

    def __init__(self, engine: Limiter) -> None:
        super().__init__(engine, "sliding-window-counter", "limits: windows")

    def _quota(self, limit: int, window_ns: int) -> Quota:
        window_ns = Quota(limit, window_ns, "fixed-window").window_ns
        # An engine that follows a faked clock goes up to 1/6,553 faster, and begins with a whole second.
        kept_ns = 2 * window_ns + window_ns // 1024 + NS_PER_S
        return Quota(limit, min(kept_ns, _LONGEST_NS), "fixed-window")


class _Windows:
    """Two windows of a key that begin at multiples of the expiry since 1970, in the arithmetic of `limits`."""

    __slots__ = ("_expiry", "current", "current_left_s", "previous", "previous_left_s")

    def __init__(self, key: str, expiry: float, now_s: float) -> None:
        self.previous = f"{key}/{int((now_s - expiry) / expiry)}"
        self.current = f"{key}/{int(now_s / expiry)}"
        self.previous_left_s = (1 - (now_s - expiry) / expiry % 1) * expiry
        self.current_left_s = (1 - now_s / expiry % 1) * expiry + expiry
        self._expiry = expiry

    def weighted(self, previous: int, current: int) -> int:
        """What counts now."""
        return math.floor(previous * self.previous_left_s / self._expiry + current)

    def counts(self, policy: Policy, limit: int) -> tuple[int, int]:
        """What the previous and the current window have come to."""
        return _taken(policy, self.previous, limit), _taken(policy, self.current, limit)


def _taken(policy: Policy, key: str, limit: int) -> int:
    return limit - policy.peek(key)[2]


def _usage(policy: Policy, key: str, limit: int) -> tuple[int, int]:
    """The units in use, and the nanoseconds until the first of them comes back."""
    cost = 1
    # One more than is left would do when the first unit comes back; what is left can change between two looks.
    while True:
        allowed, _, remaining, _, retry_after_ns = policy.peek(key, cost)
        if remaining == limit:
            return 0, 0
        if not allowed and cost == remaining + 1:
            return limit - remaining, retry_after_ns
        cost = remaining + 1


def _count(remaining: int) -> int:
    return MOST_AMOUNT - remaining if remaining else _BEYOND_ANY_LIMIT


def _whole(amount: float) -> int:
    """The whole number that is counted for an amount: rounded up, and above any limit for what is no number."""
    if isinstance(amount, int):
        return amount
    try:
        return math.ceil(amount)
    except (OverflowError, ValueError):
        return _BEYOND_ANY_LIMIT


def _limit_told_by(key: str) -> list[tuple[int, int]]:
    """Amount and expiry of the limit whose `key_for` made the key, if one did."""
    try:
        _, amount, multiples, granularity = key.rsplit("/", 3)
        limit, expiry = int(amount), GRANULARITIES[granularity].GRANULARITY.seconds * int(multiples)
    except (ValueError, KeyError):
        return []
    return [(limit, expiry)] if expiry > 0 else []


def _limits_told_by(key: str, expiry: float) -> list[int]:
    return [limit for limit, told_expiry in _limit_told_by(key) if limit > 0 and told_expiry == expiry]


def _open_engine(uri: str | None, keywords: Mapping[str, Any]) -> Limiter:
    options = {**_options_in(uri), **keywords}
    unknown = sorted(options.keys() - {"size", "on_full", "clock"})
    if unknown:
        raise ConfigurationError(f"slidegate:// has no option {', '.join(unknown)}; known: size, on_full, clock")
    if "size" in options:
        options["size"] = bytes_in(options["size"])
    try:
        return Limiter(**options)
    except (ValueError, TypeError) as error:
        written = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise ConfigurationError(f"slidegate:// cannot be opened with {written}: {error}") from error


def _options_in(uri: str | None) -> dict[str, str]:
    with hiding_secrets(uri):
        parts = urlsplit(uri or "")
    if parts.netloc or parts.path.strip("/") or parts.fragment:
        raise ConfigurationError(
            f"{shown_uri(str(uri))} names a place; write slidegate:// and options, as in slidegate://?size=64MiB"
        )
    options = parse_qs(parts.query, keep_blank_values=True)
    for name, values in options.items():
        if name == "clock" or len(values) > 1:
            wrong = "is a keyword" if name == "clock" else "is there twice"
            raise ConfigurationError(f"{shown_uri(str(uri))}: {name} {wrong}")
    return {name: value for name, (value,) in options.items()}
