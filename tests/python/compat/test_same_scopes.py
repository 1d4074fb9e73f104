"""What slowapi counts together and apart, and has to stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request, Response
from limits import parse
from starlette.responses import PlainTextResponse

from compat.library import Library, differs, same


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


async def other(request: Request) -> Response:
    return PlainTextResponse("ok")


def application(library: Library, **options: Any) -> tuple[Any, FastAPI, Client]:
    limiter = library.limiter(**options)
    app = library.app(limiter)
    return limiter, app, Client(app)


def test_every_client_has_its_own_count(library: Library) -> None:
    limiter, app, _ = application(library)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    outcomes = [Client(app, address).statuses("/items", 2) for address in ("192.0.2.1", "192.0.2.2")]
    assert outcomes == library.expected(same([[200, 429]] * 2))


def test_every_path_of_one_function_has_its_own_count_by_url(library: Library) -> None:
    limiter, app, client = application(library)
    limited = limiter.limit("1/minute")(endpoint)
    app.get("/a")(limited)
    app.get("/b")(limited)
    assert [client.statuses(path, 2) for path in ("/a", "/b")] == library.expected(same([[200, 429]] * 2))


def test_every_path_of_one_function_shares_a_count_by_endpoint(library: Library) -> None:
    limiter, app, client = application(library, key_style="endpoint")
    limited = limiter.limit("1/minute")(endpoint)
    app.get("/a")(limited)
    app.get("/b")(limited)
    assert [client.statuses(path, 2) for path in ("/a", "/b")] == library.expected(same([[200, 429], [429, 429]]))


def test_methods_share_a_count_unless_they_are_counted_apart(library: Library) -> None:
    limiter, app, client = application(library)
    app.api_route("/together", methods=["GET", "POST"])(limiter.limit("1/minute")(endpoint))
    app.api_route("/apart", methods=["GET", "POST"])(limiter.limit("1/minute", per_method=True)(other))
    outcomes = [
        [client.request(method, path).status_code for method in ("GET", "POST", "GET")]
        for path in ("/together", "/apart")
    ]
    assert outcomes == library.expected(same([[200, 429, 429], [200, 200, 429]]))


@pytest.mark.parametrize("methods", [["POST"], ["post"]])
def test_only_the_named_methods_are_limited(methods: list[str], library: Library) -> None:
    limiter, app, client = application(library)
    app.api_route("/items", methods=["GET", "POST"])(limiter.limit("1/minute", methods=methods)(endpoint))
    outcomes = [client.request(method, "/items").status_code for method in ("GET", "GET", "POST", "POST", "GET")]
    assert outcomes == library.expected(same([200, 200, 200, 429, 200]))


def test_a_shared_limit_counts_its_routes_together(library: Library) -> None:
    limiter, app, client = application(library)
    shared = limiter.shared_limit("2/minute", scope="shop")
    app.get("/a")(shared(endpoint))
    app.get("/b")(shared(other))
    assert [client.get(path).status_code for path in ("/a", "/b", "/a", "/b")] == library.expected(
        same([200, 200, 429, 429])
    )


def test_a_shared_limit_and_a_limit_of_the_route_both_hold(library: Library) -> None:
    limiter, app, client = application(library)
    shared = limiter.shared_limit("3/minute", scope="shop")
    app.get("/a")(limiter.limit("1/minute")(shared(endpoint)))
    app.get("/b")(shared(other))
    outcomes = (client.statuses("/a", 2), client.statuses("/b", 3))
    # slowapi has counted the call that the limit of the route refused.
    assert outcomes == library.expected(
        differs(
            slowapi=([200, 429], [200, 429, 429]), slidegate=([200, 429], [200, 200, 429]), difference="all-or-none"
        )
    )


@pytest.mark.parametrize("scope", [lambda endpoint: "shop", lambda request: request.headers["Host"], lambda: "shop"])
def test_a_callable_scope_names_what_is_shared(scope: Callable[..., str], library: Library) -> None:
    limiter, app, client = application(library)
    app.get("/a")(limiter.shared_limit("1/minute", scope=scope)(endpoint))
    app.get("/b")(limiter.shared_limit("1/minute", scope=scope)(other))
    assert [client.get(path).status_code for path in ("/a", "/b")] == library.expected(
        differs(slowapi=[500, 500], slidegate=[200, 429], difference="callable-scopes")
    )


def test_an_exempt_route_is_not_limited(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"], application_limits=["1/minute"])
    app = library.app(limiter, middleware)
    app.get("/free")(limiter.exempt(endpoint))
    app.get("/limited")(other)
    client = Client(app)
    assert [client.statuses(path, 2) for path in ("/free", "/limited")] == library.expected(
        same([[200, 200], [200, 429]])
    )


@pytest.mark.parametrize("is_above", [False, True])
def test_an_exemption_lifts_the_limits_of_a_decorator(is_above: bool, library: Library) -> None:
    limiter, app, client = application(library)
    limit = limiter.limit("1/minute")
    app.get("/items")(limiter.exempt(limit(endpoint)) if is_above else limit(limiter.exempt(endpoint)))
    assert client.statuses("/items", 2) == library.expected(
        differs(slowapi=[500, 500], slidegate=[200, 200], difference="exempt-and-limited")
    )


def test_application_limits_are_one_bucket_for_all_routes(library: Library, middleware: str) -> None:
    app = library.app(library.limiter(application_limits=["2/minute"]), middleware)
    app.get("/a")(endpoint)
    app.get("/b")(other)
    client = Client(app)
    assert [client.get(path).status_code for path in ("/a", "/b", "/a", "/b")] == library.expected(
        same([200, 200, 429, 429])
    )


def test_application_limits_hold_for_decorated_routes(library: Library, middleware: str) -> None:
    limiter = library.limiter(application_limits=["2/minute"])
    app = library.app(limiter, middleware)
    app.get("/a")(limiter.limit("9/minute")(endpoint))
    assert Client(app).statuses("/a", 3) == library.expected(
        differs(slowapi=[200, 200, 200], slidegate=[200, 200, 429], difference="application-limits-everywhere")
    )


def test_application_limits_hold_without_middleware_where_a_decorator_checks(library: Library) -> None:
    limiter, app, client = application(library, application_limits=["2/minute"])
    app.get("/a")(limiter.limit("9/minute")(endpoint))
    assert client.statuses("/a", 3) == library.expected(
        differs(slowapi=[200, 200, 200], slidegate=[200, 200, 429], difference="application-limits-everywhere")
    )


def test_a_key_prefix_keeps_limiters_apart(library: Library) -> None:
    limiter, app, client = application(library, key_prefix="shop")
    app.get("/items")(limiter.limit("5/minute")(endpoint))
    client.get("/items")
    counted = limiter.limiter.get_window_stats(parse("5/minute"), "shop", "192.0.2.1", "/items")[1]
    assert counted == library.expected(same(4))


@pytest.mark.parametrize("key", ["", None])
def test_a_request_without_a_key_is_counted(key: Any, library: Library) -> None:
    limiter, app, client = application(library, key_func=lambda: key)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    assert client.statuses("/items", 2) == library.expected(
        differs(slowapi=[200, 200], slidegate=[200, 429], difference="missing-keys")
    )


def test_a_request_without_a_key_passes_when_the_limiter_says_so(library: Library) -> None:
    skipping = {} if library.name == "slowapi" else {"on_missing_key": "skip"}
    limiter, app, client = application(library, key_func=lambda: "", **skipping)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    assert client.statuses("/items", 2) == library.expected(same([200, 200]))


def test_same_named_functions_are_counted_apart(library: Library) -> None:
    limiter, app, client = application(library, key_style="endpoint")

    class One:
        async def items(self, request: Request) -> str:
            return "ok"

    class Other:
        async def items(self, request: Request) -> str:
            return "ok"

    app.get("/one")(limiter.limit("1/minute")(One().items))
    app.get("/other")(limiter.limit("1/minute")(Other().items))
    assert [client.get(path).status_code for path in ("/one", "/other")] == library.expected(
        differs(slowapi=[429, 429], slidegate=[200, 200], difference="qualified-names")
    )


def test_a_function_with_the_name_of_a_decorated_one_has_its_default_limit(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = library.app(limiter, middleware)

    def make(decorate: Callable[[Any], Any]) -> Any:
        class Items:
            async def items(self, request: Request) -> str:
                return "ok"

        return decorate(Items().items)

    app.get("/decorated")(make(limiter.limit("2/minute")))

    async def items(request: Request) -> str:
        return "ok"

    app.get("/plain")(items)
    client = Client(app)
    assert [client.statuses(path, 3) for path in ("/decorated", "/plain")] == library.expected(
        differs(
            slowapi=[[200, 200, 429], [200, 200, 200]],
            slidegate=[[200, 200, 429], [200, 429, 429]],
            difference="qualified-names",
        )
    )


def test_a_key_may_come_from_anything_in_the_request(library: Library) -> None:
    limiter, app, client = application(library, key_func=lambda request: request.headers.get("X-User", "nobody"))
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    outcomes = [client.get("/items", headers={"X-User": user}).status_code for user in ("a", "b", "a")]
    assert outcomes == library.expected(same([200, 200, 429]))


@pytest.mark.parametrize("function", ["get_remote_address", "get_ipaddr"])
def test_the_key_functions_tell_the_peer(function: str, library: Library) -> None:
    scope = {"type": "http", "headers": [], "client": ("192.0.2.1", 1)}
    assert getattr(library, function)(Request(scope)) == library.expected(same("192.0.2.1"))


@pytest.mark.parametrize("function", ["get_remote_address", "get_ipaddr"])
def test_the_key_functions_do_not_invent_a_peer(function: str, library: Library) -> None:
    scope = {"type": "http", "headers": [], "client": None}
    assert getattr(library, function)(Request(scope)) == library.expected(
        differs(slowapi="127.0.0.1", slidegate="", difference="missing-keys")
    )


def test_get_ipaddr_believes_the_header(library: Library) -> None:
    headers = [(b"x_forwarded_for", b"203.0.113.9")]
    scope = {"type": "http", "headers": headers, "client": ("192.0.2.1", 1)}
    assert library.get_ipaddr(Request(scope)) == library.expected(same("203.0.113.9"))
