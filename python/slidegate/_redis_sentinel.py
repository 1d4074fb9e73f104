"""Asks sentinels where the master is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic
from typing import Any

from ._core import RedisReplyError
from ._redis_aio import AioConnection
from ._redis_script import Script
from ._redis_sync import SyncConnection
from ._redis_uri import Address, RedisTarget
from .errors import StorageError, StorageUnavailable

_NO_SCRIPT = Script(b"", b"")


def connected(target: RedisTarget) -> SyncConnection:
    """A new connection to the server, or to the master that its sentinels name. Raises StorageError."""
    return SyncConnection(target, (lambda deadline_s: find_master(target, deadline_s)) if target.sentinels else None)


def find_master(target: RedisTarget, deadline_s: float) -> Address:
    """The address of the master, from the first sentinel that knows one. Blocks; raises StorageError.

    Those that do not answer have a share of the time each.
    """
    failure: StorageError | None = None
    for at, sentinel in enumerate(target.sentinels):
        share_s = max(0.001, (deadline_s - monotonic()) / (len(target.sentinels) - at))
        try:
            connection = SyncConnection(replace(sentinel, connect_timeout_s=share_s, command_timeout_s=share_s))
            try:
                return _address_in(target, sentinel, connection.execute(*_question(target)))
            finally:
                connection.close()
        except StorageError as error:
            failure = failure or error
    raise _nobody_knows(target, failure)


def master_locator(target: RedisTarget) -> Callable[[asyncio.AbstractEventLoop], Awaitable[Address]]:
    """Finds the address of the master on an event loop: all sentinels are asked at once, and the first answer counts.

    Takes as long as whoever awaits it allows; raises StorageError.
    """

    async def ask(sentinel: RedisTarget, loop: asyncio.AbstractEventLoop) -> Address:
        connection = AioConnection(sentinel, _NO_SCRIPT, loop, lambda error: None)
        try:
            return _address_in(target, sentinel, await connection.execute(*_question(target)))
        except RedisReplyError as error:
            return _address_in(target, sentinel, error)
        finally:
            connection.end(StorageUnavailable(f"{sentinel.name} has answered"))

    async def locate(loop: asyncio.AbstractEventLoop) -> Address:
        failure: StorageError | None = None
        asked = [loop.create_task(ask(sentinel, loop)) for sentinel in target.sentinels]
        try:
            for first in asyncio.as_completed(asked):
                try:
                    return await first
                except StorageError as error:
                    failure = failure or error
        finally:
            for task in asked:
                task.cancel()
            # Whoever was not waited for has nothing more to say.
            await asyncio.gather(*asked, return_exceptions=True)
        raise _nobody_knows(target, failure)

    return locate


def _question(target: RedisTarget) -> tuple[bytes, ...]:
    return b"SENTINEL", b"get-master-addr-by-name", target.service.encode()


def _address_in(target: RedisTarget, sentinel: RedisTarget, answer: Any) -> Address:
    if isinstance(answer, list) and len(answer) == 2 and all(isinstance(each, bytes) for each in answer):
        host, port = answer
        if port.isdigit():
            return host.decode(), int(port)
    if answer is None:
        raise StorageUnavailable(f"{sentinel.name} knows no master {target.service!r}")
    said = str(answer).split(" ", 1)[0] if isinstance(answer, RedisReplyError) else type(answer).__name__
    raise StorageUnavailable(f"{sentinel.name} does not tell where {target.service!r} is: {said}")


def _nobody_knows(target: RedisTarget, failure: StorageError | None) -> StorageUnavailable:
    return StorageUnavailable(f"no sentinel knows where {target.name} is: {failure}")
