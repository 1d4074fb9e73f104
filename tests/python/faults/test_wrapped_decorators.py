"""Somebody's own wrapper above the decorator of a limit, which may answer without it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, HTTPException, Request
from starlette.middleware.gzip import GZipMiddleware

from slidegate import Limiter

MakeLimiter = Callable[..., Limiter]


def cached(function: Any) -> Any:
    answers: dict[str, Any] = {}

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if "answer" not in answers:
            return "from nowhere"
        answers["answer"] = await function(*args, **kwargs)
        return answers["answer"]

    return wrapper


def passing(function: Any) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


@pytest.fixture
def limited(limiter: Limiter) -> Any:
    @limiter.limit("2/minute")
    async def limited(request: Request, number: int = 0) -> str:
        if number:
            raise HTTPException(number)
        return "ok"

    return limited


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "its limit was not asked" in each.getMessage()]


@pytest.mark.parametrize("is_mounted", [True, False])
def test_fault_05_a_route_that_answers_without_its_limit_is_told_once(
    is_mounted: bool, limited: Any, limiter: Limiter, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    if is_mounted:
        inner = FastAPI()
        inner.state.limiter = limiter
        app.mount("/sub", inner)
    else:
        inner = app
    inner.get("/")(cached(limited))
    app.add_middleware(GZipMiddleware)
    assert Client(app).statuses("/sub/" if is_mounted else "/", 3) == [200, 200, 200]
    [warning] = warnings_of(caplog)
    assert "limited.<locals>.limited has answered" in warning
    assert "Put the decorator of the limit above that of the wrapper" in warning


def test_fault_05_the_report_tells_that_it_is_not_verified(limited: Any, limiter: Limiter, app: FastAPI) -> None:
    app.get("/cached")(cached(limited))
    app.get("/own")(limited)
    app.get("/partial")(functools.partial(limited, number=0))
    report = limiter.report(app)
    told = {each.path: (each.is_verified, "not verified" in each.reason) for each in report.routes if each.limits}
    assert told == {"/cached": (False, True), "/own": (True, False), "/partial": (True, False)}
    assert "not verified" in str(report)


def test_fault_05_a_wrapper_that_calls_it_is_not_warned_of(
    limited: Any, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    app.get("/")(passing(limited))
    assert Client(app).statuses("/", 3) == [200, 200, 429]
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(("path", "status"), [("/?number=text", 422), ("/?number=404", 404)])
def test_fault_05_what_is_wrong_with_a_request_is_no_answer_of_the_route(
    path: str, status: int, limited: Any, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    app.get("/")(passing(limited))
    assert Client(app).statuses(path, 1) == [status]
    assert warnings_of(caplog) == []


def test_fault_05_what_is_exempt_or_switched_off_is_not_warned_of(
    limiter: Limiter, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/exempt")
    @passing
    @limiter.limit("1/minute", exempt_when=lambda: True)
    async def exempt(request: Request) -> str:
        return "ok"

    @app.get("/off")
    @cached
    @limiter.limit("1/minute")
    async def off(request: Request) -> str:
        return "ok"

    client = Client(app)
    assert client.statuses("/exempt", 2) == [200, 200]
    limiter.enabled = False
    assert client.statuses("/off", 2) == [200, 200]
    assert warnings_of(caplog) == []


def test_fault_05_two_limiters_on_one_endpoint_are_verified(
    limited: Any, limiter: Limiter, make_limiter: MakeLimiter, app: FastAPI
) -> None:
    other = make_limiter()
    app.get("/")(other.limit("5/minute")(limited))
    for each in (limiter, other):
        assert [route.is_verified for route in each.report(app).routes if route.path == "/"] == [True]
