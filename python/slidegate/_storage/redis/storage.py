"""Counts inside a Redis or Valkey server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import chain
from typing import Any, TypeAlias

from ..._core import redis_command
from ..._rules.bucket import Rule, is_led, joined
from ..._support.errors import ConfigurationError, StorageError
from ..._support.waiting import run_blocking
from ...decision import RawDecision
from ..base import Costs, Health, Keys
from .cluster import RedisCluster, RedisServer
from .deny_cache import DenyCache
from .node import Part, RedisNode
from .script import (
    SCRIPT,
    Question,
    Receipt,
    RedisRule,
    Script,
    ask,
    ask_refund,
    ask_reset,
    is_one,
    key_in,
    lead_of,
    raw_decision_of,
    reservation_of,
)
from .target import RedisTarget
from .waits import IN_THREAD, ON_LOOP, Waits

_POLICIES_KEPT = 4096
_Exchange: TypeAlias = tuple[Question, Callable[[Any], Any]]
"""A question, and what an answer to it means."""


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


Reserved: TypeAlias = tuple[RawDecision, RedisTicket | None]
"""What a reservation came to; without a ticket when it was refused."""


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
        self._suffixes = [rule.suffix for rule in rules]
        self._raw_decision = partial(raw_decision_of, rules=rules)
        # No methods, which would be one more call for each request.
        self.hit_async = partial(self._hit, ON_LOOP)
        self.peek_async = partial(self._peek, ON_LOOP)
        self.reserve_async = partial(self._reserve, ON_LOOP)
        self.refund_async = partial(self._refund, ON_LOOP)
        self.reset_async = partial(self._reset, ON_LOOP)
        # What nearly every hit takes.
        self._ones = (1,) * len(rules)
        self._hit_of_ones = (b"hit", *(rule.of_one for rule in rules))

    def hit(self, keys: Keys, cost: Costs = 1, /) -> RawDecision:
        return run_blocking(self._hit(IN_THREAD, keys, cost))

    def peek(self, keys: Keys, cost: Costs = 1, /) -> RawDecision:
        return run_blocking(self._peek(IN_THREAD, keys, cost))

    def reserve(self, keys: Keys, cost: Costs = 1, /) -> Reserved:
        return run_blocking(self._reserve(IN_THREAD, keys, cost))

    def refund(self, ticket: RedisTicket, /) -> bool:
        return run_blocking(self._refund(IN_THREAD, ticket))

    def reset(self, keys: Keys, /) -> None:
        run_blocking(self._reset(IN_THREAD, keys))

    async def _hit(self, waits: Waits, keys: Keys, cost: Costs = 1, /) -> RawDecision:
        names, denials = self._keys(keys), self._denials
        costs = self._ones if type(cost) is int and cost == 1 else self._costs(cost)
        denial = denials.find(names, costs) if denials.by_key else None
        if denial is not None:
            return denial
        age = denials.age
        if len(names) > 1 and len(self._server.divided(names)) > 1:
            raw_decision, _ = await self._take(waits, names, costs)
        else:
            is_of_ones = costs == self._ones
            question = Question(names, self._hit_of_ones) if is_of_ones else ask(b"hit", self._rules, names, costs)
            raw_decision = await self._server.evaluate(question, self._raw_decision, waits)
        if not raw_decision[0]:
            denials.put(names, costs, raw_decision, age)
        return raw_decision

    async def _peek(self, waits: Waits, keys: Keys, cost: Costs = 1, /) -> RawDecision:
        names, costs = self._keys(keys), self._costs(cost)
        exchange = partial(self._exchange, b"peek", names, costs)
        return _tightest(_without_errors(await self._ask_each(waits, names, exchange)))

    async def _reserve(self, waits: Waits, keys: Keys, cost: Costs = 1, /) -> Reserved:
        raw_decision, receipts = await self._take(waits, self._keys(keys), self._costs(cost))
        return raw_decision, RedisTicket(receipts) if raw_decision[0] else None

    async def _take(
        self, waits: Waits, names: Sequence[bytes], costs: Sequence[int]
    ) -> tuple[RawDecision, tuple[Receipt, ...]]:
        """Takes all of the costs, or none; in between others may be refused for what is then given back."""
        answers = await self._ask_each(waits, names, partial(self._exchange, b"reserve", names, costs))
        taken = [(part, answer) for part, answer in answers if not isinstance(answer, BaseException)]
        receipts = [receipts for _, (_, receipts) in taken]
        if len(taken) < len(answers) or not all(receipts):
            for each in filter(None, receipts):
                # What cannot be given back now counts until its window is over.
                with suppress(StorageError):
                    await self._server.evaluate(ask_refund(each), is_one, waits)
            receipts = []
        raw_decision = _tightest([(part, answer[0]) for part, answer in _without_errors(answers)])
        # A ticket is divided by the indices of rules, and a node may have those of the first and the last.
        indices = [at for part, _ in answers for at in part]
        by_index = sorted(zip(indices, chain.from_iterable(receipts), strict=False))
        return raw_decision, tuple(receipt for _, receipt in by_index)

    async def _refund(self, waits: Waits, ticket: RedisTicket, /) -> bool:
        receipts = ticket.spend()
        if not receipts:
            return False
        names = [each.key for each in receipts]
        answers = await self._ask_each(waits, names, lambda part: (ask_refund([receipts[at] for at in part]), is_one))
        is_done = all(answer for _, answer in _without_errors(answers))
        self._denials.forget(names)
        return is_done

    async def _reset(self, waits: Waits, keys: Keys, /) -> None:
        names = self._keys(keys)
        answers = await self._ask_each(waits, names, lambda part: (ask_reset([names[at] for at in part]), is_one))
        _without_errors(answers)
        self._denials.forget(names)

    async def _ask_each(
        self, waits: Waits, names: Sequence[bytes], exchange: Callable[[Part], _Exchange]
    ) -> list[tuple[Part, Any]]:
        """One question for each part of these keys that a node has. An answer of several may be an error instead."""
        parts = self._server.divided(names)
        asked = [self._server.evaluate(*exchange(part), waits) for part in parts]
        answers = [await asked[0]] if len(asked) == 1 else await waits.all_of(asked)
        return list(zip(parts, answers, strict=True))

    def _exchange(self, operation: bytes, names: Sequence[bytes], costs: Sequence[int], part: Part) -> _Exchange:
        rules = [self._rules[at] for at in part]
        question = ask(operation, rules, [names[at] for at in part], [costs[at] for at in part])
        is_peek = operation == b"peek"
        return question, partial(raw_decision_of, rules=rules) if is_peek else reservation_of(question, rules)

    def _costs(self, cost: Costs) -> tuple[int, ...]:
        costs = cost if isinstance(cost, tuple) else (cost,) * len(self._rules)
        if len(costs) != len(self._rules):
            raise ValueError(f"expected one cost, or one for each of {len(self._rules)} rules, not {len(costs)}")
        for each in costs:
            if not isinstance(each, int):
                raise TypeError(f"a cost is an int, not {type(each).__name__}")
            if each < 1:
                raise ValueError(f"a cost is at least 1, not {each}")
        return costs

    def _keys(self, keys: Keys) -> tuple[bytes, ...]:
        if not isinstance(keys, tuple):
            lead = lead_of(keys, is_hashed=self._is_hashed)
            return tuple(map(lead.__add__, self._suffixes))
        if len(keys) != len(self._rules):
            raise ValueError(f"expected one key, or one for each of {len(self._rules)} rules, not {len(keys)}")
        leads = map(partial(lead_of, is_hashed=self._is_hashed), keys)
        return tuple(map(bytes.__add__, leads, self._suffixes))


def _without_errors(answers: list[tuple[Part, Any]]) -> list[tuple[Part, Any]]:
    for _, answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


def _tightest(answers: Sequence[tuple[Part, RawDecision]]) -> RawDecision:
    # Of refusals the longest, one without end before all; else what has least left.
    told = [(each[0], part[each[1]], *each[2:]) for part, each in answers]
    refused = [each for each in told if not each[0]]
    if refused:
        return max(refused, key=lambda each: (each[4] < 0, each[4]))
    return min(told, key=lambda each: each[2])


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
        names = [] if key is None else [key, *([joined(path) + key] if path is not None else [])]
        leads = tuple(lead_of(each, is_hashed=self._target.is_hashed) + b"}" for each in names)

        def is_meant(stored: bytes) -> bool:
            if key is None or stored.startswith(leads):
                return True
            recorded = key_in(stored)
            return path is None and recorded.endswith(key) and is_led(recorded.removesuffix(key))

        count = self._server.forget(is_meant)
        self._denials.clear()
        return count

    def close(self) -> None:
        """Closes all connections. To be called when nobody counts any more."""
        self._server.close()

    def _policy(self, rules: tuple[Rule, ...]) -> RedisPolicy:
        parsed = tuple(RedisRule.of(quota, scope) for quota, scope, *_ in rules)
        return RedisPolicy(parsed, self._server, self._denials, is_hashed=self._target.is_hashed)
