"""The limits of endpoints by their names, as slowapi keeps them, for whoever reads or replaces them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from .._support.errors import ConfigurationError

_Kind = TypeVar("_Kind", bound=type)
_Limit = TypeVar("_Limit")


def _telling(*methods: str) -> Callable[[_Kind], _Kind]:
    # Has these methods of a container call its `changed` when they are done.
    def tell(method: Any) -> Any:
        @functools.wraps(method)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = method(self, *args, **kwargs)
            self.changed()
            return result

        return wrapper

    def decorate(kind: _Kind) -> _Kind:
        for name in methods:
            setattr(kind, name, tell(getattr(kind, name)))
        return kind

    return decorate


@_telling(
    *("__setitem__", "__delitem__", "__iadd__", "__imul__"),
    *("append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse"),
)
class ObservedList(list[_Limit]):
    """A list that calls `changed` when somebody changes it, or what is in it."""

    def __init__(self, limits: Iterable[_Limit], changed: Callable[[], None]) -> None:
        super().__init__(limits)
        self.changed = changed
        self.watch()

    def watch(self) -> None:
        """Hears of changes of what is in it now."""
        _watch(self, self.changed)


@_telling("__setitem__", "__delitem__", "__ior__", "pop", "popitem", "setdefault", "update", "clear")
class ObservedNames(dict[int, str]):
    """A dictionary that calls `changed` when somebody changes it."""

    def __init__(self, names: Mapping[int, str], changed: Callable[[], None]) -> None:
        super().__init__(names)
        self.changed = changed


@_telling("__setitem__", "__delitem__", "__ior__", "pop", "popitem", "setdefault", "update", "clear")
class RouteLimits(dict[str, list[_Limit]]):
    """Lists of limits by the qualified names of endpoints. Calls `on_change` when somebody changes them, or one of the
    lists, and knows what it was before. Not thread-safe while it is changed."""

    def __init__(self, limits: Mapping[str, list[_Limit]], kind: type[_Limit], on_change: Callable[[], None]) -> None:
        super().__init__(limits)
        self._kind = kind
        self._on_change = on_change
        self._original: dict[str, list[_Limit]] = {}
        self._own_lists()

    def declare(self, name: str, limits: Iterable[_Limit]) -> None:
        """Adds what is declared for an endpoint, which is no change."""
        limits = list(limits)
        self._original.setdefault(name, []).extend(limits)
        # Methods of the bases, which tell nobody.
        list.extend(dict.setdefault(self, name, ObservedList([], self.changed)), limits)
        _watch(limits, self.changed)

    def replaced_by(self, limits: Mapping[str, list[_Limit]]) -> RouteLimits[_Limit]:
        """What is to be used when somebody wants other ones from now on."""
        if isinstance(limits, RouteLimits):
            return limits
        other: RouteLimits[_Limit] = RouteLimits(limits, self._kind, self._on_change)
        other._original = self._original
        return other

    def is_original(self, name: str) -> bool:
        """Whether the limits of an endpoint are those that were declared."""
        # Copies, as other threads may be about to change them.
        now, before = list(self.get(name, ())), list(self._original.get(name, ()))
        is_same = len(now) == len(before) and all(one is other for one, other in zip(now, before, strict=True))
        return is_same and not any(map(_is_changed, now))

    def holds(self, name: str, limit: object) -> bool:
        """Whether this very limit is still one of the endpoint, as it was declared."""
        return not _is_changed(limit) and any(limit is each for each in self.get(name, ()))

    def added(self, name: str) -> list[_Limit]:
        """What somebody has put among the limits of an endpoint, or changed of them."""
        before = self._original.get(name, [])
        return [
            limit for limit in self.get(name, ()) if _is_changed(limit) or not any(limit is each for each in before)
        ]

    def changed(self) -> None:
        """Takes up what somebody has put here, and tells."""
        self._own_lists()
        for name, limits in self.items():
            for each in [each for each in limits if not isinstance(each, self._kind)]:
                list.remove(limits, each)
                raise ConfigurationError(f"{name}: {each!r} is no {self._kind.__name__}")
        self._on_change()

    def _own_lists(self) -> None:
        for name, limits in self.items():
            if not isinstance(limits, ObservedList) or limits.changed != self.changed:
                dict.__setitem__(self, name, ObservedList(limits, self.changed))
            _watch(limits, self.changed)


def _is_changed(limit: object) -> bool:
    return bool(getattr(limit, "is_changed", False))


def _watch(limits: Iterable[Any], tell: Callable[[], None]) -> None:
    for limit in limits:
        if hasattr(limit, "watch"):
            limit.watch(tell)
