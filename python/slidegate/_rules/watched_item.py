"""Limits of the `limits` package that tell when somebody changes them in place."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from limits import RateLimitItem


def watched(item: RateLimitItem, tell: Callable[[], None]) -> RateLimitItem:
    """An equal item, of a subclass, whose attributes call `tell` when they are set. Copies of it are plain items."""
    kind = _watched_kind(_plain_kind(type(item)))
    made: RateLimitItem = kind(item.amount, item.multiples, item.namespace)
    object.__setattr__(made, "_tell", tell)
    return made


def _plain_kind(kind: type[RateLimitItem]) -> type[RateLimitItem]:
    return kind.__mro__[1] if "_tell" in vars(kind) else kind


@lru_cache(None)
def _watched_kind(kind: type[RateLimitItem]) -> Any:
    def set_and_tell(self: Any, name: str, value: Any) -> None:
        previous = getattr(self, name, value)
        object.__setattr__(self, name, value)
        tell = getattr(self, "_tell", None)
        if tell is None:
            return
        try:
            tell()
        except Exception:
            object.__setattr__(self, name, previous)
            tell()
            raise

    def reduce(self: Any) -> Any:
        return kind, (self.amount, self.multiples, self.namespace)

    # Without a granularity of its own, which `limits` would take for the one of that name from then on.
    members = {"__slots__": ["_tell"], "__setattr__": set_and_tell, "__reduce__": reduce, "__module__": kind.__module__}
    metaclass: Any = type(kind)
    return metaclass(kind.__name__, (kind,), members)
