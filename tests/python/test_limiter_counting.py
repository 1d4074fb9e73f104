"""How much passes, and what is counted together."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from limits import parse

from slidegate import Decision, Limiter
from slidegate.errors import ConfigurationError
from slidegate.testing import ManualClock, advance

MakeApp = Callable[[Limiter], FastAPI]
MakeLimiter = Callable[..., Limiter]


def remaining(limiter: Limiter, path: str, item: str = "100 per 1 minute", key: str = "192.0.2.1") -> int:
    """What is left of a limit, without taking from it."""
    return limiter.limiter.get_window_stats(parse(item), key, path).remaining


@pytest.mark.parametrize("is_stacked", [False, True])
def test_a14_all_limits_of_a_request_take_or_none(
    is_stacked: bool, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    def index() -> str:
        return "ok"

    if is_stacked:
        app.get("/")(limiter.limit("100/minute")(limiter.limit("2/second")(index)))
    else:
        app.get("/")(limiter.limit("100/minute; 2/second")(index))
    assert client.statuses("/", 10) == [200] * 2 + [429] * 8
    assert remaining(limiter, "/") == 98


def test_a15_a_refused_cost_is_not_counted(app: FastAPI, limiter: Limiter, client: Client) -> None:
    @app.get("/")
    @limiter.limit("10/minute", cost=lambda request: int(request.query_params["cost"]))
    def index() -> str:
        return "ok"

    assert [client.get(f"/?cost={cost}").status_code for cost in (8, 5, 2)] == [200, 429, 200]


@pytest.mark.parametrize("cost", [0, -1, 0.0, -math.inf, math.inf, math.nan, True, None, "2", 2j, Decimal("NaN")])
def test_a16_what_is_no_cost_is_a_422_and_a_line_that_names_the_endpoint_and_consumes_nothing(
    cost: Any, app: FastAPI, limiter: Limiter, caplog: pytest.LogCaptureFixture
) -> None:
    runs = []

    @app.get("/")
    @limiter.limit("100/minute", cost=lambda: cost)
    def index(request: Request) -> str:
        runs.append(1)
        return "ok"

    response = Client(app).get("/")
    assert (response.status_code, "a cost must be a finite number above 0" in response.text) == (422, True)
    assert "index: a callable cost failed" in caplog.text
    assert remaining(limiter, "/") == 100
    assert not runs


async def call(app: FastAPI, path: str = "/") -> None:
    """A request whose exceptions come out."""
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "client": ("::1", 1)}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        pass

    await app(scope, receive, send)


def test_a16_a_fraction_is_rounded_up(app: FastAPI, limiter: Limiter, client: Client) -> None:
    app.get("/fixed")(limiter.limit("100/minute", cost=7.5)(lambda: "ok"))
    app.get("/asked")(limiter.limit("100/minute", cost=lambda: 0.01)(lambda: "ok"))
    assert client.statuses("/fixed", 1) == client.statuses("/asked", 1) == [200]
    assert (remaining(limiter, "/fixed"), remaining(limiter, "/asked")) == (92, 99)


@pytest.mark.parametrize("cost", [101, 10**30])
def test_a16_a_cost_above_the_limit_is_refused_and_leaves_the_rest(
    cost: int, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    with pytest.raises(ConfigurationError, match="no request would ever be let through"):
        limiter.limit("100/minute", cost=cost)(lambda: "ok")
    app.get("/asked")(limiter.limit("100/minute", cost=lambda: cost)(lambda: "ok"))
    response = client.get("/asked")
    assert (response.status_code, "Retry-After" in response.headers) == (429, False)
    assert remaining(limiter, "/asked") == 100


def test_a18_five_before_and_five_after_the_full_minute_are_five(
    app: FastAPI, limiter: Limiter, client: Client, clock: ManualClock
) -> None:
    app.get("/")(limiter.limit("5/minute")(lambda: "ok"))
    clock.set(59_000_000_000)
    assert client.statuses("/", 5) == [200] * 5
    clock.set(60_000_000_000)
    assert client.statuses("/", 5) == [429] * 5
    clock.set(118_999_000_000)
    assert client.statuses("/", 1) == [429]
    clock.set(119_000_000_000)
    assert client.statuses("/", 6) == [200] * 5 + [429]


@pytest.mark.parametrize("strategy", ["moving-window", "fixed-window", "sliding-window-counter", "gcra"])
def test_every_strategy_refuses_what_is_too_much_and_forgives_with_time(
    strategy: str, make_limiter: MakeLimiter, make_app: MakeApp, clock: ManualClock
) -> None:
    limiter = make_limiter(strategy=strategy)
    app = make_app(limiter)
    app.get("/")(limiter.limit("3/minute")(lambda: "ok"))
    assert Client(app).statuses("/", 4) == [200] * 3 + [429]
    advance(clock, seconds=120)
    assert Client(app).statuses("/", 4) == [200] * 3 + [429]


def test_a20_stacked_and_repeated_limits_count_each_once(app: FastAPI, limiter: Limiter, client: Client) -> None:
    @app.get("/")
    @limiter.limit("100/minute")
    @limiter.limit("100/minute; 100/minute")
    @limiter.limit("100/hour")
    def index() -> str:
        return "ok"

    client.get("/")
    assert remaining(limiter, "/") == remaining(limiter, "/", "100 per 1 hour") == 99


@pytest.mark.parametrize("costs", [(1, 3), (3, 1), (lambda: 1, 3), (3, lambda: 1)])
def test_a20_of_one_limit_declared_with_two_costs_the_higher_counts(
    costs: Any, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    one, other = (limiter.limit("100/minute", cost=cost) for cost in costs)
    app.get("/")(one(other(lambda: "ok")))
    client.get("/")
    assert remaining(limiter, "/") == 97


@pytest.mark.parametrize("headers_enabled", [False, True])
def test_a20_two_limiters_on_one_endpoint_count_once_each(
    headers_enabled: bool, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    one, other = make_limiter(headers_enabled=headers_enabled), make_limiter(headers_enabled=headers_enabled)
    app = make_app(one)

    @app.get("/added")
    @one.limit("100/minute")
    @other.limit("100/minute")
    async def added() -> str:
        return "ok"

    @app.get("/own")
    @one.limit("100/minute")
    @other.limit("100/minute")
    def own(request: Request) -> str:
        return "ok"

    for path in ("/added", "/own"):
        response = Client(app).get(path)
        assert response.status_code == 200
        assert remaining(one, path) == remaining(other, path) == 99
        assert response.headers.get_list("X-RateLimit-Limit") == ["100"] * headers_enabled


def test_a20_a_shared_limit_counts_all_its_endpoints_together(app: FastAPI, limiter: Limiter, client: Client) -> None:
    shared = limiter.shared_limit("100/minute", scope="chat")
    app.get("/a")(shared(lambda: "ok"))
    app.get("/b")(limiter.limit("10/second")(shared(lambda: "ok")))
    app.get("/c")(limiter.shared_limit("100/minute", scope="talk")(lambda: "ok"))
    for path in ("/a", "/b", "/c"):
        client.get(path)
    assert (remaining(limiter, "chat"), remaining(limiter, "talk")) == (98, 99)


@pytest.mark.parametrize("is_async", [False, True])
def test_a20_a_callable_scope_may_take_the_request_the_endpoints_name_or_nothing(
    is_async: bool, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    def by_request(request: Request) -> str:
        return request.headers["X-Team"]

    def by_endpoint(endpoint: str) -> str:
        assert endpoint.endswith("<lambda>"), endpoint
        return "chat"

    def fixed() -> str:
        return "chat"

    for function in (by_request, by_endpoint, fixed):
        app.get(f"/{function.__name__}")(
            limiter.shared_limit("100/minute", asynchronous(function, is_async))(lambda: 1)
        )
        assert client.get(f"/{function.__name__}", headers={"X-Team": "red"}).status_code == 200
    limiter.shared_limit("1/hour", "red")(lambda: 1)
    limiter.shared_limit("1/hour", "chat")(lambda: 1)
    assert (remaining(limiter, "red"), remaining(limiter, "chat")) == (99, 98)


def asynchronous(function: Callable[..., Any], is_async: bool) -> Callable[..., Any]:
    """The same function, or one to be awaited that takes the same parameters."""

    @functools.wraps(function)
    async def later(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    return later if is_async else function


def test_a21_callers_of_two_tiers_at_once_never_get_each_others_limit(app: FastAPI, limiter: Limiter) -> None:
    meeting = threading.Barrier(2)
    together = Counter[str]()

    def key(request: Request) -> str:
        return request.headers["X-User"]

    def tier(key: str) -> str:
        # Both tiers are in here at the same time whenever that is possible.
        try:
            meeting.wait(0.02)
            together["met"] += 1
        except threading.BrokenBarrierError:
            meeting.reset()
        return "40/minute" if key == "pro" else "10/minute"

    @app.get("/")
    @limiter.limit(tier, key_func=key)
    def index() -> str:
        return "ok"

    async def all_at_once() -> list[tuple[str, int]]:
        client = Client(app)

        async def one(user: str) -> tuple[str, int]:
            return user, (await client.send("GET", "/", headers={"X-User": user})).status_code

        return await asyncio.gather(*(one(user) for _ in range(60) for user in ("pro", "free")))

    assert Counter(asyncio.run(all_at_once())) == {
        ("pro", 200): 40,
        ("pro", 429): 20,
        ("free", 200): 10,
        ("free", 429): 50,
    }
    assert together["met"] > 0


def test_methods_limits_these_only_and_per_method_counts_them_apart(
    app: FastAPI, limiter: Limiter, client: Client
) -> None:
    @app.api_route("/some", methods=["GET", "POST"])
    @limiter.limit("1/minute", methods=["POST"])
    def some() -> str:
        return "ok"

    @app.api_route("/each", methods=["GET", "POST"])
    @limiter.limit("1/minute", per_method=True)
    def each() -> str:
        return "ok"

    assert client.statuses("/some", 3) == [200] * 3
    assert [client.post("/some").status_code for _ in range(2)] == [200, 429]
    assert client.statuses("/each", 2) == [200, 429]
    assert [client.post("/each").status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(("key_style", "second"), [("url", 200), ("endpoint", 429)])
def test_key_style_counts_by_path_or_by_endpoint(
    key_style: str, second: int, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(key_style=key_style)
    app = make_app(limiter)
    app.get("/users/{user}")(limiter.limit("1/minute")(lambda user: user))
    assert Client(app).get("/users/1").status_code == 200
    assert Client(app).get("/users/2").status_code == second


def test_same_named_functions_of_two_classes_are_counted_apart(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(key_style="endpoint")
    app = make_app(limiter)

    class Cats:
        @limiter.limit("1/minute")
        def index(self) -> str:
            return "cats"

    class Dogs:
        @limiter.limit("1/minute")
        def index(self) -> str:
            return "dogs"

    app.get("/cats")(Cats().index)
    app.get("/dogs")(Dogs().index)
    assert [Client(app).get(path).status_code for path in ("/cats", "/dogs", "/cats")] == [200, 200, 429]


@pytest.mark.parametrize("key_prefix", ["", "1:a"])
def test_no_key_can_be_mistaken_for_another_keys_path_or_method(
    key_prefix: str, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(key_func=lambda request: request.headers["X-User"], key_prefix=key_prefix)
    app = make_app(limiter)

    def index(rest: str = "") -> str:
        return rest

    app.get("/each/{rest:path}")(limiter.limit("1/minute", per_method=True)(index))
    app.get("/{rest:path}")(limiter.limit("1/minute")(index))
    requests = [
        ("/a", "/b"),
        ("/a/", "b"),
        ("/a/b", ""),
        ("/a/b", "k"),
        ("/a", "/bk"),
        ("/a", "1:b"),
        ("/a1:b", "1"),
        ("/each/a", "GETk"),
        ("/each/aGET", "k"),
        ("/each/a", "3:GETk"),
        ("/each/a3:GET", "k"),
    ]
    for expected in (200, 429):
        for path, user in requests:
            assert Client(app).get(path, headers={"X-User": user}).status_code == expected, (path, user)


def test_clients_and_routes_are_counted_apart(app: FastAPI, limiter: Limiter) -> None:
    app.get("/a")(limiter.limit("1/minute")(lambda: "ok"))
    app.get("/b")(limiter.limit("1/minute")(lambda: "ok"))
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        for path in ("/a", "/b"):
            assert Client(app, address).statuses(path, 2) == [200, 429]


def test_default_limits_apply_to_endpoints_that_do_not_override_them(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter(default_limits="1/minute", application_limits=["100/hour"])
    app = make_app(limiter)
    app.get("/own")(limiter.limit("5/minute")(lambda: "ok"))
    app.get("/both")(limiter.limit("5/minute", override_defaults=False)(lambda: "ok"))
    app.get("/dynamic")(limiter.limit(lambda: "5/minute", override_defaults=False)(lambda: "ok"))
    client = Client(app)
    assert client.statuses("/own", 2) == [200, 200]
    assert client.statuses("/both", 2) == client.statuses("/dynamic", 2) == [200, 429]
    assert remaining(limiter, "global", "100 per 1 hour") == 96


def test_the_decision_is_about_the_limit_that_keeps_the_caller_waiting_longest(
    app: FastAPI, limiter: Limiter, client: Client, clock: ManualClock
) -> None:
    decisions: list[Decision] = []

    @app.exception_handler(429)
    async def refused(request: Request, error: Any) -> Any:
        decisions.append(error.decision)
        return PlainTextResponse("", 429)

    app.get("/")(limiter.limit("1/second; 2/minute")(lambda: "ok"))
    client.statuses("/", 2)
    advance(clock, seconds=1)
    client.statuses("/", 2)
    assert [(str(each.item), each.retry_after_s) for each in decisions] == [
        ("1 per 1 second", 1),
        ("2 per 1 minute", 59),
    ]
