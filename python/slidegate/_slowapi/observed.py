"""Lists and dictionaries that tell when somebody changes them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_CHANGING = (
    *("__setitem__", "__delitem__", "__iadd__", "__imul__", "__ior__", "append", "extend", "insert", "pop", "popitem"),
    *("remove", "clear", "sort", "reverse", "setdefault", "update"),
)


def observed(value: Any, changed: Callable[[Any], None]) -> Any:
    """The value; of a list, a tuple or a dictionary a copy that calls `changed` with itself when it was changed."""
    if not isinstance(value, (list, tuple, dict)):
        return value
    copy = _kind_of(dict if isinstance(value, dict) else list)(value)
    copy.changed = changed
    return copy


@functools.lru_cache(None)
def _kind_of(kind: type) -> Any:
    def telling(method: Any) -> Any:
        @functools.wraps(method)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = method(self, *args, **kwargs)
            self.changed(self)
            return result

        return wrapper

    methods = {name: telling(getattr(kind, name)) for name in _CHANGING if hasattr(kind, name)}
    return type(f"Observed{kind.__name__.title()}", (kind,), methods)
