"""Whatever an application is made of, what is found for a request is what serves it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from unittest import mock

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router, WebSocketRoute
from test_routes_oracle import Endpoints, dispatched, foretold, needs_parts, scope_of, starlette

from slidegate._routing.endpoint_finder import RouteFinder

METHODS = ["GET", "POST", "DELETE", "HEAD", "OPTIONS"]
HOSTS = ["one.test", "two.test", "test"]
ROUTED_SEGMENTS = [
    "a",
    "b",
    "é",
    "a.b",
    "1",
    "{}",
    "{}",
    "{:int}",
    "{:path}",
    "{:float}",
    "v{}",
    "{}-{}",
    "v{:path}",
    "",
]
HUGE = "9" * 5000
ASKED_SEGMENTS = ["a", "b", "é", "a.b", "1", "12", "v", "vx", "v1-b", "A", "", "%C3%A9", "a\n", "\n", "a\nb", HUGE]

any_path = st.one_of(
    st.lists(st.sampled_from(ASKED_SEGMENTS), max_size=5).map(lambda segments: "/" + "/".join(segments)),
    st.text("ab/1\n", max_size=6).map(lambda text: "/" + text),
    st.sampled_from(["", "*", "a"]),
)


class Shouting(APIRoute):
    """One that has an opinion about more than paths."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        match, child_scope = super().matches(scope)
        return (Match.NONE, {}) if scope["path"].endswith("a") else (match, child_scope)


class Suffix(BaseRoute):
    """One that has no template at all."""

    def __init__(self, endpoint: Any, suffix: str, match: Match) -> None:
        self.endpoint = endpoint
        self.suffix = suffix
        self.match = match

    def matches(self, scope: Any) -> tuple[Match, Any]:
        if scope["type"] == "http" and scope["path"].endswith(self.suffix):
            scope["asked"] = True
            return self.match, {"endpoint": self.endpoint}
        return Match.NONE, {}

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        if self.match is Match.FULL:
            await self.endpoint(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 405, "headers": []})
            await send({"type": "http.response.body", "body": b""})


