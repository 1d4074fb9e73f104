"""Keys, limits, costs, exemptions and messages that are asked for: of any signature, asynchronous or not."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any
from unittest import mock

import anyio.to_thread
import pytest
from conftest import Client
from fastapi import FastAPI, Request
from limits import parse
from starlette.concurrency import run_in_threadpool

from slidegate import ConfigurationError, Limiter

MakeApp = Callable[[Limiter], FastAPI]
MakeLimiter = Callable[..., Limiter]


def answering(answer: Any, form: str) -> Callable[..., Any]:
    """A callable that gives this answer, in one of the forms that people write."""

    def nothing() -> Any:
        return answer

    def takes_request(request: Request) -> Any:
        assert isinstance(request, Request)
        return answer

    def takes_it_by_keyword(*, request: Request) -> Any:
        return takes_request(request)

    def takes_it_after_a_default(prefix: str = "p", request: Any = None) -> Any:
        assert prefix == "p"
        return takes_request(request)

    async def later(request: Request) -> Any:
        await asyncio.sleep(0)
        return takes_request(request)

    async def later_nothing() -> Any:
        await asyncio.sleep(0)
        return answer

    class Asked:
        async def __call__(self, request: Request) -> Any:
            return await later(request)

    return {
        "nothing": nothing,
        "request": takes_request,
        "keyword": takes_it_by_keyword,
        "default": takes_it_after_a_default,
        "mock": mock.Mock(return_value=answer),
        "async": later,
        "async nothing": later_nothing,
        "async partial": functools.partial(later),
        "async object": Asked(),
        "async mock": mock.AsyncMock(return_value=answer),
        "lambda around async": lambda request: later(request),
    }[form]


FORMS = [
    *("nothing", "request", "keyword", "default", "mock"),
    *("async", "async nothing", "async partial", "async object", "async mock", "lambda around async"),
]
in_every_form = pytest.mark.parametrize("form", FORMS)
on_both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["sync endpoint", "async endpoint"])


def endpoint(is_async: bool) -> Callable[..., Any]:
    def index() -> str:
        return "ok"

    async def index_later() -> str:
        return "ok"

    return index_later if is_async else index


@in_every_form
@on_both_kinds
def test_a23_key_functions_are_asked_and_awaited(
    form: str, is_async: bool, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(key_func=answering("one client", form))
    app = make_app(limiter)
    app.get("/")(limiter.limit("2/minute")(endpoint(is_async)))
    assert Client(app).statuses("/", 8) == [200] * 2 + [429] * 6


@in_every_form
@on_both_kinds
def test_a24_exempt_when_is_asked_and_awaited(
    form: str, is_async: bool, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    app.get("/no")(limiter.limit("2/minute", exempt_when=answering(False, form))(endpoint(is_async)))
    app.get("/yes")(limiter.limit("2/minute", exempt_when=answering(True, form))(endpoint(is_async)))
    assert client.statuses("/no", 3) == [200, 200, 429]
    assert client.statuses("/yes", 3) == [200, 200, 200]


@in_every_form
@on_both_kinds
def test_a25_costs_are_asked_and_awaited(
    form: str, is_async: bool, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    app.get("/")(limiter.limit("5/minute", cost=answering(2, form))(endpoint(is_async)))
    assert client.statuses("/", 3) == [200, 200, 429]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "mock"])
@on_both_kinds
def test_a25_limits_are_asked_and_awaited(
    form: str, is_async: bool, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    app.get("/")(limiter.limit(answering("2/minute; 100/hour", form))(endpoint(is_async)))
    assert client.statuses("/", 3) == [200, 200, 429]


@on_both_kinds
def test_a25_a_limit_callable_may_take_the_key_the_request_both_or_nothing(
    is_async: bool, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    async def both_later(request: Request, key: str) -> str:
        return "1/minute" if (request.url.path, key) == ("/4", "192.0.2.1") else "9/minute"

    callables: list[Callable[..., Any]] = [
        lambda: "1/minute",
        lambda key: "1/minute" if key == "192.0.2.1" else "9/minute",
        lambda request: "1/minute" if request.url.path == "/2" else "9/minute",
        lambda key, request: "1/minute" if (request.url.path, key) == ("/3", "192.0.2.1") else "9/minute",
        both_later,
    ]
    for number, each in enumerate(callables):
        app.get(f"/{number}")(limiter.limit(each)(endpoint(is_async)))
        assert client.statuses(f"/{number}", 2) == [200, 429]


@in_every_form
@on_both_kinds
def test_a25_error_messages_are_asked_and_awaited(
    form: str, is_async: bool, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    app.get("/")(limiter.limit("1/minute", error_message=answering("Slow down.", form))(endpoint(is_async)))
    assert client.get("/").status_code == 200
    assert client.get("/").json() == {"error": "Rate limit exceeded: Slow down."}


@on_both_kinds
def test_what_is_awaited_may_take_its_time_without_holding_up_others(
    is_async: bool, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    arrived = 0

    async def key() -> str:
        nonlocal arrived
        arrived += 1
        while arrived < 10:
            await asyncio.sleep(0)
        return "everybody"

    limiter = make_limiter(key_func=key)
    app = make_app(limiter)
    app.get("/")(limiter.limit("5/minute")(endpoint(is_async)))

    async def all_at_once() -> list[int]:
        responses = await asyncio.gather(*(Client(app).send("GET", "/") for _ in range(10)))
        return sorted(response.status_code for response in responses)

    assert asyncio.run(all_at_once()) == [200] * 5 + [429] * 5


NONE: list[Callable[[], Any]] = [lambda: None, lambda: ""]
FAILURES: list[Callable[[], Any]] = [
    lambda: 1 / 0,
    lambda: "5 per fortnight",
    lambda: 5,
    lambda: ["5/minute"],
    lambda: "5/1000 years",
]


def test_as_many_threads_as_there_are_may_wait_for_what_needs_one(app: FastAPI, limiter: Limiter) -> None:
    async def key(request: Request) -> str:
        return await run_in_threadpool(request.headers.get, "X-User", "")

    # Nobody can see beforehand that this one is asynchronous.
    @app.get("/")
    @limiter.limit("3/minute", key_func=lambda request: key(request))
    def index(request: Request) -> str:
        return "ok"

    async def all_at_once() -> list[int]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 4
        client = Client(app)
        answers = await asyncio.gather(*[client.send("GET", "/", headers={"X-User": "a"}) for _ in range(8)])
        assert anyio.to_thread.current_default_thread_limiter().total_tokens == 4
        return sorted(answer.status_code for answer in answers)

    assert asyncio.run(asyncio.wait_for(all_at_once(), 30)) == [200] * 3 + [429] * 5


@pytest.mark.parametrize("fail", [*FAILURES, *NONE])
@on_both_kinds
def test_a26_a_dynamic_limit_that_fails_gives_way_to_the_default_limits(
    fail: Callable[[], Any],
    is_async: bool,
    make_limiter: MakeLimiter,
    make_app: MakeApp,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = make_limiter(default_limits=["2/minute"])
    app = make_app(limiter)
    app.get("/")(limiter.limit(fail)(endpoint(is_async)))
    assert Client(app).statuses("/", 3) == [200, 200, 429]
    assert "index" in caplog.messages[0]
    assert "default_limits apply" in caplog.messages[0]


@pytest.mark.parametrize("swallow_errors", [False, True])
@pytest.mark.parametrize("fail", FAILURES)
def test_a26_without_default_limits_it_is_an_error_and_never_unlimited(
    fail: Callable[[], Any],
    swallow_errors: bool,
    make_limiter: MakeLimiter,
    make_app: MakeApp,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = make_limiter(swallow_errors=swallow_errors)
    app = make_app(limiter)
    app.get("/")(limiter.limit(fail)(endpoint(False)))
    assert Client(app).statuses("/", 1) == [500]
    assert "there are no default_limits to use instead" in caplog.messages[0]


def test_a26_a_limit_beside_the_failing_one_still_counts(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(default_limits="5/minute")
    app = make_app(limiter)
    app.get("/")(limiter.limit("3/minute")(limiter.limit(lambda: "nonsense")(endpoint(False))))
    assert Client(app).statuses("/", 4) == [200] * 3 + [429]
    assert limiter.limiter.get_window_stats(parse("5/minute"), "192.0.2.1", "/").remaining == 2


def test_a_dynamic_default_limit_that_fails_has_no_other_to_give_way_to(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(default_limits=[lambda: "nonsense"])
    app = make_app(limiter)
    app.get("/")(limiter.limit("3/minute", override_defaults=False)(endpoint(False)))
    assert Client(app).statuses("/", 1) == [500]


def test_a_limit_that_changes_is_followed_at_once(app: FastAPI, limiter: Limiter, client: Client) -> None:
    current = ["1/minute"]
    app.get("/")(limiter.limit(lambda: current[0])(endpoint(False)))
    assert client.statuses("/", 2) == [200, 429]
    current[0] = "3/hour"
    assert client.statuses("/", 4) == [200, 200, 200, 429]


def test_swallowed_errors_let_the_request_pass_and_are_logged(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = make_limiter(swallow_errors=True, headers_enabled=True, key_func=lambda: 1 / 0)
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute")(endpoint(False)))
    assert Client(app).statuses("/", 2) == [200, 200]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "ZeroDivisionError" in caplog.text


def test_errors_of_callables_are_errors_of_the_request(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(key_func=lambda: 1 / 0)
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute")(endpoint(False)))
    assert Client(app).statuses("/", 1) == [500]


@pytest.mark.parametrize(
    "options",
    [
        {"limit_value": lambda tier: "1/minute"},
        {"limit_value": "1/minute", "cost": lambda request, size: 1},
        {"limit_value": "1/minute", "exempt_when": lambda *, debug: False},
        {"limit_value": "1/minute", "key_func": lambda host, port: "k"},
        {"limit_value": "1/minute", "error_message": lambda a, b: ""},
    ],
)
def test_a_callable_that_asks_for_what_nobody_has_is_an_error_where_it_is_declared(
    options: dict[str, Any], limiter: Limiter
) -> None:
    with pytest.raises(ConfigurationError, match=r"index: .*<lambda> has the parameter '(tier|size|debug|port|b)'"):
        limiter.limit(**options)(endpoint(False))
