"""What programs do by hand with a storage of the `limits` package, done with one of ours.

Counts are found under the keys that `limits` gives them, such as "LIMITER/192.0.2.1//items/10/1/minute". Under a key of
a limit and two identifiers it is the limiter's own bucket, whichever strategy asks; any other key has one of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import limits.storage

from .._core import Quota
from .._limiter.core import LimiterCore
from .._rules.limit_texts import text_of
from .._rules.notation import MOST_AMOUNT, Strategy
from .._storage.base import Storage
from .._storage.memory import MemoryStorage
from .._storage.redis.storage import RedisStorage
from .._support.clock import wall_time_s
from .._support.errors import ConfigurationError
from ..decision import NS_PER_S
from .flat_keys import Located, flat_key_of, located

_MOST_FREE_KEYS = 256
_STRATEGIES: Mapping[str, Strategy] = {
    "acquire_entry": "moving-window",
    "acquire_sliding_window_entry": "sliding-window-counter",
    "incr": "fixed-window",
}
"""What a strategy of `limits` calls to count."""
# What programs replace of these is what the storage does, whoever asks it.
_OF_STORAGES = ("check", "reset")
_MOST_KEYS = 1 << 16


class Entry(NamedTuple):
    """A hit in a moving window, in seconds since the epoch."""

    atime: float
    expiry: float


class StorageView:
    """A storage of ours as programs and the strategies of `limits` know one. Thread-safe; blocks as long as that takes.

    An amount below 1 takes nothing and a fraction counts as the next whole number. Nothing is ever counted beyond a
    limit: `incr` then answers one more than it.

    Requests are not counted with these methods, unless one is replaced: then by the strategy that calls it.
    """

    _watchers: tuple[Callable[[], None], ...] = ()

    def __init__(self, storage: Storage, limiter: LimiterCore) -> None:
        self._viewed, self._limiter = storage, limiter
        self._free: dict[str, Located] = {}

    def watch(self, tell: Callable[[], None]) -> None:
        """Has `tell` called whenever a method is replaced."""
        vars(self)["_watchers"] = (*(each for each in self._watchers if each != tell), tell)

    @property
    def patched(self) -> Strategy | None:
        """The strategy of `limits` that calls what somebody has put in the place of a method; None without any."""
        return next((strategy for name, strategy in _STRATEGIES.items() if name in vars(self)), None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._viewed, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_STORAGES:
            setattr(self._viewed, name, value)
            return
        super().__setattr__(name, value)
        self._tell()

    def __delattr__(self, name: str) -> None:
        if name in _OF_STORAGES:
            delattr(self._viewed, name)
            return
        super().__delattr__(name)
        self._tell()

    def _tell(self) -> None:
        for tell in self._watchers:
            tell()

    def get(self, key: str) -> int:
        """What is counted under "LIMITER/<key>/<scope>/<amount>/<multiples>/<granularity>"; 0 for other keys."""
        at = self._known(key)
        return 0 if at is None else at.used

    def get_expiry(self, key: str) -> float:
        """When nothing will be counted there any more, in seconds since the epoch; now, when nothing is."""
        at = self._known(key)
        return wall_time_s() + (0 if at is None else at.peek()[3] / NS_PER_S)

    def clear(self, key: str | None = None) -> None:
        """Forgets what is counted under such a key; all hits without one, as emptying slowapi's dictionary does."""
        at = None if key is None else self._known(key)
        if key is None:
            self._viewed.reset()
        elif at is not None:
            at.reset()

    @property
    def storage(self) -> Any:
        """Itself: what has a `clear`."""
        return self

    def incr(self, key: str, expiry: float, amount: int = 1, *, elastic_expiry: bool = False) -> int:
        """Adds to what is counted under a key, and says what it has come to. ConfigurationError for elastic expiry."""
        if elastic_expiry:
            raise ConfigurationError("there is no elastic expiry here; use a fixed or a moving window")
        at = self._located(key, MOST_AMOUNT, expiry, "fixed-window")
        cost = math.ceil(amount)
        allowed, _, remaining, _, _ = at.hit(cost) if cost > 0 else at.peek()
        return at.quota.amount - remaining if allowed else at.quota.amount + 1

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Takes this much of a moving window, if it is left, and says whether it was."""
        return self._acquire(self._located(key, limit, expiry, "moving-window"), limit, amount)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest hit in the window happened, in seconds since the epoch (now without one), and the hits."""
        used, wait_s = _usage(self._located(key, limit, expiry, "moving-window"))
        now_s = wall_time_s()
        return (now_s - expiry + wait_s if used else now_s), used

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """The same of a sliding window's counter."""
        return self._acquire(self._located(key, limit, expiry, "sliding-window-counter"), limit, amount)

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """`(0, 0.0, used, seconds)`: the weighted count as one number, and the seconds until a unit comes back."""
        at = self._known(key)
        used, wait_s = (0, 0.0) if at is None else _usage(at)
        return 0, 0.0, used, min(wait_s, math.nextafter(expiry, 0))

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forgets what is counted under a key."""
        self.clear(key)

    def _acquire(self, at: Located, limit: int, amount: int) -> bool:
        cost = math.ceil(amount)
        return cost < 1 or (cost <= limit and at.hit(cost)[0])

    def _located(self, key: str, limit: int, expiry: float, strategy: Strategy) -> Located:
        known = self._known(key)
        if known is not None:
            return known
        while len(self._free) >= _MOST_FREE_KEYS:
            self._free.pop(next(iter(self._free)), None)
        quota = Quota(min(max(limit, 1), MOST_AMOUNT), round(expiry * NS_PER_S), strategy)
        return self._free.setdefault(key, Located(self._viewed, quota, "by hand", key))

    def _known(self, key: str) -> Located | None:
        return located(key, self._viewed, self._limiter) or self._free.get(key)


class MemoryView(StorageView):
    """Of memory, which knows its keys when it records them."""

    _viewed: MemoryStorage

    @property
    def storage(self) -> Stored:
        """The counts by their keys."""
        return Stored(self, self.get)

    @property
    def expirations(self) -> Stored:
        """When they end, in seconds since the epoch."""
        return Stored(self, self.get_expiry)

    @property
    def events(self) -> Stored:
        """As many hits as are counted, each at the time of the latest."""
        return Stored(self, self._entries)

    def _flat_keys(self) -> list[str]:
        engine = self._viewed.engine
        rules = {index: (quota, text_of(scope)) for index, quota, scope, *_ in engine.rules()}
        return [
            flat_key_of(text_of(noted[1]), *rules[noted[0]])
            if noted is not None and noted[2] and noted[0] in rules
            else f"#{identity >> 21:011x}"
            for identity, _, _, _, used, noted in engine.survey(_MOST_KEYS)
            if used
        ]

    def _entries(self, key: str) -> list[Entry]:
        at, used, expiry = self._known(key), self.get(key), self.get_expiry(key)
        window_s = 0.0 if at is None else at.quota.window_ns / NS_PER_S
        return [Entry(expiry - window_s, expiry)] * used


class RedisView(StorageView):
    """Of a server, which nobody lists the keys of."""


def view_of(storage: MemoryStorage | RedisStorage, limiter: LimiterCore) -> StorageView:
    """What programs get to see of a limiter's storage."""
    return (MemoryView if isinstance(storage, MemoryStorage) else RedisView)(storage, limiter)


