"""Limits as dependencies: where they are declared, whom they count, and what is decided together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from conftest import Client
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request
from limits import parse
from starlette.requests import HTTPConnection

from slidegate import ConfigurationError, Decision, Limiter, RateLimit
from slidegate.middleware import SlowAPIMiddleware
from slidegate.testing import ManualClock, advance

MakeLimiter = Callable[..., Limiter]


def endpoint() -> str:
    return "ok"


def user(request: HTTPConnection) -> str:
    return request.headers.get("user", "")


async def injected_user(user: Annotated[str, Header()] = "") -> str:
    return user


def test_a_route_is_limited_by_its_dependency(app: FastAPI, client: Client, clock: ManualClock) -> None:
    app.get("/", dependencies=[Depends(RateLimit("2/minute"))])(endpoint)
    assert client.statuses("/", 3) == [200, 200, 429]
    refused = client.get("/")
    assert refused.json() == {"error": "Rate limit exceeded: 2 per 1 minute"}
    assert refused.headers["Retry-After"] == "60"
    assert Client(client.app, "192.0.2.2").get("/").status_code == 200
    advance(clock, seconds=60)
    assert client.get("/").status_code == 200


def test_concrete_paths_of_a_route_count_together_and_methods_apart(app: FastAPI, client: Client) -> None:
    limit = Depends(RateLimit("2/minute"))
    app.get("/jobs/{job_id}/research", dependencies=[limit])(endpoint)
    app.post("/jobs/{job_id}/research", dependencies=[limit])(endpoint)
    assert [client.get(f"/jobs/{at}/research").status_code for at in range(3)] == [200, 200, 429]
    assert client.post("/jobs/1/research").status_code == 200


@pytest.mark.parametrize("where", ["router", "include", "nested", "app"])
def test_every_route_of_a_router_or_an_application_counts_for_itself(
    where: str, limiter: Limiter, make_app: Callable[..., FastAPI]
) -> None:
    limit = [Depends(RateLimit("2/minute"))]
    app = FastAPI(dependencies=limit) if where == "app" else FastAPI()
    app.state.limiter = limiter
    router, outer = APIRouter(prefix="/api", dependencies=limit if where == "router" else None), APIRouter()
    router.get("/a/{id}")(endpoint)
    router.get("/b/{id}")(endpoint)
    outer.include_router(router, prefix="/v1", dependencies=limit if where == "nested" else None)
    app.include_router(outer, dependencies=limit if where == "include" else None)
    client = Client(app)
    assert [client.get(f"/v1/api/a/{at}").status_code for at in range(3)] == [200, 200, 429]
    assert client.statuses("/v1/api/b/1", 3) == [200, 200, 429]


def test_a_router_that_is_included_twice_counts_apart(app: FastAPI, client: Client) -> None:
    router = APIRouter(dependencies=[Depends(RateLimit("1/minute"))])
    router.get("/{id}")(endpoint)
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    assert client.statuses("/v1/1", 2) == [200, 429]
    assert client.statuses("/v2/1", 2) == [200, 429]


def test_applications_that_are_mounted_count_apart(app: FastAPI, limiter: Limiter, client: Client) -> None:
    def other() -> str:
        return "other"

    mounted = FastAPI()
    limit = Depends(RateLimit("1/minute", limiter=limiter))
    mounted.get("/items", dependencies=[limit])(endpoint)
    app.get("/items", dependencies=[limit])(other)
    app.mount("/sub", mounted)
    assert client.statuses("/items", 2) == [200, 429]
    assert client.statuses("/sub/items", 2) == [200, 429]


def test_routes_share_a_bucket_where_that_is_said(app: FastAPI, client: Client) -> None:
    router = APIRouter(dependencies=[Depends(RateLimit("3/minute", name="api", shared=True))])
    router.get("/a")(endpoint)
    router.get("/b")(endpoint)
    app.include_router(router)
    app.get("/c", dependencies=[Depends(RateLimit("3/minute", scope="api"))])(endpoint)
    assert [client.get(path).status_code for path in ("/a", "/b", "/c", "/a", "/b", "/c")] == [200] * 3 + [429] * 3


def test_a_scope_may_depend_on_the_request(app: FastAPI, client: Client) -> None:
    by_tenant = RateLimit("1/minute", scope=lambda request: request.path_params["tenant"])
    app.get("/{tenant}/a", dependencies=[Depends(by_tenant)])(endpoint)
    app.get("/{tenant}/b", dependencies=[Depends(by_tenant)])(endpoint)
    assert [client.get(path).status_code for path in ("/x/a", "/x/b", "/y/a", "/y/b")] == [200, 429, 200, 429]


def test_a_parameter_gets_the_decision(app: FastAPI, client: Client) -> None:
    @app.get("/")
    async def left(decision: Annotated[Decision, Depends(RateLimit("3/minute"))]) -> dict[str, Any]:
        return {"remaining": decision.remaining, "scope": decision.scope, "key": decision.key}

    assert client.get("/").json() == {"remaining": 2, "scope": "GET /", "key": "192.0.2.1"}


def test_fastapi_injects_who_it_is_what_it_may_and_what_it_costs(app: FastAPI, client: Client) -> None:
    async def tier(plan: Annotated[str, Header()] = "free") -> str:
        return {"free": "2/minute", "pro": "4/minute"}[plan]

    def cost(size: Annotated[int, Query()] = 1) -> int:
        return size

    limit = RateLimit(Depends(tier), key=Depends(injected_user), cost=Depends(cost))
    app.get("/", dependencies=[Depends(limit)])(endpoint)
    assert client.statuses("/", 3, headers={"user": "ada"}) == [200, 200, 429]
    assert client.statuses("/?size=2", 3, headers={"user": "bob", "plan": "pro"}) == [200, 200, 429]
    assert client.get("/?size=x", headers={"user": "eve"}).status_code == 422


def test_whom_a_dependency_turns_away_is_not_counted(app: FastAPI, client: Client) -> None:
    async def reader(role: Annotated[str, Header()], user: Annotated[str, Header()]) -> str:
        if role == "readonly":
            raise HTTPException(403)
        return user

    app.get("/", dependencies=[Depends(RateLimit("1/minute", key=Depends(reader)))])(endpoint)
    assert client.statuses("/", 3, headers={"user": "ada", "role": "readonly"}) == [403] * 3
    assert client.statuses("/", 2, headers={"user": "ada", "role": "admin"}) == [200, 429]


def test_an_injected_key_that_is_missing_is_not_replaced_by_the_limiters(
    app: FastAPI, limiter: Limiter, caplog: pytest.LogCaptureFixture
) -> None:
    async def nobody() -> None:
        return None

    app.get("/", dependencies=[Depends(RateLimit("1/minute", key=Depends(nobody)))])(endpoint)
    assert [Client(app, f"192.0.2.{at}").get("/").status_code for at in (1, 2)] == [200, 429]
    assert "found no key in a request" in caplog.text


@pytest.mark.parametrize("is_sync", [False, True])
def test_a_subclass_may_have_parameters_of_its_own(is_sync: bool, app: FastAPI, client: Client) -> None:
    class PerUser(RateLimit):
        async def __call__(  # type: ignore[override]
            self, connection: HTTPConnection, name: Annotated[str, Depends(injected_user)]
        ) -> Decision | None:
            return await self.take(connection, key=name, cost=2)

    class PerUserSync(RateLimit):
        def __call__(  # type: ignore[override]
            self, connection: HTTPConnection, name: Annotated[str, Depends(injected_user)]
        ) -> Decision | None:
            return self.take_sync(connection, key=name, cost=2)

    kind = PerUserSync if is_sync else PerUser
    app.get("/", dependencies=[Depends(kind("4/minute"))])(endpoint)
    assert client.statuses("/", 3, headers={"user": "ada"}) == [200, 200, 429]
    assert client.statuses("/", 3, headers={"user": "bob"}) == [200, 200, 429]


def test_what_is_declared_together_is_taken_together_or_not_at_all(app: FastAPI, client: Client) -> None:
    by_user = RateLimit("1/minute", key=user)
    app.get("/", dependencies=[Depends(RateLimit("3/minute")), Depends(by_user)])(endpoint)
    assert client.statuses("/", 3, headers={"user": "ada"}) == [200, 429, 429]
    # The refusals have taken nothing of what the address has left.
    assert [client.get("/", headers={"user": name}).status_code for name in ("bob", "cid", "dan")] == [200, 200, 429]


def test_limits_of_a_router_and_its_route_are_decided_together(app: FastAPI, client: Client) -> None:
    router = APIRouter(dependencies=[Depends(RateLimit("3/minute", key=lambda: "all", scope="all"))])
    router.get("/", dependencies=[Depends(RateLimit("1/minute"))])(endpoint)
    app.include_router(router)
    assert client.statuses("/", 3) == [200, 429, 429]
    assert [Client(app, f"192.0.2.{at}").get("/").status_code for at in (2, 3, 4)] == [200, 200, 429]


def test_what_stands_between_is_asked_between(app: FastAPI, client: Client) -> None:
    told: list[str] = []

    async def between() -> None:
        told.append("between")

    limits = [Depends(RateLimit("2/minute")), Depends(between), Depends(RateLimit("1/minute", key=user))]
    app.get("/", dependencies=limits)(endpoint)
    assert client.statuses("/", 3, headers={"user": "ada"}) == [200, 429, 429]
    # The first had taken both of its units before anybody knew of the other one, and refused the third request.
    assert told == ["between"] * 2


def test_a_limit_without_its_own_dependencies_joins_one_that_has_some(app: FastAPI, client: Client) -> None:
    first, second = RateLimit("1/minute", key=Depends(injected_user)), RateLimit("3/minute")
    app.get("/", dependencies=[Depends(first), Depends(second)])(endpoint)
    assert client.statuses("/", 3, headers={"user": "ada"}) == [200, 429, 429]
    assert [client.get("/", headers={"user": name}).status_code for name in ("bob", "cid", "dan")] == [200, 200, 429]


def test_a_limit_that_is_invalid_to_ask_does_not_switch_the_others_off(app: FastAPI, client: Client) -> None:
    async def number(number: Annotated[int, Query()]) -> str:
        return str(number)

    app.get("/", dependencies=[Depends(RateLimit("2/minute")), Depends(RateLimit("9/minute", key=Depends(number)))])(
        endpoint
    )
    assert client.statuses("/?number=x", 3) == [422, 422, 429]


def test_a_limit_that_is_declared_twice_counts_once(app: FastAPI, client: Client) -> None:
    limit = RateLimit("2/minute")
    router = APIRouter(dependencies=[Depends(limit), Depends(RateLimit("2/minute"))])

    async def between() -> None: ...

    again = [Depends(between), Depends(RateLimit("2/minute")), Depends(limit, use_cache=False)]
    router.get("/", dependencies=again)(endpoint)
    app.include_router(router)
    assert client.statuses("/", 3) == [200, 200, 429]


@pytest.mark.parametrize("has_middleware", [False, True])
def test_decorators_dependencies_and_middleware_each_count_once(
    has_middleware: bool, make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter(default_limits=["9/minute"], application_limits=["5/minute"])
    app = make_app(limiter)
    if has_middleware:
        app.add_middleware(SlowAPIMiddleware)
    client = Client(app)
    app.get("/one", dependencies=[Depends(RateLimit("2/hour", scope="llm"))])(
        limiter.shared_limit("2/hour", scope="llm")(endpoint)
    )
    assert client.statuses("/one", 3) == [200, 200, 429]
    app.get("/two", dependencies=[Depends(RateLimit("2/minute"))])(limiter.limit("2/minute")(lambda: "ok"))
    assert client.statuses("/two", 3) == [200, 200, 429]
    # The limit of the application has counted the four that passed, each once.
    assert limiter._limiter.get_window_stats(parse("5/minute"), "192.0.2.1", "global")[1] == 1


def test_default_limits_of_the_middleware_are_for_routes_without_their_own(
    make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]
) -> None:
    app = make_app(make_limiter(default_limits=["1/minute"]))
    app.add_middleware(SlowAPIMiddleware)
    app.get("/own", dependencies=[Depends(RateLimit("3/minute"))])(lambda: "ok")
    app.get("/both", dependencies=[Depends(RateLimit("3/minute", override_defaults=False))])(lambda: "ok")
    app.get("/none")(lambda: "ok")
    client = Client(app)
    assert client.statuses("/own", 4) == [200, 200, 200, 429]
    assert client.statuses("/both", 2) == [200, 429]
    assert client.statuses("/none", 2) == [200, 429]


def test_exemptions_and_switches_hold_for_dependencies(app: FastAPI, limiter: Limiter, client: Client) -> None:
    router = APIRouter(dependencies=[Depends(RateLimit("1/minute"))])
    router.get("/health")(limiter.exempt(lambda: "healthy"))
    router.get("/")(endpoint)
    app.include_router(router)
    app.get(
        "/when", dependencies=[Depends(RateLimit("1/minute", exempt_when=lambda request: "free" in request.headers))]
    )(lambda: "ok")
    assert client.statuses("/health", 3) == [200] * 3
    assert client.statuses("/when", 3, headers={"free": "yes"}) == [200] * 3
    assert client.statuses("/when", 2) == [200, 429]
    limiter.enabled = False
    assert client.statuses("/", 3) == [200] * 3
    limiter.enabled = True
    assert client.statuses("/", 2) == [200, 429]


def test_tests_override_a_limit_as_any_dependency(app: FastAPI, client: Client) -> None:
    strict, mild = RateLimit("1/minute"), RateLimit("2/minute", key=user)
    app.get("/", dependencies=[Depends(mild), Depends(strict)])(endpoint)
    app.dependency_overrides[strict] = lambda: None
    assert client.statuses("/", 3) == [200, 200, 429]
    app.dependency_overrides.clear()
    assert client.get("/", headers={"user": "bob"}).status_code == 200
    assert client.get("/", headers={"user": "bob"}).status_code == 429


def test_limits_may_be_called_for_and_fall_back_on_default_limits(
    make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI], caplog: pytest.LogCaptureFixture
) -> None:
    async def tier(request: Request) -> str:
        return {"pro": "3/minute", "free": "1/minute"}[request.headers["tier"]]

    app = make_app(make_limiter(default_limits=["2/minute"]))
    app.get("/", dependencies=[Depends(RateLimit(tier, key=lambda request: request.headers["tier"]))])(endpoint)
    client = Client(app)
    assert client.statuses("/", 2, headers={"tier": "free"}) == [200, 429]
    assert client.statuses("/", 4, headers={"tier": "pro"}) == [200, 200, 200, 429]
    assert client.statuses("/", 3, headers={"tier": "odd"}) == [200, 200, 429]
    assert "a dynamic limit failed; default_limits apply" in caplog.text


def test_a_lifespan_may_bring_the_limiter(limiter: Limiter) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.limiter = limiter
        yield

    app = FastAPI(lifespan=lifespan)
    app.get("/", dependencies=[Depends(RateLimit("1/minute"))])(endpoint)
    events = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": next(events)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert Client(app).statuses("/", 2) == [200, 429]


def test_without_a_limiter_the_error_says_what_to_do() -> None:
    app = FastAPI()
    app.get("/", dependencies=[Depends(RateLimit("1/minute"))])(endpoint)
    transport = httpx.ASGITransport(app)

    async def get() -> None:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            await http.get("/")

    with pytest.raises(ConfigurationError, match=r"RateLimit\('1/minute'\) found no limiter; set app.state.limiter"):
        asyncio.run(get())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: RateLimit("10/minuet"), r"RateLimit\('10/minuet'\): cannot read the limit"),
        (lambda: RateLimit(), "there is no limit"),
        (lambda: RateLimit("1/minute", shared=True), "give name="),
        (lambda: RateLimit("1/minute", shared=True, name="a", scope="b"), "not scope="),
        (lambda: RateLimit("1/minute", scope=""), "neither a name nor a callable"),
        (lambda: RateLimit("1/minute", cost=0), "a cost must be a finite number above 0"),
        (lambda: RateLimit("1/minute", key="user"), "key_func='user' is not callable"),
        (lambda: RateLimit("1/minute", key=lambda a, b: ""), "has the parameter 'b'"),
        (lambda: RateLimit(5), "5 is not a limit"),
    ],
)
def test_what_cannot_work_is_an_error_where_it_is_declared(make: Callable[[], RateLimit], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        make()


def test_the_report_tells_limits_of_dependencies(app: FastAPI, limiter: Limiter) -> None:
    router = APIRouter(dependencies=[Depends(RateLimit("100/minute", name="api", shared=True))])
    router.get("/jobs/{id}", dependencies=[Depends(RateLimit("2/hour", key=Depends(injected_user)))])(endpoint)
    app.include_router(router, prefix="/v1")
    app.get("/both", dependencies=[Depends(RateLimit("5/minute"))])(limiter.limit("1/minute")(lambda: "ok"))
    told = {each.path: (each.limits, each.reason) for each in limiter.report(app).routes if not each.is_of_framework}
    assert told == {
        "/v1/jobs/{id}": (
            (
                "100 per 1 minute (api, by get_remote_address, shared as 'api')",
                "2 per 1 hour (by what injected_user returns)",
            ),
            "dependency",
        ),
        "/both": (
            ("5 per 1 minute (by get_remote_address)", "1 per 1 minute (by get_remote_address)"),
            "dependency and decorator",
        ),
    }


def test_two_limiters_on_one_route_both_count(limiter: Limiter, make_limiter: MakeLimiter, app: FastAPI) -> None:
    other = make_limiter()
    limits = [Depends(RateLimit("2/minute", scope="all")), Depends(RateLimit("2/minute", scope="all", limiter=other))]
    app.get("/", dependencies=limits)(endpoint)
    assert Client(app).statuses("/", 1) == [200]
    left = [each.peek_sync(None, "2/minute", key="192.0.2.1", scope="all").remaining for each in (limiter, other)]
    assert left == [1, 1]


def test_the_decision_of_a_limiter_that_is_off_is_about_the_route_where_the_limit_is_shared(
    make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]
) -> None:
    app = make_app(make_limiter(enabled=False))

    @app.get("/mine")
    def mine(decision: Annotated[Decision, Depends(RateLimit("5/minute", scope="pool"))]) -> str:
        return decision.scope

    assert Client(app).get("/mine").json() == "GET /mine"
