"""What is said when an application starts whose limits would do nothing, or too little."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from conftest import Client
from fastapi import Request

from compat.apps import answer, limited_app
from compat.library import Library, attempt, differs


def test_a05_default_limits_without_middleware_are_warned_of(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    _, app, client = limited_app(library, None)
    app.get("/items")(answer)
    statuses = client.statuses("/items", 2)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    names_the_fix = ["SlowAPIMiddleware" in message for message in warned]
    assert (statuses, names_the_fix) == library.expected(
        differs(slowapi=([200, 200], []), slidegate=([200, 200], [True]), difference="start-up-checks")
    )


def test_a06_a_decorator_above_the_route_without_middleware_is_an_error_at_start(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @limiter.limit("1/minute")
    @app.post("/orders")
    async def order(request: Request) -> str:
        return "ok"

    async def start() -> list[str]:
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent: list[str] = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app({"type": "lifespan", "state": {}}, receive, send)
        return sent

    assert attempt(lambda: asyncio.run(start())) == library.expected(
        differs(
            slowapi=["lifespan.startup.complete", "lifespan.shutdown.complete"],
            slidegate="ConfigurationError",
            difference="decorator-above-the-route",
        )
    )


def test_a08_counting_by_path_with_path_parameters_is_warned_of(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @app.get("/users/{number}")
    @limiter.limit("1/minute")
    async def user(request: Request, number: int) -> str:
        return "ok"

    Client(app).get("/users/1")
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["/users/{number}" in message for message in warned] == library.expected(
        differs(slowapi=[], slidegate=[True], difference="start-up-checks")
    )
