"""What a server tells a test, and waits for: notes and gates, by the name of the exchange that they belong to."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import defaultdict

from fastapi import APIRouter, Request


class Gate:
    """Lets one waiter pass for each time that it is opened, also when it is opened first. For threads and for tasks."""

    def __init__(self) -> None:
        self._tasks = asyncio.Semaphore(0)
        self._threads = threading.Semaphore(0)

    def open(self, times: int = 1) -> None:
        for _ in range(times):
            self._tasks.release()
            self._threads.release()

    async def passed(self) -> None:
        await self._tasks.acquire()

    def passed_by_thread(self) -> None:
        # A server that a test has left waiting ends all the same.
        assert self._threads.acquire(timeout=30), "the test never opened the gate"


class Journal:
    def __init__(self) -> None:
        self._notes: defaultdict[str, list[str]] = defaultdict(list)
        self._gates: defaultdict[str, Gate] = defaultdict(Gate)

    def note(self, name: str, event: str) -> None:
        self._notes[name].append(event)

    @property
    def all_notes(self) -> dict[str, list[str]]:
        return dict(self._notes)

    def gate(self, name: str) -> Gate:
        return self._gates[name]

    def routes(self) -> APIRouter:
        """Where tests read and open. To be exempt from limits."""
        router = APIRouter(prefix="/journal")

        @router.get("/notes")
        async def notes(name: str) -> list[str]:
            return self._notes[name]

        @router.get("/until")
        async def until(name: str, event: str, times: int = 1) -> list[str]:
            while self._notes[name].count(event) < times:
                await asyncio.sleep(0.002)
            return self._notes[name]

        @router.get("/idle")
        async def idle() -> list[str]:
            """Answers when no other request, nor what it has left to do, is running."""
            mine = asyncio.current_task()
            assert mine in requests_running()
            while requests_running() - {mine}:
                await asyncio.sleep(0.002)
            # Starlette leaves synchronous generators that it gives up to the garbage collector.
            gc.collect()
            return []

        @router.post("/open")
        async def opened(name: str, times: int = 1) -> list[str]:
            self.gate(name).open(times)
            return []

        @router.post("/open/after-body")
        async def opened_after_body(name: str, times: int, request: Request) -> list[str]:
            await request.body()
            self.gate(name).open(times)
            return []

        return router


def requests_running() -> set[asyncio.Task[object]]:
    """The tasks in which uvicorn runs the application, one for each request."""
    return {task for task in asyncio.all_tasks() if "run_asgi" in getattr(task.get_coro(), "__qualname__", "")}
