"""What becomes of objects that are copied, or sent to another process."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from typing import Any, NoReturn


class OneOfAKind:
    """An object whose copies are the object itself, as they would have to count together with it in any case."""

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Any:
        return self


class OfAModule(OneOfAKind):
    """One that is the same as whatever has its name in the process that it is sent to, as functions are."""

    def __reduce__(self) -> Any:
        for module in list(sys.modules.values()):
            for name, value in list(getattr(module, "__dict__", {}).items()):
                if value is self:
                    return _named, (module.__name__, name)
        raise pickle.PicklingError(
            f"a {type(self).__name__} is sent to other processes by its name, and no module has a variable for this one"
        )


def left_behind(*args: object, **kwargs: object) -> NoReturn:
    """What stands for a function that could not be sent to another process."""
    raise TypeError("this function could not be sent from the process where it was declared")


def sendable(value: Any) -> Any:
    """The value, or what stands for it if it is a function that cannot be sent to another process."""
    if not callable(value):
        return value
    try:
        pickle.dumps(value)
    except Exception:
        return left_behind
    return value


def _named(module: str, name: str) -> Any:
    __import__(module)
    return getattr(sys.modules[module], name)
