"""Routes whose answers come in parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from e2e.journal import Journal

if TYPE_CHECKING:
    from e2e.application import Limits

try:
    from fastapi.sse import EventSourceResponse, ServerSentEvent
except ImportError:
    EventSourceResponse = None

HAS_EVENTS = EventSourceResponse is not None
ASYNCHRONOUS = ("/streams/async", "/streams/async/decorated")
SYNCHRONOUS = ("/streams/sync", "/streams/sync/decorated")
EVENTS = ("/events", "/events/decorated")
OF_FASTAPI = ("/events/own", "/events/own/decorated", "/lines", "/lines/decorated")
_CHUNKS = 3


def add(app: FastAPI, limits: Limits, journal: Journal) -> None:
    """Every chunk waits for the gate of the client, every end is noted."""

    async def made(name: str) -> AsyncIterator[int]:
        try:
            for number in range(_CHUNKS):
                await journal.gate(name).passed()
                journal.note(name, f"chunk {number}")
                yield number
        except BaseException as error:
            journal.note(name, type(error).__name__)
            raise
        finally:
            journal.note(name, "closed")

    async def chunks(name: str) -> AsyncIterator[bytes]:
        async for number in made(name):
            yield f"chunk {number}\n".encode()

    async def events(name: str) -> AsyncIterator[str]:
        async for number in made(name):
            yield f"id: {number}\ndata: event\n\n"

    def chunks_by_thread(name: str) -> Iterator[bytes]:
        try:
            for number in range(_CHUNKS):
                journal.gate(name).passed_by_thread()
                journal.note(name, f"chunk {number}")
                yield f"chunk {number}\n".encode()
        finally:
            journal.note(name, "closed")

    def background(name: str) -> BackgroundTask:
        return BackgroundTask(journal.note, name, "background")

    async def stream(request: Request) -> StreamingResponse:
        name = request.headers["x-client"]
        return StreamingResponse(chunks(name), background=background(name))

    def stream_by_thread(request: Request) -> StreamingResponse:
        name = request.headers["x-client"]
        return StreamingResponse(chunks_by_thread(name), background=background(name))

    async def event_stream(request: Request) -> StreamingResponse:
        return StreamingResponse(events(request.headers["x-client"]), media_type="text/event-stream")

    async def endless(request: Request) -> StreamingResponse:
        name = request.headers["x-client"]

        async def numbers() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"chunk\n"
                    await asyncio.sleep(0.001)
            except BaseException as error:
                journal.note(name, type(error).__name__)
                raise
            finally:
                journal.note(name, "closed")

        return StreamingResponse(numbers(), background=background(name))

    def endless_by_thread(request: Request) -> StreamingResponse:
        name = request.headers["x-client"]

        def numbers() -> Iterator[bytes]:
            try:
                while True:
                    yield b"chunk\n"
                    time.sleep(0.001)
            finally:
                journal.note(name, "closed")

        return StreamingResponse(numbers(), background=background(name))

    async def breaking(request: Request) -> StreamingResponse:
        async def broken() -> AsyncIterator[bytes]:
            yield b"chunk\n"
            await journal.gate(request.headers["x-client"]).passed()
            raise ValueError("in mid-stream")

        return StreamingResponse(broken(), background=background(request.headers["x-client"]))

    _add_twice(app, limits, "/streams/async", stream)
    _add_twice(app, limits, "/streams/sync", stream_by_thread)
    _add_twice(app, limits, "/events", event_stream)
    _add_twice(app, limits, "/streams/endless", endless)
    _add_twice(app, limits, "/streams/endless/sync", endless_by_thread)
    _add_twice(app, limits, "/streams/breaking", breaking)
    app.get("/streams/failures", response_class=StreamingResponse)(limits.failures("1/hour")(endless))
    if EventSourceResponse is not None:

        async def lines(request: Request) -> AsyncIterator[int]:
            async for number in made(request.headers["x-client"]):
                yield number

        async def own_events(request: Request) -> AsyncIterator[ServerSentEvent]:
            async for number in made(request.headers["x-client"]):
                yield ServerSentEvent(data=number, id=str(number))

        _add_twice(app, limits, "/lines", lines)
        _add_twice(app, limits, "/events/own", own_events, response_class=EventSourceResponse)


def _add_twice(app: FastAPI, limits: Limits, path: str, endpoint: Any, **options: Any) -> None:
    app.get(path, **options)(endpoint)
    app.get(f"{path}/decorated", **options)(limits.limit("50/hour")(endpoint))
