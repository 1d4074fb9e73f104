"""Routes whose answers come at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.background import BackgroundTask
from starlette.routing import Route

from e2e.journal import Journal

if TYPE_CHECKING:
    from e2e.application import Limits

AT_THE_LIMIT = 7


class Custom(Exception):
    """Has a handler."""


def add(app: FastAPI, limits: Limits, journal: Journal) -> None:
    _add_answers(app, limits, journal)
    _add_background(app, limits, journal)
    _add_uploads(app, limits, journal)
    _add_errors(app, limits, journal)
    _add_context(app, limits)
    add_state(app, limits)


def _add_answers(app: FastAPI, limits: Limits, journal: Journal) -> None:
    async def answer(request: Request, status: int) -> Response:
        return PlainTextResponse(f"answered {status}", status_code=status)

    async def page(request: Request) -> Response:
        return PlainTextResponse("page", headers={"x-own": "kept"})

    def few(request: Request) -> dict[str, str]:
        return {"answer": "few"}

    async def waiting(request: Request, name: str) -> str:
        journal.note(name, "entered")
        await journal.gate(name).passed()
        return "admitted"

    def waiting_by_thread(request: Request, name: str) -> str:
        journal.note(name, "entered")
        journal.gate(name).passed_by_thread()
        return "admitted"

    app.api_route("/answers/{status}", methods=["GET", "POST"], include_in_schema=False)(answer)
    app.router.routes += [Route("/page", page), Route("/page/decorated", limits.limit("50/hour")(page))]
    app.get("/items/")(few)
    app.get("/items/{item}")(limits.limit("50/hour")(few))
    app.put("/items/{item}")(few)
    app.api_route("/few", methods=["GET", "POST"], include_in_schema=False)(limits.limit("3/hour")(few))
    app.get("/waiting/default")(waiting)
    app.get("/waiting/async")(limits.limit(f"{AT_THE_LIMIT}/hour")(waiting))
    app.get("/waiting/sync")(limits.limit(f"{AT_THE_LIMIT}/hour")(waiting_by_thread))
    app.get("/login/{status}")(limits.failures("2/hour")(answer))


def _add_background(app: FastAPI, limits: Limits, journal: Journal) -> None:
    async def later(name: str) -> None:
        await journal.gate(name).passed()
        journal.note(name, "background")

    async def of_response(request: Request) -> Response:
        return JSONResponse("answered", background=BackgroundTask(later, request.headers["x-client"]))

    async def of_parameter(request: Request, tasks: BackgroundTasks) -> str:
        tasks.add_task(later, request.headers["x-client"])
        return "answered"

    def of_thread(request: Request, tasks: BackgroundTasks) -> str:
        tasks.add_task(later, request.headers["x-client"])
        return "answered"

    async def failing(request: Request, tasks: BackgroundTasks) -> str:
        tasks.add_task(later, request.headers["x-client"])
        raise HTTPException(418)

    for path, endpoint in {"response": of_response, "parameter": of_parameter, "thread": of_thread}.items():
        app.get(f"/background/{path}")(endpoint)
        app.get(f"/background/{path}/decorated")(limits.limit("2/hour")(endpoint))
    app.get("/background/failing/decorated")(limits.limit("2/hour")(failing))


def _add_uploads(app: FastAPI, limits: Limits, journal: Journal) -> None:
    async def upload(request: Request) -> dict[str, Any]:
        name, digest, size = request.headers["x-client"], hashlib.sha256(), 0
        try:
            async for part in request.stream():
                digest.update(part)
                size += len(part)
                journal.note(name, f"has {size}")
        except Exception as error:
            journal.note(name, type(error).__name__)
            raise
        return {"size": size, "digest": digest.hexdigest()}

    async def patient(request: Request) -> None:
        name = request.headers["x-client"]
        journal.note(name, f"disconnected: {await request.is_disconnected()}")
        while not await request.is_disconnected():
            await asyncio.sleep(0.002)
        journal.note(name, "disconnected: True")

    async def leaving(request: Request, status: int) -> Response:
        await patient(request)
        return PlainTextResponse("nobody reads this", status_code=status)

    app.post("/upload")(upload)
    app.post("/upload/decorated")(limits.limit("50/hour")(upload))
    app.post("/upload/failures")(limits.failures("2/hour")(upload))
    app.get("/patient")(patient)
    app.get("/patient/decorated")(limits.limit("50/hour")(patient))
    app.get("/leaving/{status}")(limits.failures("1/hour")(leaving))


def _add_errors(app: FastAPI, limits: Limits, journal: Journal) -> None:
    async def opened(request: Request) -> AsyncIterator[str]:
        name = request.headers["x-client"]
        try:
            yield "opened"
        except BaseException as error:
            journal.note(name, f"dependency saw {type(error).__name__}")
            raise
        finally:
            journal.note(name, "dependency closed")

    def raising(request: Request, kind: str) -> None:
        kinds = {"value": ValueError("wrong"), "custom": Custom("handled"), "http": HTTPException(418, "teapot")}
        raise kinds[kind]

    async def raising_async(request: Request, kind: str) -> None:
        raising(request, kind)

    for path, endpoint in {"sync": raising, "async": raising_async}.items():
        app.get(f"/raises/{path}/{{kind}}", dependencies=[Depends(opened)])(endpoint)
        decorated = limits.limit("50/hour")(endpoint)
        app.get(f"/raises/{path}/decorated/{{kind}}", dependencies=[Depends(opened)])(decorated)
    app.add_exception_handler(Custom, lambda request, exc: PlainTextResponse(f"{exc}", status_code=409))


def _add_context(app: FastAPI, limits: Limits) -> None:
    async def context() -> str:
        from e2e.application import INNER, OUTER

        INNER.set("set by the endpoint")
        return OUTER.get()

    def context_of_thread() -> str:
        from e2e.application import OUTER

        return OUTER.get()

    for path, endpoint in {"async": context, "sync": context_of_thread}.items():
        app.get(f"/context/{path}")(endpoint)
        app.get(f"/context/{path}/decorated")(limits.limit("50/hour")(endpoint))


def add_state(app: FastAPI, limits: Limits) -> None:
    """What requests find in their state and their application."""

    async def state(request: Request) -> dict[str, Any]:
        calls = request.state.calls
        calls.append(request.headers["x-client"])
        return {
            "name": request.state.name,
            "inner": getattr(request.state, "inner", {}).get("name"),
            "calls": calls.count(request.headers["x-client"]),
            "is own application": request.app is app,
            "root": request.scope.get("root_path"),
        }

    async def names(request: Request) -> list[str]:
        found = {name for name, value in request.scope["state"].items() if value is not None}
        return sorted(name for name in found if not name.startswith("_slidegate"))

    async def above(request: Request) -> str:
        return "answered"

    # Only the middleware knows of this limit.
    limits.limit("2/hour")(app.get("/above")(above))
    app.get("/state")(state)
    app.get("/state/decorated")(limits.limit("50/hour")(state))
    app.get("/state/names")(limits.exempt(names))
