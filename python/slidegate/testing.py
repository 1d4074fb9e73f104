"""Help for tests: limiters whose time passes when you say so. `docs/testing.md` shows the ways.

Only `frozen_fixture` needs pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ._core import Clock, Limiter, ManualClock, PythonClock
from .decision import NS_PER_S

__all__ = ["FrozenTime", "ManualClock", "advance", "frozen", "frozen_fixture"]

_MOST_SECONDS = 4e9


def advance(clock: ManualClock, *, seconds: float) -> None:
    """Lets time pass. Limiters on this clock notice at once, in every thread."""
    clock.advance(round(seconds * NS_PER_S))


class FrozenTime:
    """The time of the limiters that `frozen` was called with."""

    def __init__(self, clocks: list[ManualClock | PythonClock]) -> None:
        self._clocks = clocks

    def advance(self, *, seconds: float) -> None:
        """Lets time pass, at once. Raises ValueError for what is negative, no number, or more than a century."""
        if not 0 <= seconds <= _MOST_SECONDS:
            raise ValueError(f"seconds={seconds!r}: time passes by 0 to {_MOST_SECONDS:.0f} seconds")
        for clock in self._clocks:
            clock.advance(round(seconds * NS_PER_S))


@contextmanager
def frozen(*limiters: object) -> Iterator[FrozenTime]:
    """Stops the time of these limiters, which forget all hits before and after.

        with frozen(limiter) as time:
            assert [client.get("/").status_code for _ in range(11)][-1] == 429
            time.advance(seconds=60)
            assert client.get("/").status_code == 200

    A limiter is a `slidegate.Limiter`, made with a `ManualClock`, or without a `clock` and counting in memory of its
    own; or one of slowapi, Flask-Limiter or `limits` that counts in `slidegate://`, or that storage. Raises TypeError
    for others, and for other clocks.

    Nothing else stops: `time.time()` goes on, and with it the moments that headers tell. What fakes that does not move
    these limiters meanwhile.
    """
    storages = [_storage_of(limiter) for limiter in limiters]
    clocks = {id(clock): clock for clock in map(_clock_of, storages)}
    with ExitStack() as stack:
        for clock in clocks.values():
            if isinstance(clock, PythonClock) and not clock.is_held:
                clock.hold()
                stack.callback(clock.release)
        for storage in storages:
            storage._engine.reset()
            stack.callback(storage._engine.reset)
        yield FrozenTime(list(clocks.values()))


def frozen_fixture(*limiters: object, autouse: bool = False) -> Any:
    """A pytest fixture that is `frozen(*limiters)`. Its name is the one that it is assigned to.

    limits = frozen_fixture(limiter, autouse=True)  # in conftest.py: every test begins with whole limits
    """
    import pytest

    @pytest.fixture(autouse=autouse)
    def frozen_limiters() -> Iterator[FrozenTime]:
        with frozen(*limiters) as time:
            yield time

    return frozen_limiters


def _storage_of(limiter: object) -> Any:
    storage = limiter._storage if hasattr(limiter, "_storage") else getattr(limiter, "storage", limiter)
    if isinstance(getattr(storage, "_engine", None), Limiter):
        return storage
    raise TypeError(
        f"{limiter!r} cannot be frozen; pass a slidegate.Limiter that counts in memory, or a limiter or storage of slidegate://"
    )


def _clock_of(storage: Any) -> ManualClock | PythonClock:
    clock: Clock = storage._engine.clock
    if isinstance(clock, (ManualClock, PythonClock)):
        return clock
    if getattr(storage, "segment", None) is not None:
        raise TypeError(
            "a limiter that counts together with other processes cannot be frozen; in tests make it with"
            ' storage_uri="memory://"'
        )
    raise TypeError(f"a limiter made with clock={type(clock).__name__}() cannot be frozen; make it without a clock")
