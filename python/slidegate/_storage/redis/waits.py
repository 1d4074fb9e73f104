"""How an exchange with a server waits: its thread is blocked meanwhile, or its event loop goes on.

Each exchange is written once, as a coroutine. One that waits in its thread is never suspended: `run_blocking` runs it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from ..._support.errors import StorageError

_T = TypeVar("_T")


class Waits(Protocol):
    """`IN_THREAD`, or `ON_LOOP`. Coroutines that are passed in have to wait in the same way."""

    is_blocking: bool

    async def sleep(self, seconds: float) -> None: ...
    async def all_of(self, exchanges: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """What each of them returns, or the error that it raises."""
        ...

    async def first_of(self, exchanges: Sequence[Coroutine[Any, Any, _T]]) -> _T:
        """What the first returns that raises no StorageError. Raises one of those when all do."""
        ...


class _InThread:
    is_blocking = True

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def all_of(self, exchanges: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        answers: list[Any] = []
        for each in exchanges:
            try:
                answers.append(await each)
            except StorageError as error:
                answers.append(error)
        return answers

    async def first_of(self, exchanges: Sequence[Coroutine[Any, Any, _T]]) -> _T:
        failure: StorageError | None = None
        try:
            for each in exchanges:
                try:
                    return await each
                except StorageError as error:
                    failure = failure or error
        finally:
            for each in exchanges:
                each.close()
        raise failure or StorageError("nobody was asked")


class _OnLoop:
    is_blocking = False

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def all_of(self, exchanges: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        return await asyncio.gather(*exchanges, return_exceptions=True)

    async def first_of(self, exchanges: Sequence[Coroutine[Any, Any, _T]]) -> _T:
        failure: StorageError | None = None
        tasks = [asyncio.ensure_future(each) for each in exchanges]
        try:
            for first in asyncio.as_completed(tasks):
                try:
                    return await first
                except StorageError as error:
                    failure = failure or error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise failure or StorageError("nobody was asked")


IN_THREAD: Waits = _InThread()
ON_LOOP: Waits = _OnLoop()
