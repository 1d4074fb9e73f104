"""Deadlines that count how long a server was waited for, and not the time in which this process was busy."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from time import monotonic

_PARTS = 16


class ThreadDeadline:
    """How long a thread still waits for a server, in all. For one thread at a time.

    The limit is spent in parts. Whoever does not get to run, as others have the interpreter or the processor, loses no
    more than one part of it, and what is there in the end counts.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._rest_s = limit_s

    def wait(self, until: select.poll) -> None:
        """Returns when that is ready. Raises TimeoutError when the limit is spent."""
        longest_s = self.limit_s / _PARTS
        while self._rest_s > 0:
            part_s = min(longest_s, self._rest_s)
            before_s = monotonic()
            if until.poll(part_s * 1000 + 1):
                self._rest_s -= min(monotonic() - before_s, part_s)
                return
            self._rest_s -= part_s
        if not until.poll(0):
            raise TimeoutError

    def spend(self, seconds: float) -> None:
        """Counts what was waited otherwise. Raises TimeoutError when the limit is spent."""
        if self._rest_s <= 0:
            raise TimeoutError
        self._rest_s -= seconds


class LoopDeadline:
    """Counts the parts of a limit on an event loop. For the loop's thread.

    A turn of the loop that takes long is one part, however long it takes. `look` is called after each part, and says
    whether to go on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float, look: Callable[[], bool]) -> None:
        self.parts = 0
        """How many there have been."""
        self._loop = loop
        self._part_s = limit_s / _PARTS
        self._look = look
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._is_late = False

    def start(self) -> None:
        """Counts, unless it does already."""
        if self._timer is None:
            self._due_s = monotonic() + self._part_s
            self._timer = self._loop.call_later(self._part_s, self._count)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_over(self, since: int, *, is_moving: bool = False) -> bool:
        """Whether the limit is spent by whoever waits since there were so many parts.

        Where something `is_moving`, or a busy loop could not see whether it is, it is spent later, but once as late.
        """
        passed = self.parts - since
        return passed > _PARTS and (passed > 2 * _PARTS or not (is_moving or self._is_late))

    def _count(self) -> None:
        self._timer = None
        self.parts += 1
        self._is_late = monotonic() - self._due_s > self._part_s
        if self._look():
            self.start()
