"""Where hits are counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from ._core import Clock, Limiter, Quota, Ticket
from ._schemes import bridged_schemes
from ._wall import wall_time_s
from .decision import NS_PER_S, Essentials
from .errors import ConfigurationError

Key: TypeAlias = str | bytes
Rule: TypeAlias = tuple[Quota, str]
OnFull: TypeAlias = Literal["evict", "refuse", "admit"]

SUPPORTED = ("memory://",)
_POLICIES_KEPT = 4096


class Policy(Protocol):
    """Rules that are hit together: one key for all or one for each, costs likewise. All of them take, or none."""

    def hit(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /) -> Essentials: ...
    def peek(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /) -> Essentials: ...
    def reset(self, keys: Key | tuple[Key, ...], /) -> None: ...
    def reserve(
        self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /
    ) -> tuple[Essentials, Ticket | None]: ...
    def refund(self, ticket: Ticket, /) -> bool: ...


class Bucket(NamedTuple):
    """Where one limit counts one key, and what it has counted."""

    policy: Policy
    key: Key
    used: int
    reset_after_ns: int


FindBucket: TypeAlias = Callable[[str], Bucket | None]
"""The bucket that the `limits` package would keep under a key; None when nothing is counted there."""


class Storage(Protocol):
    """Thread-safe. Policies are handles: equal rules share their counts."""

    def policy(self, rules: tuple[Rule, ...]) -> Policy: ...
    def reset(self) -> None: ...
    def check(self) -> bool: ...
    def know_keys(self, find: FindBucket) -> None: ...


class MemoryStorage:
    """Counts in the memory of this process. Thread-safe and lock-free."""

    def __init__(self, *, size: int | None = None, on_full: OnFull = "evict", clock: Clock | None = None) -> None:
        options: dict[str, Any] = {} if size is None else {"size": size}
        self._engine = Limiter(on_full=on_full, clock=clock, **options)
        self.policy = lru_cache(_POLICIES_KEPT)(self._policy)
        self._find: FindBucket = lambda key: None

    def know_keys(self, find: FindBucket) -> None:
        """Tells where to look for the keys of the `limits` package, which `get` and its like are given."""
        self._find = find

    def get(self, key: str) -> int:
        """What is counted under "LIMITER/<key>/<scope>/<amount>/<multiples>/<granularity>"; 0 for other keys."""
        bucket = self._find(key)
        return 0 if bucket is None else bucket.used

    def get_expiry(self, key: str) -> float:
        """When nothing will be counted there any more, in seconds since the epoch; now, when nothing is."""
        bucket = self._find(key)
        return wall_time_s() + (0 if bucket is None else bucket.reset_after_ns / NS_PER_S)

    def reset(self) -> None:
        """Forgets all hits."""
        self._engine.reset()

    def clear(self, key: str | None = None) -> None:
        """Forgets what is counted under such a key; all hits without one, as emptying slowapi's dictionary does."""
        if key is None:
            self._engine.reset()
        elif (bucket := self._find(key)) is not None:
            bucket.policy.reset(bucket.key)

    def check(self) -> bool:
        """Whether hits can be counted now."""
        return True

    @property
    def storage(self) -> MemoryStorage:
        """Itself: what has a `clear`."""
        return self

    def _policy(self, rules: tuple[Rule, ...]) -> Policy:
        try:
            return self._engine.policy(rules)
        except ValueError as error:
            raise ConfigurationError(f"{len(rules)} limits for one request: {error}") from error


def open_storage(uri: str | None, *, size: int | None, on_full: OnFull, clock: Clock | None) -> MemoryStorage:
    """The storage that `uri` names; this process's memory when it is None. Raises ConfigurationError for others."""
    if uri not in (None, *SUPPORTED):
        scheme = str(uri).split("://")[0] + "://"
        supported = ", ".join([*SUPPORTED, *bridged_schemes()])
        raise ConfigurationError(f"storage_uri: there is no storage {scheme!r}; supported: {supported}")
    try:
        return MemoryStorage(size=size, on_full=on_full, clock=clock)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigurationError(f"size={size!r}, on_full={on_full!r}: {error}") from error
