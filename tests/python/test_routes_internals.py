"""What is relied upon of the frameworks, and what becomes of it when they change."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import fastapi.routing
import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router, WebSocketRoute
from test_routes_oracle import Endpoints, Outcome, dispatched, foretold, needs_parts, scope_of

from slidegate._routing import endpoint_finder as finder
from slidegate._routing import index
from slidegate._routing import route_tree as layout
from slidegate._routing.candidate import Base
from slidegate._routing.endpoint_finder import Kind, RouteFinder
from slidegate._routing.route_tree import layout_of, plain_layout, route_path

is_with_wrappers = pytest.mark.skipif(
    not hasattr(fastapi.routing, "_IncludedRouter"), reason="this version copies the routes of included routers"
)
is_with_frontends = pytest.mark.skipif(
    not hasattr(APIRouter, "frontend"), reason="this version does not know about frontends"
)


@pytest.fixture
def endpoints() -> Endpoints:
    return Endpoints()


@pytest.fixture
def app(endpoints: Endpoints) -> FastAPI:
    app, router, inner = FastAPI(openapi_url=None), APIRouter(), APIRouter()
    inner.get("/x")(endpoints.for_fastapi())
    router.include_router(inner, prefix="/inner")
    app.include_router(router, prefix="/outer")
    app.mount("/sub", Router([Route("/y", endpoints.for_starlette())]))
    app.get("/{rest:path}")(endpoints.for_fastapi())
    return app


REQUESTS = [
    ("GET", "/outer/inner/x", Outcome(Kind.FULL, 0)),
    ("GET", "/sub/y", Outcome(Kind.FULL, 1)),
    ("GET", "/outer/inner/x/", Outcome(Kind.FULL, 2)),
    ("POST", "/outer/inner/x", Outcome(Kind.PARTIAL, 0)),
    ("POST", "/outer/inner/x/", Outcome(Kind.PARTIAL, 2)),
]


def assert_right(app: Any, endpoints: Endpoints, finder: RouteFinder) -> None:
    for method, path, expected in REQUESTS:
        scope = scope_of(method, path)
        assert foretold(finder, endpoints, scope) == expected == dispatched(app, endpoints, scope)


def test_routes_of_the_frameworks_need_no_asking(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = layout_of(app.router, Base()).candidates
    assert [candidate.template for candidate in candidates if candidate.shape is None] == []
    assert [candidate.template for candidate in candidates if candidate.pattern is None] == ["/sub/{path}"]


@needs_parts
@pytest.mark.parametrize("error", [AttributeError, TypeError, RecursionError])
def test_routes_are_asked_one_by_one_when_they_cannot_be_indexed(
    app: FastAPI,
    endpoints: Endpoints,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    def fail(router: Any, base: Base) -> Any:
        raise error("as it is no more")

    monkeypatch.setattr(finder, "layout_of", fail)
    with caplog.at_level(logging.WARNING, "slidegate"):
        assert_right(app, endpoints, RouteFinder(app))
    warned = {record.getMessage() for record in caplog.records}
    assert len(warned) == 2, "one for the application and one for what is mounted"
    assert "one by one" in caplog.text


@needs_parts
def test_routes_are_asked_one_by_one_when_the_index_fails(
    app: FastAPI, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any) -> Any:
        raise KeyError("lost")

    monkeypatch.setattr(index.RouteIndex, "step", fail)
    with caplog.at_level(logging.WARNING, "slidegate"):
        assert_right(app, endpoints, RouteFinder(app))
    assert "one by one" in caplog.text


def test_asking_one_by_one_leaves_nothing_behind(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index.RouteIndex, "step", lambda *arguments: None)
    found_by = RouteFinder(app)
    for _ in range(5):
        assert found_by.find(scope_of("GET", "/sub/y")) is not None
    assert len(found_by._below) == 1


@pytest.mark.skipif(
    not hasattr(getattr(fastapi.routing, "RouteContext", None), "_effective_route"),
    reason="this version does not say where mounts of included routers are",
)
def test_mounts_in_included_routers_of_another_make_are_looked_into(
    app: FastAPI, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout._Reader, "_is_included", lambda reader, node: False)
    router = APIRouter()
    router.mount("/deep", Router([Route("/z", endpoints.for_starlette())]))
    app.router.routes.clear()
    app.include_router(router, prefix="/outer")
    assert foretold(RouteFinder(app), endpoints, scope_of("GET", "/outer/deep/z")) == Outcome(Kind.FULL, 3)


@needs_parts
@is_with_wrappers
def test_included_routers_of_another_make_are_asked(
    app: FastAPI, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout._Reader, "_is_included", lambda reader, node: False)
    assert_right(app, endpoints, RouteFinder(app))
    assert {"/outer/inner/x", "/{rest}"} < {route.route for route in RouteFinder(app).every()}


@is_with_wrappers
def test_something_is_found_also_when_nothing_is_known_of_what_matches(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout._Reader, "_is_included", lambda reader, node: False)
    monkeypatch.delattr(fastapi.routing, "iter_route_contexts", raising=False)
    result = RouteFinder(app).find(scope_of("GET", "/outer/inner/x"))
    assert result is not None
    assert result.endpoint is app.router.routes[0]


@pytest.mark.parametrize(
    ("module", "body"),
    [
        ("starlette.routing", "return match(self, scope) if scope.get('tenant') else (Match.NONE, {})"),
        ("somebody.else", "return match(self, scope)"),
    ],
)
def test_a_route_that_may_decide_by_anything_else_is_asked(
    endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch, module: str, body: str
) -> None:
    usual = Route.matches

    def match(route: Route, scope: Any) -> Any:
        return usual(route, scope) if scope.get("tenant") else (Match.NONE, {})

    known: dict[str, Any] = {"__name__": module, "match": match, "Match": Match}
    exec(f"def matches(self, scope):\n    {body}", known)
    monkeypatch.setattr(Route, "matches", known["matches"])
    finder = RouteFinder(Router([Route("/x", endpoints.for_starlette())]))
    assert finder.find(scope_of("GET", "/x")) is None
    assert finder.find({**scope_of("GET", "/x"), "tenant": "one"}) is not None


def test_a_route_whose_own_matches_was_replaced_is_asked(endpoints: Endpoints) -> None:
    route = Route("/x", endpoints.for_starlette())
    route.matches = lambda scope: (Match.NONE, {})  # type: ignore[method-assign]
    assert RouteFinder(Router([route])).find(scope_of("GET", "/x")) is None


def test_a_class_between_those_that_are_known_is_asked(endpoints: Endpoints) -> None:
    class Never(Route):
        def matches(self, scope: Any) -> Any:
            return Match.NONE, {}

    class Between(fastapi.routing.APIRoute, Never):
        pass

    route = Between("/x", endpoints.for_fastapi())
    assert RouteFinder(Router([route])).find(scope_of("GET", "/x")) is None


@pytest.mark.parametrize("flags", [re.UNICODE, re.IGNORECASE, re.ASCII])
def test_a_route_with_another_expression_is_asked(endpoints: Endpoints, flags: re.RegexFlag) -> None:
    route = Route("/x", endpoints.for_starlette())
    route.path_regex = re.compile("^/(x|X|y)$", flags)
    finder = RouteFinder(Router([route]))
    assert foretold(finder, endpoints, scope_of("GET", "/X")) == Outcome(Kind.FULL, 0)
    assert foretold(finder, endpoints, scope_of("GET", "/y")) == Outcome(Kind.FULL, 0)


class Writing(BaseRoute):
    """One that leaves something in the scope, for others to see."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        scope["left"] = True
        scope.setdefault("fastapi", {})["left"] = True
        return Match.NONE, {}


