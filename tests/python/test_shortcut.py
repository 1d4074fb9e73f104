"""The middleware's short cut for methods and paths that it knows: taken, and left as soon as anything changes."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import fastapi.routing
import pytest
from conftest import Client
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import slidegate.middleware
from slidegate import Limiter
from slidegate._core import Limiter as Engine
from slidegate._core import Quota, Record, shortcut, taker, teller
from slidegate._fastapi.app_checks import AppChecks
from slidegate.middleware import SlowAPIMiddleware


async def ok(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


class Counted:
    """How many requests the short cut was not there for."""

    def __init__(self) -> None:
        self.looked_up = 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted, look_up = Counted(), AppChecks.check_for

    def check_for(guard: AppChecks, scope: Any) -> Any:
        counted.looked_up += 1
        return look_up(guard, scope)

    monkeypatch.setattr(AppChecks, "check_for", check_for)
    return counted


@pytest.fixture
def make(make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]) -> Callable[..., Any]:
    def make(**options: Any) -> tuple[FastAPI, Limiter]:
        limiter = make_limiter(**{"default_limits": ["5/minute"], "headers_enabled": True, **options})
        app = make_app(limiter)
        app.add_middleware(SlowAPIMiddleware)
        app.get("/known")(ok)
        app.get("/items/{number}")(ok)
        return app, limiter

    return make


def remaining(client: Client, path: str = "/known", **options: Any) -> int | None:
    response = client.get(path, **options)
    told = response.headers.get("X-RateLimit-Remaining")
    return None if told is None else int(told)


@pytest.mark.parametrize("path", ["/known", "/items/7"])
def test_a_known_request_is_counted_and_told_of_as_any_other(make: Any, counted: Counted, path: str) -> None:
    client = Client(make()[0])
    assert [remaining(client, path) for _ in range(6)] == [4, 3, 2, 1, 0, 0]
    assert client.get(path).json() == {"error": "Rate limit exceeded: 5 per 1 minute"}
    assert counted.looked_up == 1


def test_a_known_request_for_a_decorated_endpoint_is_left_to_its_decorator(make: Any, counted: Counted) -> None:
    app, limiter = make()
    app.get("/own")(limiter.limit("2/minute")(ok))
    assert Client(app).statuses("/own", 3) == [200, 200, 429]
    assert counted.looked_up == 1


def test_keys_of_other_functions_are_counted_there_too(make: Any, counted: Counted) -> None:
    app, _ = make(key_func=lambda request: request.headers["user"])
    client = Client(app)
    assert [remaining(client, headers={"user": user}) for user in "aabab"] == [4, 3, 4, 2, 3]
    assert counted.looked_up == 1


def test_a_head_request_and_an_unknown_path_are_not_mistaken_for_what_is_known(make: Any) -> None:
    client = Client(make()[0])
    assert [remaining(client) for _ in range(2)] == [4, 3]
    assert client.request("HEAD", "/known").status_code == 405
    assert client.get("/known/").status_code == 307
    assert client.get("/unknown").status_code == 404
    assert remaining(client) == 2


def switch_off(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter.enabled = False


def headers_off(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter._headers_enabled = False


def other_limiter(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    app.state.limiter = Limiter(limiter._key_func)


def no_default_limits(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter._default_limits = []


def earlier_route(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    app.router.routes.insert(0, Route("/known", limiter.exempt(own_endpoint())))


def replaced_in_place(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    app.router.routes[-2] = Route("/known", limiter.exempt(own_endpoint()))


def other_routes(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    app.router.routes = [Route("/known", limiter.exempt(own_endpoint()))]


def exempted_later(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter.exempt(ok)


def exempt_by_patch(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slidegate.middleware, "_should_exempt", lambda *_: True)


def no_handler_by_patch(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slidegate.middleware, "_find_route_handler", lambda *_: None)


def no_check_by_patch(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_check_request_limit", lambda *_: None)


def no_check_by_patch_of_class(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limiter, "_check_request_limit", lambda *_: None)


def no_headers_by_patch(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_inject_asgi_headers", lambda headers, view: headers)


def no_headers_by_patch_of_class(app: FastAPI, limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limiter, "_inject_asgi_headers", lambda self, headers, view: headers)


CHANGES = [
    *(switch_off, headers_off, other_limiter, no_default_limits, earlier_route, replaced_in_place, other_routes),
    *(exempted_later, exempt_by_patch, no_handler_by_patch, no_check_by_patch, no_check_by_patch_of_class),
    *(no_headers_by_patch, no_headers_by_patch_of_class),
]


def own_endpoint() -> Any:
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return endpoint


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_request_after_a_change_notices_it(
    make: Any, counted: Counted, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None]
) -> None:
    app, limiter = make()
    client = Client(app)
    assert [remaining(client) for _ in range(3)] == [4, 3, 2]
    assert counted.looked_up == 1
    change(app, limiter, monkeypatch)
    assert remaining(client) is None
    monkeypatch.undo()


@pytest.mark.parametrize("depth", [1, 2])
def test_routes_that_are_added_to_an_included_router_are_noticed(make: Any, depth: int) -> None:
    app, limiter = make()
    router = inner = APIRouter()
    for _ in range(depth - 1):
        outer = APIRouter()
        outer.include_router(router)
        router = outer
    app.include_router(router)
    app.get("/{rest:path}")(ok)
    client = Client(app)
    assert [remaining(client, "/later") for _ in range(3)] == [4, 3, 2]
    inner.get("/later")(limiter.exempt(own_endpoint()))
    # Older versions of FastAPI copy the routes of a router when they include it.
    is_copied = not hasattr(fastapi.routing, "_IncludedRouter")
    assert remaining(client, "/later") == (1 if is_copied else None)


def test_a_root_path_leads_elsewhere(make: Any) -> None:
    app, _ = make()
    client = Client(app)
    assert [remaining(client) for _ in range(2)] == [4, 3]

    async def behind_proxy(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": "/proxy", "path": f"/proxy{scope['path']}"}, receive, send)

    assert remaining(Client(behind_proxy)) == 4, "another path, so counted apart"
    assert remaining(client) == 2


def test_what_depends_on_responses_is_still_given_back(make: Any) -> None:
    app, limiter = make()
    client = Client(app)
    assert [remaining(client) for _ in range(2)] == [4, 3]
    free = limiter.limit("1/minute", deduct_when=lambda response: False)
    app.get("/free")(free(own_endpoint()))
    assert client.statuses("/free", 3) == [200] * 3
    assert remaining(client) == 2


def test_ever_new_paths_do_not_use_up_the_memory(make: Any) -> None:
    app, _ = make()
    client = Client(app)
    guards = [each for each in gc.get_objects() if isinstance(each, AppChecks) and each.app is app]
    assert guards == []
    for number in range(4200):
        client.get(f"/items/{number}")
    client.get(f"/items/{'9' * 300}")
    (guard,) = (each for each in gc.get_objects() if isinstance(each, AppChecks) and each.app is app)
    kept = guard.shortcut.memory.by_method["GET"]
    assert 50 < len(kept) <= 4096
    assert max(map(len, kept)) < 300


def test_applications_and_limiters_can_be_collected(make: Any) -> None:
    app, limiter = make()
    client = Client(app)
    assert [remaining(client) for _ in range(3)] == [4, 3, 2]
    gone = [weakref.ref(app), weakref.ref(limiter)]
    del app, limiter, client
    gc.collect()
    assert [each() for each in gone] == [None, None]


HTTP = {"type": "http", "method": "GET", "path": "/", "client": ("192.0.2.1", 5), "root_path": ""}


def found_for(scope: Any, uses: int = 10, **changes: Any) -> Any:
    app, node = object(), object()
    routes = [node]
    names = {"name": app}
    find = shortcut(
        app,
        [(names, "name", app)],
        [(Counted, "__init__", Counted.__init__)],
        [(routes, 1)],
        {"GET": {"/": ("known", 0, node)}},
        uses,
    )
    if "names" in changes:
        names["name"] = changes["names"]
    if "routes" in changes:
        routes[:] = changes["routes"]
    return find({"app": app, **scope} if isinstance(scope, dict) else scope)


@pytest.mark.parametrize(
    ("scope", "outcome"),
    [
        (HTTP, "known"),
        ({**HTTP, "type": "".join(["ht", "tp"])}, "known"),
        ({**HTTP, "path": "/other"}, None),
        ({**HTTP, "method": "POST"}, None),
        ({**HTTP, "method": ["GET"]}, None),
        ({**HTTP, "path": {}}, None),
        ({**HTTP, "app": 1}, None),
        ({**HTTP, "root_path": "/x"}, None),
        ({**HTTP, "root_path": 0}, None),
        ({"type": "websocket", "path": "/"}, None),
        ({"type": "http"}, None),
        ({"type": 7}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_shortcut_knows_nothing_of_unusual_scopes(scope: Any, outcome: Any) -> None:
    assert found_for(scope) == outcome


def test_a_shortcut_ends_with_what_is_watched() -> None:
    assert found_for(HTTP, names=7) is False
    assert found_for(HTTP, routes=[]) is False
    assert found_for(HTTP, routes=[object()]) is None
    assert found_for(HTTP, uses=0) is False
    for bad in ([(1, "name", 2)], [({}, "name")], [7]):
        with pytest.raises((TypeError, RuntimeError)):
            shortcut(None, bad, [], [([], 0)], {}, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="first of the lists"):
        shortcut(None, [], [], [], {}, 1)


def take_of(**options: Any) -> Callable[..., Any]:
    policy = Engine().policy([(Quota(2, 60_000_000_000), "scope")])
    values = {
        "hit": policy.hit,
        "cost": 1,
        "items": ("item",),
        "labels": None,
        "view": None,
        "done": "done",
        "prefix": None,
        "endpoint": "name",
        "exempt": set(),
        "full": MemoryError,
    }
    return taker(*{**values, **options}.values())


def test_a_taker_leaves_in_the_state_what_the_general_way_does() -> None:
    take = take_of()
    first: dict[str, Any] = {**HTTP}
    record = take(first)
    assert type(record) is Record
    assert (record.scope is first, record.done, record.view) == (True, "done", first["state"]["view_rate_limit"])
    assert first["state"] == {"view_rate_limit": ("item", ["192.0.2.1", "/"]), "_rate_limiting_complete": "done"}
    second: dict[str, Any] = {**HTTP, "state": {"own": 1}}
    request = Request(second)
    assert take(request, "192.0.2.1") is None
    assert (second["_slidegate"].holder(), second["_slidegate"].scope) == (request, None)
    assert second["state"]["own"] == 1
    third: dict[str, Any] = {**HTTP}
    essentials, key, label = take(third)
    assert (essentials[0], key, label, "state" in third) == (False, "192.0.2.1", "/", False)
    assert type(take({**HTTP, "path": "/other"})) is Record, "counted apart"


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({"client": None}, ()),
        ({"client": ()}, ()),
        ({"client": ("", 1)}, ()),
        ({"client": (None, 1)}, ()),
        ({"client": "192.0.2.1"}, ()),
        ({"path": None}, ()),
        ({"path": "/\n"}, ()),
        ({"state": {"_rate_limiting_complete": True}}, ()),
        ({"state": 7}, ()),
        ({"_slidegate": 7}, ()),
        ({"_slidegate": Record()}, ()),
        ({}, ("",)),
        ({}, (None,)),
        ({}, (b"bytes",)),
        ({}, ("key", "more")),
    ],
)
def test_a_taker_leaves_the_unusual_alone(changes: Any, arguments: Any) -> None:
    scope = {**HTTP, **changes}
    before = dict(scope)
    assert take_of()(scope, *arguments) == ()
    assert scope == before


def test_a_taker_exempts_and_labels_and_prefixes() -> None:
    assert take_of(exempt={"name"})({**HTTP}) == ()
    scope: dict[str, Any] = {**HTTP}
    assert take_of(labels=("shared",), prefix="app")(Request(scope), "user\ud800") is None
    assert scope["state"]["view_rate_limit"] == ("item", ["app", "user\ud800", "shared"])
    for wrong in ({"view": int}, {"view": 7}, {"labels": ()}, {"labels": ["x"]}):
        with pytest.raises(TypeError):
            take_of(**wrong)


def test_a_taker_holds_what_a_faked_time_takes_out_of_the_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    take = take_of()
    scope: dict[str, Any] = {}
    others: list[str] = []

    def fill() -> dict[str, Any]:
        # Strings and a state that nobody else holds.
        own = {"path": "".join([*"/path"]), "client": ("".join([*"192.0.2.1"]), 1), "state": {}}
        scope.clear()
        scope.update(HTTP, **own)
        return scope

    def fake() -> float:
        scope.clear()
        # Whoever asks for memory now gets what the scope has let go.
        others.extend("".join(["x"] * length) for length in (5, 9) for _ in range(100))
        return 0.0

    monkeypatch.setattr(time, "time", fake)
    state = fill()["state"]
    assert type(take(scope)) is Record
    assert state["view_rate_limit"] == ("item", ["192.0.2.1", "/path"])
    assert type(take(fill())) is Record
    assert take(fill())[1:] == ("192.0.2.1", "/path")


def test_a_teller_hands_on_what_is_not_its_own() -> None:
    handed_on: list[Any] = []
    around = teller((b"limit", b"remaining", b"reset"), tuple, lambda scope, message: handed_on.append(message))
    sent: list[Any] = []

    def send(message: Any) -> Any:
        sent.append(message)
        return len(sent)

    start: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
    unusual = [{}, {"state": None}, {"state": {}}, {"state": {"view_rate_limit": [1]}}, None]
    for scope in unusual:
        assert around(send, scope)(start) == len(sent)  # type: ignore[arg-type]
    assert handed_on == [start] * len(unusual)
    for other in ({"type": "http.response.body"}, {}, None, 7):
        around(send, {})(other)  # type: ignore[arg-type]
    assert len(handed_on) == len(unusual)
    record, view = Record(), ("item", [])
    around(send, {"state": {"view_rate_limit": view}, "_slidegate": record})(start)
    assert len(handed_on) == len(unusual) + 1, "of another request that has the same state"
    record.view = view
    with pytest.raises(AttributeError):
        around(send, {"state": {"view_rate_limit": view}, "_slidegate": record})(start)
    with pytest.raises(TypeError):
        around(send)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        teller((b"limit",), tuple, print)  # type: ignore[arg-type]
