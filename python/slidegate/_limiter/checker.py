"""The one path that decides a request. Decorators, dependencies and middleware end here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from .._http.headers import HeaderFormat
from .._http.refusal_log import RefusalLog
from .._http.state import COMPLETE, VIEW, Mark, Record, done_of, mark, record_of, see
from .._http.view import Ahead, CurrentLimit, Policy, told_of
from .._rules.bucket import counted_path
from .._rules.limit import Limit
from .._rules.limit_group import LimitGroup
from .._rules.resolver import Hit, Outcome, Plan, RequestContext, Resolver
from .._support.callables import Wait, qualified_name
from .._support.errors import ConfigurationError, StorageOut
from .._support.escaping import escaped
from .._support.steps import awaited
from ..decision import Decision, RawDecision
from ..errors import RateLimitExceeded
from .backends.fallback import Fallback
from .reservations import settle_reservations

Check: TypeAlias = Callable[[HTTPConnection, Wait], Coroutine[Any, Any, None] | None]
"""Decides a request at once, or returns what has to be awaited to decide it. Raises RateLimitExceeded."""

_NEVER_FITS = "the request costs more than that, so that it never fits"


class _Swallowed(Exception):
    """A request could not be checked, and passes."""


@dataclass(frozen=True, slots=True)
class Checked(Mark):
    """What `_rate_limiting_complete` is when a plan of this limiter was checked."""

    owner: object
    plan: Plan


class _Outcome(NamedTuple):
    """A decision about all of the charges, by the one that matters most; `is_known` says whether by exact counts."""

    hit: Hit
    raw_decision: RawDecision
    hits: Sequence[Hit]
    is_known: bool


@dataclass(frozen=True)
class Checker:
    """Decides requests for one limiter. Thread-safe: everything about a request is passed in.

    `owner` marks the requests that were decided, so that an endpoint that calls another one is counted once, and two
    limiters on one endpoint both count.

    A request that could not be decided as it was meant to be is counted as an error: "raised" when that was an error of
    the request, "passed" when it went on unchecked. What a callable raises as HTTPException is its answer, no error.
    """

    owner: object
    backend: Fallback
    resolver: Resolver
    headers: HeaderFormat
    logger: logging.Logger
    refusals: logging.Logger
    exempt_routes: set[str | None]
    headers_enabled: bool
    swallows_errors: bool
    refusal_log: RefusalLog
    is_log_structured: bool = False
    evaluate: Callable[..., Any] | None = None
    """What decides about limits instead, as slowapi's `__evaluate_limits` does; None for what is here."""

    async def check(
        self,
        plan: Plan,
        request: HTTPConnection,
        wait: Wait,
        known_keys: Mapping[int, Any],
        *,
        is_marked: bool = True,
    ) -> None:
        """Counts a request against all limits of a plan, or against none when one of them refuses.

        Leaves what came of it in `request.state.view_rate_limit` and, where it `is_marked`, that there is nothing more
        to check. `known_keys` holds what key functions, by their id, have returned already. Raises RateLimitExceeded,
        and whatever `Resolver.charges` does.
        """
        record = record_of(request)
        record.state.setdefault(VIEW, None)
        done = done_of(record)
        if not plan.is_ahead:
            record.reached = True
        if self._is_settled(plan, request.scope, done):
            return
        context = RequestContext(request, wait, dict(known_keys), plan, record)
        groups = self._left_of(plan, done)
        try:
            outcome = await self._decided(plan, groups, context, (record.taken or {}).get(id(self.owner)))
        except _Swallowed:
            return
        if is_marked:
            mark(record, self.mark_of(plan, done_of(record)))
        if outcome is not None:
            await self._tell(plan, outcome, context, record)

    async def take(
        self,
        plan: Plan,
        request: HTTPConnection,
        wait: Wait,
        *,
        is_once: bool,
        headers: bool = True,
        known_keys: Mapping[int, Any] = MappingProxyType({}),
    ) -> CurrentLimit | None:
        """The same for what a program asks beside decorators and middleware: what came of it, None without a limit.

        Where it `is_once`, limits that were taken for the request count no second time, here or in a decorator that
        follows. What is told of the request is the decision with the least left. Raises as `check` does.
        """
        record = record_of(request)
        record.reached = True
        context = RequestContext(request, wait, dict(known_keys), plan, record)
        taken: dict[object, int] | None = None
        if is_once:
            record.taken = record.taken or {}
            taken = record.taken.setdefault(id(self.owner), {})
        # To decorators that follow: there is something to look at, and nothing that is complete.
        record.state.setdefault(COMPLETE, Ahead(()))
        record.state.setdefault(VIEW, None)
        try:
            outcome = await self._decided(plan, plan.own, context, taken)
        except _Swallowed:
            return None
        if outcome is None:
            return None
        if headers:
            record.told_by = self.owner
        return await self._tell(plan, outcome, context, record, is_told=headers)

    async def _decided(
        self,
        plan: Plan,
        groups: Sequence[LimitGroup],
        context: RequestContext,
        taken: dict[object, int] | None,
    ) -> _Outcome | None:
        """What came of a request; None when there was nothing to decide.

        `taken` holds how much the request has paid for what already, to which is added what it pays now.
        """
        try:
            hits = await self.resolver.hits(plan, groups, context)
            if taken:
                hits = [hit for hit in (each.beyond(taken.get(each.same, 0)) for each in hits) if hit]
            enforced = [hit for hit in hits if not hit.group.is_shadow]
            if self.evaluate is not None and enforced:
                by_path = self.resolver.key_style == "url"
                endpoint = counted_path(context.request.scope) if by_path else plan.endpoint
                await context.answer(self.evaluate(context.request, endpoint, [hit.limit for hit in enforced]))
                return None
            outcome = await self._taken(enforced, context) if enforced else None
            paid = list(enforced)
            if outcome is None or outcome[1][0]:
                paid += await self._shadow(plan, hits, context)
        except HTTPException as error:
            if isinstance(error, StorageOut):
                self.resolver.count_error("raised")
            raise
        except Exception as error:
            if not self.swallows_errors or isinstance(error, ConfigurationError):
                self.resolver.count_error("raised")
                raise
            self.resolver.count_error("passed")
            self.logger.exception("Failed to rate limit. Swallowing error")
            raise _Swallowed from error
        if taken is not None and (outcome is None or outcome[1][0]):
            for each in paid:
                taken[each.same] = taken.get(each.same, 0) + each.cost
        if outcome is None:
            return None
        hit, raw_decision = outcome
        return _Outcome(hit, raw_decision, enforced, self.backend.is_exact)

    async def _taken(self, hits: Sequence[Hit], context: RequestContext) -> Outcome | None:
        return self.resolver.refusal(hits) or await awaited(self.backend.take(hits, context), context.wait)

    async def _shadow(self, plan: Plan, hits: Sequence[Hit], context: RequestContext) -> list[Hit]:
        """Those that were taken: one that would have been refused leaves it to others to refuse."""
        paid: list[Hit] = []
        # Each for itself, as none of them has a say about the others; nor about requests while the storage is out.
        for hit in hits:
            if hit.group.is_shadow:
                outcome = None
                with suppress(StorageOut):
                    outcome = await self._taken([hit], context)
                if outcome is not None and outcome[1][0]:
                    paid.append(hit)
                elif outcome is not None:
                    decision = self.view(outcome[1], hit).decision
                    route = plan.route or plan.endpoint
                    self.refusal_log.tell(decision, limit=hit.limit.name, route=route, is_shadow=True)
        return paid

    async def _tell(
        self, plan: Plan, outcome: _Outcome, context: RequestContext, record: Record, *, is_told: bool = True
    ) -> CurrentLimit:
        hit, raw_decision = outcome.hit, outcome.raw_decision
        view = self.view(raw_decision, hit)
        view.policies = tuple(
            Policy(each.limit.name or str(each.limit.limit), each.limit.limit, raw_decision if each is hit else None)
            for each in outcome.hits
        )
        if is_told:
            see(record, told_of(record, self.owner, view) if outcome.is_known else tuple(view))
        if not raw_decision[0]:
            detail = None
            if hit.group.read_message is not None:
                detail = str(await context.answer(hit.group.read_message(context.request)))
            raise self.refusal(hit.limit, view.decision, detail, plan=plan, policies=view.policies)
        return view

    def view(self, raw_decision: RawDecision, hit: Hit) -> CurrentLimit:
        """What a request's state keeps of an answer."""
        item, label = hit.limit.limit, hit.place.label
        view = CurrentLimit.of(hit.told(raw_decision), item, hit.key, label, self.resolver.key_prefix)
        view.hit = hit
        return view

    def _is_settled(self, plan: Plan, scope: Mapping[str, Any], done: object) -> bool:
        """Whether nothing is left to decide: this limiter has done it, or somebody has said so.

        A dependency of the endpoint, which has limits of its own, has decided nothing about those of the endpoint.
        """
        if plan.exempt_name in self.exempt_routes or (done and not isinstance(done, Mark)):
            return True
        if isinstance(done, Checked) and done.owner is self.owner:
            # Of another endpoint, what is ahead was not foreseen, as something has changed the path or the method.
            return done.plan.endpoint == plan.endpoint or not (plan.is_ahead or _is_served_by(scope, plan))
        return plan.is_ahead and isinstance(done, Ahead) and (self.owner, plan.endpoint) in done.checked

    def mark_of(self, plan: Plan, before: object = None) -> Mark:
        """What is remembered when the plan was checked, after what was checked `before`."""
        if not plan.is_ahead:
            return Checked(self.owner, plan)
        if isinstance(before, Ahead):
            return Ahead((*before.checked, (self.owner, plan.endpoint)))
        return before if isinstance(before, Mark) else Ahead(((self.owner, plan.endpoint),))

    def _left_of(self, plan: Plan, done: object) -> Sequence[LimitGroup]:
        is_known = self._is_ahead(done) or (isinstance(done, Checked) and done.owner is self.owner)
        if plan.is_ahead and is_known:
            # What counts in one place for all endpoints was counted for another one.
            return [group for group in plan.groups if not (isinstance(group.scope, str) and group.scope)]
        if isinstance(done, Checked) and done.owner is self.owner:
            return [group for group in plan.groups if group not in done.plan.common]
        return plan.own if self._is_ahead(done) else plan.groups

    def _is_ahead(self, done: object) -> bool:
        return isinstance(done, Ahead) and any(owner is self.owner for owner, _ in done.checked)

    def refusal(
        self,
        limit: Limit,
        decision: Decision,
        detail: str | None = None,
        *,
        plan: Plan | None = None,
        policies: Sequence[Policy] = (),
    ) -> RateLimitExceeded:
        """The exception for a refused request, logged: in the words of slowapi where slowapi would have refused it."""
        if self.is_log_structured or (plan is not None and plan.route):
            route = decision.scope if plan is None else plan.route or plan.endpoint
            self.refusal_log.tell(decision, limit=limit.name, route=route, is_shadow=False)
        else:
            text = "ratelimit %s (%s) exceeded at endpoint: %s"
            self.refusals.warning(text, decision.item, escaped(decision.key), escaped(decision.scope))
        headers = self.headers.of_refusal(decision, policies, is_retry_only=not self.headers_enabled)
        error = RateLimitExceeded(limit, detail=detail, decision=decision, headers=headers)
        if decision.retry_after_ns is None:
            error.detail = f"{error.detail}; {_NEVER_FITS}"
        return error

    async def settle(self, record: Record, response: Response | None, wait: Wait) -> None:
        """Keeps what the response says is to be kept of the limits that depend on it, and gives back the rest."""
        if record.holds:
            await settle_reservations(record, response, wait, self.logger)


def _is_served_by(scope: Mapping[str, Any], plan: Plan) -> bool:
    served = scope.get("endpoint")
    return served is not None and qualified_name(served) == plan.endpoint
