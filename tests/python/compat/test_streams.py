"""Responses that take their time, behind the middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, Response
from starlette.responses import StreamingResponse

from compat.library import Library, differs, same


@pytest.fixture
def events() -> list[str]:
    """What happened, in its order."""
    return []


@pytest.fixture
def app(library: Library, middleware: str, events: list[str]) -> FastAPI:
    app = library.app(library.limiter(default_limits=["100/minute"], headers_enabled=True), middleware)

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in "abc":
            events.append(f"made {chunk}")
            yield chunk.encode()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(chunks())

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"a"
                await asyncio.sleep(0)
        finally:
            events.append("cancelled")

    @app.get("/endless")
    async def endless_stream() -> StreamingResponse:
        return StreamingResponse(endless())

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> dict[str, str]:
        tasks.add_task(lambda: events.append("background"))
        return {}

    class InTwoSteps(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            events.append("started")
            await send({"type": "http.response.body", "body": b"a"})

    @app.get("/steps")
    async def steps() -> Response:
        return InTwoSteps()

    return app


def run(app: FastAPI, path: str, events: list[str], leaves_after: int | None = None) -> None:
    """Requests a path as a client that leaves when so many messages were sent, if ever."""

    async def request() -> None:
        has_asked, sent, has_left = False, 0, asyncio.Event()

        async def receive() -> dict[str, Any]:
            nonlocal has_asked
            if not has_asked:
                has_asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await has_left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal sent
            sent += 1
            if sent == leaves_after:
                has_left.set()
            body = message.get("body", b"").decode()
            events.append(f"sent {message['type'].removeprefix('http.response.')} {body}".rstrip())

        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
        await asyncio.wait_for(app({**scope, "client": ("192.0.2.1", 50000)}, receive, send), timeout=30)

    asyncio.run(request())


def test_a13_a_stream_has_one_start_and_its_first_chunk_is_not_delayed(
    app: FastAPI, library: Library, middleware: str, events: list[str]
) -> None:
    run(app, "/stream", events)
    outcome = (events.count("sent start"), events.index("sent body a") < events.index("made b"))
    expected = {
        "SlowAPIASGIMiddleware": differs(slowapi=(4, True), slidegate=(1, True), difference="one-plain-middleware"),
        "SlowAPIMiddleware": same((1, True)),
    }
    assert outcome == library.expected(expected[middleware])


def test_a13_a_response_starts_when_the_endpoint_says_so(
    app: FastAPI, library: Library, middleware: str, events: list[str]
) -> None:
    run(app, "/steps", events)
    outcome = (events.count("sent start"), events.index("sent start") < events.index("started"))
    expected = {
        "SlowAPIASGIMiddleware": differs(slowapi=(1, False), slidegate=(1, True), difference="one-plain-middleware"),
        "SlowAPIMiddleware": differs(slowapi=(1, False), slidegate=(1, True), difference="one-plain-middleware"),
    }
    assert outcome == library.expected(expected[middleware])


def test_a13_a_stream_is_cancelled_when_the_client_leaves(app: FastAPI, library: Library, events: list[str]) -> None:
    run(app, "/endless", events, leaves_after=3)
    assert events.count("cancelled") == library.expected(same(1))


def test_a13_background_tasks_run_after_the_response(app: FastAPI, library: Library, events: list[str]) -> None:
    run(app, "/background", events)
    kept = [event for event in events if event in ("sent start", "sent body {}", "background")]
    assert kept == library.expected(same(["sent start", "sent body {}", "background"]))
