"""Limits that count when the response says so: reserved first, given back afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from slidegate import ConfigurationError, Limiter
from slidegate.middleware import SlowAPIMiddleware
from slidegate.testing import ManualClock, advance

MakeLimiter = Callable[..., Limiter]
MakeApp = Callable[[Limiter], FastAPI]
STRATEGIES = ["moving-window", "fixed-window", "sliding-window-counter", "gcra"]


def is_failed_login(response: Response) -> bool:
    return response.status_code == 401


async def is_failed_login_async(response: Response) -> bool:
    await asyncio.sleep(0)
    return response.status_code == 401


def returned(status: int) -> Any:
    return PlainTextResponse(str(status), status_code=status)


def raised(status: int) -> Any:
    if status != 200:
        raise HTTPException(status)
    return "ok"


@pytest.fixture(params=[False, True], ids=["decorator alone", "middleware"])
def with_middleware(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def make(make_limiter: MakeLimiter, make_app: MakeApp, with_middleware: bool) -> Callable[..., tuple[FastAPI, Limiter]]:
    def make(**options: Any) -> tuple[FastAPI, Limiter]:
        limiter = make_limiter(**options)
        app = make_app(limiter)
        if with_middleware:
            app.add_middleware(SlowAPIMiddleware)
        return app, limiter

    return make


Make = Callable[..., tuple[FastAPI, Limiter]]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("answer", [returned, raised])
@pytest.mark.parametrize("deduct_when", [is_failed_login, is_failed_login_async])
@pytest.mark.parametrize("is_async", [False, True])
def test_a22_the_fourth_attempt_after_three_failures_is_refused_before_the_endpoint(
    is_async: bool, deduct_when: Any, answer: Callable[[int], Any], strategy: str, make: Make
) -> None:
    app, limiter = make(strategy=strategy)
    calls: list[int] = []

    async def login_async(status: int) -> Any:
        calls.append(status)
        return answer(status)

    def login(status: int) -> Any:
        calls.append(status)
        return answer(status)

    app.get("/login")(limiter.limit("3/minute", deduct_when=deduct_when)(login_async if is_async else login))
    client = Client(app)
    statuses = [200, 200, 401, 200, 200, 401, 200, 200, 200, 401]
    assert [client.get(f"/login?status={status}").status_code for status in statuses] == statuses
    assert client.get("/login?status=200").status_code == 429
    assert calls == statuses


def test_a22_successes_never_count_also_at_the_same_time(make: Make) -> None:
    app, limiter = make()
    running = most = 0

    @app.get("/login")
    @limiter.limit("3/minute", deduct_when=is_failed_login)
    async def login(status: int) -> Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return PlainTextResponse("", status_code=status)

    client = Client(app)

    async def at_once(statuses: list[int]) -> list[int]:
        responses = await asyncio.gather(*(client.send("GET", f"/login?status={status}") for status in statuses))
        return sorted(response.status_code for response in responses)

    assert asyncio.run(at_once([200] * 10)) == [200] * 3 + [429] * 7
    assert most == 3
    for _ in range(5):
        assert asyncio.run(at_once([200] * 3)) == [200] * 3
    assert asyncio.run(at_once([401] * 10)) == [401] * 3 + [429] * 7
    assert client.get("/login?status=200").status_code == 429


def test_other_limits_of_the_endpoint_count_always_and_all_take_or_none(make: Make) -> None:
    app, limiter = make()
    app.get("/")(
        limiter.limit("4/minute")(
            limiter.limit("2/minute", deduct_when=is_failed_login)(lambda status: raised(int(status)))
        )
    )
    client = Client(app)
    statuses = [401, 200, 200, 401]
    assert [client.get(f"/?status={status}").status_code for status in statuses] == statuses
    assert client.get("/?status=200").json() == {"error": "Rate limit exceeded: 2 per 1 minute"}
    limiter.reset()
    assert [client.get(f"/?status={status}").status_code for status in [200] * 5] == [200] * 4 + [429]
    assert client.get("/?status=200").json() == {"error": "Rate limit exceeded: 4 per 1 minute"}


def test_what_is_given_back_is_told_as_remaining(make: Make) -> None:
    app, limiter = make(headers_enabled=True)
    app.get("/")(limiter.limit("3/minute", deduct_when=is_failed_login)(lambda status: returned(int(status))))
    client = Client(app)
    told = [client.get(f"/?status={status}").headers["x-ratelimit-remaining"] for status in (200, 401, 200, 401)]
    assert told == ["3", "2", "2", "1"]


def test_a_refund_after_the_window_has_passed_gives_nothing(make: Make, clock: ManualClock) -> None:
    app, limiter = make()

    @app.get("/")
    @limiter.limit("1/minute", deduct_when=is_failed_login)
    def slow() -> str:
        advance(clock, seconds=61)
        return "ok"

    @app.get("/other")
    @limiter.limit("1/minute", deduct_when=is_failed_login)
    def other() -> Response:
        return returned(401)

    client = Client(app)
    assert client.statuses("/", 3) == [200] * 3
    assert client.statuses("/other", 2) == [401, 429]


def test_an_unknown_exception_is_a_500_and_one_that_has_a_handler_counts_without_the_middleware(
    make: Make, with_middleware: bool
) -> None:
    class Busy(Exception):
        pass

    app, limiter = make()
    app.add_exception_handler(Busy, lambda request, exc: JSONResponse({}, status_code=200))

    @app.get("/")
    @limiter.limit("1/minute", deduct_when=lambda response: response.status_code == 500)
    def fail(busy: bool) -> None:
        raise Busy if busy else ValueError

    client = Client(app)
    assert client.get("/?busy=true").status_code == 200
    assert client.get("/?busy=true").status_code == (200 if with_middleware else 429)
    limiter.reset()
    assert [client.get("/?busy=false").status_code for _ in range(2)] == [500, 429]


def test_a_predicate_that_fails_deducts(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    app, limiter = make()
    app.get("/")(limiter.limit("1/minute", deduct_when=lambda response: response.no_such_thing)(lambda: "ok"))
    assert Client(app).statuses("/", 2) == [200, 429]
    assert "deduct_when failed" in caplog.text


def test_a_client_that_leaves_before_the_response_has_used_its_attempt(make: Make) -> None:
    app, limiter = make()

    @app.get("/")
    @limiter.limit("1/minute", deduct_when=is_failed_login)
    async def wait() -> str:
        await asyncio.sleep(60)
        return "ok"

    async def leave() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(Client(app).send("GET", "/"), timeout=0.05)

    asyncio.run(leave())
    assert Client(app).get("/").status_code == 429


def test_a_stream_is_judged_by_its_status(make: Make) -> None:
    app, limiter = make()

    @app.get("/", response_model=None)
    @limiter.limit("1/minute", deduct_when=is_failed_login)
    def lines() -> Iterator[str]:
        yield "one"

    assert Client(app).statuses("/", 3) == [200] * 3


def test_a_shared_limit_may_depend_on_the_response(make: Make) -> None:
    app, limiter = make()
    for path in ("/one", "/two"):
        app.get(path)(limiter.shared_limit("2/minute", "logins", deduct_when=is_failed_login)(lambda: returned(401)))
    client = Client(app)
    assert [client.get(path).status_code for path in ("/one", "/two", "/one")] == [401, 401, 429]


def test_what_is_not_callable_is_an_error_where_it_is_declared(limiter: Limiter) -> None:
    with pytest.raises(ConfigurationError, match="deduct_when=401 is not callable"):
        limiter.limit("1/minute", deduct_when=401)(lambda: "ok")  # type: ignore[arg-type]
