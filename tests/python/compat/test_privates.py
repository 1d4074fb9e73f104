"""What existing programs read of a limiter, and do by hand."""

from __future__ import annotations

from typing import Any

from conftest import Client
from fastapi import Request, Response
from starlette.responses import PlainTextResponse

from compat.apps import endpoint, limited
from compat.library import Library, attempt, differs, same


def test_a_limiter_can_be_subclassed(library: Library) -> None:
    checked = []

    class Own(library.Limiter):  # type: ignore[misc,name-defined]
        def _check_request_limit(self, request: Request, endpoint_func: Any, in_middleware: bool = True) -> Any:
            checked.append((request.url.path, endpoint_func.__name__, in_middleware))
            return super()._check_request_limit(request, endpoint_func, in_middleware)

    limiter = Own(key_func=library.get_remote_address, default_limits=["1/minute"])
    app = library.app(limiter, "SlowAPIMiddleware")

    async def plain(request: Request) -> Response:
        return PlainTextResponse("ok")

    app.get("/decorated")(limiter.limit("1/minute")(endpoint))
    app.get("/plain")(plain)
    outcomes = [Client(app).statuses(path, 2) for path in ("/decorated", "/plain")]
    assert (outcomes, checked) == library.expected(
        same(
            (
                [[200, 429]] * 2,
                [("/decorated", "endpoint", False)] * 2 + [("/plain", "plain", True)] * 2,
            )
        )
    )


def test_the_decorators_of_a_subclass_may_have_their_own_defaults(library: Library) -> None:
    class Own(library.Limiter):  # type: ignore[misc,name-defined]
        def limit(self, limit_value: Any = "1/minute", **options: Any) -> Any:
            return super().limit(limit_value, **options)

    limiter = Own(key_func=library.get_remote_address)
    app = library.app(limiter)
    app.get("/items")(limiter.limit()(endpoint))
    assert Client(app).statuses("/items", 2) == library.expected(same([200, 429]))


def test_the_limits_of_the_routes_can_be_read(library: Library) -> None:
    limiter = library.limiter()
    limiter.limit("5/minute; 9/hour")(endpoint)
    limiter.limit(lambda: "5/minute")(endpoint)
    name = f"{endpoint.__module__}.endpoint"
    told = (
        [str(limit.limit) for limit in limiter._route_limits[name]],
        [type(group).__name__ for group in limiter._dynamic_route_limits[name]],
    )
    assert told == library.expected(same((["5 per 1 minute", "9 per 1 hour"], ["LimitGroup"])))


def test_a_function_that_is_not_at_the_top_of_its_module_goes_by_its_qualified_name(library: Library) -> None:
    limiter = library.limiter()

    @limiter.limit("5/minute")
    async def inner(request: Request) -> None:
        pass

    (name,) = limiter._route_limits
    assert name.removeprefix(f"{__name__}.") == library.expected(
        differs(
            slowapi="inner",
            slidegate="test_a_function_that_is_not_at_the_top_of_its_module_goes_by_its_qualified_name.<locals>.inner",
            difference="qualified-names",
        )
    )


def test_exempt_routes_can_be_read(library: Library) -> None:
    limiter = library.limiter()
    exempt = limiter.exempt(endpoint)
    told = (limiter._exempt_routes, exempt.__name__)
    assert told == library.expected(same(({f"{endpoint.__module__}.endpoint"}, "endpoint")))


def test_limits_can_be_hit_tested_and_read_by_hand(library: Library) -> None:
    from limits import parse

    limiter = library.limiter()
    for counter in (limiter.limiter, limiter._limiter):
        told = [counter.hit(parse("2/minute"), "ada", "shop") for _ in range(3)]
        told += [counter.test(parse("2/minute"), "ada", "shop"), counter.test(parse("2/minute"), "bob", "shop")]
        told += [counter.get_window_stats(parse("2/minute"), each, "shop")[1] for each in ("ada", "bob")]
        assert told == library.expected(same([True, True, False, False, True, 0, 2]))
        limiter.reset()


def test_counting_by_hand_and_by_decorator_is_the_same_bucket(library: Library) -> None:
    from limits import parse

    limiter, client = limited(library, "2/minute")
    limiter.limiter.hit(parse("2/minute"), "192.0.2.1", "/items")
    assert client.statuses("/items", 2) == library.expected(same([200, 429]))


def test_without_automatic_checks_a_decorator_counts_nothing(library: Library) -> None:
    _, client = limited(library, auto_check=False)
    statuses = client.statuses("/items", 2)
    # slowapi looks for the limit that was never checked.
    assert statuses == library.expected(differs(slowapi=[500, 500], slidegate=[200, 200], difference="auto-check"))


def test_without_automatic_checks_a_program_checks_itself(library: Library) -> None:
    limiter = library.limiter(auto_check=False)
    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit("1/minute")
    async def items(request: Request) -> Response:
        return PlainTextResponse("ok")

    @app.middleware("http")
    async def check(request: Request, call_next: Any) -> Any:
        try:
            limiter._check_request_limit(request, items, False)
        except library.RateLimitExceeded as error:
            return library._rate_limit_exceeded_handler(request, error)
        return await call_next(request)

    assert Client(app).statuses("/items", 2) == library.expected(same([200, 429]))


def test_a_request_that_is_marked_as_done_is_not_counted(library: Library, middleware: str) -> None:
    limiter = library.limiter(default_limits=["1/minute"])
    app = library.app(limiter, middleware)

    async def mark(request: Request, call_next: Any) -> Any:
        request.state._rate_limiting_complete = True
        request.state.view_rate_limit = None
        return await call_next(request)

    app.middleware("http")(mark)

    async def plain(request: Request) -> Response:
        return PlainTextResponse("ok")

    app.get("/decorated")(limiter.limit("1/minute")(endpoint))
    app.get("/plain")(plain)
    assert [Client(app).statuses(path, 2) for path in ("/decorated", "/plain")] == library.expected(
        same([[200, 200], [200, 200]])
    )


def test_headers_can_be_written_by_hand(library: Library) -> None:
    limiter = library.limiter(headers_enabled=True)
    app = library.app(limiter)

    @app.get("/items")
    @limiter.limit("5/minute")
    async def items(request: Request) -> Response:
        response = limiter._inject_headers(PlainTextResponse("a"), request.state.view_rate_limit)
        headers = limiter._inject_asgi_headers(PlainTextResponse("b").headers, request.state.view_rate_limit)
        return PlainTextResponse(f"{response.headers['X-RateLimit-Remaining']} {headers['X-RateLimit-Limit']}")

    assert Client(app).get("/items").text == library.expected(same("4 5"))


def test_what_is_read_only_once_cannot_be_set_later(library: Library) -> None:
    limiter, client = limited(library, strategy="fixed-window")

    def set_later() -> list[int]:
        limiter._strategy = "moving-window"
        return client.statuses("/items", 2)

    assert attempt(set_later) == library.expected(
        differs(slowapi=[200, 429], slidegate="AttributeError", difference="names-that-cannot-be-set")
    )
