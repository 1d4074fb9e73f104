"""Storages of the `limits` package that fail, or do not answer, when a test says so, and applications that use them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import limits.aio.storage
import limits.storage
from fastapi import FastAPI, Request

from slidegate import Limiter
from slidegate.util import get_remote_address

MakeApp = Callable[[Limiter], FastAPI]
URIS = ["slidegate-test-faulty://", "async+slidegate-test-faulty://"]


class Faults:
    """What befalls a storage."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Nothing has befallen it."""
        self.is_down = False
        self.checks = 0
        self.hold: threading.Event | None = None
        self.meeting: threading.Barrier | None = None
        self.threads: set[int] = set()

    def end(self) -> None:
        if self.hold is not None:
            self.hold.set()
        self.begin()

    def strike(self) -> None:
        self.threads.add(threading.get_ident())
        if self.meeting is not None:
            self.meeting.wait(20)
        if self.hold is not None:
            assert self.hold.wait(20)
        if self.is_down:
            raise ConnectionError("nobody there")


FAULTS = Faults()


class FaultyStorage(limits.storage.MemoryStorage):
    """Counts, until something befalls it."""

    STORAGE_SCHEME: ClassVar = ["slidegate-test-faulty"]

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        self.options = options
        super().__init__(uri, wrap_exceptions)

    def incr(self, *args: Any, **kwargs: Any) -> int:
        FAULTS.strike()
        return super().incr(*args, **kwargs)

    def acquire_entry(self, *args: Any, **kwargs: Any) -> bool:
        FAULTS.strike()
        return super().acquire_entry(*args, **kwargs)

    def check(self) -> bool:
        FAULTS.checks += 1
        if FAULTS.hold is not None:
            FAULTS.hold.wait(20)
        return not FAULTS.is_down


class AsyncFaultyStorage(limits.aio.storage.MemoryStorage):
    """The same, awaited."""

    STORAGE_SCHEME: ClassVar = ["async+slidegate-test-faulty"]

    async def acquire_entry(self, *args: Any, **kwargs: Any) -> bool:
        FAULTS.strike()
        return await super().acquire_entry(*args, **kwargs)

    async def check(self) -> bool:
        FAULTS.checks += 1
        while FAULTS.hold is not None and not FAULTS.hold.is_set():
            await asyncio.sleep(0)
        return not FAULTS.is_down


def limiter_on(uri: str, **options: Any) -> Limiter:
    return Limiter(get_remote_address, storage_uri=uri, **options)


def app_of(make_app: MakeApp, limiter: Limiter, limit: str = "2/minute", **options: Any) -> FastAPI:
    app = make_app(limiter)

    @app.get("/async")
    @limiter.limit(limit, **options)
    async def in_loop(request: Request) -> str:
        return "ok"

    @app.get("/sync")
    @limiter.limit(limit, **options)
    def in_thread(request: Request) -> str:
        return "ok"

    @app.get("/sync/free")
    def free_in_thread() -> str:
        return "ok"

    @app.get("/free")
    async def free() -> str:
        return "ok"

    return app
