"""The route that is found for a request, case by case."""

from __future__ import annotations

import gc
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.convertors import CONVERTOR_TYPES, Convertor
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from test_routes_oracle import Endpoints, dispatched, foretold, scope_of, starlette

from slidegate._routing.endpoint_finder import Found, Kind, RouteFinder


@pytest.fixture
def endpoints() -> Endpoints:
    return Endpoints()


def application(**options: Any) -> FastAPI:
    return FastAPI(openapi_url=None, **options)


def found(app: Any, method: str, path: str, **options: Any) -> Found:
    result = RouteFinder(app).find(scope_of(method, path, **options))
    assert result is not None
    return result


def assert_found(app: Any, endpoints: Endpoints, endpoint: Any, *request: str, **options: str) -> None:
    """That the endpoint is found and, so that no test is about what does not happen, called."""
    scope = scope_of(*request, **options)
    result = RouteFinder(app).find(scope)
    assert result is not None
    assert (result.endpoint, result.kind) == (endpoint, Kind.FULL)
    outcome = dispatched(app, endpoints, scope)
    assert outcome is not None
    assert outcome.endpoint == endpoints.all.index(endpoint)


def test_a01_a_route_of_an_included_router_is_found_with_its_prefix(endpoints: Endpoints) -> None:
    app, router = application(), APIRouter(prefix="/users")
    endpoint = router.get("/{user_id}")(endpoints.for_fastapi())
    app.include_router(router, prefix="/api")
    assert_found(app, endpoints, endpoint, "GET", "/api/users/7")
    result = found(app, "GET", "/api/users/7")
    assert (result.route, result.methods, result.protocol) == ("/api/users/{user_id}", {"GET"}, "http")


def test_a02_routes_of_nested_routers_are_found_below_all_prefixes(endpoints: Endpoints) -> None:
    app, outer, inner = application(), APIRouter(prefix="/outer"), APIRouter(prefix="/inner")
    endpoint = inner.post("/x")(endpoints.for_fastapi())
    outer.include_router(inner, prefix="/between")
    app.include_router(outer, prefix="/{tenant}")
    assert_found(app, endpoints, endpoint, "POST", "/acme/outer/between/inner/x")
    assert found(app, "POST", "/acme/outer/between/inner/x").route == "/{tenant}/outer/between/inner/x"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda routes: starlette(routes=routes),
        lambda routes: Router(routes=routes),
        lambda routes: APIRouter(routes=routes),
        lambda routes: FastAPI(routes=routes),
        lambda routes: CORSMiddleware(starlette(routes=routes)),
    ],
    ids=["starlette", "router", "api router", "fastapi", "within middleware"],
)
def test_a02_routes_of_a_mounted_application_are_found(endpoints: Endpoints, wrap: Callable[[Any], Any]) -> None:
    endpoint = endpoints.for_starlette()
    app = application()
    app.mount("/{version}/sub", wrap([Mount("/deep", routes=[Route("/x/{y}", endpoint)])]))
    assert_found(app, endpoints, endpoint, "GET", "/v1/sub/deep/x/1")
    assert found(app, "GET", "/v1/sub/deep/x/1").route == "/{version}/sub/deep/x/{y}"
    assert RouteFinder(app).find(scope_of("GET", "/v1/sub/deep/y/1")) is None


def test_a02_a_mount_with_middleware_is_looked_into(endpoints: Endpoints) -> None:
    endpoint = endpoints.for_starlette()
    app = starlette(routes=[Mount("/sub", routes=[Route("/x", endpoint)], middleware=[Middleware(CORSMiddleware)])])
    assert_found(app, endpoints, endpoint, "GET", "/sub/x")


def test_a02_a_mounted_application_without_routes_is_its_own_endpoint(tmp_path: Path) -> None:
    app = application()
    files = StaticFiles(directory=tmp_path)
    app.mount("/static", files)
    result = found(app, "GET", "/static/a/b.css")
    assert (result.endpoint, result.route, result.methods) == (files, "/static/{path}", None)


def test_a02_routes_for_a_host_are_found_for_that_host_only(endpoints: Endpoints) -> None:
    one, other = endpoints.for_starlette(), endpoints.for_starlette()
    app = application()
    app.router.routes += [Host("{name}.example.org", Router([Route("/x", one)])), Route("/x", other)]
    assert_found(app, endpoints, one, "GET", "/x", host="api.example.org")
    assert_found(app, endpoints, other, "GET", "/x", host="example.org")
    assert found(app, "GET", "/x", host="api.example.org").host == "{name}.example.org"
    assert found(app, "GET", "/x").host is None


@pytest.mark.parametrize("is_first", [True, False])
def test_a03_a_catch_all_is_found_when_its_turn_comes(endpoints: Endpoints, is_first: bool) -> None:
    app = application()
    catch_all, endpoint = endpoints.for_fastapi(), endpoints.for_fastapi()
    routes = [("/{rest:path}", catch_all), ("/users/{user_id}", endpoint)]
    for path, each in routes if is_first else reversed(routes):
        app.get(path)(each)
    assert_found(app, endpoints, catch_all if is_first else endpoint, "GET", "/users/1")
    assert_found(app, endpoints, catch_all, "GET", "/users/1/more")
    assert_found(app, endpoints, catch_all, "GET", "/")


