"""Routes that change while requests come in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import Mount, Route, Router
from test_routes_oracle import Endpoints, dispatched, foretold, scope_of, starlette

from slidegate._routing.endpoint_finder import RouteFinder


@pytest.fixture
def endpoints() -> Endpoints:
    return Endpoints()


class Served:
    """An application of which what is found is compared with what is called, now and after changes."""

    def __init__(self, app: Any, endpoints: Endpoints) -> None:
        self.app = app
        self.endpoints = endpoints
        self.finder = RouteFinder(app)

    def number(self, path: str, method: str = "GET") -> int | None:
        scope = scope_of(method, path)
        outcome = dispatched(self.app, self.endpoints, scope)
        assert foretold(self.finder, self.endpoints, scope) == outcome
        assert outcome is not None
        assert not self.finder._has_warned
        return outcome.endpoint


def plain(path: str, endpoints: Endpoints) -> Route:
    return Route(path, endpoints.for_starlette())


Change = Callable[[Any, Endpoints], Any]
CHANGES: dict[str, tuple[Change, int | None]] = {
    "append": (lambda router, endpoints: router.routes.append(plain("/x", endpoints)), 0),
    "insert": (lambda router, endpoints: router.routes.insert(0, plain("/x", endpoints)), 2),
    "remove": (lambda router, endpoints: router.routes.pop(0), 1),
    "replace": (lambda router, endpoints: router.routes.__setitem__(0, plain("/x", endpoints)), 2),
    "swap": (lambda router, endpoints: router.routes.reverse(), 1),
    "another list": (lambda router, endpoints: setattr(router, "routes", [plain("/x", endpoints)]), 2),
    "a list as long": (
        lambda router, endpoints: setattr(router, "routes", [plain("/x", endpoints), *router.routes[:1]]),
        2,
    ),
    "all gone": (lambda router, endpoints: router.routes.clear(), None),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=list(CHANGES))
@pytest.mark.parametrize("is_mounted", [False, True])
@pytest.mark.parametrize("padding", [0, 400])
def test_a_change_of_the_list_of_routes_counts_at_once(
    endpoints: Endpoints, change: Change, expected: int | None, is_mounted: bool, padding: int
) -> None:
    router = Router([plain("/x", endpoints), plain("/{any}", endpoints)])
    others = Endpoints()
    router.routes += [plain(f"/other/{at}", others) for at in range(padding)]
    served = Served(starlette(routes=[Mount("/sub", router)]) if is_mounted else router, endpoints)
    path = "/sub/x" if is_mounted else "/x"
    assert served.number(path) == 0
    change(router, endpoints)
    assert served.number(path) == expected


@pytest.mark.parametrize(
    ("template", "path"), [("/x", "/x"), ("/{y:int}", "/7"), ("/{y:path}", "/7"), ("/v{y}", "/v7"), ("/{y}", "/7")]
)
def test_a_route_that_replaces_the_one_that_was_found_counts_at_once(
    endpoints: Endpoints, template: str, path: str
) -> None:
    others = Endpoints()
    router = Router([*(plain(f"/other/{at}", others) for at in range(400)), plain(template, endpoints)])
    served = Served(router, endpoints)
    assert served.number(path) == 0
    router.routes[400] = plain(template, endpoints)
    assert served.number(path) == 1
    router.routes[400] = Mount("", routes=[plain(template, endpoints)])
    assert served.number(path) == 2
    router.routes[400] = Mount("", routes=[plain(template, endpoints)])
    assert served.number(path) == 3


def test_another_list_of_routes_counts_at_once_also_where_they_are_the_same(endpoints: Endpoints) -> None:
    others = Endpoints()
    padding = [plain(f"/other/{at}", others) for at in range(400)]
    router = Router([plain("/a", endpoints), plain("/x", endpoints), *padding])
    served = Served(router, endpoints)
    assert served.number("/x") == 1
    router.routes = [plain("/{any}", endpoints), *router.routes[1:]]
    assert served.number("/x") == 2


def test_a02_routes_added_after_inclusion_count_as_they_do_for_the_router(endpoints: Endpoints) -> None:
    app, outer, inner = FastAPI(openapi_url=None), APIRouter(), APIRouter()
    outer.include_router(inner, prefix="/inner")
    app.include_router(outer, prefix="/outer")
    app.get("/outer/inner/late")(endpoints.for_fastapi())
    served = Served(app, endpoints)
    assert served.number("/outer/inner/late") == 0
    # FastAPI 0.115 copies routes when it includes a router, newer versions do not: the router decides.
    inner.get("/late")(endpoints.for_fastapi())
    served.number("/outer/inner/late")
    inner.routes.insert(0, plain("/late", endpoints))
    served.number("/outer/inner/late")
    inner.routes.clear()
    served.number("/outer/inner/late")
    outer.routes.clear()
    served.number("/outer/inner/late")


@pytest.mark.parametrize("count", [1, 8, 9, 40])
def test_a02_a_route_added_to_any_router_after_the_first_request_is_found(endpoints: Endpoints, count: int) -> None:
    app = FastAPI(openapi_url=None)
    routers = [APIRouter() for _ in range(count)]
    for router in routers:
        router.post("/x")(endpoints.for_fastapi())
        app.include_router(router)
    served = Served(app, endpoints)
    assert served.number("/y") is None
    for at, router in enumerate(routers):
        router.get(f"/y{at}")(endpoints.for_fastapi())
        served.number(f"/y{at}")
        router.put("/x")(endpoints.for_fastapi())
        served.number("/x", "PUT")


def test_what_replaced_routes_of_a_long_list_is_noticed_in_time(endpoints: Endpoints) -> None:
    routes = [plain(f"/{at}", endpoints) for at in range(400)]
    served = Served(Router(routes), endpoints)
    assert served.number("/399") == 399
    served.app.routes[0] = plain("/{any}", endpoints)
    for _ in range(100):
        served.finder.find(scope_of("GET", "/399"))
    assert served.number("/399") == 400


def test_what_is_changed_in_a_route_counts_after_refresh(endpoints: Endpoints) -> None:
    route = plain("/x", endpoints)
    served = Served(Router([route]), endpoints)
    assert served.number("/x") == 0
    route.path_regex = re.compile("^/x$", re.IGNORECASE)
    served.finder.refresh()
    assert served.number("/X") == 0


def test_the_router_of_an_application_may_be_another_one_later(endpoints: Endpoints) -> None:
    app = starlette(routes=[plain("/x", endpoints)])
    served = Served(app, endpoints)
    assert served.number("/x") == 0
    app.router.routes = []
    assert served.number("/x") is None
    app.mount("/", endpoints.application())
    assert served.number("/x") == 1
