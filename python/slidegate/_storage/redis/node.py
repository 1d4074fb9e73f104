"""One server that counts: its connections, and whether it is asked now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from ..._core import Quota, RedisReplyError
from ..._support.errors import StorageUnavailable
from ..._support.waiting import run_blocking
from ...decision import NS_PER_S
from ..base import Health
from ..circuit_breaker import CircuitBreaker
from .connections import LoopConnections, ThreadConnections
from .replies import Redirected, storage_error
from .script import KEY_VERSION, Question, RedisRule, Script, ask, lead_of, raw_decision_of
from .sentinel import MasterWatch, connected, find_master
from .target import RedisTarget
from .waits import IN_THREAD, ON_LOOP, Waits

_Meaning = TypeVar("_Meaning")
Part: TypeAlias = list[int]
"""Indices of keys that one question can be about."""
_KEYS_AT_ONCE = b"1000"
_PROBED = RedisRule.of(Quota(1, NS_PER_S), "probe")
_PROBE = ask(b"hit", [_PROBED], [lead_of("", is_hashed=False) + _PROBED.suffix], [1])


class RedisNode:
    """A server of its own, or the master that sentinels name, or one node of a cluster. Thread-safe.

    `check` and `forget` block. All but `health` raise StorageError.
    """

    def __init__(self, target: RedisTarget, script: Script, logger: logging.Logger) -> None:
        self.target = target
        self._script = script
        self._breaker = CircuitBreaker(logger, name=target.name, check=self._probe)
        self._watch = MasterWatch(target) if target.sentinels else None
        given = (target, script, self._breaker, self._watch and self._watch.has_moved)
        locate = partial(find_master, target, ON_LOOP, target.connect_timeout_s / 2) if target.sentinels else None
        self._loops = LoopConnections(*given, locate=locate)
        self._threads = ThreadConnections(*given, connect=connected)

    async def evaluate(
        self, question: Question, meaning: Callable[[Any], _Meaning], waits: Waits, *, is_asking: bool = False
    ) -> _Meaning:
        """What `meaning` makes of the answer; it raises ValueError for what means nothing."""
        connections: LoopConnections | ThreadConnections = self._threads if waits.is_blocking else self._loops
        answer = await connections.evaluate(question.tail, is_asking=is_asking)
        try:
            meant = meaning(answer)
        except ValueError as error:
            nonsense = StorageUnavailable(f"{self.target.name}: {error}")
            connections.distrust(nonsense)
            raise nonsense from error
        if self._breaker.is_troubled:
            self._breaker.succeeded()
        return meant

    def divided(self, keys: Sequence[bytes]) -> list[Part]:
        return [list(range(len(keys)))]

    def health(self) -> Health:
        return self._breaker.health()

    def check(self) -> None:
        if self._execute(b"PING") != b"PONG":
            raise StorageUnavailable(f"{self.target.name} does not answer PING")

    def forget(self, is_meant: Callable[[bytes], bool]) -> int:
        """Forgets hits of all programs that count there, under such keys of the server; returns of how many."""
        cursor, count = b"0", 0
        while True:
            cursor, keys = self._execute(b"SCAN", cursor, b"MATCH", KEY_VERSION + b"*", b"COUNT", _KEYS_AT_ONCE)
            for key in filter(is_meant, keys):
                # One by one, as those of a node of a cluster are of many slots.
                count += self._execute(b"UNLINK", key)
            if cursor == b"0":
                return count

    async def execute(self, waits: Waits, *arguments: bytes) -> Any:
        """The answer to another command."""
        answer = await (self._threads if waits.is_blocking else self._loops).execute(*arguments)
        if isinstance(answer, RedisReplyError):
            raise storage_error(self.target.name, answer)
        return answer

    def _execute(self, *arguments: bytes) -> Any:
        return run_blocking(self.execute(IN_THREAD, *arguments))

    def close(self) -> None:
        self._breaker.stop()
        if self._watch is not None:
            self._watch.stop()
        self._loops.close()
        self._threads.close()

    def _probe(self) -> bool:
        connection = connected(self.target)
        try:
            # No PING, which servers answer that cannot count.
            raw_decision_of(connection.evaluate(self._script, _PROBE.tail), [_PROBED])
        except Redirected:
            # A node of a cluster that knows where the key is counts others.
            pass
        finally:
            connection.close()
        return True
