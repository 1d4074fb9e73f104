"""The time on the wall, faked or not."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import BuiltinFunctionType

_FRAMES_LOOKED_AT = 8


def wall_time_s() -> float:
    """`time.time()`, the same in every thread.

    freezegun tells the real time to whoever has `threading` among the five frames above: an endpoint in a thread pool
    has, or has not, depending on what it calls. Here all five are of this module.
    """
    read = time.time
    return read() if type(read) is BuiltinFunctionType else _read_from_below(read, _FRAMES_LOOKED_AT)


def _read_from_below(read: Callable[[], float], frames: int) -> float:
    return _read_from_below(read, frames - 1) if frames else read()
