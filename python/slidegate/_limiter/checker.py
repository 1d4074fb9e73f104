"""The one path that decides a request. Decorators, dependencies and middleware end here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from .._http.headers import HeaderFormat
from .._http.refusal_log import RefusalLog
from .._http.state import COMPLETE, VIEW, Mark, Record, done_of, mark, record_of, see
from .._http.view import NOTHING_YET, Ahead, CurrentLimit, Policy, told_of
from .._rules.bucket import counted_path
from .._rules.hit import Hit, Outcome, asked_of, beyond
from .._rules.limit import Limit
from .._rules.limit_group import LimitGroup
from .._rules.plan import Plan
from .._rules.resolver import RequestContext, Resolver
from .._support.callables import Wait, qualified_name, run_blocking, wait_in_thread
from .._support.errors import ConfigurationError, StorageOut
from .._support.escaping import escaped
from .._support.steps import Steps, answered, started
from ..decision import Decision, RawDecision
from ..errors import RateLimitExceeded
from .backends.fallback import Fallback
from .reservations import settle_reservations

Check: TypeAlias = Callable[[HTTPConnection, Wait], Coroutine[Any, Any, None] | None]
"""Decides a request at once, or returns what has to be awaited to decide it. Raises RateLimitExceeded."""

_MOST_POLICIES = 256
_NEVER_FITS = "the request costs more than that, so that it never fits"


class _Swallowed(Exception):
    """A request could not be checked, and passes."""


@dataclass(frozen=True, slots=True)
class Checked(Mark):
    """What `_rate_limiting_complete` is when a plan of this limiter was checked."""

    owner: object
    plan: Plan


_Outcome: TypeAlias = tuple[Hit, RawDecision, Sequence[Hit]]
"""The hit that matters most, what was decided about it, and all that were decided together."""


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

    def check(
        self, plan: Plan, request: HTTPConnection, wait: Wait, keys: dict[int, Any], *, is_marked: bool = True
    ) -> Coroutine[Any, Any, None] | None:
        """Counts a request against all limits of a plan, or against none when one of them refuses.

        Leaves what came of it in `request.state.view_rate_limit` and, where it `is_marked`, that there is nothing more
        to check. `keys` holds what key functions, by their id, have returned already. Raises RateLimitExceeded, and
        whatever `Resolver.hits` does; or returns what has to be awaited for that.
        """
        return started(self._check(plan, request, wait, keys, is_marked), wait)

    def check_now(self, plan: Plan, request: HTTPConnection) -> None:
        """Counts a request whatever was counted for it before, and blocks meanwhile, as `wait_in_thread` can."""
        pending = self.check(plan, request, wait_in_thread, {}, is_marked=False)
        if pending is not None:
            run_blocking(pending)

    def take(
        self,
        plan: Plan,
        request: HTTPConnection,
        wait: Wait,
        keys: dict[int, Any],
        *,
        is_once: bool,
        is_told: bool = True,
    ) -> CurrentLimit | Coroutine[Any, Any, CurrentLimit | None] | None:
        """The same for what a program asks beside decorators and middleware: what came of it, None without a limit.

        Where it `is_once`, limits that were taken for the request count no second time, here or in a decorator that
        follows. What is told of the request is the decision with the least left. Raises as `check` does.
        """
        return started(self._take(plan, request, wait, keys, is_once, is_told), wait)

    def peek(self, plan: Plan, request: HTTPConnection, wait: Wait, keys: dict[int, Any]) -> Steps[CurrentLimit | None]:
        """What `take` would come to now. Counts nothing and refuses nothing."""
        hits = yield from self.resolver.hits(plan.own, RequestContext(request, wait, keys, plan))
        outcome = hits and (self.resolver.refusal(hits) or (yield from self.backend.peek(hits, wait)))
        return self.view(outcome[1], outcome[0]) if outcome else None

    def _check(
        self, plan: Plan, request: HTTPConnection, wait: Wait, keys: dict[int, Any], is_marked: bool
    ) -> Steps[None]:
        record = record_of(request)
        record.state.setdefault(VIEW, None)
        done = done_of(record)
        groups: Sequence[LimitGroup] = plan.groups
        if not plan.is_ahead:
            record.reached = True
        if done is not None or plan.exempt_name in self.exempt_routes:
            if self._is_settled(plan, request.scope, done):
                return
            groups = self._left_of(plan, done)
        context = RequestContext(request, wait, keys, plan, record)
        taken = None if record.taken is None else record.taken.get(self.owner)
        try:
            outcome = yield from self._decided(groups, context, taken)
        except _Swallowed:
            return
        if is_marked:
            mark(record, self.mark_of(plan, done_of(record)))
        if outcome is not None:
            yield from self._tell(outcome, context)

    def _take(
        self,
        plan: Plan,
        request: HTTPConnection,
        wait: Wait,
        keys: dict[int, Any],
        is_once: bool,
        is_told: bool,
    ) -> Steps[CurrentLimit | None]:
        record = record_of(request)
        record.reached = True
        taken: list[Hit] | None = None
        if is_once:
            record.taken = record.taken or {}
            taken = record.taken.setdefault(self.owner, [])
        # To decorators that follow: there is something to look at, and nothing that is complete.
        record.state.setdefault(COMPLETE, NOTHING_YET)
        record.state.setdefault(VIEW, None)
        context = RequestContext(request, wait, keys, plan, record)
        try:
            outcome = yield from self._decided(plan.own, context, taken)
        except _Swallowed:
            return None
        if outcome is None:
            return None
        if is_told:
            record.told_by = self.owner
        return (yield from self._tell(outcome, context, is_told=is_told))

    def _decided(
        self, groups: Sequence[LimitGroup], context: RequestContext, taken: list[Hit] | None
    ) -> Steps[_Outcome | None]:
        """What came of a request; None when there was nothing to decide.

        `taken` is what the request has paid for already, to which is added what it pays now.
        """
        plan = context.plan
        try:
            hits = yield from self.resolver.hits(groups, context)
            if taken:
                hits = beyond(hits, taken)
            enforced = [hit for hit in hits if not hit.group.is_shadow] if plan.has_shadow else hits
            if self.evaluate is not None and enforced:
                by_path = self.resolver.key_style == "url"
                endpoint = counted_path(context.request.scope) if by_path else plan.endpoint
                yield from answered(self.evaluate(context.request, endpoint, [hit.limit for hit in enforced]))
                return None
            outcome = (yield from self._taken(enforced, context)) if enforced else None
            paid = enforced
            if plan.has_shadow and (outcome is None or outcome[1][0]):
                paid = [*enforced, *(yield from self._shadow(hits, context))]
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
            taken += paid
        return None if outcome is None else (*outcome, enforced)

    def _taken(self, hits: Sequence[Hit], context: RequestContext) -> Steps[Outcome | None]:
        policies, first = context.plan.policies, hits[0]
        rules: Any = (first.quota, first.limit.name, first.place.rule_scope)
        if len(hits) > 1:
            rules = tuple([(each.quota, each.limit.name, each.place.rule_scope) for each in hits])
        policy = policies.get(rules, policies)
        if policy is policies:
            policy = self._policy(hits)
            if len(policies) >= _MOST_POLICIES:
                policies.clear()
            policies[rules] = policy
        if policy is None or (not first.key and self.resolver.on_missing_key == "refuse"):
            return self.resolver.refusal(hits) or (yield from self.backend.take(hits, context))
        keys: Any = first.place.lead + first.key
        costs: Any = first.cost
        if len(hits) > 1:
            _, (keys, costs) = asked_of(hits)
        try:
            if context.wait is wait_in_thread or not hasattr(policy, "hit_async"):
                raw_decision = policy.hit(keys, costs)
            else:
                raw_decision = yield policy.hit_async(keys, costs)
        except Exception as error:
            return (yield from self.backend.take_instead(hits, context, error))
        return hits[raw_decision[1]], raw_decision

    def _policy(self, hits: Sequence[Hit]) -> Any:
        """What takes such hits of any key with one call; None where that needs more."""
        is_plain = not any(
            hit.limit.previous or hit.limit.refuses_all or hit.group.read_deduct is not None for hit in hits
        )
        return self.backend.policy(hits) if is_plain else None

    def _shadow(self, hits: Sequence[Hit], context: RequestContext) -> Steps[list[Hit]]:
        """Those that were taken: one that would have been refused leaves it to others to refuse."""
        paid, plan = list[Hit](), context.plan
        # Each for itself, as none of them has a say about the others; nor about requests while the storage is out.
        for hit in hits:
            if hit.group.is_shadow:
                outcome = None
                with suppress(StorageOut):
                    outcome = yield from self._taken([hit], context)
                if outcome is not None and outcome[1][0]:
                    paid.append(hit)
                elif outcome is not None:
                    decision = self.view(outcome[1], hit).decision
                    route = plan.route or plan.endpoint
                    self.refusal_log.tell(decision, limit=hit.limit.name, route=route, is_shadow=True)
        return paid

    def _tell(self, outcome: _Outcome, context: RequestContext, *, is_told: bool = True) -> Steps[CurrentLimit]:
        hit, raw_decision, hits = outcome
        record, view = context.record, self.view(raw_decision, hit)
        if not self.headers.is_plain:
            view.policies = tuple(
                Policy(
                    each.limit.name or str(each.limit.limit), each.limit.limit, raw_decision if each is hit else None
                )
                for each in hits
            )
        if is_told:
            see(record, told_of(record, self.owner, view) if self.backend.is_exact else tuple(view))
        if not raw_decision[0]:
            detail = None
            if hit.group.read_message is not None:
                detail = str((yield from answered(hit.group.read_message(context.request))))
            raise self.refusal(hit.limit, view.decision, detail, plan=context.plan, policies=view.policies)
        return view

    def view(self, raw_decision: RawDecision, hit: Hit) -> CurrentLimit:
        """What a request's state keeps of an answer."""
        prefix, identifiers = self.resolver.key_prefix, [hit.key, hit.place.label]
        view = CurrentLimit((hit.limit.limit, [prefix, *identifiers] if prefix else identifiers))
        view.raw_decision = raw_decision if raw_decision[0] else hit.told(raw_decision)
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
