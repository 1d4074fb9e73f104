"""Checks that a program makes itself: `await limiter.check(request, "10/minute")`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection

from .._http.request_doubles import as_request
from .._http.view import untouched
from .._limiter.core import LimiterCore
from .._routing.served import Served
from .._rules.bucket import short_name
from .._rules.limit import whole_cost
from .._rules.limit_group import nobody
from .._rules.named import Mode
from .._rules.resolver import Plan, RequestContext
from .._support.callables import Wait, run_blocking, wait_in_thread, wait_on_loop
from .._support.errors import ConfigurationError, InvalidCost, StorageOut
from .._support.steps import awaited
from ..decision import Decision
from ..errors import RateLimitExceeded, as_of_websocket

if TYPE_CHECKING:
    from .dependency_checks import DependencyChecks

_MOST_SHOWN = 100


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

    dependency_checks: DependencyChecks

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
        return await self._checked(request, limits, key, cost, scope, wait_on_loop)

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
        return await self._peeked(request, limits, key, cost, scope, wait_on_loop)

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
        A limit takes over from the one with the same window; a single one from a single one. On storages of the
        `limits` package it begins anew.

        `mode` is "enforce", "shadow" (count and log, and do not refuse) or "off". Raises ConfigurationError for names
        that no limit has, and for limits that cannot be.
        """
        self.named.set(name, limits, mode)
        self.planner.renew()

    async def _checked(
        self, request: HTTPConnection | None, limits: str, key: object, cost: float, scope: str | None, wait: Wait
    ) -> Decision:
        connection, plan, keys = self._asked(request, limits, key, cost, scope)
        if not self.enabled:
            return _untouched(plan)
        try:
            view = await self.checker.take(plan, connection, wait, is_once=False, known_keys=keys)
        except (RateLimitExceeded, StorageOut) as error:
            if connection.scope["type"] == "websocket":
                raise as_of_websocket(error) from error
            raise
        return _untouched(plan) if view is None else view.decision

    async def _peeked(
        self, request: HTTPConnection | None, limits: str, key: object, cost: float, scope: str | None, wait: Wait
    ) -> Decision:
        connection, plan, keys = self._asked(request, limits, key, cost, scope)
        context = RequestContext(connection, wait, keys, plan)
        hits = await self.checker.resolver.hits(plan, plan.own, context) if self.enabled else []
        if not hits:
            return _untouched(plan)
        outcome = self.checker.resolver.refusal(hits)
        outcome = outcome or await awaited(self.checker.backend.peek(hits, wait), wait)
        if outcome is None:
            return _untouched(plan)
        hit, raw_decision = outcome
        return self.checker.view(raw_decision, hit).decision

    def _asked(
        self, request: HTTPConnection | None, limits: str, key: object, cost: float, scope: str | None
    ) -> tuple[HTTPConnection, Plan, dict[int, Any]]:
        where = f"check({limits!r:.{_MOST_SHOWN}})"
        scope = scope and short_name(scope)
        if request is None:
            if key is None or scope is None:
                raise ConfigurationError(f"{where}: without a request it needs a key and a scope")
            request = HTTPConnection({"type": "http", "method": "GET", "path": "", "headers": [], "client": None})
        request = as_request(request)
        served = self.dependency_checks.served(request.scope)
        if served is None:
            if scope is None:
                raise ConfigurationError(f"{where}: the request was not dispatched to a route yet; give a scope")
            served = Served("", where, nobody, None, {})
        function = key if callable(key) else nobody if key is not None else self.key_func
        if function is None:
            raise ConfigurationError(f"{where}: the limiter has no key_func; give a key")
        group = self.dependency_checks.group(limits, function, scope, where).costing(_whole_cost(cost, where, request))
        plan = Plan(served.endpoint, (group,), (), (), route=served.route or scope or "")
        return request, plan, {id(nobody): key} if function is nobody else {}


def _whole_cost(cost: object, where: str, request: HTTPConnection) -> int:
    try:
        return whole_cost(cost)
    except ValueError as error:
        invalid = InvalidCost(where, str(error))
        raise as_of_websocket(invalid) if request.scope["type"] == "websocket" else invalid from error


def _untouched(plan: Plan) -> Decision:
    [group] = plan.own
    return untouched(group.limits or (), str(group.scope or plan.route))
