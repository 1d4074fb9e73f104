"""Questions about keys of several nodes of a cluster: one for each, and what was taken is given back if one refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from ..._support.errors import StorageError
from ...decision import RawDecision
from .node import RedisServer
from .script import (
    Question,
    Receipt,
    RedisRule,
    ask,
    ask_refund,
    ask_reset,
    essentials_of,
    is_one,
    receipts_of,
)

Reserved: TypeAlias = tuple[RawDecision, tuple[Receipt, ...]]
_Ask: TypeAlias = Callable[[Question, Callable[[Any], Any]], Awaitable[Any]]
_Gather: TypeAlias = Callable[[list[Coroutine[Any, Any, Any]]], Awaitable[list[Any]]]


class Parts:
    """Asks a server in parts. Blocks, or not, as the server is asked: `blocking` makes coroutines that never suspend.

    `divided` are the indices of the rules and keys of each part.
    """

    def __init__(self, ask: _Ask, gather: _Gather, rules: Sequence[RedisRule], divided: list[list[int]]) -> None:
        self._ask = ask
        self._gather = gather
        self._rules = rules
        self._divided = divided

    @classmethod
    def blocking(cls, server: RedisServer, rules: Sequence[RedisRule], divided: list[list[int]]) -> Parts:
        async def evaluate(question: Question, meaning: Callable[[Any], Any]) -> Any:
            return server.evaluate(question, meaning)

        return cls(evaluate, _one_by_one, rules, divided)

    @classmethod
    def on_loop(cls, server: RedisServer, rules: Sequence[RedisRule], divided: list[list[int]]) -> Parts:
        return cls(server.evaluate_async, _all_at_once, rules, divided)

    async def reserve(self, keys: Sequence[bytes], costs: Sequence[int]) -> Reserved:
        """Takes all of the costs, or none; in between others may be refused for what is then given back."""

        def part_of(question: Question, rules: Sequence[RedisRule]) -> Callable[[Any], Reserved]:
            def meaning(answer: Any) -> Reserved:
                raw_decision = essentials_of(answer, rules)
                return raw_decision, receipts_of(answer, question, rules) if raw_decision[0] else ()

            return meaning

        asked = []
        for part in self._divided:
            rules = [self._rules[at] for at in part]
            question = ask(b"reserve", rules, [keys[at] for at in part], [costs[at] for at in part])
            asked.append(self._asking(question, part_of(question, rules)))
        answers = await self._gather(asked)
        taken = [answer for answer in answers if not isinstance(answer, BaseException)]
        error = next((answer for answer in answers if isinstance(answer, BaseException)), None)
        if error is None and all(raw_decision[0] for raw_decision, _ in taken):
            return self._tightest([each for each, _ in taken]), tuple(one for _, each in taken for one in each)
        for raw_decision, receipts in taken:
            if raw_decision[0]:
                # What cannot be given back now counts until its window is over.
                with suppress(StorageError):
                    await self._ask(ask_refund(receipts), is_one)
        if error is not None:
            raise error
        return self._tightest([each for each, _ in taken]), ()

    async def peek(self, keys: Sequence[bytes], costs: Sequence[int]) -> RawDecision:
        """What would be answered about all of them."""

        def part_of(rules: Sequence[RedisRule]) -> Callable[[Any], RawDecision]:
            return lambda answer: essentials_of(answer, rules)

        asked = []
        for part in self._divided:
            rules = [self._rules[at] for at in part]
            question = ask(b"peek", rules, [keys[at] for at in part], [costs[at] for at in part])
            asked.append(self._asking(question, part_of(rules)))
        return self._tightest(_without_errors(await self._gather(asked)))

    async def refund(self, receipts: Sequence[Receipt]) -> bool:
        """Gives back what was taken, wherever it can be; whether all of it was."""
        asked = [self._asking(ask_refund([receipts[at] for at in part]), is_one) for part in self._divided]
        return all(_without_errors(await self._gather(asked)))

    async def reset(self, keys: Sequence[bytes]) -> None:
        """Forgets the hits of these keys."""
        asked = [self._asking(ask_reset([keys[at] for at in part]), is_one) for part in self._divided]
        _without_errors(await self._gather(asked))

    async def _asking(self, question: Question, meaning: Callable[[Any], Any]) -> Any:
        return await self._ask(question, meaning)

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


async def _all_at_once(asked: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    return await asyncio.gather(*asked, return_exceptions=True)


async def _one_by_one(asked: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    answers: list[Any] = []
    for each in asked:
        try:
            answers.append(await each)
        except StorageError as error:
            answers.append(error)
    return answers
