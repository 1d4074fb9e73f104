"""Costs and scopes that a client has sent: they are answered, and take or give back nothing that they should not."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any

import pytest
from conftest import Client, talk_to
from fastapi import Depends, FastAPI, Request, WebSocket
from faulty_storages import FAULTS
from starlette.exceptions import WebSocketException

from slidegate import Gate, Limiter, RateLimit
from slidegate._rules.limit import whole_cost
from slidegate.errors import InvalidCost, WebSocketInvalidCost
from slidegate.middleware import SlowAPIMiddleware

MakeLimiter = Callable[..., Limiter]
NO_COSTS = ["0", "-1", "nan", "inf", "-inf", "-0.0", "1e-999", "x", "", "9" * 5000]
HUGE = ["101", "1e300", "9" * 300]


def sent_cost(request: Request) -> float:
    text = request.query_params["cost"]
    return int(text) if text.isdigit() else float(text)


@pytest.fixture
def costly(app: FastAPI) -> FastAPI:
    """Routes that take what is sent, in each of the ways in which they can."""
    limiter = app.state.limiter

    @app.get("/decorated")
    @limiter.limit("100/minute", cost=sent_cost)
    async def decorated(request: Request) -> str:
        return "ok"

    @app.get("/sync")
    @limiter.limit("100/minute", cost=sent_cost)
    def sync(request: Request) -> str:
        return "ok"

    @app.get("/depends", dependencies=[Depends(RateLimit("100/minute", cost=sent_cost))])
    async def depends() -> str:
        return "ok"

    @app.get("/hand")
    async def hand(request: Request, cost: float) -> str:
        await limiter.check(request, "100/minute", cost=cost)
        return "ok"

    return app


@pytest.mark.parametrize("path", ["/decorated", "/sync", "/depends", "/hand"])
def test_fault_13_what_is_no_cost_is_a_422_and_counts_nothing(path: str, costly: FastAPI) -> None:
    client = Client(costly)
    assert {client.get(path, params={"cost": cost}).status_code for cost in NO_COSTS} == {422}
    # All is left, and no more than that.
    assert client.get(path, params={"cost": "100"}).status_code == 200
    assert client.get(path, params={"cost": "1"}).status_code == 429


@pytest.mark.parametrize("path", ["/decorated", "/sync", "/depends", "/hand"])
def test_fault_13_what_is_above_every_limit_is_refused_and_counts_nothing(path: str, costly: FastAPI) -> None:
    client = Client(costly)
    assert {client.get(path, params={"cost": cost}).status_code for cost in HUGE} == {429}
    assert client.get(path, params={"cost": "100"}).status_code == 200


def test_fault_13_a_bad_cost_is_told_without_what_was_sent_at_length_and_logged_once(
    costly: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(costly)
    body = client.get("/decorated", params={"cost": "nan"}).json()
    assert body == {"detail": "a cost must be a finite number above 0, not nan"}
    assert client.get("/decorated", params={"cost": "\x1b[2J\r\n"}).json() == {"detail": "what it costs cannot be told"}
    assert [line for line in caplog.messages if "a callable cost failed" in line] == [
        f"{__name__}.costly.<locals>.decorated: a callable cost failed, and the request was answered 422, as it is now"
        " and later: ValueError: a cost must be a finite number above 0, not nan"
    ]


def test_fault_13_a_bad_cost_passes_no_limit_whose_errors_are_swallowed(
    make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter(swallow_errors=True)
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute", cost=sent_cost)(lambda: "ok"))
    assert Client(app).get("/", params={"cost": "nan"}).status_code == 422


def test_fault_13_the_middleware_answers_as_the_application_does(
    make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]
) -> None:
    limiter = make_limiter()
    app = make_app(limiter)
    app.add_middleware(SlowAPIMiddleware)
    app.get("/")(limiter.limit("100/minute", cost=sent_cost)(lambda: "ok"))
    assert [Client(app).get("/", params={"cost": cost}).status_code for cost in ("0", "nan", "1e300", "1")] == [
        *(422, 422),
        *(429, 200),
    ]


@pytest.mark.parametrize("cost", [0, -1, math.nan, math.inf, None, "1", Decimal("sNaN"), True])
def test_fault_13_in_a_script_it_is_a_value_error_as_well(cost: Any, limiter: Limiter) -> None:
    with pytest.raises(ValueError, match="a cost must be a finite number above 0") as caught:
        limiter.check_sync(None, "1/minute", key="ada", scope="all", cost=cost)
    assert isinstance(caught.value, InvalidCost)
    with pytest.raises(ValueError, match="not a int"):
        limiter.peek_sync(None, "1/minute", key="ada", scope="all", cost=-(10**5000))
    assert limiter.peek_sync(None, "1/minute", key="ada", scope="all").remaining == 1


@pytest.mark.parametrize("cost", [Decimal("1e999999"), Fraction(10**400, 3), 1e308, 1 << 64])
def test_fault_13_a_number_is_not_written_out_to_be_refused(cost: Any, limiter: Limiter) -> None:
    assert whole_cost(cost) == whole_cost(10**5000) == 1 << 53
    assert not limiter.peek_sync(None, "1/minute", key="ada", scope="all", cost=cost).allowed


def test_fault_13_a_websocket_is_closed_by_a_bad_cost(app: FastAPI) -> None:
    limiter = app.state.limiter
    raised: list[Exception] = []
    by_message = Depends(RateLimit("5/minute").per_message)

    @app.websocket("/messages")
    async def messages(websocket: WebSocket, gate: Annotated[Gate, by_message]) -> None:
        await websocket.accept()
        await gate.take(cost=math.nan)

    @app.websocket("/hand")
    async def hand(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await limiter.check(websocket, "5/minute", cost=0)
        except WebSocketException as error:
            raised.append(error)
            raise

    for path in ("/messages", "/hand"):
        assert [each.get("code") for each in talk_to(app, path)][-1] == 1008
    assert isinstance(raised[0], WebSocketInvalidCost)


@pytest.mark.parametrize("name", ["\ud800", "room \udcff", "\ud800" * 1000])
@pytest.mark.parametrize("storage", ["memory://", "slidegate-test-faulty://"])
def test_fault_13_a_scope_with_half_a_character_is_counted_as_any_other(
    name: str, storage: str, make_limiter: MakeLimiter, make_app: Callable[[Limiter], FastAPI]
) -> None:
    FAULTS.begin()
    limiter = make_limiter(storage_uri=storage)
    app = make_app(limiter)
    app.get("/room", dependencies=[Depends(RateLimit("2/minute", scope=lambda request: name))])(lambda: "ok")
    app.get("/by/{x}")(limiter.shared_limit("2/minute", scope=lambda endpoint: name + "!")(lambda x: "ok"))
    assert Client(app).statuses("/room", 3) == [200, 200, 429]
    assert Client(app).statuses("/by/1", 3) == [200, 200, 429]
    assert not asyncio.run(limiter.peek(None, "2/minute", key="192.0.2.1", scope=name)).allowed
    assert asyncio.run(limiter.peek(None, "2/minute", key="192.0.2.1", scope=name + "?")).allowed