class Reading(BaseRoute):
    def __init__(self, endpoint: Any) -> None:
        self.endpoint = endpoint

    def matches(self, scope: Any) -> tuple[Match, Any]:
        return (Match.FULL, {"endpoint": self.endpoint}) if scope.get("left") else (Match.NONE, {})


class Answering(BaseRoute):
    """One that matches anything, in whole or in part."""

    def __init__(self, endpoint: Any, match: Match) -> None:
        self.endpoint = endpoint
        self.match = match

    def matches(self, scope: Any) -> tuple[Match, Any]:
        return self.match, {"endpoint": self.endpoint}


@pytest.mark.parametrize("template", ["/12", "/{x}", "/{x:int}", "/{x:path}"])
def test_a_route_of_any_other_class_keeps_its_place(endpoints: Endpoints, template: str) -> None:
    first, second = endpoints.for_starlette(), endpoints.application()
    for match, is_first in [(Match.FULL, False), (Match.FULL, True), (Match.PARTIAL, True), (Match.PARTIAL, False)]:
        routes = [Route(template, first), Answering(second, match)]
        finder = RouteFinder(Router(routes[::-1] if is_first else routes))
        result = finder.find(scope_of("GET", "/12"))
        assert result is not None
        assert result.endpoint is (second if is_first and match is Match.FULL else first)
        result = finder.find(scope_of("POST", "/12"))
        assert result is not None
        assert result.endpoint is (second if is_first or match is Match.FULL else first)


