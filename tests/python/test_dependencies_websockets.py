"""WebSockets: refused before they are accepted, and message by message."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, WebSocket
from starlette.websockets import WebSocketDisconnect
from websocket_clients import chatting, talk

from slidegate import Gate, Limiter, RateLimit, RateLimitExceeded, WebSocketRateLimitExceeded
from slidegate.testing import ManualClock, advance


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


@pytest.mark.parametrize("where", ["route", "router", "app"])
def test_a_connection_too_many_is_closed_with_1008(where: str, limiter: Limiter) -> None:
    limit = [Depends(RateLimit("2/minute"))]
    app = FastAPI(dependencies=limit if where == "app" else None)
    app.state.limiter = limiter
    router = APIRouter(dependencies=limit if where == "router" else None)
    router.websocket("/{room}", dependencies=limit if where == "route" else None)(echo)
    app.include_router(router, prefix="/ws")
    assert talk(app, "/ws/1", "a") == [("accept", None), ("send", "a")]
    assert talk(app, "/ws/2", "a") == [("accept", None), ("send", "a")]
    assert talk(app, "/ws/3", "a") == [
        ("close", 1008),
        ("reason", "Rate limit exceeded: 2 per 1 minute; retry after 60 s"),
    ]


def test_messages_are_limited_each_for_itself(app: FastAPI, clock: ManualClock) -> None:
    chatting(app, RateLimit("3/minute"))
    assert talk(app, "/chat", "a", "bb", "c") == [
        *(("accept", None), ("send", "2"), ("send", "0"), ("close", 1008)),
        ("reason", "Rate limit exceeded: 3 per 1 minute; retry after 60 s"),
    ]
    # Another connection of the same client goes on with the same limit.
    assert talk(app, "/chat", "a")[1:2] == [("close", 1008)]
    advance(clock, seconds=60)
    assert talk(app, "/chat", "a") == [("accept", None), ("send", "2")]


def test_an_endpoint_may_tell_its_client_and_go_on(app: FastAPI) -> None:
    @app.websocket("/chat")
    async def chat(websocket: WebSocket, gate: Annotated[Gate, Depends(RateLimit("1/minute").per_message)]) -> None:
        await websocket.accept()
        for _ in range(2):
            await websocket.receive_text()
            try:
                await gate.take()
                await websocket.send_text("ok")
            except WebSocketRateLimitExceeded as error:
                told = None if error.decision is None else (error.decision.retry_after_s, error.decision.scope)
                await websocket.send_text(f"{error.code} {told}")

    assert talk(app, "/chat", "a", "b")[:3] == [
        ("accept", None),
        ("send", "ok"),
        ("send", "1008 (60, 'WEBSOCKET /chat messages')"),
    ]


def test_the_identity_of_messages_may_be_injected(app: FastAPI) -> None:
    async def user(user: Annotated[str, Header()]) -> str:
        return user

    chatting(app, RateLimit("2/minute", key=Depends(user)))
    assert talk(app, "/chat", "aa", headers={"user": "ada"}) == [("accept", None), ("send", "0")]
    assert talk(app, "/chat", "aa", headers={"user": "bob"}) == [("accept", None), ("send", "0")]
    assert talk(app, "/chat", "a", headers={"user": "ada"})[1:2] == [("close", 1008)]


def test_a_check_by_hand_closes_too(app: FastAPI, limiter: Limiter) -> None:
    @app.websocket("/")
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        await limiter.check(websocket, "1/minute")
        await limiter.check(websocket, "1/minute")

    assert talk(app, "/")[:2] == [("accept", None), ("close", 1008)]


def test_a_limiter_that_is_off_lets_messages_pass(app: FastAPI, limiter: Limiter) -> None:
    chatting(app, RateLimit("1/minute"))
    limiter.enabled = False
    assert talk(app, "/chat", "a", "b") == [("accept", None), ("send", "off"), ("send", "off")]


def test_a_refused_websocket_is_a_refusal_as_any_other() -> None:
    assert issubclass(WebSocketRateLimitExceeded, RateLimitExceeded)


def test_a_long_error_message_fits_into_the_reason(app: FastAPI, make_limiter: Callable[..., Limiter]) -> None:
    app.websocket("/", dependencies=[Depends(RateLimit("1/minute", error_message="ü" * 200))])(echo)
    talk(app, "/")
    (_, code), (_, reason) = talk(app, "/")
    assert code == 1008
    assert len(reason.encode()) <= 123
    assert reason.endswith("ü; retry after 60 s")


def test_messages_are_not_counted_as_connections(app: FastAPI) -> None:
    per_message = RateLimit("3/minute").per_message

    @app.websocket("/ws", dependencies=[Depends(RateLimit("3/minute"))])
    async def chat(websocket: WebSocket, gate: Gate = Depends(per_message)) -> None:  # noqa: B008
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            while True:
                await websocket.receive_text()
                await gate.take()
                await websocket.send_text("taken")

    def taken(*messages: str) -> int:
        return sum(each == ("send", "taken") for each in talk(app, "/ws", *messages))

    assert taken("a", "b", "c") == 3
    assert talk(app, "/ws")[0][0] == "accept"
    assert talk(app, "/ws")[0][0] == "accept"
    assert talk(app, "/ws")[0] == ("close", 1008)
