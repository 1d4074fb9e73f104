"""WebSocket routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect

from e2e.journal import Journal

if TYPE_CHECKING:
    from e2e.application import Limits

FEW = 2


def add(app: FastAPI, limits: Limits, journal: Journal) -> None:
    async def echo(websocket: WebSocket) -> None:
        name = websocket.headers["x-client"]
        await websocket.accept(subprotocol="chat", headers=[(b"x-own", b"kept")])
        try:
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message["code"], message.get("reason"))
                if message.get("text") == "leave":
                    await websocket.close(4001, "as you wish")
                    return
                if message.get("text") == "fail":
                    raise ValueError("in mid-conversation")
                await websocket.send(
                    {
                        "type": "websocket.send",
                        **{kind: message[kind] for kind in ("text", "bytes") if message.get(kind) is not None},
                    }
                )
        except WebSocketDisconnect as left:
            journal.note(name, f"left with {left.code} {left.reason!r}")
        finally:
            journal.note(name, "closed")

    async def closed_at_once(websocket: WebSocket) -> None:
        await websocket.close(4003)

    async def denied(websocket: WebSocket) -> None:
        raise HTTPException(429, headers={"x-own": "kept"})

    async def few(websocket: WebSocket) -> None:
        journal.note(websocket.headers["x-client"], "entered")
        await websocket.accept()
        await websocket.close()

    app.websocket("/sockets/echo")(echo)
    app.websocket("/sockets/echo/decorated")(limits.limit("50/hour")(echo))
    app.websocket("/sockets/closed")(closed_at_once)
    app.websocket("/sockets/denied")(denied)
    app.websocket("/sockets/few")(limits.limit(f"{FEW}/hour")(few))
