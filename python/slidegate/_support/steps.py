"""Steps that are written once, for event loops and for worker threads: generators that yield what is to be awaited."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Generator
from typing import Any, TypeAlias, TypeVar, cast

from .waiting import Wait, wait_on_loop

_Result = TypeVar("_Result")

Steps: TypeAlias = Generator[Any, Any, _Result]
"""Yields awaitables, is sent what each of them came to, and returns the result."""


def started(steps: Steps[_Result], wait: Wait) -> _Result | Coroutine[Any, Any, _Result]:
    """What the steps return; or, where something has to be awaited for it, a coroutine that returns that.

    What they yield is waited for by `wait`, whose errors they may handle.
    """
    try:
        step = steps.send(None)
    except StopIteration as end:
        result: _Result = end.value
        return result
    return _continued(steps, step, wait)


async def awaited(steps: Steps[_Result], wait: Wait) -> _Result:
    result: Any = started(steps, wait)
    if isinstance(result, Coroutine):
        result = await result
    return cast(_Result, result)


def answered(value: Any) -> Steps[Any]:
    """What a callable has returned, or what that comes to when it has to be awaited."""
    return (yield value) if inspect.isawaitable(value) else value


async def _continued(steps: Steps[_Result], step: Any, wait: Wait) -> _Result:
    try:
        while True:
            try:
                answer = await (step if wait is wait_on_loop else wait(step))
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: _Result = end.value
        return result
