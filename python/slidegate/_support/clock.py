"""The time on the wall, faked or not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import BuiltinFunctionType

_FRAMES_LOOKED_AT = 8
# Where tools keep what fakes the time now. time-machine has had both names.
_FAKES = (
    ("freezegun.api", "freeze_factories"),
    ("time_machine", "traveller_stack"),
    ("time_machine", "coordinates_stack"),
)


def wall_time_s() -> float:
    """`time.time()`, the same in every thread.

    freezegun tells the real time to whoever has `threading` among the five frames above: an endpoint in a thread pool
    has, or has not, depending on what it calls. Here all five are of this module.
    """
    read = time.time
    return read() if type(read) is BuiltinFunctionType else _read_from_below(read, _FRAMES_LOOKED_AT)


def faked_time() -> tuple[float, object]:
    """The same, and which fake tells it: another object for another one, of the tools that let this be known."""
    return wall_time_s(), _fake()


def _fake() -> object:
    for module, name in _FAKES:
        fakes = getattr(sys.modules.get(module), name, None)
        if fakes:
            return fakes[-1]
    # Of a method, such as hiro's, the object that it belongs to.
    return getattr(time.time, "__self__", None)


def _read_from_below(read: Callable[[], float], frames: int) -> float:
    return _read_from_below(read, frames - 1) if frames else read()
