"""Waits for what is asynchronous: on the event loop, or in a worker thread, which is lent to others meanwhile."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.lowlevel import RunVar

from .errors import StorageOut

MOST_LENT = 40
_PATIENCE_S = 5.0

_T = TypeVar("_T")

Wait: TypeAlias = Callable[[Awaitable[Any]], Awaitable[Any]]
"""Waits for what a user's callable returned: `wait_on_loop` or `wait_in_thread`."""


async def wait_on_loop(value: Awaitable[Any]) -> Any:
    return await value


async def wait_in_thread(value: Awaitable[Any]) -> Any:
    """Lets the event loop that owns this worker thread do the waiting, and blocks the thread; never suspends itself.

    Raises TypeError in a thread that belongs to no event loop, and StorageOut when all threads wait for each other.
    """
    try:
        return anyio.from_thread.run(settled_for_thread, value)
    except RuntimeError as error:
        if not inspect.iscoroutine(value) or inspect.getcoroutinestate(value) != inspect.CORO_CREATED:
            raise
        value.close()
        raise TypeError("an asynchronous callable cannot be awaited here; declare the endpoint `async def`") from error


def run_blocking(steps: Coroutine[Any, Any, _T]) -> _T:
    """Runs to its end a coroutine that only ever waits through `wait_in_thread`, without an event loop."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    steps.close()
    raise TypeError("this check has to wait for the event loop; declare the endpoint `async def`")


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
