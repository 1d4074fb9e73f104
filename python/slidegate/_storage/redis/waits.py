"""How an exchange with a server waits: its thread is blocked meanwhile, or its event loop goes on.

Each exchange is written once, as a coroutine. One that waits in its thread is never suspended: `run_blocking` runs it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from ..._support.errors import StorageError

_T = TypeVar("_T")


class Waits(NamedTuple):
    """`IN_THREAD`, or `ON_LOOP`. Coroutines that are passed in have to wait in the same way."""

    is_blocking: bool

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds) if self.is_blocking else await asyncio.sleep(seconds)

    async def all_of(self, exchanges: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """What each of them returns, or the error that it raises."""
        if not self.is_blocking:
            return await asyncio.gather(*exchanges, return_exceptions=True)
        return [await _settled(each) for each in exchanges]

    async def first_of(self, exchanges: Sequence[Coroutine[Any, Any, _T]]) -> _T:
        """What the first returns that raises no StorageError. Raises one of those when all do."""
        if self.is_blocking:
            try:
                return await _first(exchanges)
            finally:
                for each in exchanges:
                    each.close()
        tasks = [asyncio.ensure_future(each) for each in exchanges]
        try:
            return await _first(asyncio.as_completed(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _settled(exchange: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await exchange
    except StorageError as error:
        return error


async def _first(exchanges: Iterable[Awaitable[_T]]) -> _T:
    failure = StorageError("nobody was asked")
    for each in exchanges:
        try:
            return await each
        except StorageError as error:
            failure = error
    raise failure


IN_THREAD = Waits(is_blocking=True)
ON_LOOP = Waits(is_blocking=False)
