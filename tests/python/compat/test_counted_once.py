"""Which limits a request counts against, and that it counts once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from inspect import Parameter, Signature
from typing import Any

import pytest
from conftest import Client
from fastapi import Request, Response
from starlette.responses import PlainTextResponse

from compat.apps import left, stacked
from compat.library import Library, attempt, differs, same


def endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


def declared(limiter: Any, limit: Any, override_defaults: bool) -> Any:
    return limiter.limit(limit, override_defaults=override_defaults)(endpoint)


@pytest.mark.parametrize(("override_defaults", "passing"), [(True, 3), (False, 2)])
def test_a19_a_limit_of_a_route_replaces_the_default_or_adds_to_it(
    override_defaults: bool, passing: int, library: Library, middleware: str
) -> None:
    limiter = library.limiter(default_limits=["2/hour"])
    app = library.app(limiter, middleware)
    app.get("/items")(declared(limiter, "3/minute", override_defaults))
    assert Client(app).statuses("/items", 4) == library.expected(same([200] * passing + [429] * (4 - passing)))


@pytest.mark.parametrize(("override_defaults", "slowapi", "slidegate"), [(True, 2, 3), (False, 1, 2)])
def test_a19_a_dynamic_limit_replaces_the_default_or_adds_to_it(
    override_defaults: bool, slowapi: int, slidegate: int, library: Library, middleware: str
) -> None:
    limiter = library.limiter(default_limits=["2/hour"])
    app = library.app(limiter, middleware)
    app.get("/items")(declared(limiter, lambda: "3/minute", override_defaults))
    # slowapi's middleware counts the default in any case, and its decorator counts it once more when it adds.
    assert Client(app).statuses("/items", 4).count(200) == library.expected(
        differs(slowapi=slowapi, slidegate=slidegate, difference="dynamic-limits-override")
    )


@pytest.mark.parametrize("is_dynamic", [False, True])
def test_a19_a_response_has_one_set_of_headers(is_dynamic: bool, library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["2/hour"], headers_enabled=True)
    app = library.app(limiter, middleware)
    app.get("/items")(declared(limiter, (lambda: "3/minute") if is_dynamic else "3/minute", True))
    headers = Client(app).get("/items").headers.get_list("X-RateLimit-Limit")
    if is_dynamic and middleware == "SlowAPIMiddleware":
        expected = differs(slowapi=["3", "3"], slidegate=["3"], difference="one-set-of-headers")
    else:
        expected = same(["3"])
    assert headers == library.expected(expected)


def test_a20_stacked_decorators_count_once_each(library: Library) -> None:
    limiter, client = stacked(library, "100/minute", "50/hour")
    client.get("/items")
    assert (left(limiter, "100/minute"), left(limiter, "50/hour")) == library.expected(same((99, 49)))


def test_a20_the_same_limit_twice_counts_once(library: Library) -> None:
    limiter, client = stacked(library, "100/minute", "100/minute")
    client.get("/items")
    assert left(limiter, "100/minute") == library.expected(differs(slowapi=98, slidegate=99, difference="counted-once"))


def test_a20_two_limiters_on_one_endpoint_count_both(library: Library) -> None:
    one, other = library.limiter(), library.limiter()
    app = library.app(one)
    app.get("/items")(one.limit("100/minute")(other.limit("100/minute")(endpoint)))
    status = Client(app).get("/items").status_code
    assert (status, left(one, "100/minute"), left(other, "100/minute")) == library.expected(
        differs(slowapi=(200, 99, 100), slidegate=(200, 99, 99), difference="counted-once")
    )


def test_a20_two_applications_have_their_own_limiters(library: Library) -> None:
    outcomes = []
    for _ in range(2):
        _, client = stacked(library, "1/minute")
        outcomes.append(client.statuses("/items", 2))
    assert outcomes == library.expected(same([[200, 429]] * 2))


class Meeting:
    """A limit callable whose parameters are asked for by as many threads at once as are to meet in it."""

    def __init__(self, threads: int) -> None:
        self.barrier = threading.Barrier(threads)
        self.is_met = False

    @property
    def __signature__(self) -> Signature:
        if self.is_met:
            self.barrier.wait(10)
        return Signature([Parameter("key", Parameter.POSITIONAL_OR_KEYWORD)])

    def __call__(self, key: str) -> str:
        return "1000/minute" if key == "pro" else "10/minute"


def test_a21_two_tiers_at_once_never_get_each_others_limit(library: Library) -> None:
    limiter = library.limiter()
    tier = Meeting(2)

    def user(request: Request) -> str:
        return request.headers["X-User"]

    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit(tier, key_func=user)
    def items(request: Request) -> Response:
        return PlainTextResponse(str(request.state.view_rate_limit[0].amount))

    def own(name: str) -> str:
        return Client(app).get("/items", headers={"X-User": name}).text

    tier.is_met = True
    with ThreadPoolExecutor(2) as pool:
        amounts = set(pool.map(own, ("pro", "free")))
    assert len(amounts) == library.expected(differs(slowapi=1, slidegate=2, difference="dynamic-limits-apart"))


def test_a22_deduct_when_counts_failures_only(library: Library) -> None:
    runs = []

    def statuses() -> list[int]:
        limiter = library.limiter()
        app = library.app(limiter)

        @app.get("/login")
        @limiter.limit("3/minute", deduct_when=lambda response: response.status_code == 401)
        async def login(request: Request, password: str) -> Response:
            runs.append(password)
            return PlainTextResponse("", status_code=200 if password == "right" else 401)

        client = Client(app)
        words = ["right"] * 5 + ["wrong"] * 3 + ["right"]
        return [client.get(f"/login?password={word}").status_code for word in words]

    assert (attempt(statuses), len(runs)) == library.expected(
        differs(slowapi=("TypeError", 0), slidegate=([200] * 5 + [401] * 3 + [429], 8), difference="additions")
    )
