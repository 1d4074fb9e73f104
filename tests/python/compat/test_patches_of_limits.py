"""Limits and headers of decorated routes that programs and tests replace at run time."""

from __future__ import annotations

from compat.apps import endpoint, limited
from compat.library import Library, same

NAME = f"{endpoint.__module__}.endpoint"


def test_the_limits_of_all_routes_can_be_taken_away(library: Library) -> None:
    limiter, client = limited(library)
    limiter._route_limits.clear()
    assert client.statuses("/items", 2) == library.expected(same([200, 200]))


def test_the_limits_of_a_route_can_be_replaced(library: Library) -> None:
    limiter, client = limited(library)
    other = library.limiter()
    other.limit("2/minute")(endpoint)
    limiter._route_limits[NAME] = other._route_limits[NAME]
    assert client.statuses("/items", 3) == library.expected(same([200, 200, 429]))


def test_the_dynamic_limits_of_all_routes_can_be_taken_away(library: Library) -> None:
    limiter, client = limited(library, lambda: "1/minute")
    limiter._dynamic_route_limits.clear()
    assert client.statuses("/items", 2) == library.expected(same([200, 200]))


def test_headers_can_be_switched_on_later(library: Library, middleware: str) -> None:
    limiter, client = limited(library, middleware=middleware, default_limits=["5/minute"])
    before = client.get("/plain").headers.get("X-RateLimit-Limit")
    limiter._headers_enabled = True
    after = [client.get(path).headers.get("X-RateLimit-Limit") for path in ("/plain", "/items")]
    assert (before, after) == library.expected(same((None, ["5", "1"])))
