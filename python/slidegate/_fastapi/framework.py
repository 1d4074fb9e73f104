"""All that is changed in Starlette and FastAPI, for the whole process, and why. No type of theirs is changed.

- `build_middleware_stack`, of both kinds of applications. Applications tell nobody that they start, but for their
  middleware, and a missing middleware is just what is to be found out. This method is called before an application's
  first event. It returns what it always did, as others look at that: OpenTelemetry leaves an application alone whose
  outermost middleware is not Starlette's own. What we have to add stands inside of that one, where an application's own
  middleware would. An application without a limiter gets nothing. If it has a lifespan, which may bring a limiter, it
  is looked at when that has begun, and nothing is left of us after that.

- `FastAPI.openapi`, so that the schema tells the refusals of routes that a `RateLimit` limits. A dependency cannot add
  a response to its route. Other schemas stay as they are.

One object is changed, too. Where middleware behind our own may change the path or the method of a request, what calls
the routes of a router, its `middleware_stack`, gets a `RewrittenPathCheck` around it, as if the router had been made
with a middleware: nobody else sees which endpoint serves the request after all before it does. So does a
`BypassDetector`, where somebody's own wrapper stands above the decorator of a limit.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

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
