"""Limits as dependencies of FastAPI: `Depends(RateLimit("10/minute"))`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from ._fastapi.rate_limit import UNSET, DeclaredPerMessage, DeclaredRateLimit, values_given
from ._support.waiting import run_blocking, wait_in_thread, wait_on_loop
from .decision import Decision

__all__ = ["Gate", "RateLimit"]


class RateLimit(DeclaredRateLimit):
    """Limits the requests to a route, to those of a router, or to all of an application.

    `Depends(RateLimit("20/hour"))` goes into `dependencies=[...]`, or stands for a parameter, which gets the `Decision`
    (None when nothing was limited). Every route counts for itself, by its methods and the template of its path.

    - `limits`: such as "10/minute" or "2/second; 100/day"; a callable of `request`, `key` or nothing that returns that;
      or `Depends(...)`. It may be left out where settings have a limit of that `name`.
    - `key`: who is limited: a callable as for `Limiter(key_func=...)`, which is used without one; or `Depends(...)`, so
      that FastAPI injects who it is.
    - `name`: what the limit is configured, logged and told by.
    - `scope`: one bucket for all routes that name it; or a callable of `request`, or of `endpoint`. `shared=True`: one
      for all routes that this limit is declared for, or any other one of this `name`.
    - `cost`: what a request takes; or a callable of the request; or `Depends(...)`.
    - `exempt_when`, `error_message`, `on_error`: as of `Limiter.limit`.
    - `override_defaults`: whether the middleware's default limits do not apply to these routes.
    - `shadow`: count and log, and do not refuse.
    - `limiter`: instead of `app.state.limiter`.

    All that is declared in one notation is taken together or not at all, and so is what follows directly upon each
    other among the dependencies of a route, if FastAPI injects nothing into what follows. A limit that is declared
    twice for a route counts once. Thread-safe. Raises ConfigurationError for what cannot work, some of it when the
    application starts; where it is called RateLimitExceeded, for a WebSocket as a WebSocketRateLimitExceeded.
    """

    async def __call__(self, connection: HTTPConnection, **injected: Any) -> Decision | None:
        """Counts a request. A subclass with parameters of its own, which FastAPI then injects, calls `take`."""
        if self.is_take_replaced or injected.keys() != self._depends.keys():
            return await self.take(connection, **injected)
        decision = self.counted(connection, injected, wait_on_loop)
        return decision if decision is None or type(decision) is Decision else await decision

    async def take(
        self, connection: HTTPConnection, *, limits: str = UNSET, key: object = UNSET, cost: float = UNSET
    ) -> Decision | None:
        """Counts a request, with these instead of what was declared; the decision, or None when nothing was limited."""
        decision = self.counted(connection, values_given(limits, key, cost), wait_on_loop)
        return decision if decision is None or type(decision) is Decision else await decision

    def take_sync(
        self, connection: HTTPConnection, *, limits: str = UNSET, key: object = UNSET, cost: float = UNSET
    ) -> Decision | None:
        """The same in a worker thread; TypeError elsewhere if it has to wait for something asynchronous."""
        decision = self.counted(connection, values_given(limits, key, cost), wait_in_thread)
        return decision if decision is None or type(decision) is Decision else run_blocking(decision)

    @property
    def per_message(self) -> PerMessage:
        """A dependency of a WebSocket that counts nothing by itself: a `Gate`, to be asked for every message."""
        return PerMessage(self)


RateLimit.stock_call, RateLimit.stock_take = RateLimit.__call__, RateLimit.take


class PerMessage(DeclaredPerMessage):
    """Makes the `Gate` of a WebSocket."""

    async def __call__(self, connection: WebSocket, **injected: Any) -> Gate:
        return Gate(self.rate_limit, connection, injected)


class Gate:
    """Limits the messages of one WebSocket. Not thread-safe, as the WebSocket is not."""

    def __init__(self, rate_limit: DeclaredRateLimit, websocket: WebSocket, injected: Mapping[str, Any]) -> None:
        self._rate_limit = rate_limit
        self._websocket = websocket
        self._injected = injected

    async def take(self, *, cost: float = UNSET) -> Decision | None:
        """Counts a message; the decision, or None when nothing is limited.

        Raises WebSocketRateLimitExceeded, which closes the WebSocket with 1008 if nobody catches it, as the endpoint
        may to tell the client and go on. Nothing was counted then.
        """
        values = {**self._injected, **values_given(UNSET, UNSET, cost)}
        decision = self._rate_limit.counted(self._websocket, values, wait_on_loop, is_message=True)
        return decision if decision is None or type(decision) is Decision else await decision
