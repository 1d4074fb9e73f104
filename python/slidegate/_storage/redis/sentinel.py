"""Asks sentinels where the master is."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, NamedTuple

from ..._core import RedisReplyError
from ..._support.errors import StorageError, StorageUnavailable
from ..._support.escaping import escaped
from ..._support.fork import ForkableLock, begins_in_children
from ..._support.waiting import run_blocking
from .async_connection import AioConnection
from .blocking_connection import SyncConnection
from .script import Script
from .target import Address, RedisTarget
from .waits import IN_THREAD, Waits

_LOOKS_EVERY_S = 1.0
_NO_SCRIPT = Script(b"", b"")


def connected(target: RedisTarget) -> SyncConnection:
    """A new connection to the server, or to the master that its sentinels name. Raises StorageError."""

    def located(within_s: float) -> Address:
        return run_blocking(find_master(target, IN_THREAD, within_s))

    return SyncConnection(target, located if target.sentinels else None)


class Opinion(NamedTuple):
    """What a sentinel says. It may be cut off, or not have heard of a failover yet."""

    epoch: int
    """Rises with every failover: whoever says the highest has heard of the latest."""
    place: tuple[str, int]


async def find_master(target: RedisTarget, waits: Waits, within_s: float) -> Address:
    """The address of the master, of all that is said the latest. Raises StorageError.

    On an event loop all sentinels are asked at once, and those that answer in time decide. A thread asks one after the
    other, and those that do not answer have a share of the time each.
    """
    share_s = within_s / len(target.sentinels) if waits.is_blocking else within_s
    answers = await waits.all_of([_asked(target, each, waits, share_s) for each in target.sentinels])
    opinions = [each for each in answers if isinstance(each, Opinion)]
    if not opinions:
        why = next((each for each in answers if isinstance(each, StorageError)), "none has answered")
        raise StorageUnavailable(f"no sentinel knows where {target.name} is: {why}")
    return max(opinions).place


class MasterWatch:
    """Asks the sentinels once a second, in a thread, who the master is.

    A master that was told to go takes hits for seconds more, which are lost, and only the sentinels know. Thread-safe;
    a fork begins its own.
    """

    def __init__(self, target: RedisTarget) -> None:
        self._target = target
        self._lock = ForkableLock()
        self.begin_in_child()
        begins_in_children(self)

    def begin_in_child(self) -> None:
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._latest: Opinion | None = None

    def has_moved(self, place: Address | None) -> bool:
        """Whether the master is known to be elsewhere. The first call begins the watch."""
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stopped.is_set():
                    self._thread = threading.Thread(target=self._watch, name="slidegate-redis-watch", daemon=True)
                    self._thread.start()
        latest = self._latest
        return latest is not None and place is not None and latest.place != place

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOKS_EVERY_S):
            for sentinel in self._target.sentinels:
                with suppress(StorageError):
                    opinion = run_blocking(_asked(self._target, sentinel, IN_THREAD, _LOOKS_EVERY_S))
                    if self._latest is None or opinion.epoch > self._latest.epoch:
                        self._latest = opinion


async def _asked(target: RedisTarget, sentinel: RedisTarget, waits: Waits, within_s: float) -> Opinion:
    hurried = replace(sentinel, connect_timeout_s=within_s, command_timeout_s=within_s)
    question = (b"SENTINEL", b"MASTER", target.service.encode())
    if waits.is_blocking:
        with closing(SyncConnection(hurried)) as blocking:
            return _opinion(target, sentinel, blocking.execute(*question))
    connection = AioConnection(hurried, _NO_SCRIPT, asyncio.get_running_loop(), lambda error: None)
    try:
        return _opinion(target, sentinel, await connection.execute(*question))
    finally:
        connection.end(StorageUnavailable(f"{sentinel.name} has answered"))


def _opinion(target: RedisTarget, sentinel: RedisTarget, answer: Any) -> Opinion:
    try:
        fields = dict(zip(answer[::2], answer[1::2], strict=True))
        return Opinion(int(fields[b"config-epoch"]), (fields[b"ip"].decode(), int(fields[b"port"])))
    except (TypeError, ValueError, AttributeError, KeyError):
        said = str(answer) if isinstance(answer, RedisReplyError) else type(answer).__name__
    if "No such master" in said:
        raise StorageUnavailable(f"{sentinel.name} knows no master {target.service!r}")
    raise StorageUnavailable(
        f"{sentinel.name} does not tell where {target.service!r} is: {escaped(said.split(' ', 1)[0])}"
    )
