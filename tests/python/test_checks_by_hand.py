"""What programs ask a limiter themselves, in endpoints, dependencies and scripts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import pytest
from conftest import Client
from fastapi import Depends, FastAPI, Header, Request
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from slidegate import ConfigurationError, Limiter, RateLimit, RateLimitExceeded
from slidegate.testing import ManualClock, advance

MakeLimiter = Callable[..., Limiter]


def test_a_dependency_of_ones_own_has_tiers(app: FastAPI, limiter: Limiter, client: Client) -> None:
    async def tiered(request: Request, plan: Annotated[str, Header()], user: Annotated[str, Header()]) -> None:
        await limiter.check(request, "3/minute" if plan == "pro" else "1/minute", key=user)

    app.get("/chat/{id}", dependencies=[Depends(tiered)])(lambda: "ok")
    assert client.statuses("/chat/1", 2, headers={"plan": "free", "user": "ada"}) == [200, 429]
    assert client.statuses("/chat/2", 4, headers={"plan": "pro", "user": "bob"}) == [200, 200, 200, 429]
    refused = client.get("/chat/3", headers={"plan": "free", "user": "ada"})
    assert refused.json() == {"error": "Rate limit exceeded: 1 per 1 minute"}
    assert refused.headers["Retry-After"] == "60"


@pytest.mark.parametrize("is_sync", [False, True])
def test_checks_count_and_peeks_do_not(is_sync: bool, app: FastAPI, limiter: Limiter, client: Client) -> None:
    if is_sync:

        @app.get("/")
        def endpoint(request: Request) -> list[Any]:
            before = limiter.peek_sync(request, "2/minute; 5/hour")
            after = limiter.check_sync(request, "2/minute; 5/hour")
            return [before.remaining, after.remaining, after.key, after.scope, str(after.item)]
    else:

        @app.get("/")
        async def endpoint(request: Request) -> list[Any]:
            before = await limiter.peek(request, "2/minute; 5/hour")
            after = await limiter.check(request, "2/minute; 5/hour")
            return [before.remaining, after.remaining, after.key, after.scope, str(after.item)]

    assert client.get("/").json() == [2, 1, "192.0.2.1", "GET /", "2 per 1 minute"]
    assert client.get("/").json() == [1, 0, "192.0.2.1", "GET /", "2 per 1 minute"]
    assert client.get("/").status_code == 429


def test_a_peek_at_what_is_used_up_refuses_nothing(limiter: Limiter, clock: ManualClock) -> None:
    for _ in range(2):
        limiter.check_sync(None, "2/minute", key="ada", scope="mail")
    decision = limiter.peek_sync(None, "2/minute", key="ada", scope="mail")
    assert (decision.allowed, decision.remaining, decision.retry_after_s) == (False, 0, 60)
    advance(clock, seconds=60)
    assert limiter.peek_sync(None, "2/minute", key="ada", scope="mail").allowed
    assert limiter.peek_sync(None, "2/minute", key="ada", scope="mail", cost=3).retry_after_ns is None


def test_scripts_check_without_a_request(limiter: Limiter) -> None:
    async def script() -> int:
        return (await limiter.check(None, "5/minute", key=7, scope="nightly", cost=2)).remaining

    assert asyncio.run(script()) == 3
    assert limiter.check_sync(None, "5/minute", key="7", scope="nightly", cost=Decimal("1.5")).remaining == 1
    with pytest.raises(RateLimitExceeded) as refused:
        limiter.check_sync(None, "5/minute", key="7", scope="nightly", cost=2)
    decision = refused.value.decision
    assert decision is not None
    assert (decision.key, decision.scope, decision.limit) == ("7", "nightly", 5)
    in_thread: list[int] = []
    thread = threading.Thread(
        target=lambda: in_thread.append(limiter.check_sync(None, "5/minute", key="8", scope="nightly").remaining)
    )
    thread.start()
    thread.join()
    assert in_thread == [4]


def test_a_scope_is_the_bucket_of_shared_limits_and_a_route_that_of_its_dependencies(
    app: FastAPI, limiter: Limiter, client: Client
) -> None:
    app.get("/shared")(limiter.shared_limit("3/minute", scope="llm")(lambda: "ok"))

    @app.get("/{id}", dependencies=[Depends(RateLimit("3/minute"))])
    async def left(request: Request, id: str) -> list[int]:
        own = await limiter.peek(request, "3/minute")
        return [own.remaining, (await limiter.peek(request, "3/minute", scope="llm")).remaining]

    client.get("/shared")
    assert client.get("/a").json() == [2, 2]
    assert client.get("/b").json() == [1, 2]


def test_every_check_counts(app: FastAPI, limiter: Limiter, client: Client) -> None:
    @app.get("/")
    async def twice(request: Request) -> str:
        await limiter.check(request, "4/minute")
        await limiter.check(request, "4/minute")
        return "ok"

    assert client.statuses("/", 3) == [200, 200, 429]


def test_keys_may_be_functions_also_asynchronous_ones(app: FastAPI, limiter: Limiter, client: Client) -> None:
    async def user(request: HTTPConnection) -> str:
        return request.headers["user"]

    @app.get("/")
    def endpoint(request: Request) -> str:
        limiter.check_sync(request, "1/minute", key=user)
        return "ok"

    assert [client.get("/", headers={"user": name}).status_code for name in ("ada", "bob", "ada")] == [200, 200, 429]


def test_endpoints_of_starlette_are_checked_too(limiter: Limiter) -> None:
    async def endpoint(request: Request) -> Response:
        decision = await limiter.check(request, "1/minute")
        return PlainTextResponse(decision.key)

    client = Client(Starlette(routes=[Route("/items/{id}", endpoint)]))
    assert [client.get(f"/items/{at}").status_code for at in range(2)] == [200, 429]


def test_what_cannot_be_asked_is_an_error(limiter: Limiter) -> None:
    unrouted = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.1", 1)})
    with pytest.raises(ConfigurationError, match="without a request it needs a key and a scope"):
        limiter.check_sync(None, "1/minute", key="ada")
    with pytest.raises(ConfigurationError, match="not dispatched to a route yet; give a scope"):
        limiter.check_sync(unrouted, "1/minute")
    assert limiter.check_sync(unrouted, "1/minute", scope="all").remaining == 0
    with pytest.raises(ConfigurationError, match=r"check\('1/minuet'\): cannot read the limit"):
        limiter.check_sync(None, "1/minuet", key="ada", scope="all")
    with pytest.raises(ValueError, match="a cost must be a finite number above 0"):
        limiter.check_sync(None, "1/minute", key="ada", scope="all", cost=0)


def test_nothing_is_counted_when_the_limiter_is_off(limiter: Limiter) -> None:
    limiter.enabled = False
    for _ in range(3):
        decision = limiter.check_sync(None, "2/minute", key="ada", scope="mail")
        assert (decision.allowed, decision.remaining, decision.limit) == (True, 2, 2)
    limiter.enabled = True
    assert limiter.peek_sync(None, "2/minute", key="ada", scope="mail").remaining == 2


@pytest.mark.parametrize("policy", ["shared", "refuse", "skip"])
def test_an_empty_key_is_what_the_policy_says(policy: str, make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(on_missing_key=policy)
    peeked = limiter.peek_sync(None, "1/minute", key="", scope="mail")
    assert peeked.allowed is (policy != "refuse")
    refusals = 0
    for _ in range(3):
        try:
            limiter.check_sync(None, "1/minute", key="", scope="mail")
        except RateLimitExceeded:
            refusals += 1
    assert refusals == {"shared": 2, "refuse": 3, "skip": 0}[policy]
