"""Limits that would do nothing, requests that no route is for, and what paths do to counts."""

from __future__ import annotations

import pytest
from conftest import Client
from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware

from compat.apps import answer, limited_app
from compat.library import Library, attempt, differs, same


def test_a05_default_limits_without_middleware_hold_where_a_decorator_adds_to_them(library: Library) -> None:
    limiter, app, client = limited_app(library, None)

    @app.get("/items")
    @limiter.limit("3/minute", override_defaults=False)
    async def items(request: Request) -> str:
        return "ok"

    assert client.statuses("/items", 2) == library.expected(same([200, 429]))


def decorated_above_the_route(library: Library, middleware: str | None) -> list[int]:
    limiter = library.limiter()
    app = library.app(limiter, middleware)

    @limiter.limit("1/minute")
    @app.post("/orders")
    async def order(request: Request) -> str:
        return "ok"

    return [Client(app).post("/orders").status_code for _ in range(2)]


def test_a06_a_decorator_above_the_route_limits_through_the_middleware(library: Library, middleware: str) -> None:
    assert decorated_above_the_route(library, middleware) == library.expected(
        differs(slowapi=[200, 200], slidegate=[200, 429], difference="decorator-above-the-route")
    )


def test_a07_unknown_paths_wrong_methods_redirects_and_preflights_are_not_counted(
    library: Library, middleware: str
) -> None:
    _, app, client = limited_app(library, middleware)
    app.get("/items")(answer)
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    outcomes = [
        client.statuses("/unknown", 2),
        [client.post("/items").status_code for _ in range(2)],
        client.statuses("/items/", 2),
        [client.request("OPTIONS", "/items", headers=preflight).status_code for _ in range(2)],
        client.statuses("/items", 2),
    ]
    assert outcomes == library.expected(same([[404] * 2, [405] * 2, [307] * 2, [405] * 2, [200, 429]]))


@pytest.mark.parametrize(
    ("option", "method", "path"), [("unmatched_limited", "GET", "/no"), ("preflights_limited", "OPTIONS", "/items")]
)
def test_a07_unknown_paths_and_preflights_can_be_limited(
    option: str, method: str, path: str, library: Library, middleware: str
) -> None:
    def statuses() -> list[int]:
        _, app, client = limited_app(library, middleware, **{option: True})
        app.get("/items")(answer)
        preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
        return [client.request(method, path, headers=preflight).status_code for _ in range(2)]

    first = 404 if method == "GET" else 405
    assert attempt(statuses) == library.expected(
        differs(slowapi="TypeError", slidegate=[first, 429], difference="additions")
    )


@pytest.mark.parametrize("is_decorated", [False, True])
def test_a07_a_refusal_passes_through_the_cors_middleware(
    is_decorated: bool, library: Library, middleware: str
) -> None:
    limiter, app, client = limited_app(library, middleware)
    app.add_middleware(CORSMiddleware, allow_origins=["https://a.example"], allow_methods=["*"])

    async def items(request: Request) -> str:
        return "ok"

    app.get("/items")(limiter.limit("1/minute")(items) if is_decorated else items)
    responses = [client.get("/items", headers={"Origin": "https://a.example"}) for _ in range(2)]
    told = [(each.status_code, each.headers.get("Access-Control-Allow-Origin")) for each in responses]
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    allowed = client.request("OPTIONS", "/items", headers=preflight).status_code
    assert (told, allowed) == library.expected(same(([(200, "https://a.example"), (429, "https://a.example")], 200)))


@pytest.mark.parametrize(("key_style", "second"), [("url", 200), ("endpoint", 429)])
@pytest.mark.parametrize("is_decorated", [False, True])
def test_a08_a_rotated_path_parameter_shares_one_bucket_only_by_endpoint(
    is_decorated: bool, key_style: str, second: int, library: Library, middleware: str
) -> None:
    limiter, app, client = limited_app(library, middleware, key_style=key_style)

    async def user(request: Request, number: int) -> str:
        return "ok"

    app.get("/users/{number}")(limiter.limit("1/minute")(user) if is_decorated else user)
    statuses = [client.get(path).status_code for path in ("/users/1", "/users/2")]
    assert statuses == library.expected(same([200, second]))
