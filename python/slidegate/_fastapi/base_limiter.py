"""Checks that a program makes itself: `await limiter.check(request, "10/minute")`."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection

from .._http.current_limit import CurrentLimit
from .._http.request_doubles import as_request
from .._http.request_state import record_of
from .._limiter.core import LimiterCore
from .._limiter.settings import Settings
from .._rules.bucket import short_name
from .._rules.limit import whole_cost
from .._rules.limit_group import nobody
from .._rules.named_limits import Mode
from .._support.errors import ConfigurationError, InvalidCost, StorageOut
from .._support.steps import awaited
from .._support.waiting import Wait, run_blocking, wait_in_thread, wait_on_loop
from ..decision import Decision
from ..errors import RateLimitExceeded, as_of_websocket
from .dependency_checks import Compiled, DependencyChecks, name_of_check


class BaseLimiter(LimiterCore):
    """The part of a limiter that is called by programs themselves. Thread-safe.

    What all of the checks have in common:

    - `request`: a request or WebSocket; None in a script, with a `key` and a `scope`.
    - `limits`: such as "10/minute", or several, of which all or none are taken.
    - `key`: who is limited; or a key function. None: whom the limiter's own names.
    - `cost`: what is taken, rounded up.
    - `scope`: the bucket, as of `RateLimit(scope=...)` and `shared_limit`. None: that of the route, by the template of
      its path, where a `RateLimit` on that route counts too.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.dependency_checks = DependencyChecks(self)

    async def check(
        self,
        request: HTTPConnection | None,
        limits: str,
        *,
        key: object = None,
        cost: float = 1,
        scope: str | None = None,
    ) -> Decision:
        """Counts a request, every time that it is called, and says about which limit there is least left.

        Raises RateLimitExceeded when one of them refuses, in a WebSocket as a WebSocketRateLimitExceeded; InvalidCost,
        which is answered 422 and is a ValueError too, for a cost that is none; and ConfigurationError for limits that
        are none.
        """
        decision: Decision = await self._checked(request, limits, key, cost, scope, wait_on_loop)
        return decision

    def check_sync(
        self,
        request: HTTPConnection | None,
        limits: str,
        *,
        key: object = None,
        cost: float = 1,
        scope: str | None = None,
    ) -> Decision:
        """The same for `def` endpoints and scripts. TypeError where it would have to wait for what is asynchronous and
        nobody else runs an event loop.
        """
        decision: Decision = run_blocking(self._checked(request, limits, key, cost, scope, wait_in_thread))
        return decision

    async def peek(
        self,
        request: HTTPConnection | None,
        limits: str,
        *,
        key: object = None,
        cost: float = 1,
        scope: str | None = None,
    ) -> Decision:
        """What `check` would say now. Counts nothing and refuses nothing."""
        decision: Decision = await self._peeked(request, limits, key, cost, scope, wait_on_loop)
        return decision

    def peek_sync(
        self,
        request: HTTPConnection | None,
        limits: str,
        *,
        key: object = None,
        cost: float = 1,
        scope: str | None = None,
    ) -> Decision:
        """The same for `def` endpoints and scripts, as of `check_sync`."""
        decision: Decision = run_blocking(self._peeked(request, limits, key, cost, scope, wait_in_thread))
        return decision

    def set_limit(self, name: str, limits: str | None = None, *, mode: Mode | None = None) -> None:
        """Changes a named limit from now on, in this process: its notation, whether it is enforced, or both.

        What was used of it goes on to count until it would have been given back: the new limit has that much less room.
        A limit takes over from the one with the same window; a single one from a single one. On Redis and on
        storages of the `limits` package it begins anew.

        `mode` is "enforce", "shadow" (count and log, and do not refuse) or "off". Raises ConfigurationError for names
        that no limit has, and for limits that cannot be.
        """
        self.named.set(name, limits, mode)
        self.planner.renew()

    async def _checked(
        self, request: HTTPConnection | None, limits: str, key: object, cost: float, scope: str | None, wait: Wait
    ) -> Any:
        connection, key, compiled = self._asked(request, limits, key, cost, scope)
        if not self.enabled:
            return compiled.untouched
        record_of(connection)
        try:
            view: Any = compiled.check(connection, wait, key)
            if view is not None and type(view) is not CurrentLimit:
                view = await view
        except (RateLimitExceeded, StorageOut) as error:
            if connection.scope["type"] == "websocket":
                raise as_of_websocket(error) from error
            raise
        return compiled.untouched if view is None else view.decision

    async def _peeked(
        self, request: HTTPConnection | None, limits: str, key: object, cost: float, scope: str | None, wait: Wait
    ) -> Any:
        connection, key, compiled = self._asked(request, limits, key, cost, scope)
        if not self.enabled:
            return compiled.untouched
        keys = {} if key is None else {id(nobody): key}
        view = await awaited(self.checker.peek(compiled.plan, connection, wait, keys), wait)
        return compiled.untouched if view is None else view.decision

    def _asked(
        self, request: Any, limits: str, key: object, cost: float, scope: str | None
    ) -> tuple[HTTPConnection, object, Compiled]:
        if request is None:
            if key is None or scope is None:
                raise ConfigurationError(f"{name_of_check(limits)}: without a request it needs a key and a scope")
            request = HTTPConnection({"type": "http", "method": "GET", "path": "", "headers": [], "client": None})
        elif type(getattr(request, "scope", None)) is not dict:
            request = as_request(request)
        function = key if callable(key) else nobody if key is not None else self.key_func
        amount = cost if type(cost) is int and cost == 1 else _whole_cost(cost, limits, request)
        compiled = self.dependency_checks.by_hand(request.scope, limits, function, scope and short_name(scope), amount)
        return request, key if function is nobody else None, compiled


def _whole_cost(cost: object, limits: str, request: HTTPConnection) -> int:
    try:
        return whole_cost(cost)
    except ValueError as error:
        invalid = InvalidCost(name_of_check(limits), str(error))
        raise as_of_websocket(invalid) if request.scope["type"] == "websocket" else invalid from error
