"""Private attributes of a limiter that programs and tests replace at run time."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from conftest import Client
from fastapi import FastAPI, Request
from limits import parse

from compat.apps import endpoint, limited, plain
from compat.library import Library, attempt, differs, same

NAME = f"{endpoint.__module__}.endpoint"


def test_a_route_can_be_made_exempt_by_its_name(library: Library, middleware: str) -> None:
    limiter, client = limited(library, middleware=middleware, default_limits=["1/minute"])
    limiter._exempt_routes.add(f"{plain.__module__}.plain")
    assert client.statuses("/plain", 2) == library.expected(same([200, 200]))


def test_the_default_limits_can_be_taken_away(library: Library, middleware: str) -> None:
    limiter, client = limited(library, middleware=middleware, default_limits=["1/minute"])
    limiter._default_limits = []
    assert client.statuses("/plain", 2) == library.expected(same([200, 200]))


def test_the_default_limits_can_be_replaced_by_those_of_another(library: Library, middleware: str) -> None:
    limiter, client = limited(library, middleware=middleware, default_limits=["1/minute"])
    before = client.statuses("/plain", 2)
    limiter._default_limits = library.limiter(default_limits=["3/hour"])._default_limits
    assert (before, client.statuses("/plain", 4)) == library.expected(same(([200, 429], [200] * 3 + [429])))


def test_automatic_checks_can_be_switched_off_later(library: Library, middleware: str) -> None:
    limiter, client = limited(library, middleware=middleware, default_limits=["1/minute"])
    before = client.statuses("/plain", 2)
    limiter._auto_check = False
    assert (before, client.statuses("/plain", 2)) == library.expected(same(([200, 429], [200, 200])))


@pytest.mark.parametrize("attribute", ["limiter", "_limiter"])
def test_what_counts_can_be_made_to_refuse(attribute: str, library: Library) -> None:
    limiter, client = limited(library, "9/minute")
    with mock.patch.object(getattr(limiter, attribute), "hit", return_value=False):
        patched = client.get("/items").status_code
    assert (patched, client.get("/items").status_code) == library.expected(same((429, 200)))


def test_what_counts_can_be_made_to_admit(library: Library) -> None:
    limiter, client = limited(library)
    with mock.patch.object(limiter._limiter, "hit", return_value=True):
        patched = client.statuses("/items", 3)
    assert (patched, client.statuses("/items", 2)) == library.expected(same(([200] * 3, [200, 429])))


def test_decorators_can_be_patched_away(library: Library) -> None:
    def unlimited(self: Any, *rest: Any, **options: Any) -> Any:
        return lambda function: function

    with mock.patch.object(library.Limiter, "limit", unlimited):
        _, client = limited(library)
    assert client.statuses("/items", 3) == library.expected(same([200] * 3))


def test_one_key_of_the_store_can_be_cleared(library: Library) -> None:
    limiter, client = limited(library)
    before = client.statuses("/items", 2)
    limiter._storage.clear("LIMITER/192.0.2.1//items/1/1/minute")
    assert (before, client.statuses("/items", 2)) == library.expected(same(([200, 429], [200, 429])))


def test_the_store_says_when_a_key_ends(library: Library, wall: Any) -> None:
    limiter, client = limited(library)
    client.get("/items")
    expiry = attempt(lambda: limiter._storage.get_expiry("LIMITER/192.0.2.1//items/1/1/minute") - wall.now_s)
    assert expiry == library.expected(same(60))


def test_the_store_can_be_checked(library: Library) -> None:
    assert library.limiter()._storage.check() == library.expected(same(True))


def test_the_keys_of_requests_can_be_patched_where_they_come_from(library: Library) -> None:
    keys = iter(["a", "b", "a"])
    limiter = library.limiter(key_func=lambda request: next(keys))
    app = library.app(limiter)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    assert Client(app).statuses("/items", 3) == library.expected(same([200, 200, 429]))


def test_errors_are_swallowed_when_that_is_asked_for(library: Library) -> None:
    def fail(request: Request) -> str:
        raise LookupError("no user")

    limiter = library.limiter(key_func=fail, swallow_errors=True)
    app = library.app(limiter)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    assert Client(app).get("/items").status_code == library.expected(
        differs(slowapi=500, slidegate=200, difference="swallowed-errors")
    )


def test_errors_are_not_swallowed_otherwise(library: Library) -> None:
    def fail(request: Request) -> str:
        raise LookupError("no user")

    limiter = library.limiter(key_func=fail)
    app = library.app(limiter)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    assert Client(app).get("/items").status_code == library.expected(same(500))


def test_a_limiter_serves_two_applications(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["2/minute"])
    apps: list[FastAPI] = [library.app(limiter, middleware) for _ in range(2)]
    for app in apps:
        app.get("/plain")(plain)
    statuses = [Client(app).get("/plain").status_code for app in (*apps, *apps)]
    assert (
        statuses,
        limiter.limiter.get_window_stats(parse("2/minute"), "192.0.2.1", "/plain")[1],
    ) == library.expected(same(([200, 200, 429, 429], 0)))


def test_the_limiter_of_an_application_can_be_exchanged(library: Library, middleware: str) -> None:
    app = library.app(library.limiter(default_limits=["1/minute"]), middleware)
    app.get("/plain")(plain)
    client = Client(app)
    before = client.statuses("/plain", 2)
    app.state.limiter = library.limiter(default_limits=["2/minute"])
    assert (before, client.statuses("/plain", 3)) == library.expected(same(([200, 429], [200, 200, 429])))
