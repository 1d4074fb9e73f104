"""Private names of a limiter and of its limits that programs set, or change in place, while requests come in."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import limits
import pytest
from compat.conftest import SLOWAPI
from compat.library import Library, same
from conftest import Client
from fastapi import Request
from limits import parse
from limits.limits import GRANULARITIES
from starlette.responses import Response

from slidegate import Limiter
from slidegate._rules.limit_group import LimitGroup
from slidegate._rules.watched_item import watched
from slidegate.errors import ConfigurationError
from slidegate.util import get_remote_address

MIDDLEWARES = [None, "SlowAPIMiddleware", "SlowAPIASGIMiddleware"]


@pytest.fixture(params=[SLOWAPI, "slidegate"])
def library(request: pytest.FixtureRequest) -> Library:
    return Library(request.param, {})


def ours() -> Library:
    return Library("slidegate", {})


def limited(
    library: Library, limit: Any = "100/minute", middleware: str | None = None, **options: Any
) -> tuple[Any, Client]:
    limiter = library.limiter(**options)
    app = library.app(limiter, middleware)

    async def items(request: Request, response: Response) -> str:
        return "ok"

    async def plain(request: Request) -> str:
        return "ok"

    app.get("/items")(limiter.limit(limit)(items) if limit else items)
    app.get("/plain")(plain)
    return limiter, Client(app)


def limits_in(limiter: Any) -> list[Any]:
    return [limit for limits in limiter._route_limits.values() for limit in limits]


def set_limit(limit: Any) -> None:
    limit.limit = parse("1/minute")


def set_amount(limit: Any) -> None:
    limit.limit.amount = 1


def set_key(limit: Any) -> None:
    limit.key_func = lambda request: request.headers["X-User"]


def set_exempt(limit: Any) -> None:
    limit.exempt_when = lambda: True


def set_exempt_by_request(limit: Any) -> None:
    limit.exempt_when = lambda request: request.headers["X-User"] == "b"


def set_cost(limit: Any) -> None:
    limit.cost = 50


def set_methods(limit: Any) -> None:
    limit.methods = ["post"]


CHANGES = [set_limit, set_amount, set_key, set_exempt, set_cost, set_methods]


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_fault_39_a_limit_that_is_changed_in_place_holds(change: Any, before: int, library: Library) -> None:
    limiter, client = limited(library, "2/minute" if change not in (set_limit, set_amount, set_cost) else "100/minute")
    headers = {"X-User": "a"}
    told = [client.statuses("/items", before, headers=headers)]
    for limit in limits_in(limiter):
        change(limit)
    told += [client.statuses("/items", 2, headers=headers), client.statuses("/items", 2, headers={"X-User": "b"})]
    left = {
        set_limit: [[200, 429], [429, 429]],
        set_amount: [[200, 429], [429, 429]],
        set_key: [[200, 200], [200, 200]],
        set_exempt: [[200, 200], [200, 200]],
        set_cost: [[200, 200] if not before else [200, 429], [429, 429]],
        set_methods: [[200, 200], [200, 200]],
    }[change]
    assert told == library.expected(same([[200] * before, *left]))


def test_fault_39_an_exemption_that_is_set_may_take_the_request() -> None:
    # slowapi only looks at the parameters of the one that was there first.
    limiter, client = limited(ours(), "1/minute")
    for limit in limits_in(limiter):
        set_exempt_by_request(limit)
    told = [client.statuses("/items", 2, headers={"X-User": user}) for user in "ab"]
    assert told == [[200, 429], [200, 200]]


def test_fault_39_a_limit_can_be_changed_back(library: Library) -> None:
    limiter, client = limited(library)
    (limit,) = limits_in(limiter)
    with patch.object(limit, "limit", parse("1/minute")):
        patched = client.statuses("/items", 2)
    assert (patched, client.statuses("/items", 2)) == library.expected(same(([200, 429], [200, 200])))


def test_fault_39_a_changed_limit_keeps_what_only_we_have() -> None:
    library = ours()
    limiter = library.limiter()
    app = library.app(limiter)

    async def items(request: Request) -> str:
        return "ok"

    app.get("/items")(limiter.limit("9/minute", name="chat", deduct_when=lambda response: False)(items))
    app.get("/shadow")(limiter.limit("9/minute", shadow=True)(lambda: "ok"))
    for limit in limits_in(limiter):
        limit.limit.amount = 1
    assert [Client(app).statuses(path, 3) for path in ("/items", "/shadow")] == [[200] * 3] * 2


def test_fault_39_what_a_limit_cannot_be_is_an_error_at_the_assignment() -> None:
    limiter, client = limited(ours(), "1/minute")
    (limit,) = limits_in(limiter)
    with pytest.raises(ConfigurationError, match="the window"):
        limit.limit = parse("1/6 years")
    with pytest.raises(ConfigurationError, match="exempt_when"):
        limit.exempt_when = lambda one, two: True
    assert str(limit.limit) == "1 per 1 minute"
    assert client.statuses("/items", 2) == [200, 429]


def test_fault_39_a_cost_that_cannot_be_leaves_the_limit_as_it_was() -> None:
    library = ours()
    limiter = library.limiter()
    app = library.app(limiter)
    app.get("/items")(limiter.limit("100/minute", cost=50)(lambda: "ok"))
    (limit,) = limits_in(limiter)
    for cost in (-1, float("nan"), "all"):
        with pytest.raises(ConfigurationError, match="a cost must be"):
            limit.cost = cost
    assert limit.cost == 50
    assert Client(app).statuses("/items", 3) == [200, 200, 429]
    limiter.reset()
    # What never fits is refused.
    limit.limit.amount = 49
    assert Client(app).statuses("/items", 1) == [429]


def test_fault_39_limits_that_tell_of_changes_are_limits_like_others() -> None:
    told: list[int] = []
    item = watched(parse("5/2 minutes"), lambda: told.append(1))
    kinds = dict(GRANULARITIES)
    assert item == parse("5/2 minutes")
    assert hash(item) == hash(parse("5/2 minutes"))
    assert isinstance(item, limits.RateLimitItemPerMinute)
    assert (str(item), item.key_for("a"), type(item).__name__) == (
        "5 per 2 minute",
        "LIMITER/a/5/2/minute",
        "RateLimitItemPerMinute",
    )
    for other in (copy.copy(item), copy.deepcopy(item), pickle.loads(pickle.dumps(item))):
        assert (other, type(other)) == (item, limits.RateLimitItemPerMinute)
        other.amount = 7
    assert told == []
    item.amount = 7
    assert (told, item.amount) == ([1], 7)
    assert kinds == GRANULARITIES


def test_fault_39_a_copied_limit_is_nobodys_but_its_own() -> None:
    limiter, client = limited(ours(), "1/minute")
    (limit,) = limits_in(limiter)
    for other in (copy.copy(limit), limit.copied()):
        other.limit = parse("9/minute")
    assert client.statuses("/items", 2) == [200, 429]


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_fault_39_default_limits_can_be_changed_after_requests(middleware: str | None, library: Library) -> None:
    limiter, client = limited(library, None, middleware or "SlowAPIMiddleware", default_limits=["1/minute"])
    told = [client.statuses("/plain", 2)]
    (group,) = limiter._default_limits
    limiter._default_limits.clear()
    told.append(client.statuses("/plain", 2))
    limiter._default_limits.append(group)
    told.append(client.statuses("/plain", 2))
    limiter._default_limits[:] = []
    told.append(client.statuses("/plain", 2))
    limiter._default_limits += library.limiter(default_limits=["2/hour"])._default_limits
    told.append(client.statuses("/plain", 3))
    assert told == library.expected(same([[200, 429], [200, 200], [429, 429], [200, 200], [200, 200, 429]]))


def test_fault_39_default_limits_of_decorated_routes_change_too(library: Library) -> None:
    limiter = library.limiter(default_limits=["2/minute"])
    app = library.app(limiter)

    async def items(request: Request) -> str:
        return "ok"

    app.get("/items")(limiter.limit("9/minute", override_defaults=False)(items))
    client = Client(app)
    told = [client.statuses("/items", 3)]
    limiter._default_limits.clear()
    told.append(client.statuses("/items", 2))
    assert told == library.expected(same([[200, 200, 429], [200, 200]]))


def test_fault_39_application_limits_can_be_changed_after_requests(library: Library) -> None:
    limiter, client = limited(library, None, "SlowAPIMiddleware", application_limits=["1/minute"])
    told = [client.statuses("/plain", 2)]
    limiter._application_limits.clear()
    told.append(client.statuses("/plain", 2))
    assert told == library.expected(same([[200, 429], [200, 200]]))


def set_provider(group: Any) -> None:
    group._LimitGroup__limit_provider = "2/minute"


def set_callable_provider(group: Any) -> None:
    group._LimitGroup__limit_provider = lambda: "2/minute"


def set_group_key(group: Any) -> None:
    group.key_function = lambda request: request.headers["X-User"]


@pytest.mark.parametrize("change", [set_provider, set_callable_provider, set_group_key])
def test_fault_39_a_group_that_is_changed_in_place_holds(change: Any, library: Library) -> None:
    limiter, client = limited(library, None, "SlowAPIMiddleware", default_limits=["1/minute"])
    told = [client.statuses("/plain", 2, headers={"X-User": "a"})]
    change(limiter._default_limits[0])
    told.append(client.statuses("/plain", 2, headers={"X-User": "b"}))
    expected = [200, 429] if change is set_group_key else [200, 200]
    assert told == library.expected(same([[200, 429], expected]))


def test_fault_39_a_dynamic_group_can_be_given_another_callable(library: Library) -> None:
    limiter, client = limited(library, lambda: "100/minute")
    ((group,),) = limiter._dynamic_route_limits.values()
    told = [client.statuses("/items", 2)]
    group._LimitGroup__limit_provider = lambda: "1/minute"
    told.append(client.statuses("/items", 2))
    assert told == library.expected(same([[200, 200], [200, 429]]))


def test_fault_39_what_a_group_cannot_be_is_an_error_at_the_assignment() -> None:
    limiter, client = limited(ours(), None, "SlowAPIMiddleware", default_limits=["1/minute"])
    (group,) = limiter._default_limits
    with pytest.raises(ConfigurationError, match="'nonsense'"):
        group._LimitGroup__limit_provider = "nonsense"
    for wrong in ("5/minute", 5):
        with pytest.raises(ConfigurationError, match="no LimitGroup"):
            limiter._default_limits.append(wrong)
    for whole in ("5/minute", ["5/minute"], [5]):
        with pytest.raises(ConfigurationError, match="no LimitGroup"):
            limiter._default_limits = whole
    with pytest.raises(ConfigurationError, match="no function"):
        limiter._request_filters.append("exempt")
    assert limiter._default_limits == [group]
    assert client.statuses("/plain", 2) == [200, 429]


def test_fault_39_what_is_no_limit_of_a_route_is_an_error_at_the_assignment() -> None:
    limiter, _ = limited(ours(), "1/minute")
    (name,) = limiter._route_limits
    with pytest.raises(ConfigurationError, match="'5/minute' is no Limit"):
        limiter._route_limits[name] = ["5/minute"]


def test_fault_39_exempt_routes_may_be_a_list(library: Library) -> None:
    limiter, client = limited(library, None, "SlowAPIMiddleware", default_limits=["1/minute"])
    (plain,) = [route.endpoint for route in client.app.routes if getattr(route, "path", "") == "/plain"]
    limiter._exempt_routes = [f"{plain.__module__}.{plain.__name__}", f"{plain.__module__}.{plain.__qualname__}"]
    assert client.statuses("/plain", 2) == library.expected(same([200, 200]))


@pytest.mark.parametrize("where", ["default", "dynamic"])
def test_fault_39_a_group_may_say_itself_what_its_limits_are(where: str, library: Library) -> None:
    asked: list[int] = []

    class Own(library.LimitGroup):  # type: ignore[misc,name-defined]
        def __iter__(self) -> Iterator[Any]:
            asked.append(1)
            for limit in super().__iter__():
                limit.limit.amount = 2
                yield limit

    limiter, client = limited(library, (lambda: "9/minute") if where == "dynamic" else None, "SlowAPIMiddleware")
    options = (limiter._key_func, None, False, None, None, None, 1, True)
    if where == "default":
        limiter._default_limits.append(Own("9/minute", *options))
        path = "/plain"
    else:
        (name,) = limiter._dynamic_route_limits
        limiter._dynamic_route_limits[name] = [Own(lambda: "9/minute", *options)]
        path = "/items"
    told = client.statuses(path, 3)
    assert (told, len(asked)) == library.expected(same(([200, 200, 429], 3)))
    if library.name == "slidegate":
        assert f"what {__name__}.{Own.__qualname__} yields" in str(limiter.report(client.app))


def test_fault_39_limits_may_be_any_iterable(library: Library) -> None:
    limiter, client = limited(library, None, "SlowAPIMiddleware")
    limit = library.Limit(parse("1/minute"), limiter._key_func, None, False, None, None, None, 1, False)
    limiter._default_limits.append([limit])
    assert client.statuses("/plain", 2) == library.expected(same([200, 429]))


def test_fault_39_what_any_iterable_yields_for_a_request_is_not_kept() -> None:
    limiter, client = limited(ours(), None, "SlowAPIMiddleware", key_style="endpoint")
    limit = ours().Limit(parse("1000/minute"), limiter._key_func, None, False, None, None, None, 1, False)
    limiter._default_limits.append([limit])

    def groups_kept() -> int:
        gc.collect()
        return sum(isinstance(each, LimitGroup) for each in gc.get_objects())

    assert client.statuses("/plain", 2) == [200, 200]
    kept = groups_kept()
    assert client.statuses("/plain", 20) == [200] * 20
    # Those of earlier tests may go meanwhile.
    assert groups_kept() <= kept


def test_fault_39_an_iterable_that_fails_is_never_no_limit() -> None:
    class Broken:
        def __iter__(self) -> Iterator[Any]:
            raise LookupError("nothing today")

    limiter, client = limited(ours(), None, "SlowAPIMiddleware")
    limiter._default_limits.append(Broken())
    assert client.statuses("/plain", 1) == [500]


def names_of(response: Any) -> list[str]:
    return sorted(name for name in response.headers if "limit" in name or "retry" in name)


@pytest.mark.parametrize("path", ["/items", "/plain"])
def test_fault_39_headers_can_be_renamed(path: str, library: Library) -> None:
    limiter, client = limited(
        library, "9/minute", "SlowAPIMiddleware", default_limits=["9/minute"], headers_enabled=True
    )
    before = names_of(client.get(path))
    number = library.HEADERS.LIMIT
    limiter._header_mapping[number] = "RateLimit-Limit"
    after = names_of(client.get(path))
    with patch.dict(limiter._header_mapping, {number: "X-Own-Limit"}):
        patched = names_of(client.get(path))
    told = [
        [name for name in each if name.endswith("limit-limit") or "own" in name] for each in (before, after, patched)
    ]
    assert told == library.expected(same([["x-ratelimit-limit"], ["ratelimit-limit"], ["x-own-limit"]]))
    assert [name for name in names_of(client.get(path)) if name.endswith("-limit")] == ["ratelimit-limit"]


def test_fault_39_headers_that_cannot_be_are_errors_at_the_assignment() -> None:
    limiter, client = limited(ours(), "9/minute", headers_enabled=True)
    for number, name in ((99, "X-Other"), (1, ""), (1, None)):
        with pytest.raises(ConfigurationError, match="_header_mapping"):
            limiter._header_mapping[number] = name
    with pytest.raises(ConfigurationError, match="_retry_after"):
        limiter._retry_after = "tomorrow"
    assert limiter._retry_after is None
    assert "x-ratelimit-reset" in client.get("/items").headers


def test_fault_39_retry_after_can_become_a_date(library: Library) -> None:
    limiter, client = limited(library, "1/minute", headers_enabled=True)
    client.get("/items")
    limiter._retry_after = "http-date"
    # slowapi leaves out that it is in Greenwich.
    assert client.get("/items").headers["Retry-After"].count(":") == library.expected(same(2))


def test_fault_39_the_prefix_of_keys_can_be_changed(library: Library) -> None:
    limiter, client = limited(library, "1/minute")
    told = [client.statuses("/items", 2)]
    limiter._key_prefix = "other"
    told.append(client.statuses("/items", 2))
    left = limiter.limiter.get_window_stats(parse("1/minute"), "other", "192.0.2.1", "/items").remaining
    limiter._key_prefix = ""
    told.append(client.statuses("/items", 2))
    assert (told, left) == library.expected(same(([[200, 429], [200, 429], [429, 429]], 0)))


def test_fault_39_the_prefix_of_keys_can_be_changed_on_storages_of_limits() -> None:
    limiter, client = limited(ours(), "1/minute", storage_uri="slidegate-test-faulty://")
    told = [client.statuses("/items", 2)]
    limiter._key_prefix = "other"
    told.append(client.statuses("/items", 2))
    assert told == [[200, 429], [200, 429]]


def test_fault_39_the_style_of_keys_can_be_changed(library: Library) -> None:
    limiter = library.limiter()
    app = library.app(limiter)

    @app.get("/items/{name}")
    @limiter.limit("1/minute")
    async def items(request: Request, name: str) -> str:
        return "ok"

    client = Client(app)
    told = [client.statuses(f"/items/{name}", 1) for name in "ab"]
    limiter._key_style = "endpoint"
    told += [client.statuses(f"/items/{name}", 1) for name in "ab"]
    assert told == library.expected(same([[200], [200], [200], [429]]))


def test_fault_39_request_filters_let_pass() -> None:
    # A 500 in slowapi, which misses the limit that was never looked at.
    limiter, client = limited(ours(), "1/minute", "SlowAPIMiddleware", default_limits=["1/minute"])
    is_let_through = [False]
    limiter._request_filters.append(lambda: is_let_through[0])
    told = [client.statuses(path, 2) for path in ("/items", "/plain")]
    is_let_through[0] = True
    told += [client.statuses(path, 2) for path in ("/items", "/plain")]
    limiter._request_filters = []
    told += [client.statuses(path, 1) for path in ("/items", "/plain")]
    assert told == [[200, 429], [200, 429], [200, 200], [200, 200], [429], [429]]


def test_fault_39_a_fallback_can_be_given_later(library: Library) -> None:
    limiter, client = limited(library, "9/minute", in_memory_fallback=["1/minute"])
    limiter._in_memory_fallback = library.limiter(in_memory_fallback=["2/minute"])._in_memory_fallback
    with patch.object(limiter.limiter, "hit", side_effect=ConnectionError("down")):
        assert client.statuses("/items", 3) == library.expected(same([200, 200, 429]))


@pytest.mark.parametrize("uri", ["memory://", "slidegate-test-faulty://"])
def test_fault_39_a_fallback_can_be_enabled_later(uri: str) -> None:
    limiter, client = limited(ours(), "2/minute", storage_uri=uri)
    limiter._in_memory_fallback_enabled = True
    with patch.object(limiter.limiter, "hit", side_effect=ConnectionError("down")):
        assert client.statuses("/items", 3) == [200, 200, 429]


def test_fault_39_the_logger_can_be_another(library: Library, caplog: pytest.LogCaptureFixture) -> None:
    limiter, client = limited(library, "1/minute")
    limiter.logger = logging.getLogger("own.limiter")
    client.statuses("/items", 2)
    told = [record.name.startswith("own.limiter") for record in caplog.records if "exceeded" in record.message]
    assert told == library.expected(same([True]))


def test_fault_39_what_nothing_can_come_of_is_said(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter(get_remote_address)
    for name in ("_strategy", "_Limiter__check_backend_count"):
        with pytest.raises(AttributeError, match=f"{name} cannot be changed"):
            setattr(limiter, name, "gcra")
    for name in ("_fallback_limiter", "_Limiter__marked_for_limiting"):
        with pytest.raises(AttributeError):
            setattr(limiter, name, None)
    with pytest.raises(TypeError):
        limiter._Limiter__marked_for_limiting["a"] = []
    limiter._storage_uri = "memory://"
    assert "_storage_uri is read when a Limiter is made" in caplog.text
    limiter.own_name = 5


def test_fault_40_an_evaluation_of_ones_own_decides(library: Library) -> None:
    seen: list[Any] = []

    class Own(library.Limiter):  # type: ignore[misc,name-defined]
        def _Limiter__evaluate_limits(self, request: Request, endpoint: str, limits: Any) -> None:
            seen.append((request.url.path, endpoint, [str(limit.limit) for limit in limits]))
            super()._Limiter__evaluate_limits(request, endpoint, limits)

    limiter = Own(key_func=library.get_remote_address, default_limits=["1/minute"])
    app = library.app(limiter, "SlowAPIMiddleware")

    async def items(request: Request) -> str:
        return "ok"

    async def plain(request: Request) -> str:
        return "ok"

    app.get("/items")(limiter.limit("1/hour")(items))
    app.get("/plain")(plain)
    told = [Client(app).statuses(path, 2) for path in ("/items", "/plain")]
    expected = [("/items", "/items", ["1 per 1 hour"])] * 2 + [("/plain", "/plain", ["1 per 1 minute"])] * 2
    assert (told, [each for each in seen if each[2]]) == library.expected(same(([[200, 429]] * 2, expected)))


def test_fault_40_an_evaluation_can_be_put_into_the_object(library: Library) -> None:
    limiter, client = limited(library, "9/minute")
    (limit,) = limits_in(limiter)

    def refuse(request: Request, endpoint: str, limits: Any) -> None:
        request.state.view_rate_limit = None
        raise library.RateLimitExceeded(limit)

    limiter._Limiter__evaluate_limits = refuse
    told = [client.statuses("/items", 1)]
    del limiter._Limiter__evaluate_limits
    told.append(client.statuses("/items", 1))
    assert told == library.expected(same([[429], [200]]))


def test_fault_40_an_evaluation_may_name_another_bucket(library: Library) -> None:
    class Own(library.Limiter):  # type: ignore[misc,name-defined]
        def _Limiter__evaluate_limits(self, request: Request, endpoint: str, limits: Any) -> None:
            super()._Limiter__evaluate_limits(request, "everything", limits)

    limiter = Own(key_func=library.get_remote_address)
    app = library.app(limiter)

    async def items(request: Request, name: str) -> str:
        return "ok"

    app.get("/items/{name}")(limiter.limit("1/hour")(items))
    assert [Client(app).statuses(f"/items/{name}", 1) for name in "ab"] == library.expected(same([[200], [429]]))
