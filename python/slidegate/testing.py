"""Help for tests: `Limiter(..., clock=ManualClock())` counts in a time that passes when you say so, with `advance`."""

from __future__ import annotations

from ._core import ManualClock
from .decision import NS_PER_S

__all__ = ["ManualClock", "advance"]


def advance(clock: ManualClock, *, seconds: float) -> None:
    """Lets time pass. Limiters on this clock notice at once, in every thread."""
    clock.advance(round(seconds * NS_PER_S))
