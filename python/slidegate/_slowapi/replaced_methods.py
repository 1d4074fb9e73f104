"""The way of requests through slowapi's private methods, for limiters of which somebody has replaced one."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from weakref import WeakSet

from starlette.requests import HTTPConnection

from .._http.request_doubles import as_request
from .._http.request_state import VIEW, Mark, done_of, mark, record_of
from .._rules.plan import Check
from .._support.waiting import Wait

REPLACEABLE = frozenset(
    {"_check_request_limit", "_inject_asgi_headers", "_Limiter__evaluate_limits", "_limiter", "logger"}
)
"""What a limiter takes up when it is set, in the object or, of methods, in its class."""
LIMITERS = WeakSet[Any]()


class KnowsItsLimiters(ABCMeta):
    """The class of limiters, which take up what is replaced in it."""

    def __setattr__(cls, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        cls._renew(name)

    def __delattr__(cls, name: str) -> None:
        super().__delattr__(name)
        cls._renew(name)

    def _renew(cls, name: str) -> None:
        if name in REPLACEABLE:
            for limiter in [each for each in LIMITERS if isinstance(each, cls)]:
                limiter.renew()


def is_replaced(limiter: object, kind: type, name: str) -> bool:
    """Whether a method is another one than this class has, in the object or in its class."""
    return name in vars(limiter) or getattr(type(limiter), name) is not getattr(kind, name)


def patched_check(limiter: Any, function: Callable[..., Any] | None, in_middleware: bool) -> Check:
    """Calls a limiter's `_check_request_limit` as slowapi would, for a decorated function or in the middleware."""

    def check(request: HTTPConnection, wait: Wait) -> Coroutine[Any, Any, None] | None:
        record = record_of(as_request(request))
        if not limiter.auto_check or done_of(record):
            return None
        pending = limiter._check_request_limit(request, function, in_middleware)
        if not in_middleware:
            record.state.setdefault(VIEW, None)
            record.reached = True
            mark(record, Mark())
        return _awaited(pending) if inspect.isawaitable(pending) else None

    return check


async def _awaited(value: Awaitable[Any]) -> None:
    await value
