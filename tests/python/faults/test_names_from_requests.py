"""Scopes and limits that requests make: how long they may be, and what is told of them."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable

import pytest
from conftest import Client
from fastapi import Depends, FastAPI, Request
from prometheus_client import CollectorRegistry

from slidegate import ConfigurationError, Limiter, RateLimit
from slidegate._rules.bucket import short_name
from slidegate.metrics import LimiterCollector

MakeLimiter = Callable[..., Limiter]
LONG = 60_000


def name_of(request: Request) -> str:
    # The length is made here, as clients cache their URLs.
    return request.query_params["name"] + "x" * int(request.query_params.get("more", 0))


@pytest.fixture
def rooms(app: FastAPI) -> FastAPI:
    """An application whose scopes are what is sent."""
    limiter = app.state.limiter
    by_name = RateLimit("5/minute", scope=name_of)

    @app.get("/room", dependencies=[Depends(by_name)])
    async def room() -> str:
        return "ok"

    @app.get("/hand")
    async def hand(request: Request, limit: str = "5/minute") -> str:
        await limiter.check(request, limit, scope=name_of(request))
        return "ok"

    @app.get("/shared")
    @limiter.shared_limit("5/minute", scope=name_of)
    async def shared() -> str:
        return "ok"

    @app.get("/other", dependencies=[Depends(RateLimit("7/hour"))])
    async def other() -> str:
        return "ok"

    return app


@pytest.mark.parametrize("path", ["/room", "/hand", "/shared"])
def test_fault_12_scopes_that_are_long_are_counted_and_not_kept(path: str, rooms: FastAPI) -> None:
    client = Client(rooms)
    client.get(path, params={"name": "first"})
    gc.collect()
    tracemalloc.start()
    try:
        for at in range(60):
            assert client.get(path, params={"name": at, "more": LONG}).status_code in (200, 429)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10 * LONG


def test_fault_12_long_scopes_are_apart_and_never_mistaken_for_short_ones(rooms: FastAPI) -> None:
    client = Client(rooms)
    one, other = ("x" * LONG + end for end in "ab")
    assert client.statuses("/room", 6, params={"name": one}) == [200] * 5 + [429]
    # By hand it is the same bucket, and another one for any other name.
    assert client.statuses("/hand", 1, params={"name": one}) == [429]
    for name in (other, short_name(one), one[:200]):
        assert client.statuses("/room", 1, params={"name": name}) == [200]
    assert short_name("chat") == "chat"
    assert short_name(str(short_name(one))[:]) != short_name(one)


def test_fault_12_limits_that_are_longer_than_limits_are_an_error_and_not_kept(rooms: FastAPI) -> None:
    client = Client(rooms)
    # As many as the address of a request may have where each is written as %20.
    spaces = " " * 20_000
    assert client.statuses("/hand", 1, params={"name": "a", "limit": f"5/minute{spaces}"}) == [500]
    with pytest.raises(ConfigurationError, match=r"is longer than limits are") as caught:
        asyncio.run(rooms.state.limiter.check(None, f"5/minute{spaces}", key="ada", scope="x"))
    assert len(str(caught.value)) < 1000


def rules_of(limiter: Limiter) -> list[dict[str, str]]:
    registry = CollectorRegistry()
    registry.register(LimiterCollector(limiter))
    return [
        sample.labels
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "slidegate_requests_total"
    ]


def test_fault_12_scopes_of_requests_do_not_hide_what_is_declared(rooms: FastAPI) -> None:
    client = Client(rooms)
    for at in range(300):
        assert client.get("/room", params={"name": f"room {at}"}).status_code == 200
    assert client.get("/other").status_code == 200
    told = rules_of(rooms.state.limiter)
    [admitted] = [labels for labels in told if "7 per hour" in labels["limit"] and labels["outcome"] == "admitted"]
    assert "/other" in admitted["scope"]
    # Those of requests are told as far as there is room.
    assert any("room 0" in labels["scope"] for labels in told)
    assert not any("room 299" in labels["scope"] for labels in told)


def test_fault_12_limits_of_requests_do_not_hide_what_is_declared(rooms: FastAPI) -> None:
    client = Client(rooms)
    for at in range(300):
        assert client.get("/hand", params={"name": "one", "limit": f"{1000 + at}/minute"}).status_code == 200
    assert client.get("/other").status_code == 200
    assert any("7 per hour" in labels["limit"] for labels in rules_of(rooms.state.limiter))


def test_fault_12_what_programs_read_by_a_long_scope_is_what_is_counted_there(app: FastAPI, limiter: Limiter) -> None:
    scope = "x" * 300
    app.get("/")(limiter.shared_limit("5/minute", scope=scope)(lambda: "ok"))
    assert Client(app).statuses("/", 2) == [200, 200]
    assert limiter._storage.get(f"LIMITER/192.0.2.1/{scope}/5/1/minute") == 2
