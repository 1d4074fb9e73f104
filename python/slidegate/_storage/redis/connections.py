"""Which connection asks: one for each event loop, and one for each thread that blocks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any
from weakref import ref

from ..._support.errors import StorageError, StorageUnavailable
from ..circuit_breaker import CircuitBreaker
from .async_connection import AioConnection, Answer
from .blocking_connection import SyncConnection
from .replies import Redirected
from .script import Script
from .target import Address, RedisTarget


class _Connections:
    """`has_moved` tells of a place whether the server is known to be elsewhere by now, where that can be."""

    def __init__(
        self,
        target: RedisTarget,
        script: Script,
        breaker: CircuitBreaker,
        has_moved: Callable[[Address | None], bool] | None,
    ) -> None:
        self._target = target
        self._script = script
        self._breaker = breaker
        self._has_moved = has_moved


class LoopConnections(_Connections):
    """One connection for each running event loop, made anew when it has ended, and dropped by a fork. Thread-safe.

    It is closed when its loop ends, in the way of asyncio.run() and of all servers. `locate` finds a server that has no
    place of its own.
    """

    def __init__(self, *given: Any, locate: Callable[[], Awaitable[Address]] | None = None) -> None:
        super().__init__(*given)
        self._locate = locate
        self._pid = os.getpid()
        self._by_loop: dict[asyncio.AbstractEventLoop, AioConnection] = {}
        self._ends: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}

    def evaluate(self, tail: tuple[bytes, ...], *, is_asking: bool = False) -> Answer:
        """To be awaited where it was asked for. Never blocks; without an event loop it raises RuntimeError."""
        return self._connection().evaluate(tail, is_asking=is_asking)

    def execute(self, *arguments: bytes) -> Answer:
        """The answer to another command, in the same way; an error is a value."""
        return self._connection().execute(*arguments)

    def _connection(self) -> AioConnection:
        loop = asyncio.get_running_loop()
        if self._breaker.is_open:
            raise self._breaker.refusal()
        if self._pid != os.getpid():
            self._leave_to_parent()
        connection = self._by_loop.get(loop)
        if connection is not None and self._has_moved is not None and self._has_moved(connection.place):
            connection.end(StorageUnavailable(f"{self._target.name} is another now"))
        if connection is None or not connection.can_ask():
            self._forget_closed_loops()
            connection = AioConnection(self._target, self._script, loop, self._breaker.failed, self._locate)
            self._by_loop[loop] = connection
            self._await_end_of(loop)
        return connection

    def distrust(self, error: StorageError) -> None:
        """Closes the connection that has answered: the server answers, but nonsense."""
        self._breaker.failed(error)
        connection = self._by_loop.get(asyncio.get_running_loop())
        if connection is not None:
            connection.end(error)

    def close(self) -> None:
        """Closes all connections. To be called when nobody asks any more."""
        for loop in list(self._by_loop):
            connection = self._by_loop.pop(loop)
            if self._pid != os.getpid() or loop.is_closed():
                connection.abandon()
                continue
            error = StorageUnavailable(f"{self._target.name}: the storage is closed")
            try:
                is_own = asyncio.get_running_loop() is loop
            except RuntimeError:
                is_own = False
            if is_own or not loop.is_running():
                connection.end(error)
            else:
                loop.call_soon_threadsafe(connection.end, error)
        self._forget_ends()

    def __del__(self) -> None:
        self._forget_ends()

    def _leave_to_parent(self) -> None:
        self._pid = os.getpid()
        inherited, self._by_loop = self._by_loop, {}
        self._forget_ends()
        for connection in inherited.values():
            connection.abandon()

    def _forget_closed_loops(self) -> None:
        for loop in list(self._by_loop):
            if loop.is_closed():
                self._by_loop.pop(loop).abandon()
                if (end := self._ends.pop(loop, None)) is not None:
                    _run(end.aclose())

    def _await_end_of(self, loop: asyncio.AbstractEventLoop) -> None:
        # What a loop that ends does for everybody is to close the asynchronous generators that were begun on it.
        if loop not in self._ends:
            end = self._ends[loop] = _until_end_of(loop, ref(self))
            _run(end.__anext__())

    def _forget_ends(self) -> None:
        while self._ends:
            _, end = self._ends.popitem()
            _run(end.aclose())

    def end_of(self, loop: asyncio.AbstractEventLoop) -> None:
        """Closes the connection of a loop. For its thread."""
        self._ends.pop(loop, None)
        connection = self._by_loop.pop(loop, None)
        if connection is not None and self._pid == os.getpid():
            connection.end(StorageUnavailable(f"{self._target.name}: the event loop has ended"))


async def _until_end_of(
    loop: asyncio.AbstractEventLoop, connections: ref[LoopConnections]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        # Not those who forget this very end.
        known = connections()
        if known is not None and loop in known._ends:
            known.end_of(loop)


def _run(step: Coroutine[Any, Any, None]) -> None:
    # None of these steps waits for anything, and who is forgotten may have no loop any more to run them.
    with suppress(StopIteration):
        step.send(None)


class _OfThread(threading.local):
    connection: SyncConnection | None = None
    pid = 0


class ThreadConnections(_Connections):
    """One blocking connection for each thread, made anew when it has ended, and dropped by a fork. Thread-safe."""

    def __init__(self, *given: Any, connect: Callable[[RedisTarget], SyncConnection]) -> None:
        super().__init__(*given)
        self._connect = connect
        self._own = _OfThread()

    async def evaluate(self, tail: tuple[bytes, ...], *, is_asking: bool = False) -> Any:
        """Waits for it as long as the target's deadlines say."""
        return self._asked(lambda connection: connection.evaluate(self._script, tail, is_asking=is_asking))

    async def execute(self, *arguments: bytes) -> Any:
        return self._asked(lambda connection: connection.execute(*arguments))

    def _asked(self, ask: Callable[[SyncConnection], Any]) -> Any:
        if self._breaker.is_open:
            raise self._breaker.refusal()
        try:
            return ask(self._connection())
        except Redirected:
            raise
        except StorageError as error:
            self._breaker.failed(error)
            raise

    def distrust(self, error: StorageError) -> None:
        self._breaker.failed(error)
        if self._own.connection is not None:
            self._own.connection.close()

    def close(self) -> None:
        """Closes the connections of all threads, as nothing holds them. To be called when nobody asks any more."""
        self._own = _OfThread()

    def _connection(self) -> SyncConnection:
        own, pid = self._own, os.getpid()
        if (known := own.connection) is not None:
            has_moved = self._has_moved is not None and self._has_moved(known.place)
            if not has_moved and own.pid == pid and known.is_usable:
                return known
            known.close()
            own.connection = None
        own.connection, own.pid = self._connect(self._target), pid
        return own.connection
