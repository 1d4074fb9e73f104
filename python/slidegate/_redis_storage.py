"""Counts inside a Redis or Valkey server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from ._core import Quota, RedisReplyError, redis_command
from ._redis_answers import storage_error
from ._redis_breaker import CircuitBreaker
from ._redis_connections import LoopConnections, ThreadConnections
from ._redis_denials import Denials
from ._redis_script import (
    KEY_VERSION,
    SCRIPT,
    Question,
    Receipt,
    RedisRule,
    Script,
    ask,
    ask_refund,
    ask_reset,
    essentials_of,
    lead_of,
    receipts_of,
)
from ._redis_sync import SyncConnection
from ._redis_uri import RedisTarget
from .decision import NS_PER_S, Essentials
from .errors import ConfigurationError, StorageError, StorageUnavailable
from .health import Health
from .storage import FlatReads, Rule

Key = str | bytes
_POLICIES_KEPT = 4096
_KEYS_AT_ONCE = b"1000"
_Meaning = TypeVar("_Meaning")
_PROBED = RedisRule.of(Quota(1, NS_PER_S), "probe")
_PROBE = ask(b"hit", [_PROBED], [lead_of("", is_hashed=False) + _PROBED.suffix], [1])


class RedisTicket:
    """Gives back, once, what a reservation took. Thread-safe."""

    def __init__(self, receipts: tuple[Receipt, ...]) -> None:
        self._receipts = receipts
        self._lock = threading.Lock()

    def spend(self) -> tuple[Receipt, ...]:
        """The receipts; nothing from the second time on."""
        with self._lock:
            receipts, self._receipts = self._receipts, ()
        return receipts

    def divided(self, parts: Iterable[Iterable[int]]) -> list[RedisTicket]:
        """Tickets for these rules each. This one is spent."""
        receipts = self.spend()
        return [RedisTicket(tuple(receipts[at] for at in part)) for part in parts]


class _Hit(NamedTuple):
    question: Question
    costs: tuple[int, ...]
    age: int
    denial: Essentials | None

    def kept(self, denials: Denials, essentials: Essentials) -> Essentials:
        if not essentials[0]:
            denials.put(self.question.keys, self.costs, essentials, self.age)
        return essentials


class RedisPolicy:
    """Rules that are hit together, in one round trip: one key for all or one for each, costs likewise. Thread-safe.

    What was refused a moment ago is refused again without asking, but for reservations, as those are given back.
    Methods block their thread; those that end in `_async` are for event loops, and block nothing. All raise
    StorageError.
    """

    def __init__(
        self,
        rules: tuple[RedisRule, ...],
        target: RedisTarget,
        loops: LoopConnections,
        threads: ThreadConnections,
        breaker: CircuitBreaker,
        denials: Denials,
    ) -> None:
        self._breaker = breaker
        self._denials = denials
        self._rules = rules
        self._target = target
        self._loops = loops
        self._threads = threads

    def hit(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /) -> Essentials:
        hit = self._hit(keys, cost)
        if hit.denial is not None:
            return hit.denial
        return hit.kept(self._denials, self._blocking(hit.question, self._essentials))

    def peek(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /) -> Essentials:
        return self._blocking(self._ask(b"peek", keys, cost), self._essentials)

    def reserve(
        self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /
    ) -> tuple[Essentials, RedisTicket | None]:
        question = self._ask(b"reserve", keys, cost)
        return self._blocking(question, lambda answer: self._reservation(answer, question))

    def refund(self, ticket: RedisTicket, /) -> bool:
        question = self._refund(ticket)
        return question is not None and self._voiding(question, self._blocking(question, _is_one))

    def reset(self, keys: Key | tuple[Key, ...], /) -> None:
        question = ask_reset(self._keys(keys))
        self._voiding(question, self._blocking(question, _is_one))

    async def hit_async(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /) -> Essentials:
        hit = self._hit(keys, cost)
        if hit.denial is not None:
            return hit.denial
        answer = await self._loops.evaluate(hit.question)
        return hit.kept(self._denials, self._understood(answer, self._essentials))

    async def peek_async(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /) -> Essentials:
        return self._understood(await self._loops.evaluate(self._ask(b"peek", keys, cost)), self._essentials)

    async def reserve_async(
        self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /
    ) -> tuple[Essentials, RedisTicket | None]:
        question = self._ask(b"reserve", keys, cost)
        answer = await self._loops.evaluate(question)
        return self._understood(answer, lambda answer: self._reservation(answer, question))

    async def refund_async(self, ticket: RedisTicket, /) -> bool:
        question = self._refund(ticket)
        if question is None:
            return False
        return self._voiding(question, self._understood(await self._loops.evaluate(question), _is_one))

    async def reset_async(self, keys: Key | tuple[Key, ...], /) -> None:
        question = ask_reset(self._keys(keys))
        self._voiding(question, self._understood(await self._loops.evaluate(question), _is_one))

    def _hit(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...]) -> _Hit:
        costs, names = self._costs(cost), self._keys(keys)
        denial = self._denials.find(names, costs)
        return _Hit(ask(b"hit", self._rules, names, costs), costs, self._denials.age, denial)

    def _refund(self, ticket: RedisTicket) -> Question | None:
        receipts = ticket.spend()
        return ask_refund(receipts) if receipts else None

    def _voiding(self, question: Question, is_done: bool) -> bool:
        self._denials.forget(question.keys)
        return is_done

    def _ask(self, operation: bytes, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...]) -> Question:
        return ask(operation, self._rules, self._keys(keys), self._costs(cost))

    def _costs(self, cost: int | tuple[int, ...]) -> tuple[int, ...]:
        costs = cost if isinstance(cost, tuple) else (cost,) * len(self._rules)
        if len(costs) != len(self._rules):
            raise ValueError(f"expected one cost, or one for each of {len(self._rules)} rules, not {len(costs)}")
        for each in costs:
            if not isinstance(each, int):
                raise TypeError(f"a cost is an int, not {type(each).__name__}")
            if each < 1:
                raise ValueError(f"a cost is at least 1, not {each}")
        return costs

    def _keys(self, keys: Key | tuple[Key, ...]) -> list[bytes]:
        is_hashed = self._target.is_hashed
        if not isinstance(keys, tuple):
            lead = lead_of(keys, is_hashed=is_hashed)
            return [lead + rule.suffix for rule in self._rules]
        if len(keys) != len(self._rules):
            raise ValueError(f"expected one key, or one for each of {len(self._rules)} rules, not {len(keys)}")
        return [lead_of(key, is_hashed=is_hashed) + rule.suffix for rule, key in zip(self._rules, keys, strict=True)]

    def _essentials(self, answer: Any) -> Essentials:
        return essentials_of(answer, self._rules)

    def _reservation(self, answer: Any, question: Question) -> tuple[Essentials, RedisTicket | None]:
        essentials = essentials_of(answer, self._rules)
        return essentials, RedisTicket(receipts_of(answer, question, self._rules)) if essentials[0] else None

    def _blocking(self, question: Question, meaning: Callable[[Any], _Meaning]) -> _Meaning:
        try:
            meant = meaning(self._threads.evaluate(question))
        except ValueError as error:
            nonsense = self._nonsense(error)
            self._threads.distrust(nonsense)
            raise nonsense from error
        self._breaker.succeeded()
        return meant

    def _understood(self, answer: Any, meaning: Callable[[Any], _Meaning]) -> _Meaning:
        try:
            meant = meaning(answer)
        except ValueError as error:
            nonsense = self._nonsense(error)
            self._loops.distrust(nonsense)
            raise nonsense from error
        self._breaker.succeeded()
        return meant

    def _nonsense(self, error: ValueError) -> StorageUnavailable:
        return StorageUnavailable(f"{self._target.name}: {error}")


class RedisStorage(FlatReads):
    """Counts of many hosts, in one server. Thread-safe; nothing is connected before the first use."""

    def __init__(self, target: RedisTarget, *, script: Script = SCRIPT, logger: logging.Logger | None = None) -> None:
        """Raises ConfigurationError when this was built without hiredis."""
        try:
            redis_command(b"PING")
        except RuntimeError as error:
            raise ConfigurationError(f"storage_uri: {error}") from error
        logger = logging.getLogger("slidegate") if logger is None else logger
        self._target = target
        self._script = script
        self._breaker = CircuitBreaker(target.name, self._probe, logger)
        self._denials = Denials(target.deny_cache_s)
        self._loops = LoopConnections(target, script, self._breaker)
        self._threads = ThreadConnections(target, script, self._breaker)
        self.policy: Callable[[tuple[Rule, ...]], RedisPolicy] = lru_cache(_POLICIES_KEPT)(self._policy)

    def health(self) -> Health:
        """Whether the server is asked now, and why it is not. Asks nobody."""
        return self._breaker.health()

    def check(self) -> bool:
        """Whether the server answers now. Blocks."""
        try:
            return bool(self._threads.execute(b"PING") == b"PONG")
        except StorageError:
            return False

    def reset(self) -> None:
        """Forgets all hits of all programs that count in this database. Blocks as long as all its keys take."""
        cursor = b"0"
        while True:
            cursor, keys = self._answer(b"SCAN", cursor, b"MATCH", KEY_VERSION + b"*", b"COUNT", _KEYS_AT_ONCE)
            if keys:
                self._answer(b"UNLINK", *keys)
            if cursor == b"0":
                break
        self._denials.clear()

    def close(self) -> None:
        """Closes all connections. To be called when nobody counts any more."""
        self._breaker.stop()
        self._loops.close()
        self._threads.close()

    def _answer(self, *arguments: bytes) -> Any:
        answer = self._threads.execute(*arguments)
        if isinstance(answer, RedisReplyError):
            raise storage_error(self._target.name, answer)
        return answer

    def _policy(self, rules: tuple[Rule, ...]) -> RedisPolicy:
        return RedisPolicy(
            tuple(RedisRule.of(quota, scope) for quota, scope, *_ in rules),
            self._target,
            self._loops,
            self._threads,
            self._breaker,
            self._denials,
        )

    def _probe(self) -> None:
        connection = SyncConnection(self._target)
        try:
            # No PING, which servers answer that cannot count.
            essentials_of(connection.evaluate(self._script, _PROBE.tail), [_PROBED])
        finally:
            connection.close()


def _is_one(answer: Any) -> bool:
    if answer not in (0, 1):
        raise ValueError(f"0 or 1 was expected, not {type(answer).__name__}")
    return bool(answer == 1)
