"""Steps that are written once, for event loops and for worker threads: generators that yield what is to be awaited."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from .callables import Wait

_Result = TypeVar("_Result")

Steps: TypeAlias = Generator[Any, Any, _Result]
"""Yields awaitables, is sent what each of them came to, and returns the result."""


async def awaited(steps: Steps[_Result], wait: Wait) -> _Result:
    """What the steps return. What they yield is waited for by `wait`, whose errors they may handle."""
    try:
        step = steps.send(None)
        while True:
            try:
                answer = await wait(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: _Result = end.value
        return result