class Stored(Mapping[str, Any]):
    """What is counted, by the keys of `limits`; read-only but for what forgets. `read` says what of a key.

    Without `record_keys` nobody knows the keys any more: a digest stands for each, which nothing is found under.
    """

    def __init__(self, view: MemoryView, read: Callable[[str], Any]) -> None:
        # Forgets what is counted under a key; all hits without one.
        self.clear = view.clear
        self._keys, self._read = view._flat_keys, read

    def __getitem__(self, key: str) -> Any:
        return self._read(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self._read(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())

    def __bool__(self) -> bool:
        # A storage that is empty is one, too.
        return True

    def pop(self, key: str, default: Any = None) -> Any:
        """What is counted under a key, which is then forgotten."""
        value = self._read(key) or default
        self.clear(key)
        return value


def _usage(at: Located) -> tuple[int, float]:
    """The units in use, and the seconds until the first of them comes back."""
    _, _, remaining, _, _ = at.peek()
    if remaining >= at.quota.amount:
        return 0, 0.0
    wait_ns = at.peek(remaining + 1)[4]
    return at.quota.amount - remaining, max(0, wait_ns) / NS_PER_S


# Programs ask of what kind a storage is.
limits.storage.MemoryStorage.register(MemoryView)
limits.storage.RedisStorage.register(RedisView)
