"""Counts inside a Redis or Valkey server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import TypeAlias

from ..._core import redis_command
from ..._rules.bucket import Rule, is_led, joined
from ..._support.errors import ConfigurationError, StorageError
from ..._support.waiting import run_blocking
from ...decision import RawDecision
from ..base import Costs, Health, Keys
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
    is_one,
    key_in,
    lead_of,
    raw_decision_of,
    reservation_of,
)
from .split import Parts
from .target import RedisTarget
from .waits import IN_THREAD, ON_LOOP, Waits

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
        if (divided := self._server.divided(names) if len(names) > 1 else None) is not None:
            raw_decision, _ = await Parts(self._server, self._rules, divided, waits).reserve(names, costs)
        else:
            is_of_ones = costs == self._ones
            question = Question(names, self._hit_of_ones) if is_of_ones else ask(b"hit", self._rules, names, costs)
            raw_decision = await self._server.evaluate(question, self._raw_decision, waits)
        if not raw_decision[0]:
            denials.put(names, costs, raw_decision, age)
        return raw_decision

    async def _peek(self, waits: Waits, keys: Keys, cost: Costs = 1, /) -> RawDecision:
        names, costs = self._keys(keys), self._costs(cost)
        if (parts := self._parts(names, waits)) is not None:
            return await parts.peek(names, costs)
        return await self._server.evaluate(ask(b"peek", self._rules, names, costs), self._raw_decision, waits)

    async def _reserve(self, waits: Waits, keys: Keys, cost: Costs = 1, /) -> Reserved:
        names, costs = self._keys(keys), self._costs(cost)
        if (parts := self._parts(names, waits)) is not None:
            raw_decision, receipts = await parts.reserve(names, costs)
        else:
            question = ask(b"reserve", self._rules, names, costs)
            raw_decision, receipts = await self._server.evaluate(question, reservation_of(question, self._rules), waits)
        return raw_decision, RedisTicket(receipts) if raw_decision[0] else None

    async def _refund(self, waits: Waits, ticket: RedisTicket, /) -> bool:
        receipts = ticket.spend()
        if not receipts:
            return False
        names = [each.key for each in receipts]
        if (parts := self._parts(names, waits)) is not None:
            is_done = await parts.refund(receipts)
        else:
            is_done = await self._server.evaluate(ask_refund(receipts), is_one, waits)
        self._denials.forget(names)
        return is_done

    async def _reset(self, waits: Waits, keys: Keys, /) -> None:
        names = self._keys(keys)
        if (parts := self._parts(names, waits)) is not None:
            await parts.reset(names)
        else:
            await self._server.evaluate(ask_reset(names), is_one, waits)
        self._denials.forget(names)

    def _parts(self, names: Sequence[bytes], waits: Waits) -> Parts | None:
        divided = self._server.divided(names)
        return None if divided is None else Parts(self._server, self._rules, divided, waits)

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
