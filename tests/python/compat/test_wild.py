"""Uses of limits beyond the documentation that work with slowapi."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from limits import RateLimitItemPerMinute, parse
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Mount, Route

from compat.library import Library, differs, same


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


async def other(request: Request) -> Response:
    return PlainTextResponse("ok")


def test_a_limit_on_a_dependency(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @limiter.limit("1/minute")
    async def gate(request: Request) -> str:
        return "passed"

    @app.get("/items")
    async def items(passed: str = Depends(gate)) -> str:
        return passed

    client = Client(app)
    assert (client.get("/items").json(), client.get("/items").status_code) == library.expected(same(("passed", 429)))


def test_a_limit_on_a_dependency_beside_that_of_the_endpoint(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @limiter.limit("9/minute")
    async def gate(request: Request) -> str:
        return "passed"

    @app.get("/items")
    @limiter.limit("1/hour")
    async def items(request: Request, passed: str = Depends(gate)) -> str:
        return passed

    assert Client(app).statuses("/items", 2) == library.expected(
        differs(slowapi=[200, 200], slidegate=[200, 429], difference="dependencies-beside-endpoints")
    )


def test_a_head_of_an_endpoint_with_a_limit_on_get(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)
    app.router.routes.append(Route("/items", limiter.limit("1/minute", methods=["GET"])(other)))
    client = Client(app)
    assert [client.request("HEAD", "/items").status_code for _ in range(2)] == library.expected(
        differs(slowapi=[200, 200], slidegate=[200, 429], difference="every-method-that-is-served")
    )


def test_a_limited_function_that_is_called_by_a_limited_endpoint_is_counted_with_it(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @limiter.limit("1/minute")
    async def helper(request: Request) -> str:
        return "helped"

    @app.get("/items")
    @limiter.limit("3/minute")
    async def items(request: Request) -> str:
        return f"{await helper(request)} {await helper(request=request)}"

    assert Client(app).statuses("/items", 4) == library.expected(same([200, 200, 200, 429]))


def test_a_limited_function_that_is_called_by_an_endpoint_without_limits_counts_once(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @limiter.limit("2/minute")
    async def helper(request: Request) -> str:
        return "helped"

    @app.get("/items")
    async def items(request: Request) -> str:
        return f"{await helper(request)} {await helper(request)}"

    assert Client(app).statuses("/items", 3) == library.expected(same([200, 200, 429]))


def test_a_limit_that_is_made_during_a_request(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @app.get("/items")
    async def items(request: Request) -> str:
        async def inner(request: Request) -> str:
            return "inner"

        return str(await limiter.limit("1/minute")(inner)(request))

    first = Client(app).get("/items")
    second = Client(app).get("/items")
    assert (first.status_code, first.json(), second.status_code) == library.expected(same((200, "inner", 429)))


def passing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as programs have them."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("is_above", [False, True])
def test_decorators_of_ones_own_above_and_below(is_above: bool, library: Library) -> None:
    limiter = library.limiter(headers_enabled=True)
    app = library.app(limiter)
    limit = limiter.limit("1/minute")
    app.get("/items")(passing(limit(endpoint)) if is_above else limit(passing(endpoint)))
    assert Client(app).statuses("/items", 2) == library.expected(same([200, 429]))


@pytest.mark.parametrize("is_above", [False, True])
def test_a_decorator_of_ones_own_keeps_the_limit_in_the_eyes_of_the_middleware(
    is_above: bool, library: Library, middleware: str
) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = library.app(limiter, middleware)
    limit = limiter.limit("3/minute")
    app.get("/items")(passing(limit(endpoint)) if is_above else limit(passing(endpoint)))
    assert Client(app).statuses("/items", 4) == library.expected(same([200, 200, 200, 429]))


def test_an_exempt_endpoint_may_have_a_decorator_of_ones_own(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = library.app(limiter, middleware)
    app.get("/items")(passing(limiter.exempt(endpoint)))
    assert Client(app).statuses("/items", 2) == library.expected(same([200, 200]))


@pytest.mark.parametrize("argument", ["default_limits", "application_limits"])
def test_the_limits_of_a_limiter_may_be_callables(argument: str, library: Library, middleware: str) -> None:
    app = library.app(library.limiter(**{argument: [lambda: "1/minute"]}), middleware)
    app.get("/items")(endpoint)
    assert Client(app).statuses("/items", 2) == library.expected(same([200, 429]))


@pytest.mark.parametrize("argument", ["default_limits", "application_limits"])
def test_the_limits_of_a_limiter_that_are_callables_may_take_the_key(
    argument: str, library: Library, middleware: str
) -> None:
    def of_key(key: str) -> str:
        return "1/minute" if key == "192.0.2.1" else "9/minute"

    app = library.app(library.limiter(**{argument: [of_key]}), middleware)
    app.get("/items")(endpoint)
    assert Client(app).statuses("/items", 2) == library.expected(
        differs(slowapi=[500, 500], slidegate=[200, 429], difference="parameters-of-callables")
    )


def test_several_default_limits_all_hold(library: Library, middleware: str) -> None:
    app = library.app(library.limiter(default_limits=["5/minute", "2/second", "100/day"]), middleware)
    app.get("/items")(endpoint)
    assert Client(app).statuses("/items", 3) == library.expected(same([200, 200, 429]))


def test_the_query_does_not_make_another_bucket(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    assert [Client(app).get(f"/items?page={page}").status_code for page in (1, 2)] == library.expected(same([200, 429]))


def test_a_decorated_endpoint_of_a_mounted_application_counts_by_its_whole_path(library: Library) -> None:
    limiter = library.limiter()
    inner = FastAPI()
    inner.state.limiter = limiter
    inner.add_exception_handler(library.RateLimitExceeded, library._rate_limit_exceeded_handler)
    limited = limiter.limit("1/minute")(endpoint)
    inner.get("/items")(limited)
    app = library.app(limiter)
    app.get("/items")(limited)
    app.mount("/inner", inner)
    outcomes = [Client(app).statuses(path, 2) for path in ("/items", "/inner/items")]
    left = limiter.limiter.get_window_stats(parse("1/minute"), "192.0.2.1", "/inner/items")[1]
    assert (outcomes, left) == library.expected(same(([[200, 429], [200, 429]], 0)))


def test_a_decorated_endpoint_of_a_mounted_route(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)
    app.router.routes.append(Mount("/inner", routes=[Route("/items", limiter.limit("1/minute")(endpoint))]))
    assert Client(app).statuses("/inner/items", 2) == library.expected(same([200, 429]))


def test_a_router_of_decorated_endpoints_may_be_included_twice(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)
    router = APIRouter()
    router.get("/items")(limiter.limit("1/minute")(endpoint))
    app.include_router(router, prefix="/a")
    app.include_router(router, prefix="/b")
    outcomes = [Client(app).statuses(path, 2) for path in ("/a/items", "/b/items")]
    assert outcomes == library.expected(same([[200, 429], [200, 429]]))


def test_head_and_get_share_a_limit(library: Library, middleware: str) -> None:
    app = library.app(library.limiter(default_limits=["1/minute"]), middleware)
    app.router.routes.append(Route("/items", endpoint))
    statuses = [Client(app).request(method, "/items").status_code for method in ("HEAD", "GET")]
    assert statuses == library.expected(same([200, 429]))


def test_a_refusal_that_is_raised_by_hand(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)
    limit = library.Limit(RateLimitItemPerMinute(5), lambda: "k", None, False, None, "too many files", None, 1, False)

    @app.get("/items")
    @limiter.limit("9/minute")
    async def items(request: Request) -> Response:
        raise library.RateLimitExceeded(limit)

    response = Client(app).get("/items")
    assert (response.status_code, response.json()) == library.expected(
        same((429, {"error": "Rate limit exceeded: too many files"}))
    )


def test_the_handler_may_be_called_by_a_handler_of_ones_own(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    async def own(request: Request, exc: Exception) -> Response:
        response: Response = library._rate_limit_exceeded_handler(request, exc)
        response.headers["X-Own"] = "yes"
        return response

    app.add_exception_handler(library.RateLimitExceeded, own)
    app.get("/items")(limiter.limit("1/minute")(endpoint))
    client = Client(app)
    client.get("/items")
    response = client.get("/items")
    assert (response.status_code, response.headers["X-Own"]) == library.expected(same((429, "yes")))


def test_a_handler_may_redirect(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = library.app(limiter, middleware)
    app.add_exception_handler(library.RateLimitExceeded, lambda request, exc: RedirectResponse("/busy"))
    app.get("/decorated")(limiter.limit("1/minute")(endpoint))
    app.get("/plain")(other)
    outcomes = [Client(app).statuses(path, 2) for path in ("/decorated", "/plain")]
    assert outcomes == library.expected(same([[200, 307], [200, 307]]))


def test_a_limit_of_a_synchronous_endpoint_is_checked_in_its_thread(library: Library) -> None:
    import threading

    threads = []
    limiter = library.limiter()
    app = library.app(limiter)

    def key(request: Request) -> str:
        threads.append(threading.current_thread() is threading.main_thread())
        return "k"

    @app.get("/items")
    @limiter.limit("1/minute", key_func=key)
    def items(request: Request) -> str:
        return "ok"

    Client(app).get("/items")
    assert threads == library.expected(same([False]))


def test_several_limits_in_one_string_share_their_options(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)
    app.get("/items")(limiter.limit("9/minute; 3/hour", cost=2, error_message="enough")(endpoint))
    client = Client(app)
    statuses = client.statuses("/items", 2)
    assert (statuses, client.get("/items").json()) == library.expected(
        same(([200, 429], {"error": "Rate limit exceeded: enough"}))
    )


def test_the_test_client_of_starlette_has_an_address(library: Library) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient

    limiter = library.limiter()
    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit("1/minute")
    async def items(request: Request) -> Response:
        return PlainTextResponse(request.state.view_rate_limit[1][0])

    client = TestClient(app)
    answers = [client.get("/items") for _ in range(2)]
    assert [(answer.status_code, answer.text) for answer in answers] == library.expected(
        same([(200, "testclient"), (429, '{"error":"Rate limit exceeded: 1 per 1 minute"}')])
    )
