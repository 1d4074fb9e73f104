"""What a callable has said of limits before, for when it fails."""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

from .._support.fork import ForkableLock

_Limit = TypeVar("_Limit")

_MOST_KEYS = 4096
_LONGEST_KEY = 64


class LastLimits(Generic[_Limit]):
    """The last limits for each key, the oldest of too many being forgotten; or those for all keys. Thread-safe."""

    def __init__(self, is_same_for_all: bool) -> None:
        self._is_same_for_all = is_same_for_all
        self.was_none = False
        """Whether it has ever said that there is no limit."""
        self._last: dict[str | bytes, tuple[_Limit, ...]] = {}
        self._lock = ForkableLock()

    def put(self, key: str, limits: tuple[_Limit, ...]) -> None:
        """Keeps what it has said of a key."""
        if not limits:
            self.was_none = True
        kept = self._kept(key)
        if self._last.get(kept) is limits:
            return
        with self._lock:
            if kept not in self._last and len(self._last) >= _MOST_KEYS:
                del self._last[next(iter(self._last))]
            self._last[kept] = limits

    def last(self, key: str) -> tuple[_Limit, ...]:
        """What it has said of a key; nothing when that is not known."""
        return self._last.get(self._kept(key), ())

    def _kept(self, key: str) -> str | bytes:
        if self._is_same_for_all:
            return ""
        # Keys come from requests: what they take up here must not.
        if len(key) <= _LONGEST_KEY:
            return key
        return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
