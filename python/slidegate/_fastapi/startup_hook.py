"""Has applications checked when they start, by what `slidegate._startup` registers here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._support.errors import ConfigurationError
from .framework import extend, insert, replace_inserted


class StartUp(NamedTuple):
    """What is done about an application that starts."""

    when: Callable[[Any], Literal["now", "later", "never"]]
    """Whether an application has a limiter by now, or may still get one."""
    check: Callable[[Any, ASGIApp, ASGIApp], ASGIApp]
    """Checks an application, with its outermost middleware and the rest that stands inside of that, and returns what is
    to serve instead of the rest. Raises ConfigurationError."""
    describe: Callable[[Any, dict[str, Any]], dict[str, Any]]
    """Adds to the OpenAPI schema of an application."""


_registered: list[StartUp] = []


def register(start_up: StartUp) -> None:
    """Has this done about applications that start, once they are watched."""
    _registered.append(start_up)


def watch_start_up() -> None:
    """Has applications checked when they start, from now on. To call it again does nothing, but for those of FastAPI
    where that was imported meanwhile.
    """
    for start_up in _registered:
        extend("build_middleware_stack", partial(_build, start_up))
        extend("openapi", partial(_describe, start_up))


def _build(start_up: StartUp, app: Any, build: Callable[[], ASGIApp]) -> ASGIApp:
    stack = build()
    try:
        when = start_up.when(app)
    except Exception:
        when = "now"
    if when == "now":
        return insert(stack, lambda rest: _checked(start_up, app, stack, rest))
    return insert(stack, lambda rest: _Unchecked(start_up, app, stack, rest)) if when == "later" else stack


def _describe(start_up: StartUp, app: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    is_known = app.openapi_schema is not None
    schema = make()
    return schema if is_known else start_up.describe(app, schema)


def _checked(start_up: StartUp, app: Any, outermost: ASGIApp, rest: ASGIApp) -> ASGIApp:
    try:
        return start_up.check(app, outermost, rest)
    except ConfigurationError as error:
        return _FailedStart(error)
    except Exception:
        # Of what an application is made of, which may be anything; and most have no limiter.
        has_limiter = isinstance(app, Starlette) and hasattr(app.state, "limiter")
        level = logging.WARNING if has_limiter else logging.DEBUG
        logging.getLogger("slidegate").log(
            level, "whether all limits of an application are enforced could not be looked at", exc_info=True
        )
        return rest


class _Unchecked:
    """In an application that has no limiter yet: its lifespan may bring one.

    It is checked then, or with its first request, and goes on without this.
    """

    def __init__(self, start_up: StartUp, app: Any, outermost: Any, rest: ASGIApp) -> None:
        self._start_up = start_up
        self._app = app
        self._outermost = outermost
        self._rest = rest
        self._instead: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._checked()(scope, receive, send)
            return

        failed: _FailedStart | None = None

        async def send_checked(message: Message) -> None:
            nonlocal failed
            if failed is not None:
                return
            if message["type"] == "lifespan.startup.complete" and isinstance(instead := self._checked(), _FailedStart):
                failed = instead
                await send(failed.message)
                # Else the lifespan would go on to wait for a shutdown, which nobody sends after a failure.
                raise failed.error
            await send(message)

        await self._rest(scope, receive, send_checked)
        if failed is not None:
            # Also where a lifespan has suppressed it.
            raise failed.error

    def _checked(self) -> ASGIApp:
        if self._instead is None:
            self._instead = _checked(self._start_up, self._app, self._outermost, self._rest)
            replace_inserted(self._outermost, self, self._instead)
        return self._instead


class _FailedStart:
    """Does not start. Servers take an exception for an application that has no start-up, so they get this."""

    def __init__(self, error: ConfigurationError) -> None:
        self.error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send(self.message)
        raise self.error

    @property
    def message(self) -> Message:
        """What a server gets instead of that it has started."""
        return {"type": "lifespan.startup.failed", "message": str(self.error)}
