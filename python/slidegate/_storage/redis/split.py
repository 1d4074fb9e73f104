"""Questions about keys of several nodes of a cluster: one for each, and what was taken is given back if one refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from ..._support.errors import StorageError
from ...decision import RawDecision
from .node import RedisServer
from .script import Question, Receipt, RedisRule, ask, ask_refund, ask_reset, is_one, raw_decision_of, reservation_of
from .waits import Waits

_Exchange: TypeAlias = tuple[Question, Callable[[Any], Any]]


class Parts:
    """Asks a server in parts. `divided` are the indices of the rules and keys of each part."""

    def __init__(self, server: RedisServer, rules: Sequence[RedisRule], divided: list[list[int]], waits: Waits) -> None:
        self._server = server
        self._rules = rules
        self._divided = divided
        self._waits = waits

    async def reserve(self, keys: Sequence[bytes], costs: Sequence[int]) -> tuple[RawDecision, tuple[Receipt, ...]]:
        """Takes all of the costs, or none; in between others may be refused for what is then given back."""

        def exchange(part: list[int]) -> _Exchange:
            rules, question = self._about(b"reserve", part, keys, costs)
            return question, reservation_of(question, rules)

        answers = await self._ask_each(exchange)
        taken = [answer for answer in answers if not isinstance(answer, BaseException)]
        error = next((answer for answer in answers if isinstance(answer, BaseException)), None)
        if error is None and all(raw_decision[0] for raw_decision, _ in taken):
            return self._tightest([each for each, _ in taken]), tuple(one for _, each in taken for one in each)
        for raw_decision, receipts in taken:
            if raw_decision[0]:
                # What cannot be given back now counts until its window is over.
                with suppress(StorageError):
                    await self._server.evaluate(ask_refund(receipts), is_one, self._waits)
        if error is not None:
            raise error
        return self._tightest([each for each, _ in taken]), ()

    async def peek(self, keys: Sequence[bytes], costs: Sequence[int]) -> RawDecision:
        """What would be answered about all of them."""

        def exchange(part: list[int]) -> _Exchange:
            rules, question = self._about(b"peek", part, keys, costs)
            return question, partial(raw_decision_of, rules=rules)

        return self._tightest(_without_errors(await self._ask_each(exchange)))

    async def refund(self, receipts: Sequence[Receipt]) -> bool:
        """Gives back what was taken, wherever it can be; whether all of it was."""
        answers = await self._ask_each(lambda part: (ask_refund([receipts[at] for at in part]), is_one))
        return all(_without_errors(answers))

    async def reset(self, keys: Sequence[bytes]) -> None:
        """Forgets the hits of these keys."""
        _without_errors(await self._ask_each(lambda part: (ask_reset([keys[at] for at in part]), is_one)))

    async def _ask_each(self, exchange: Callable[[list[int]], _Exchange]) -> list[Any]:
        exchanges = map(exchange, self._divided)
        return await self._waits.all_of([self._server.evaluate(*each, self._waits) for each in exchanges])

    def _about(
        self, operation: bytes, part: list[int], keys: Sequence[bytes], costs: Sequence[int]
    ) -> tuple[list[RedisRule], Question]:
        rules = [self._rules[at] for at in part]
        return rules, ask(operation, rules, [keys[at] for at in part], [costs[at] for at in part])

    def _tightest(self, answers: Sequence[RawDecision]) -> RawDecision:
        # Of refusals the longest, one without end before all; else what has least left.
        told = [(each[0], self._divided[part][each[1]], *each[2:]) for part, each in enumerate(answers)]
        refused = [each for each in told if not each[0]]
        if refused:
            return max(refused, key=lambda each: (each[4] < 0, each[4]))
        return min(told, key=lambda each: each[2])


def _without_errors(answers: Sequence[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return list(answers)
