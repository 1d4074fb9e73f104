"""What tests and tools of existing programs do to a limiter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from conftest import Client
from fastapi import Request, Response
from starlette.responses import PlainTextResponse

from compat.apps import endpoint, limited
from compat.library import Library, same


def test_a43_the_limiter_can_be_switched_off_and_on(library: Library) -> None:
    limiter, client = limited(library)
    outcomes = [client.statuses("/items", 1)]
    for is_enabled in (False, True):
        limiter.enabled = is_enabled
        outcomes.append(client.statuses("/items", 2))
    assert outcomes == library.expected(same([[200], [200, 200], [429, 429]]))


def test_a43_the_middleware_can_be_switched_off_and_on(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = library.app(limiter, middleware)
    app.get("/items")(endpoint)
    client = Client(app)
    outcomes = [client.statuses("/items", 1)]
    for is_enabled in (False, True):
        limiter.enabled = is_enabled
        outcomes.append(client.statuses("/items", 2))
    assert outcomes == library.expected(same([[200], [200, 200], [429, 429]]))


def test_a43_a_limiter_may_be_made_switched_off(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"], enabled=False, headers_enabled=True)
    app = library.app(limiter, middleware)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    response = [Client(app).get("/items") for _ in range(2)][-1]
    assert (response.status_code, "X-RateLimit-Limit" in response.headers) == library.expected(same((200, False)))


RESETS: dict[str, Callable[[Any], None]] = {
    "limiter.reset()": lambda limiter: limiter.reset(),
    "limiter._storage.reset()": lambda limiter: limiter._storage.reset(),
    "limiter._storage.storage.clear()": lambda limiter: limiter._storage.storage.clear(),
    "limiter._limiter.storage.reset()": lambda limiter: limiter._limiter.storage.reset(),
    "limiter.limiter.storage.reset()": lambda limiter: limiter.limiter.storage.reset(),
}


@pytest.mark.parametrize("reset", RESETS.values(), ids=list(RESETS))
def test_a43_a_reset_forgets_all_hits(reset: Callable[[Any], None], library: Library) -> None:
    limiter, client = limited(library)
    before = client.statuses("/items", 2)
    reset(limiter)
    assert (before, client.statuses("/items", 2)) == library.expected(same(([200, 429], [200, 429])))


def test_a43_one_bucket_can_be_cleared(library: Library) -> None:
    from limits import parse

    limiter, client = limited(library)
    client.get("/items")
    limiter.limiter.clear(parse("1/minute"), "192.0.2.1", "/items")
    assert client.statuses("/items", 2) == library.expected(same([200, 429]))


def test_a43_a_check_of_ones_own_can_be_patched_in(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = library.app(limiter, middleware)
    app.get("/decorated")(limiter.limit("1/minute")(endpoint))

    async def plain(request: Request) -> Response:
        return PlainTextResponse("ok")

    app.get("/plain")(plain)
    client = Client(app)

    def passing(request: Request, *rest: Any) -> None:
        request.state.view_rate_limit = None

    with mock.patch.object(limiter, "_check_request_limit", side_effect=passing) as check:
        outcomes = [client.statuses(path, 3) for path in ("/decorated", "/plain")]
    outcomes += [client.statuses(path, 2) for path in ("/decorated", "/plain")]
    assert (outcomes, check.call_count) == library.expected(same(([[200] * 3, [200] * 3, [200, 429], [200, 429]], 6)))


def test_a43_the_check_of_the_class_can_be_patched(library: Library) -> None:
    _, client = limited(library)

    def passing(self: Any, request: Request, *rest: Any) -> None:
        request.state.view_rate_limit = None

    with mock.patch.object(library.Limiter, "_check_request_limit", passing):
        patched = client.statuses("/items", 3)
    assert (patched, client.statuses("/items", 2)) == library.expected(same(([200] * 3, [200, 429])))


def test_a43_a_patched_check_may_refuse(library: Library) -> None:
    limiter, client = limited(library, "9/minute")
    item = next(iter(limiter._route_limits.values()))[0]

    def refusing(request: Request, *rest: Any) -> None:
        request.state.view_rate_limit = None
        raise library.RateLimitExceeded(item)

    with mock.patch.object(limiter, "_check_request_limit", refusing):
        response = client.get("/items")
    assert (response.status_code, response.json()) == library.expected(
        same((429, {"error": "Rate limit exceeded: 9 per 1 minute"}))
    )


def test_a43_the_count_can_be_read_by_the_key_of_limits(library: Library) -> None:
    limiter, client = limited(library, "5/minute")
    client.statuses("/items", 2)
    assert limiter._storage.get("LIMITER/192.0.2.1//items/5/1/minute") == library.expected(same(2))
