"""Worker threads that are lent while others wait for the event loop."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable
from typing import Any

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from .errors import StorageOut

MOST_LENT = 40
_PATIENCE_S = 5.0


async def settled_for_thread(value: Awaitable[Any]) -> Any:
    """Waits, on the event loop, for what a thread of its pool is blocked for.

    The thread is lent to the pool meanwhile, as what it waits for may need one when all of them wait. At most 40 are
    lent; threads beyond that are waited for as they are. They may all wait for what needs a thread: when none of them
    has come to an end for five seconds, StorageOut is raised for those, so that the others have theirs.
    """
    threads = _threads()
    if threads.lent >= MOST_LENT:
        return await threads.hold(value)
    pool = anyio.to_thread.current_default_thread_limiter()
    threads.lent += 1
    pool.total_tokens += 1
    try:
        return await value
    finally:
        pool.total_tokens -= 1
        threads.lent -= 1
        threads.go_on()


class _LentThreads:
    """Those of one event loop, and what waits without."""

    def __init__(self) -> None:
        self.lent = 0
        self._is_stuck = False
        self._held: set[anyio.CancelScope] = set()

    async def hold(self, value: Awaitable[Any]) -> Any:
        if self._is_stuck:
            if inspect.iscoroutine(value):
                value.close()
            raise StorageOut
        with anyio.CancelScope(deadline=anyio.current_time() + _PATIENCE_S) as scope:
            self._held.add(scope)
            try:
                found = await value
            finally:
                self._held.discard(scope)
            self.go_on()
            return found
        if not self._is_stuck:
            self._is_stuck = True
            logging.getLogger("slidegate").warning(
                "all threads of `def` endpoints wait for asynchronous callables, some of which wait for a thread;"
                " requests are answered 503 until they have one: declare these endpoints `async def`"
            )
        raise StorageOut

    def go_on(self) -> None:
        """One has come to an end, so the others may."""
        self._is_stuck = False
        for scope in self._held:
            scope.deadline = anyio.current_time() + _PATIENCE_S


_BY_LOOP: RunVar[_LentThreads] = RunVar("threads that slidegate has lent")


def _threads() -> _LentThreads:
    try:
        return _BY_LOOP.get()
    except LookupError:
        threads = _LentThreads()
        _BY_LOOP.set(threads)
        return threads
