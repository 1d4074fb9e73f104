"""The one path that decides a request. Decorators, dependencies and middleware end here."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from .._http.current_limit import NOTHING_YET, Ahead, CurrentLimit, told_of
from .._http.header_styles import Policy
from .._http.headers import HeaderFormat
from .._http.refusal_log import RefusalLog
from .._http.request_state import COMPLETE, VIEW, Mark, Record, done_of, mark, record_of
from .._rules.hit import Hit, Outcome, asked_of, beyond
from .._rules.limit import Limit
from .._rules.limit_group import LimitGroup
from .._rules.plan import Plan, RequestContext
from .._rules.resolver import Resolver
from .._support.callables import qualified_name
from .._support.errors import ConfigurationError, StorageOut
from .._support.escaping import escaped
from .._support.steps import Steps, answered, started
from .._support.waiting import Wait, run_blocking, wait_in_thread
from ..decision import Decision, RawDecision
from ..errors import RateLimitExceeded
from .backends.base import FallbackBackend
from .reservations import settle_reservations

_MOST_POLICIES = 256
_NEVER_FITS = "the request costs more than that, so that it never fits"


@dataclass(frozen=True, slots=True)
class Checked(Mark):
    """What `_rate_limiting_complete` is when a plan of this limiter was checked."""

    owner: object
    plan: Plan


class Way(NamedTuple):
    """Who asks for a check: an endpoint, for all of its limits at once, or a program beside that.

    Where it `is_once`, what was paid for the request is not paid again. Headers tell of what `is_told`.
    """

    is_of_endpoint: bool
    is_once: bool
    is_told: bool


ENDPOINT, DEPENDENCY = Way(True, True, True), Way(False, True, True)
BY_HAND, MESSAGE = Way(False, False, True), Way(False, False, False)


@dataclass(frozen=True)
class Checker:
    """Decides requests for one limiter. Thread-safe: everything about a request is passed in.

    `owner` marks the requests that were decided, so that an endpoint that calls another one is counted once, and two
    limiters on one endpoint both count.

    A request that could not be decided as it was meant to be is counted as an error: "raised" when that was an error of
    the request, "passed" when it went on unchecked. What a callable raises as HTTPException is its answer, no error.
    """

    owner: object
    backend: FallbackBackend
    resolver: Resolver
    headers: HeaderFormat
    logger: logging.Logger
    refusals: logging.Logger
    exempt_routes: set[str | None]
    headers_enabled: bool
    swallows_errors: bool
    refusal_log: RefusalLog
    is_log_structured: bool = False

    def check_now(self, plan: Plan, request: HTTPConnection) -> None:
        """Counts a request whatever was counted for it before, and blocks meanwhile, as `wait_in_thread` can."""
        pending: Any = started(self.decide(plan, request, wait_in_thread, {}, ENDPOINT, None), wait_in_thread)
        if isinstance(pending, Coroutine):
            run_blocking(pending)

    def peek(self, plan: Plan, request: HTTPConnection, wait: Wait, keys: dict[int, Any]) -> Steps[CurrentLimit | None]:
        """What `decide` would come to now. Counts nothing and refuses nothing."""
        hits = yield from self.resolver.hits(plan.own, RequestContext(request, wait, keys, plan))
        outcome = hits and (self.resolver.refusal(hits) or (yield from self.backend.peek(hits, wait)))
        return self.view(outcome[1], outcome[0]) if outcome else None

    def decide(
        self, plan: Plan, request: HTTPConnection, wait: Wait, keys: dict[int, Any], way: Way, done: Mark | None
    ) -> Steps[CurrentLimit | None]:
        """Counts a request against all limits of a plan, or against none when one of them refuses: what came of it.

        Leaves that in the record and in `request.state.view_rate_limit`, and, where `done` is a mark, that there is
        nothing more to check. `keys` holds what key functions, by their id, have returned already. None when nothing
        was limited. Raises RateLimitExceeded, and whatever `Resolver.hits` does.
        """
        record, owner = record_of(request), self.owner
        state, taken = record.state, None
        groups: Sequence[LimitGroup] = plan.groups
        if VIEW not in state:
            state[VIEW] = None
        if way.is_of_endpoint:
            before = done_of(record)
            if not plan.is_ahead:
                record.reached = True
            if before is not None or plan.exempt_name in self.exempt_routes:
                if self._is_settled(plan, request.scope, before):
                    return None
                groups = self._left_of(plan, before)
            if record.taken is not None:
                taken = record.taken.get(owner)
        else:
            record.reached = True
            if way.is_once:
                record.taken = record.taken or {}
                taken = record.taken.setdefault(owner, [])
            if COMPLETE not in state:
                # To decorators that follow: there is something to look at, and nothing that is complete.
                state[COMPLETE] = NOTHING_YET
        context, outcome = RequestContext(request, wait, keys, plan, record), None
        try:
            hits = yield from self.resolver.hits(groups, context)
            if taken:
                hits = beyond(hits, taken)
            enforced = [hit for hit in hits if not hit.group.is_shadow] if plan.has_shadow else hits
            if enforced:
                outcome = yield from self._taken(enforced, context)
            is_admitted = outcome is None or outcome[1][0]
            paid = enforced
            if plan.has_shadow and is_admitted:
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
            return None
        if taken is not None and is_admitted:
            taken.append((paid, None))
        if done is not None:
            mark(record, self.mark_of(plan, done_of(record)) if plan.is_ahead else done)
        if outcome is None:
            return None
        hit, raw_decision = outcome
        view = self.view(raw_decision, hit)
        if not self.headers.is_plain:
            named = [(each.limit.name or str(each.limit.limit), each.limit.limit, each is hit) for each in enforced]
            view.policies = tuple(Policy(name, item, raw_decision if is_it else None) for name, item, is_it in named)
        if way.is_told:
            if not way.is_of_endpoint:
                record.headers_owner = owner
            seen: Any = view if self.backend.primary.is_exact else tuple(view)
            record.view = state[VIEW] = (
                seen if seen is not view or record.view is None else told_of(record, owner, view)
            )
        if not raw_decision[0]:
            detail = None
            if hit.group.read_message is not None:
                detail = str((yield from answered(hit.group.read_message(request))))
            raise self.refusal(hit.limit, view.decision, detail, plan=plan, policies=view.policies)
        return view

    def _taken(self, hits: Sequence[Hit], context: RequestContext) -> Steps[Outcome | None]:
        policies, first = context.plan.policies, hits[0]
        rules: Any = (first.limit, first.bucket.rule_scope)
        if len(hits) > 1:
            rules = tuple([(each.limit, each.bucket.rule_scope) for each in hits])
        policy = policies.get(rules)
        if policy is None:
            policy = self._policy(hits)
            if len(policies) >= _MOST_POLICIES:
                policies.clear()
            policies[rules] = policy
        hit, hit_async, tally = policy
        if hit is None or self.resolver.on_missing_key == "refuse":
            refusal = self.resolver.refusal(hits)
            if refusal is not None:
                return refusal
            if hit is None:
                return (yield from self.backend.take(hits, context))
        keys: Any = first.bucket.lead + first.key
        costs: Any = first.cost
        if len(hits) > 1:
            _, (keys, costs) = asked_of(hits)
        try:
            if hit_async is None or context.wait is wait_in_thread:
                raw_decision = hit(keys, costs)
            else:
                raw_decision = yield hit_async(keys, costs)
            if tally is not None:
                tally(raw_decision[0], raw_decision[1])
        except Exception as error:
            return (yield from self.backend.take_instead(hits, context, error))
        return hits[raw_decision[1]], raw_decision

    def _policy(self, hits: Sequence[Hit]) -> tuple[Any, Any, Any]:
        """What takes such hits of any key with one call, at once and awaited, and tells metrics; None without."""
        if any(hit.limit.previous or hit.limit.refuses_all or hit.group.read_deduct is not None for hit in hits):
            return None, None, None
        policy = self.backend.policy(hits)
        tally = None if policy is None else self.backend.tally(hits)
        return getattr(policy, "hit", None), getattr(policy, "hit_async", None), tally

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

    def view(self, raw_decision: RawDecision, hit: Hit) -> CurrentLimit:
        """What a request's state keeps of an answer."""
        prefix, identifiers = self.resolver.key_prefix, [hit.key, hit.bucket.label]
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
            served = scope.get("endpoint")
            is_served = served is not None and qualified_name(served) == plan.endpoint
            return done.plan.endpoint == plan.endpoint or not (plan.is_ahead or is_served)
        return plan.is_ahead and isinstance(done, Ahead) and (self.owner, plan.endpoint) in done.checked

    def mark_of(self, plan: Plan, before: object = None) -> Mark:
        """What is remembered when the plan was checked, after what was checked `before`."""
        if not plan.is_ahead:
            return Checked(self.owner, plan)
        if isinstance(before, Ahead):
            return Ahead((*before.checked, (self.owner, plan.endpoint)))
        return before if isinstance(before, Mark) else Ahead(((self.owner, plan.endpoint),))

    def _left_of(self, plan: Plan, done: object) -> Sequence[LimitGroup]:
        common = done.plan.common if isinstance(done, Checked) and done.owner is self.owner else None
        is_ahead = isinstance(done, Ahead) and any(owner is self.owner for owner, _ in done.checked)
        if plan.is_ahead and (is_ahead or common is not None):
            # What counts in one place for all endpoints was counted for another one.
            return [group for group in plan.groups if not (isinstance(group.scope, str) and group.scope)]
        if common is not None:
            return [group for group in plan.groups if group not in common]
        return plan.own if is_ahead else plan.groups

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
        if record.reservations:
            await settle_reservations(record, response, wait, self.logger)