@pytest.mark.parametrize("base", [Route, WebSocketRoute, Mount, Host])
def test_a_route_that_lacks_what_its_base_class_has_is_asked(endpoints: Endpoints, base: Any) -> None:
    class Bare(base):  # type: ignore[misc]
        def __init__(self, endpoint: Any) -> None:
            self.endpoint = endpoint

        def matches(self, scope: Any) -> tuple[Match, Any]:
            return Match.FULL, {"endpoint": self.endpoint}

    finder = RouteFinder(Router([Route("/x", endpoints.for_starlette()), Bare(endpoints.application())]))
    assert foretold(finder, endpoints, scope_of("GET", "/x")) == Outcome(Kind.FULL, 0)
    assert foretold(finder, endpoints, scope_of("GET", "/y")) == Outcome(Kind.FULL, 1)
    assert not finder._has_warned


def test_of_the_routes_that_come_last_a_full_match_is_better_than_one_in_part(endpoints: Endpoints) -> None:
    class Last(Router):
        def _iter_low_priority_routes(self) -> list[BaseRoute]:
            return [Answering(endpoint, match) for endpoint, match in zip(endpoints.all, matches, strict=True)]

    matches = [Match.NONE, Match.PARTIAL, Match.FULL, Match.FULL]
    for _ in matches:
        endpoints.application()
    assert foretold(RouteFinder(Last()), endpoints, scope_of("GET", "/x")) == Outcome(Kind.FULL, 2)


def test_routes_see_what_others_leave_in_the_scope_but_the_caller_does_not(endpoints: Endpoints) -> None:
    finder = RouteFinder(Router([Writing(), Reading(endpoints.application())]))
    scope = {**scope_of("GET", "/x"), "fastapi": {"kept": True}}
    assert foretold(finder, endpoints, scope) == Outcome(Kind.FULL, 0)
    assert "left" not in scope
    assert scope["fastapi"] == {"kept": True}


def test_the_endpoint_that_a_route_puts_into_the_scope_is_the_one(endpoints: Endpoints) -> None:
    class Choosing(BaseRoute):
        endpoint = endpoints.application()

        def matches(self, scope: Any) -> tuple[Match, Any]:
            return Match.FULL, {"endpoint": chosen[scope["path"]]}

    chosen = {"/a": endpoints.application(), "/b": endpoints.application()}
    finder = RouteFinder(Router([Choosing()]))
    for path in ("/a", "/b", "/a"):
        result = finder.find(scope_of("GET", path))
        assert result is not None
        assert result.endpoint is chosen[path]