class Build:
    """Draws what applications consist of. All parameters have names of their own, as prefixes add up."""

    def __init__(self, draw: Callable[..., Any], custom_classes: bool = True) -> None:
        self.draw = draw
        self.custom_classes = custom_classes
        self.endpoints = Endpoints()
        self.names = 0
        self.routers: list[tuple[Any, str]] = []
        self.templates = [""]

    def path(self, base: str, least: int = 1) -> str:
        segments = self.draw(st.lists(st.sampled_from(ROUTED_SEGMENTS), min_size=least, max_size=3))
        path = "".join("/" + re.sub("{", self._named, segment) for segment in segments)
        self.templates.append(base + path)
        return path

    def prefix(self, base: str) -> str:
        return self.path(base, least=0).rstrip("/")

    def app(self, depth: int, base: str = "") -> Any:
        kind = self.draw(st.sampled_from([FastAPI, FastAPI, Starlette, APIRouter, Router]))
        if kind is FastAPI:
            app: Any = FastAPI(openapi_url=None)
            app.root_path = self.draw(st.sampled_from(["", "", "", "/a", "/proxy"]))
        elif kind is Starlette:
            app = starlette()
        else:
            app = kind()
        router = getattr(app, "router", app)
        router.redirect_slashes = self.draw(st.booleans())
        self.fill(router, depth, base)
        return app

    def fill(self, router: Any, depth: int, base: str) -> None:
        self.routers.append((router, base))
        for _ in range(self.draw(st.integers(0, 4))):
            self.add(router, depth, base)

    def add(self, router: Any, depth: int, base: str) -> None:
        kinds = ["route", "route", "plain", "websocket", "opaque", "custom", "ignoring case"]
        kinds += ["mount", "host"] if depth else []
        kinds += ["api", "api", "api"] if isinstance(router, APIRouter) else []
        kinds += ["shouting"] if isinstance(router, APIRouter) and self.custom_classes else []
        kinds += ["include", "include"] if isinstance(router, APIRouter) and depth else []
        kind = self.draw(st.sampled_from(kinds))
        methods = self.draw(st.lists(st.sampled_from(METHODS), min_size=1, max_size=2))
        if kind in ("api", "shouting"):
            router.add_api_route(
                self.path(base + router.prefix),
                self.endpoints.for_fastapi(),
                methods=methods,
                route_class_override=Shouting if kind == "shouting" else None,
            )
        elif kind == "include":
            inner = APIRouter(prefix=self.prefix(base))
            # Routes of which both prefix and path are empty are refused.
            prefix = self.prefix(base + router.prefix) or "/a"
            self.fill(inner, depth - 1, base + router.prefix + prefix)
            router.include_router(inner, prefix=prefix)
        else:
            place = self.draw(st.sampled_from([0, len(router.routes)]))
            router.routes.insert(place, self.route(kind, methods, depth, base))
            if hasattr(router, "_mark_routes_changed"):
                router._mark_routes_changed()

    def route(self, kind: str, methods: list[str], depth: int, base: str) -> BaseRoute:
        if kind == "websocket":
            return WebSocketRoute(self.path(base), self.endpoints.for_websocket())
        if kind == "opaque":
            return Mount(self.prefix(base), self.endpoints.application())
        if kind == "mount":
            prefix = self.prefix(base)
            return Mount(prefix, self.app(depth - 1, base + prefix))
        if kind == "host":
            return Host(self.draw(st.sampled_from(["one.test", "{host}.test"])), self.app(depth - 1, base))
        if kind == "custom":
            match = self.draw(st.sampled_from([Match.FULL, Match.PARTIAL]))
            return Suffix(self.endpoints.application(), self.draw(st.sampled_from(["a", "1", "/"])), match)
        route = Route(self.path(base), self.endpoints.for_starlette(), methods=None if kind == "plain" else methods)
        if kind == "ignoring case":
            route.path_regex = re.compile(route.path_regex.pattern, re.IGNORECASE)
        return route

    def change(self) -> None:
        router, base = self.draw(st.sampled_from(self.routers))
        if self.draw(st.booleans()) or not router.routes:
            self.add(router, 1, base)
        else:
            router.routes.pop(self.draw(st.integers(0, len(router.routes) - 1)))

    def requests(self) -> list[dict[str, Any]]:
        templates = st.sampled_from(self.templates)
        return [
            scope_of(
                self.draw(st.sampled_from([*METHODS, "get", "WEBSOCKET"])),
                self.draw(
                    st.one_of(any_path, templates.map(lambda template: template + "/"), templates).map(self._filled)
                ),
                self.draw(st.sampled_from(HOSTS)),
                self.draw(st.sampled_from(["", "", "", "", "/a", "/proxy"])),
            )
            for _ in range(self.draw(st.integers(3, 15)))
        ]

    def _filled(self, template: str) -> str:
        return re.sub("{[^}]*}", lambda match: self.draw(st.sampled_from(ASKED_SEGMENTS)), template)

    def _named(self, match: re.Match[str]) -> str:
        self.names += 1
        return "{" + f"p{self.names}"


def agree(app: Any, finder: RouteFinder, build: Build) -> None:
    for scope in build.requests():
        before = {**scope, "headers": list(scope["headers"]), "state": dict(scope["state"])}
        found = foretold(finder, build.endpoints, scope)
        assert scope == before
        assert dispatched(app, build.endpoints, scope) in (found, None), scope


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_is_found_is_what_serves_the_request(data: st.DataObject) -> None:
    build = Build(data.draw)
    app = build.app(depth=2)
    finder = RouteFinder(app)
    for _ in range(3):
        agree(app, finder, build)
        build.change()
    assert not finder._has_warned


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_same_is_found_when_no_route_is_of_a_known_class(data: st.DataObject) -> None:
    build = Build(data.draw)
    app = build.app(depth=2)
    with mock.patch("slidegate._routing.route_tree.stock_matches", return_value=frozenset()):
        agree(app, RouteFinder(app), build)


@needs_parts
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_same_is_found_when_internals_are_not_what_they_were(data: st.DataObject) -> None:
    build = Build(data.draw, custom_classes=False)
    app = build.app(depth=2)
    with mock.patch("slidegate._routing.endpoint_finder.layout_of", side_effect=AttributeError):
        agree(app, RouteFinder(app), build)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_route_that_serves_a_request_is_listed(data: st.DataObject) -> None:
    build = Build(data.draw)
    app = build.app(depth=2)
    listed = {route.endpoint for route in RouteFinder(app).every()}
    for scope in build.requests():
        outcome = dispatched(app, build.endpoints, scope)
        assert outcome is None or outcome.endpoint is None or build.endpoints.all[outcome.endpoint] in listed
