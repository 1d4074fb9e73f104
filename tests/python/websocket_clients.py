"""Clients of WebSockets in this process, and something for them to talk to."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Depends, FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

from slidegate import Gate, RateLimit


def talk(app: FastAPI, path: str, *messages: str, headers: dict[str, str] | None = None) -> list[tuple[str, Any]]:
    """What an application sends to a client that connects, says these things and leaves."""
    told: list[tuple[str, Any]] = []
    said = iter(messages)

    async def receive() -> dict[str, Any]:
        if not told and "connected" not in state:
            state.append("connected")
            return {"type": "websocket.connect"}
        text = next(said, None)
        return (
            {"type": "websocket.disconnect", "code": 1000}
            if text is None
            else {"type": "websocket.receive", "text": text}
        )

    async def send(message: Any) -> None:
        kind = message["type"].removeprefix("websocket.")
        told.append((kind, message.get("text", message.get("code"))))
        if kind == "close":
            reasons.append(message.get("reason", ""))

    state: list[str] = []
    reasons: list[str] = []
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": "websocket", "path": path, "headers": raw, "client": ("192.0.2.1", 1), "query_string": b""}
    asyncio.run(app(scope | {"subprotocols": [], "root_path": "", "scheme": "ws"}, receive, send))
    return told + [("reason", reason) for reason in reasons if reason]


def chatting(app: FastAPI, limit: RateLimit) -> None:
    per_message = limit.per_message

    @app.websocket("/chat")
    async def chat(websocket: WebSocket, gate: Gate = Depends(per_message)) -> None:  # noqa: B008
        await websocket.accept()
        try:
            while True:
                text = await websocket.receive_text()
                decision = await gate.take(cost=len(text))
                await websocket.send_text("off" if decision is None else str(decision.remaining))
        except WebSocketDisconnect:
            pass