def test_a04_a_request_costs_the_same_with_ten_and_with_thousands_of_routes() -> None:
    def calls(count: int, path: str, method: str = "GET") -> int:
        async def endpoint(request: Any) -> None: ...

        routes = [Route(f"/group{at % 7}/number{at}/{{x}}", endpoint) for at in range(count)]
        routes += [Route("/int/{x:int}", endpoint), Mount("/sub", routes=[Route("/y", endpoint)])]
        finder = RouteFinder(starlette(routes=routes))
        finder.find(scope_of(method, path))
        count = 0

        def profile(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        scope = scope_of(method, path)
        # What other tests have left to be collected calls functions, too.
        gc.collect()
        gc.disable()
        sys.setprofile(profile)
        try:
            finder.find(scope)
        finally:
            sys.setprofile(None)
            gc.enable()
        return count

    requests = [("/group3/number3/x", "GET"), ("/group3/number3/x", "POST"), ("/int/7", "GET"), ("/sub/y", "GET")]
    for path, method in [*requests, ("/nowhere", "GET"), ("/int/7/", "GET")]:
        assert calls(10, path, method) == calls(645, path, method) == calls(5000, path, method) > 1


@pytest.mark.parametrize(
    ("template", "path", "is_matched"),
    [
        ("/{x:int}", "/12", True),
        ("/{x:int}", "/1a", False),
        ("/{x:float}/y", "/1.5/y", True),
        ("/{x:uuid}", f"/{uuid.UUID(int=7)}", True),
        ("/{x:uuid}", "/7", False),
        ("/{x:path}/y", "/a/b/y", True),
        ("/{x:path}/y", "/a/b/z", False),
        ("/v{x}", "/v1", True),
        ("/v{x}", "/v", False),
        ("/{x}.{y}", "/a.b", True),
        ("/a{x:path}", "/a", True),
        ("/{x:letters}/y", "/ab/y", True),
        ("/{x:letters}/y", "/a1/y", False),
        ("/a//b", "/a//b", True),
        ("/a/{x}/b", "/a//b", False),
        ("/é/{x}", "/é/ü", True),
        ("/%C3%A9", "/é", False),
        ("/a b", "/a b", True),
        ("/a.b", "/axb", False),
        ("/x", "/x\n", True),
        ("/{x:path}", "/a\nb", False),
        ("/{x}", "/a\nb", True),
    ],
)
def test_a_path_is_matched_as_the_convertors_of_its_template_say(
    endpoints: Endpoints, template: str, path: str, is_matched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Letters(Convertor[str]):
        regex = "[a-z]+"

        def convert(self, value: str) -> str:
            return value

    monkeypatch.setitem(CONVERTOR_TYPES, "letters", Letters())
    app = starlette(routes=[Route(template, endpoints.for_starlette()), Mount("/", app=endpoints.application())])
    scope = scope_of("GET", path)
    assert foretold(RouteFinder(app), endpoints, scope) == dispatched(app, endpoints, scope)
    assert (foretold(RouteFinder(app), endpoints, scope).endpoint == 0) is is_matched


def test_the_first_route_that_takes_the_method_is_found_else_the_first_that_has_the_path(endpoints: Endpoints) -> None:
    app = application()
    reader, writer, remover = (endpoints.for_fastapi() for _ in range(3))
    app.get("/x")(reader)
    app.post("/{name}")(writer)
    app.delete("/x")(remover)
    assert_found(app, endpoints, reader, "GET", "/x")
    assert_found(app, endpoints, writer, "POST", "/x")
    assert_found(app, endpoints, remover, "DELETE", "/x")
    for method in ("PATCH", "get", "MADE-UP"):
        result = found(app, method, "/x")
        assert (result.kind, result.endpoint, result.methods) == (Kind.PARTIAL, reader, {"GET"})


def test_head_is_for_plain_routes_with_get_but_not_for_those_of_fastapi(endpoints: Endpoints) -> None:
    app = application()
    plain = endpoints.for_starlette()
    app.add_route("/plain", plain)
    app.get("/api")(endpoints.for_fastapi())
    assert_found(app, endpoints, plain, "HEAD", "/plain")
    assert found(app, "HEAD", "/api").kind is Kind.PARTIAL


@pytest.mark.parametrize(("template", "path"), [("/x", "/x/"), ("/x/", "/x"), ("/x", "/x//")])
def test_a_redirect_for_a_slash_has_no_endpoint_but_a_route(endpoints: Endpoints, template: str, path: str) -> None:
    app = application()
    app.get(template)(endpoints.for_fastapi())
    result = RouteFinder(app).find(scope_of("GET", path))
    assert result is not None
    assert (result.kind, result.endpoint, result.route) == (Kind.REDIRECT, None, template)
    assert dispatched(app, endpoints, scope_of("GET", path)) == (Kind.REDIRECT, None)


def test_a_router_may_not_redirect(endpoints: Endpoints) -> None:
    app = application(redirect_slashes=False)
    app.get("/x")(endpoints.for_fastapi())
    assert RouteFinder(app).find(scope_of("GET", "/x/")) is None


def test_web_sockets_have_routes_of_their_own(endpoints: Endpoints) -> None:
    app = application()
    page, socket = endpoints.for_fastapi(), endpoints.for_websocket()
    app.get("/x")(page)
    app.websocket("/x")(socket)
    assert_found(app, endpoints, page, "GET", "/x")
    assert_found(app, endpoints, socket, "WEBSOCKET", "/x")
    assert found(app, "WEBSOCKET", "/x").protocol == "websocket"
    assert RouteFinder(app).find(scope_of("WEBSOCKET", "/x/")) is None


def test_an_http_method_is_not_mistaken_for_a_web_socket(endpoints: Endpoints) -> None:
    app = application()
    app.websocket("/x")(endpoints.for_websocket())
    assert RouteFinder(app).find({**scope_of("GET", "/x"), "method": "websocket"}) is None


def test_nothing_is_found_for_the_lifespan() -> None:
    assert RouteFinder(application()).find({"type": "lifespan"}) is None


def test_paths_are_looked_up_below_the_root_path(endpoints: Endpoints) -> None:
    app = application()
    endpoint = app.get("/x")(endpoints.for_fastapi())
    assert_found(app, endpoints, endpoint, "GET", "/x", root_path="/proxy")
    assert RouteFinder(app).find({**scope_of("GET", "/proxied/x"), "root_path": "/pro"}) is None


def test_a_mounted_application_may_insist_on_a_root_path_of_its_own(endpoints: Endpoints) -> None:
    app, sub = application(), application()
    sub.root_path = "/sub/elsewhere"
    endpoint = sub.get("/x")(endpoints.for_fastapi())
    app.mount("/sub", sub)
    assert_found(app, endpoints, endpoint, "GET", "/sub/elsewhere/x")


def test_the_root_path_of_an_application_is_not_forced_on_what_is_called_within_it(endpoints: Endpoints) -> None:
    app = application()
    app.root_path = "/outer"
    endpoint = app.get("/x")(endpoints.for_fastapi())
    finder = RouteFinder(app)
    before_it_is_called = finder.find(scope_of("GET", "/outer/x"))
    within_it = finder.find({**scope_of("GET", "/changed/x"), "app": app, "root_path": "/changed"})
    assert before_it_is_called is within_it is not None
    assert within_it.endpoint is endpoint


def test_a_path_that_a_route_cannot_convert_is_no_exception(endpoints: Endpoints) -> None:
    app = application()
    app.mount("/{x:int}", Router([Route("/y", endpoints.for_starlette())]))
    scope = scope_of("GET", f"/{'9' * 5000}/y")
    assert RouteFinder(app).find(scope) is None
    assert dispatched(app, endpoints, scope) is None


def test_requests_for_a_route_find_the_same_object(endpoints: Endpoints) -> None:
    app = application()
    app.get("/{x}")(endpoints.for_fastapi())
    finder = RouteFinder(app)
    assert finder.find(scope_of("GET", "/1")) is finder.find(scope_of("GET", "/2"))
    assert finder.find(scope_of("POST", "/1")) is finder.find(scope_of("PUT", "/2"))


def test_every_route_is_listed_in_the_order_of_dispatch(endpoints: Endpoints, tmp_path: Path) -> None:
    app, router, inner = application(), APIRouter(), APIRouter()
    app.get("/first")(endpoints.for_fastapi())
    inner.post("/x")(endpoints.for_fastapi())
    router.include_router(inner, prefix="/inner")
    router.websocket("/socket")(endpoints.for_websocket())
    app.include_router(router, prefix="/api")
    app.mount("/sub", starlette(routes=[Route("/y", endpoints.for_starlette())]))
    app.mount("/static", StaticFiles(directory=tmp_path))
    app.router.routes.append(Host("{name}.test", Router([Route("/z", endpoints.for_starlette())])))
    listed = [(route.route, route.methods, route.protocol, route.host) for route in RouteFinder(app).every()]
    assert listed == [
        ("/first", {"GET"}, "http", None),
        ("/api/inner/x", {"POST"}, "http", None),
        ("/api/socket", None, "websocket", None),
        ("/sub/y", {"GET", "HEAD"}, "http", None),
        ("/static/{path}", None, None, None),
        ("/z", {"GET", "HEAD"}, "http", "{name}.test"),
    ]


def test_an_application_that_is_mounted_in_itself_is_listed_once(endpoints: Endpoints) -> None:
    app = application()
    app.get("/x")(endpoints.for_fastapi())
    app.mount("/again", app)
    assert [route.route for route in RouteFinder(app).every()] == ["/x"]
    assert found(app, "GET", "/again/again/x").route == "/again/again/x"


def test_what_has_no_routes_is_refused() -> None:
    with pytest.raises(TypeError, match="has no routes"):
        RouteFinder(object())
