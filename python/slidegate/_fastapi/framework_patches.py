"""All that is changed of Starlette's and FastAPI's, and why. Nothing else in the package sets anything of theirs.

Methods of their classes, for the whole process:

- `build_middleware_stack`, of both kinds of applications. Applications tell nobody that they start, but for their
  middleware, and a missing middleware is just what is to be found out. This method is called before an application's
  first event. It returns what it always did, as others look at that: OpenTelemetry leaves an application alone whose
  outermost middleware is not Starlette's own.
- `FastAPI.openapi`, so that the schema tells the refusals of routes that a `RateLimit` limits. A dependency cannot add
  a response to its route. Other schemas stay as they are.

Attributes of their objects:

- `app` of an application's outermost middleware. What we have to add to an application stands inside of that one, where
  its own middleware would, and the list of those is closed by then. An application without a limiter gets nothing. One
  whose lifespan may bring a limiter is looked at when that has begun, and nothing is left of us after that.
- `handler` of the outermost middleware, so that the answer to an unhandled error has headers, too: it is made outside
  of everything that we add.
- `middleware_stack` of a router, as if that had been made with a middleware: nobody else sees which endpoint serves a
  request after all before it does. It is set where middleware behind our own may change the path or the method of a
  request, and where somebody's own wrapper stands above the decorator of a limit.
- `_receive` of a request that the middleware has made itself, while a check of it may read the body, so that the
  application gets the body once more.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive

_EXTENDED = "__slidegate_watched__"


def extend(name: str, instead: Callable[[Any, Callable[[], Any]], Any]) -> None:
    """Has a method of applications do `instead` what that does with the application and with what the method did.

    To call it again does nothing, but for kinds of applications that were imported meanwhile.
    """
    fastapi: Any = sys.modules.get("fastapi.applications")
    for kind in (Starlette, getattr(fastapi, "FastAPI", Starlette)):
        method = vars(kind).get(name)
        if method is not None and not hasattr(method, _EXTENDED):
            setattr(kind, name, _extended(method, instead))


def insert(stack: ASGIApp, made: Callable[[ASGIApp], ASGIApp]) -> ASGIApp:
    """Puts what is made of the rest of a stack behind its outermost middleware, and returns the stack.

    What calls what it wraps by another name than `app` is not Starlette's own, and is wrapped itself.
    """
    inner = getattr(stack, "app", None)
    if inner is None:
        return made(stack)
    outermost: Any = stack
    outermost.app = made(inner)
    return stack


def replace_inserted(stack: Any, inserted: ASGIApp, other: ASGIApp) -> None:
    """Puts another application in the place of what was inserted, if that is still there."""
    if getattr(stack, "app", None) is inserted:
        stack.app = other


def wrap_error_handler(stack: ASGIApp, wrap: Callable[[Any], Any]) -> None:
    """Wraps what makes the answer to an unhandled error, if the outermost middleware of a stack is Starlette's own."""
    if isinstance(stack, ServerErrorMiddleware):
        stack.handler = wrap(stack.handler or stack.error_response)


def put_before_routes(router: Any, app: ASGIApp) -> None:
    """Has a router that has a `middleware_stack` go on with this application, which calls that."""
    router.middleware_stack = app


async def awaited_with_body(pending: Awaitable[None], request: Request, receive: Receive) -> Receive:
    """Awaits a check, which may read the body, and returns what then receives it once more, for the application."""
    received: list[Message] = []

    async def recording() -> Message:
        received.append(await receive())
        return received[-1]

    request._receive = recording
    await pending
    if not received:
        return receive
    messages = iter(received)

    async def replayed() -> Message:
        return next(messages, None) or await receive()

    return replayed


def may_bring_a_limiter(app: Any) -> bool:
    """Whether an application has a lifespan of its own, or handlers of its start."""
    router = getattr(app, "router", None)
    default = "_DefaultLifespan"
    has_lifespan = type(getattr(router, "lifespan_context", None)).__name__ != default
    return has_lifespan or bool(getattr(router, "on_startup", ()))


def _extended(method: Any, instead: Callable[[Any, Callable[[], Any]], Any]) -> Any:
    @functools.wraps(method)
    def extended(self: Any) -> Any:
        return instead(self, lambda: method(self))

    setattr(extended, _EXTENDED, True)
    return extended
