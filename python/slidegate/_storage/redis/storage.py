"""Counts inside a Redis or Valkey server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

from ..._core import redis_command
from ..._rules.bucket import Rule, is_led, joined
from ..._support.callables import run_blocking
from ..._support.errors import ConfigurationError, StorageError
from ...decision import RawDecision
from ..base import Health
from .cluster import RedisCluster
from .deny_cache import DenyCache
from .node import RedisNode, RedisServer
from .script import (
    SCRIPT,
    Question,
    Receipt,
    RedisRule,
    Script,
    ask,
    ask_refund,
    ask_reset,
    essentials_of,
    is_one,
    key_in,
    lead_of,
    receipts_of,
)
from .split import Parts
from .target import RedisTarget

Key = str | bytes
_POLICIES_KEPT = 4096


class RedisTicket:
    """Gives back, once, what a reservation took. Thread-safe."""

    def __init__(self, receipts: tuple[Receipt, ...]) -> None:
        self._unspent = [receipts]

    def spend(self) -> tuple[Receipt, ...]:
        """The receipts; nothing from the second time on."""
        try:
            # One of all who ask gets them, without a lock that could be left behind.
            return self._unspent.pop()
        except IndexError:
            return ()

    def divided(self, parts: Iterable[Iterable[int]]) -> list[RedisTicket]:
        """Tickets for these rules each. This one is spent."""
        receipts = self.spend()
        return [RedisTicket(tuple(receipts[at] for at in part)) for part in parts]


class _Hit(NamedTuple):
    question: Question
    costs: tuple[int, ...]
    age: int
    denial: RawDecision | None

    def kept(self, denials: DenyCache, raw_decision: RawDecision) -> RawDecision:
        if not raw_decision[0]:
            denials.put(self.question.keys, self.costs, raw_decision, self.age)
        return raw_decision


class RedisPolicy:
    """Rules that are hit together, in one round trip: one key for all or one for each, costs likewise. Thread-safe.

    What was refused a moment ago is refused again without asking, but for reservations, as those are given back.
    Methods block their thread; those that end in `_async` are for event loops, and block nothing. All raise
    StorageError.
    """

    def __init__(
        self, rules: tuple[RedisRule, ...], server: RedisServer, denials: DenyCache, *, is_hashed: bool = False
    ) -> None:
        self._denials = denials
        self._rules = rules
        self._server = server
        self._is_hashed = is_hashed

    def hit(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /) -> RawDecision:
        hit = self._hit(keys, cost)
        if hit.denial is not None:
            return hit.denial
        parts = self._blocking_parts(hit.question.keys)
        if parts is not None:
            return hit.kept(self._denials, run_blocking(parts.reserve(hit.question.keys, hit.costs))[0])
        return hit.kept(self._denials, self._server.evaluate(hit.question, self._essentials))

    def peek(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /) -> RawDecision:
        names, costs = self._keys(keys), self._costs(cost)
        parts = self._blocking_parts(names)
        if parts is not None:
            return cast(RawDecision, run_blocking(parts.peek(names, costs)))
        return self._server.evaluate(ask(b"peek", self._rules, names, costs), self._essentials)

    def reserve(
        self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /
    ) -> tuple[RawDecision, RedisTicket | None]:
        names, costs = self._keys(keys), self._costs(cost)
        parts = self._blocking_parts(names)
        if parts is not None:
            return _ticket(*run_blocking(parts.reserve(names, costs)))
        question = ask(b"reserve", self._rules, names, costs)
        return self._server.evaluate(question, lambda answer: self._reservation(answer, question))

    def refund(self, ticket: RedisTicket, /) -> bool:
        receipts = ticket.spend()
        if not receipts:
            return False
        names = [each.key for each in receipts]
        parts = self._blocking_parts(names)
        if parts is not None:
            is_done = bool(run_blocking(parts.refund(receipts)))
        else:
            is_done = self._server.evaluate(ask_refund(receipts), is_one)
        self._denials.forget(names)
        return is_done

    def reset(self, keys: Key | tuple[Key, ...], /) -> None:
        names = self._keys(keys)
        parts = self._blocking_parts(names)
        if parts is not None:
            run_blocking(parts.reset(names))
        else:
            self._server.evaluate(ask_reset(names), is_one)
        self._denials.forget(names)

    async def hit_async(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /) -> RawDecision:
        hit = self._hit(keys, cost)
        if hit.denial is not None:
            return hit.denial
        parts = self._parts_on_loop(hit.question.keys)
        if parts is not None:
            raw_decision, _ = await parts.reserve(hit.question.keys, hit.costs)
            return hit.kept(self._denials, raw_decision)
        return hit.kept(self._denials, await self._server.evaluate_async(hit.question, self._essentials))

    async def peek_async(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /) -> RawDecision:
        names, costs = self._keys(keys), self._costs(cost)
        parts = self._parts_on_loop(names)
        if parts is not None:
            return await parts.peek(names, costs)
        return await self._server.evaluate_async(ask(b"peek", self._rules, names, costs), self._essentials)

    async def reserve_async(
        self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...] = 1, /
    ) -> tuple[RawDecision, RedisTicket | None]:
        names, costs = self._keys(keys), self._costs(cost)
        parts = self._parts_on_loop(names)
        if parts is not None:
            return _ticket(*await parts.reserve(names, costs))
        question = ask(b"reserve", self._rules, names, costs)
        return await self._server.evaluate_async(question, lambda answer: self._reservation(answer, question))

    async def refund_async(self, ticket: RedisTicket, /) -> bool:
        receipts = ticket.spend()
        if not receipts:
            return False
        names = [each.key for each in receipts]
        parts = self._parts_on_loop(names)
        if parts is not None:
            is_done = await parts.refund(receipts)
        else:
            is_done = await self._server.evaluate_async(ask_refund(receipts), is_one)
        self._denials.forget(names)
        return is_done

    async def reset_async(self, keys: Key | tuple[Key, ...], /) -> None:
        names = self._keys(keys)
        parts = self._parts_on_loop(names)
        if parts is not None:
            await parts.reset(names)
        else:
            await self._server.evaluate_async(ask_reset(names), is_one)
        self._denials.forget(names)

    def _blocking_parts(self, names: Sequence[bytes]) -> Parts | None:
        divided = self._server.divided(names)
        return None if divided is None else Parts.blocking(self._server, self._rules, divided)

    def _parts_on_loop(self, names: Sequence[bytes]) -> Parts | None:
        divided = self._server.divided(names)
        return None if divided is None else Parts.on_loop(self._server, self._rules, divided)

    def _hit(self, keys: Key | tuple[Key, ...], cost: int | tuple[int, ...]) -> _Hit:
        costs, names = self._costs(cost), self._keys(keys)
        denial = self._denials.find(names, costs)
        return _Hit(ask(b"hit", self._rules, names, costs), costs, self._denials.age, denial)

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
        is_hashed = self._is_hashed
        if not isinstance(keys, tuple):
            lead = lead_of(keys, is_hashed=is_hashed)
            return [lead + rule.suffix for rule in self._rules]
        if len(keys) != len(self._rules):
            raise ValueError(f"expected one key, or one for each of {len(self._rules)} rules, not {len(keys)}")
        return [lead_of(key, is_hashed=is_hashed) + rule.suffix for rule, key in zip(self._rules, keys, strict=True)]

    def _essentials(self, answer: Any) -> RawDecision:
        return essentials_of(answer, self._rules)

    def _reservation(self, answer: Any, question: Question) -> tuple[RawDecision, RedisTicket | None]:
        raw_decision = essentials_of(answer, self._rules)
        return raw_decision, RedisTicket(receipts_of(answer, question, self._rules)) if raw_decision[0] else None


def _ticket(raw_decision: RawDecision, receipts: tuple[Receipt, ...]) -> tuple[RawDecision, RedisTicket | None]:
    return raw_decision, RedisTicket(receipts) if raw_decision[0] else None


class RedisStorage:
    """Counts of many hosts, in a server or a cluster. Thread-safe; nothing is connected before the first use."""

    def __init__(self, target: RedisTarget, *, script: Script = SCRIPT, logger: logging.Logger | None = None) -> None:
        """Raises ConfigurationError when hiredis is absent, here or when this was built."""
        try:
            redis_command(b"PING")
        except RuntimeError as error:
            raise ConfigurationError(f"storage_uri: {error}") from error
        logger = logging.getLogger("slidegate") if logger is None else logger
        self._target = target
        self._denials = DenyCache(target.deny_cache_s)
        self._server: RedisServer = (RedisCluster if target.seeds else RedisNode)(target, script, logger)
        self.policy: Callable[[tuple[Rule, ...]], RedisPolicy] = lru_cache(_POLICIES_KEPT)(self._policy)
        self.reader = self.policy

    def health(self) -> Health:
        """Whether the server is asked now, and why it is not. Asks nobody."""
        return self._server.health()

    def check(self) -> bool:
        """Whether the server answers now; of a cluster, all masters. Blocks."""
        try:
            self._server.check()
        except StorageError:
            return False
        return True

    def reset(self) -> None:
        """Forgets all hits of all programs that count in this database. Blocks as long as all its keys take."""
        self.forget()

    def forget(self, key: str | None = None, path: str | None = None) -> int:
        """Forgets all hits, or those of a key: on a path; without one on all paths, unless keys are digests there.

        Returns how many counts there were. Blocks as long as all keys of the server take; raises StorageError.
        """
        if key is None:
            return self._forget_where(lambda stored: True)
        names = [key, *([joined(path) + key] if path is not None else [])]
        leads = tuple(lead_of(each, is_hashed=self._target.is_hashed) + b"}" for each in names)

        def is_meant(stored: bytes) -> bool:
            recorded = key_in(stored)
            is_on_a_path = path is None and recorded.endswith(key) and is_led(recorded.removesuffix(key))
            return stored.startswith(leads) or is_on_a_path

        return self._forget_where(is_meant)

    def _forget_where(self, is_meant: Callable[[bytes], bool]) -> int:
        count = self._server.forget(is_meant)
        self._denials.clear()
        return count

    def close(self) -> None:
        """Closes all connections. To be called when nobody counts any more."""
        self._server.close()

    def _policy(self, rules: tuple[Rule, ...]) -> RedisPolicy:
        parsed = tuple(RedisRule.of(quota, scope) for quota, scope, *_ in rules)
        return RedisPolicy(parsed, self._server, self._denials, is_hashed=self._target.is_hashed)
