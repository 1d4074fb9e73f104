"""What programs and tests do to a limiter while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from unittest import mock

import pytest
from conftest import Client
from fastapi import FastAPI, Request
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from slidegate import Limiter
from slidegate.testing import ManualClock
from slidegate.util import get_remote_address

MakeApp = Callable[[Limiter], FastAPI]
MakeLimiter = Callable[..., Limiter]


@pytest.fixture(params=["plain", "dynamic"])
def full(request: pytest.FixtureRequest, app: FastAPI, limiter: Limiter, client: Client) -> Client:
    """A client of "/" that has used up its limit."""
    app.get("/")(limiter.limit("2/minute" if request.param == "plain" else lambda: "2/minute")(lambda: "ok"))
    assert client.statuses("/", 3) == [200, 200, 429]
    return client


def test_a43_a_limiter_can_be_switched_off_and_on(full: Client, limiter: Limiter) -> None:
    limiter.enabled = False
    assert full.statuses("/", 5) == [200] * 5
    limiter.enabled = True
    assert full.statuses("/", 1) == [429]


@pytest.mark.parametrize(
    "forget",
    [
        lambda limiter: limiter.reset(),
        lambda limiter: limiter._storage.reset(),
        lambda limiter: limiter._storage.storage.clear(),
        lambda limiter: limiter._limiter.clear(parse("2/minute"), "192.0.2.1", "/"),
    ],
    ids=["reset", "_storage.reset", "_storage.storage.clear", "_limiter.clear"],
)
def test_a43_a_limiter_can_be_made_to_forget(forget: Callable[[Limiter], None], full: Client, limiter: Limiter) -> None:
    forget(limiter)
    assert full.statuses("/", 3) == [200, 200, 429]


def test_a_storage_can_be_asked_whether_it_works(limiter: Limiter) -> None:
    assert limiter._storage.check()


def test_buckets_can_be_hit_and_read_by_hand(app: FastAPI, limiter: Limiter, client: Client) -> None:
    app.get("/")(limiter.limit("5/minute")(lambda: "ok"))
    app.get("/shared")(limiter.shared_limit("5/minute", "chat")(lambda: "ok"))
    item = parse("5/minute")
    for path, scope in {"/": "/", "/shared": "chat"}.items():
        client.get(path)
        assert limiter.limiter.hit(item, "192.0.2.1", scope, cost=3)
        assert limiter.limiter.test(item, "192.0.2.1", scope)
        assert not limiter.limiter.test(item, "192.0.2.1", scope, cost=2)
        assert limiter.limiter.get_window_stats(item, "192.0.2.1", scope).remaining == 1
        assert client.statuses(path, 2) == [200, 429]
        assert not limiter.limiter.hit(item, "192.0.2.1", scope)
    for identifiers in [("192.0.2.1",), ("another prefix", "192.0.2.1", "/"), ("192.0.2.1", "/", "", "")]:
        assert [limiter.limiter.hit(item, *identifiers, cost=cost) for cost in (5, 1)] == [True, False]


def test_buckets_hit_by_hand_may_be_named_with_the_prefix(
    make_limiter: Callable[..., Limiter], make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter(key_prefix="one")
    app = make_app(limiter)
    app.get("/")(limiter.limit("2/minute")(lambda: "ok"))
    Client(app).get("/")
    assert limiter.limiter.hit(parse("2/minute"), "one", "192.0.2.1", "/")
    assert not limiter.limiter.test(parse("2/minute"), "192.0.2.1", "/")


def test_a_counter_that_somebody_replaced_is_the_one_that_counts(
    app: FastAPI, limiter: Limiter, client: Client
) -> None:
    app.get("/")(limiter.limit("5/minute")(lambda: "ok"))
    with mock.patch.object(limiter._limiter, "hit", return_value=False) as hit:
        assert client.get("/").status_code == 429
    hit.assert_called_once_with(parse("5/minute"), "192.0.2.1", "/", cost=1)
    limiter._limiter = FixedWindowRateLimiter(MemoryStorage())
    assert client.statuses("/", 6) == [200] * 5 + [429]
    assert limiter._limiter.storage.get("LIMITER/192.0.2.1///5/1/minute") == 6


@pytest.mark.parametrize("is_async", [False, True])
def test_a_check_that_somebody_replaced_is_the_one_that_checks(
    is_async: bool, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    async def index() -> str:
        return "ok"

    app.get("/")(limiter.limit("1/minute")(index if is_async else lambda: "ok"))
    with mock.patch.object(limiter, "_check_request_limit") as check:
        assert client.statuses("/", 2) == [200, 200]
    assert [each.args[2] for each in check.call_args_list] == [False, False]
    with mock.patch("slidegate.extension.Limiter._check_request_limit") as check:
        assert client.statuses("/", 2) == [200, 200]
    assert check.call_count == 2
    assert client.statuses("/", 2) == [200, 429]


def test_a_check_can_be_extended_in_a_subclass(make_app: Callable[[Limiter], FastAPI], clock: ManualClock) -> None:
    class Counting(Limiter):
        checked: ClassVar[list[str]] = []

        def _check_request_limit(self, request: Any, endpoint_func: Any, in_middleware: bool = True) -> None:
            self.checked.append(request.url.path)
            super()._check_request_limit(request, endpoint_func, in_middleware)

    limiter = Counting(get_remote_address, clock=clock)
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    assert Client(app).statuses("/", 2) == [200, 429]
    assert Counting.checked == ["/", "/"]


def test_requests_can_be_checked_by_hand(app: FastAPI, limiter: Limiter, client: Client) -> None:
    def index(request: Request) -> str:
        limiter._check_request_limit(request, limited, False)
        return str(request.state.view_rate_limit[0])

    limited = limiter.limit("2/minute")(lambda: "never called")
    app.get("/")(index)
    assert client.statuses("/", 3) == [200, 200, 429]


@pytest.mark.parametrize("is_exempt_first", [False, True])
def test_exempt_endpoints_are_never_limited(
    is_exempt_first: bool, app: FastAPI, limiter: Limiter, client: Client
) -> None:
    def index() -> str:
        return "ok"

    limit = limiter.limit("1/minute")
    app.get("/")(limit(limiter.exempt(index)) if is_exempt_first else limiter.exempt(limit(index)))
    assert client.statuses("/", 3) == [200] * 3


def test_a_route_can_be_exempted_by_name_at_any_time(app: FastAPI, limiter: Limiter, client: Client) -> None:
    async def index() -> str:
        return "ok"

    app.get("/")(limiter.limit("1/minute")(index))
    assert client.statuses("/", 2) == [200, 429]
    limiter._exempt_routes.add(f"{index.__module__}.{index.__qualname__}")
    assert client.statuses("/", 2) == [200, 200]


def test_exempt_returns_the_endpoint_itself(limiter: Limiter) -> None:
    def index() -> str:
        return "ok"

    assert limiter.exempt(index) is index


def test_without_auto_check_decorators_do_nothing(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(auto_check=False, headers_enabled=True)
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    assert Client(app).statuses("/", 3) == [200] * 3


def test_a_request_that_somebody_has_decided_is_not_counted(app: FastAPI, limiter: Limiter, client: Client) -> None:
    @app.middleware("http")
    async def decide(request: Request, call_next):  # type: ignore[no-untyped-def]
        request.state._rate_limiting_complete = True
        return await call_next(request)

    app.get("/plain")(limiter.limit("1/minute")(lambda: "ok"))
    app.get("/dynamic")(limiter.limit(lambda: "1/minute")(lambda: "ok"))
    assert client.statuses("/plain", 3) == client.statuses("/dynamic", 3) == [200] * 3


def test_declared_limits_are_registered_under_the_names_of_their_endpoints(limiter: Limiter) -> None:
    def tier() -> str:
        return "1/minute"

    @limiter.limit(tier)
    @limiter.limit("5/minute; 100/day")
    def index() -> str:
        return "ok"

    name = f"{__name__}.{index.__qualname__}"
    assert [str(each.limit) for each in limiter._route_limits[name]] == ["5 per 1 minute", "100 per 1 day"]
    (group,) = limiter._dynamic_route_limits[name]
    request = Request({"type": "http", "client": ("192.0.2.1", 1)})
    assert [str(each.limit) for each in group.with_request(request)] == ["1 per 1 minute"]