def test_a_route_that_is_asked_in_two_places_is_found_in_both(endpoints: Endpoints) -> None:
    class Own(fastapi.routing.APIRoute):
        def matches(self, scope: Any) -> tuple[Match, Any]:
            return super().matches(scope)

    app, router = FastAPI(openapi_url=None), APIRouter(route_class=Own)
    router.get("/x")(endpoints.for_fastapi())
    app.include_router(router, prefix="/api")
    app.router.routes += router.routes
    for path in ("/x", "/api/x"):
        scope = scope_of("GET", path)
        assert (
            foretold(RouteFinder(app), endpoints, scope) == Outcome(Kind.FULL, 0) == dispatched(app, endpoints, scope)
        )


def test_a_mount_with_its_own_way_of_passing_on_is_not_looked_into(endpoints: Endpoints) -> None:
    class Elsewhere(Mount):
        async def handle(self, scope: Any, receive: Any, send: Any) -> None:
            await endpoints.all[1](scope, receive, send)

    inner = Router([Route("/x", endpoints.for_starlette())])
    endpoints.application()
    result = RouteFinder(Router([Elsewhere("/sub", inner)])).find(scope_of("GET", "/sub/x"))
    assert result is not None
    assert result.endpoint is inner


def test_a_host_within_an_included_router_is_passed_on_with_its_prefix(endpoints: Endpoints) -> None:
    app, router = FastAPI(openapi_url=None), APIRouter()
    router.routes.append(Host("one.test", Router([Route("/x", endpoints.for_starlette())])))
    router.get("/x")(endpoints.for_fastapi())
    app.include_router(router, prefix="/api")
    for host in ("one.test", "two.test"):
        scope = scope_of("GET", "/api/x", host)
        assert foretold(RouteFinder(app), endpoints, scope) == dispatched(app, endpoints, scope)


def test_plain_layouts_have_a_candidate_for_each_route(app: FastAPI) -> None:
    layout = plain_layout(app.router, Base())
    assert [candidate.node for candidate in layout.candidates] == app.router.routes
    assert {candidate.shape for candidate in layout.candidates} == {None}


@pytest.mark.parametrize("path", ["", "/", "/a", "/ab", "/a/b", "/b/a", "/a/", "a"])
@pytest.mark.parametrize("root_path", [None, "", "/", "/a", "/a/", "/a/b", "a"])
def test_the_path_below_the_root_path_is_what_routes_take_it_for(path: str, root_path: str | None) -> None:
    utils = pytest.importorskip("starlette._utils")
    scope = {"path": path, **({} if root_path is None else {"root_path": root_path})}
    assert route_path(scope) == utils.get_route_path(scope)


@is_with_frontends
def test_files_of_frontends_are_found_when_nothing_else_is(endpoints: Endpoints, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html></html>")
    app, router = FastAPI(openapi_url=None), APIRouter()
    app.get("/api")(endpoints.for_fastapi())
    app.frontend("/", directory=tmp_path)
    app.frontend("/admin", directory=tmp_path)
    router.frontend("/", directory=tmp_path)
    app.include_router(router, prefix="/admin/deep")
    app.include_router(router, prefix="/admin")
    finder = RouteFinder(app)
    for path, template in [
        ("/", "/{path}"),
        ("/index.html", "/{path}"),
        ("/admin/x", "/admin/{path}"),
        ("/admin/deep/x", "/admin/deep/{path}"),
    ]:
        result = finder.find(scope_of("GET", path))
        assert result is not None
        assert (result.kind, result.route) == (Kind.FULL, template)
        assert type(result.endpoint).__name__ == "_FrontendStaticFiles"
        scope = scope_of("POST", path)
        result = finder.find(scope)
        assert result is not None
        assert (result.kind, result.route) == (Kind.PARTIAL, template)
    result = finder.find(scope_of("GET", "/api/"))
    assert result is not None
    assert result.kind is Kind.REDIRECT
    listed = list(finder.every())
    assert len(listed) == 5
    admin = finder.find(scope_of("GET", "/admin/x"))
    assert admin is not None
    assert admin.endpoint is listed[2].endpoint is not listed[4].endpoint, "of equals, it is the first"
    app.frontend("/late", directory=tmp_path)
    late = finder.find(scope_of("GET", "/late/x"))
    assert late is not None
    assert late.route == "/late/{path}"
