"""Lists and dictionaries that tell when somebody changes them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

_Kind = TypeVar("_Kind", bound=type)
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


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
class ObservedList(list[_Value]):
    """A list that calls `changed` when somebody has changed it."""

    def __init__(self, values: Iterable[_Value], changed: Callable[[], None]) -> None:
        super().__init__(values)
        self.changed = changed


@_telling("__setitem__", "__delitem__", "__ior__", "pop", "popitem", "setdefault", "update", "clear")
class ObservedDict(dict[_Key, _Value]):
    """A dictionary that does the same."""

    def __init__(self, values: Mapping[_Key, _Value], changed: Callable[[], None]) -> None:
        super().__init__(values)
        self.changed = changed
