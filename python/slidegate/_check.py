"""The one path that decides a request. Decorators, dependencies and middleware end here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from ._bridge import Bridge
from ._callables import Settle, qualified_name
from ._charges import Asked, Charge, Plan
from ._counting import Counting
from ._headers import HeaderFormat
from ._holds import HOLDS, settle_holds
from ._refusal_log import RefusalLog
from ._views import COMPLETE, TAKEN, TOLD_BY, VIEW, Ahead, CurrentLimit, Policy, state_of, told_of
from .counter import Counter
from .decision import Decision, Essentials
from .errors import ConfigurationError, RateLimitExceeded, StorageOut
from .wrappers import Limit, LimitGroup

Check: TypeAlias = Callable[[HTTPConnection, Settle], Coroutine[Any, Any, None] | None]
"""Decides a request at once, or returns what has to be awaited to decide it. Raises RateLimitExceeded."""


class _Swallowed(Exception):
    """A request could not be checked, and passes."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What `_rate_limiting_complete` is when a plan of this limiter was checked."""

    owner: object
    plan: Plan


class _Outcome(NamedTuple):
    """A decision about all of the charges, by the one that matters most; `is_known` says whether by exact counts."""

    charge: Charge
    essentials: Essentials
    charges: Sequence[Charge]
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
    counting: Counting
    headers: HeaderFormat
    logger: logging.Logger
    refusals: logging.Logger
    exempt_routes: set[str | None]
    headers_enabled: bool
    swallows_errors: bool
    refusal_log: RefusalLog
    is_log_structured: bool = False

    async def check(
        self,
        plan: Plan,
        request: HTTPConnection,
        settle: Settle,
        known_keys: Mapping[int, Any],
        *,
        is_marked: bool = True,
    ) -> None:
        """Counts a request against all limits of a plan, or against none when one of them refuses.

        Leaves what came of it in `request.state.view_rate_limit` and, where it `is_marked`, that there is nothing more
        to check. `known_keys` holds what key functions, by their id, have returned already. Raises RateLimitExceeded,
        and whatever `ChargeReader.charges` does.
        """
        state = state_of(request.scope)
        state.setdefault(VIEW, None)
        if self.is_settled(plan, request.scope, state):
            return
        asked = Asked(request, settle, dict(known_keys))
        groups = self._left_of(plan, state)
        try:
            outcome = await self._decided(plan, groups, asked, state, state.get(TAKEN, {}).get(id(self.owner)))
        except _Swallowed:
            return
        if is_marked:
            state[COMPLETE] = self.mark_of(plan, state.get(COMPLETE))
        if outcome is not None:
            await self._tell(plan, outcome, asked, state)

    async def take(
        self,
        plan: Plan,
        request: HTTPConnection,
        settle: Settle,
        *,
        is_once: bool,
        headers: bool = True,
        known_keys: Mapping[int, Any] = MappingProxyType({}),
    ) -> CurrentLimit | None:
        """The same for what a program asks beside decorators and middleware: what came of it, None without a limit.

        Where it `is_once`, limits that were taken for the request count no second time, here or in a decorator that
        follows. What is told of the request is the decision with the least left. Raises as `check` does.
        """
        state = state_of(request.scope)
        asked = Asked(request, settle, dict(known_keys))
        taken = state.setdefault(TAKEN, {}).setdefault(id(self.owner), {}) if is_once else None
        # To decorators that follow: there is something to look at, and nothing that is complete.
        state.setdefault(COMPLETE, Ahead(()))
        state.setdefault(VIEW, None)
        try:
            outcome = await self._decided(plan, plan.own, asked, state, taken)
        except _Swallowed:
            return None
        if outcome is None:
            return None
        if headers:
            state[TOLD_BY] = self.owner
        return await self._tell(plan, outcome, asked, state, is_told=headers)

    async def _decided(
        self,
        plan: Plan,
        groups: Sequence[LimitGroup],
        asked: Asked,
        state: MutableMapping[str, Any],
        taken: dict[object, int] | None,
    ) -> _Outcome | None:
        """What came of a request; None when there was nothing to decide.

        `taken` holds how much the request has paid for what already, to which is added what it pays now.
        """
        foreign = self.counting.foreign_counter()
        try:
            charges = await self.counting.reader.charges(plan, groups, asked)
            if taken:
                charges = [charge for charge in (each.beyond(taken.get(each.same, 0)) for each in charges) if charge]
            enforced = [charge for charge in charges if not charge.group.is_shadow]
            outcome = await self.counting.decide(plan, enforced, asked, state, foreign) if enforced else None
            paid = list(enforced)
            if outcome is None or outcome[1][0]:
                paid += await self._shadow(plan, charges, asked, state, foreign)
        except HTTPException as error:
            if isinstance(error, StorageOut):
                self.counting.count_error("raised")
            raise
        except Exception as error:
            if not self.swallows_errors or isinstance(error, ConfigurationError):
                self.counting.count_error("raised")
                raise
            self.counting.count_error("passed")
            self.logger.exception("Failed to rate limit. Swallowing error")
            raise _Swallowed from error
        if taken is not None and (outcome is None or outcome[1][0]):
            for each in paid:
                taken[each.same] = taken.get(each.same, 0) + each.cost
        if outcome is None:
            return None
        charge, essentials = outcome
        return _Outcome(charge, essentials, enforced, foreign is None or isinstance(foreign, Bridge))

    async def _shadow(
        self,
        plan: Plan,
        charges: Sequence[Charge],
        asked: Asked,
        state: MutableMapping[str, Any],
        foreign: Counter | Bridge | None,
    ) -> list[Charge]:
        """Those that were taken: one that would have been refused leaves it to others to refuse."""
        paid: list[Charge] = []
        # Each for itself, as none of them has a say about the others; nor about requests while the storage is out.
        for charge in charges:
            if charge.group.is_shadow:
                outcome = None
                with suppress(StorageOut):
                    outcome = await self.counting.decide(plan, [charge], asked, state, foreign)
                if outcome is not None and outcome[1][0]:
                    paid.append(charge)
                elif outcome is not None:
                    decision = self.counting.view(outcome[1], charge).decision
                    route = plan.route or plan.endpoint
                    self.refusal_log.tell(decision, limit=charge.limit.name, route=route, is_shadow=True)
        return paid

    async def _tell(
        self, plan: Plan, outcome: _Outcome, asked: Asked, state: MutableMapping[str, Any], *, is_told: bool = True
    ) -> CurrentLimit:
        charge, essentials = outcome.charge, outcome.essentials
        view = self.counting.view(essentials, charge)
        view.policies = tuple(
            Policy(each.limit.name or str(each.limit.limit), each.limit.limit, essentials if each is charge else None)
            for each in outcome.charges
        )
        if is_told:
            state[VIEW] = told_of(state, self.owner, view) if outcome.is_known else tuple(view)
        if not essentials[0]:
            detail = None
            if charge.group.read_message is not None:
                detail = str(await asked.answer(charge.group.read_message(asked.request)))
            raise self.refusal(charge.limit, view.decision, detail, plan=plan, policies=view.policies)
        return view

    def is_settled(self, plan: Plan, scope: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
        """Whether nothing is left to decide: this limiter has done it, or somebody has said so.

        A dependency of the endpoint, which has limits of its own, has decided nothing about those of the endpoint.
        """
        done = state.get(COMPLETE)
        if done is True or plan.exempt_name in self.exempt_routes:
            return True
        if isinstance(done, Checked) and done.owner is self.owner:
            return done.plan.endpoint == plan.endpoint or plan.is_ahead or not _is_served_by(scope, plan)
        return plan.is_ahead and self._is_ahead(state)

    def mark_of(self, plan: Plan, before: object = None) -> object:
        """What a request's state remembers as `_rate_limiting_complete` when the plan was checked."""
        if not plan.is_ahead:
            return Checked(self.owner, plan)
        return Ahead((*before.owners, self.owner)) if isinstance(before, Ahead) else before or Ahead((self.owner,))

    def _left_of(self, plan: Plan, state: Mapping[str, Any]) -> Sequence[LimitGroup]:
        done = state.get(COMPLETE)
        if isinstance(done, Checked) and done.owner is self.owner:
            return [group for group in plan.groups if group not in done.plan.common]
        return plan.own if self._is_ahead(state) else plan.groups

    def _is_ahead(self, state: Mapping[str, Any]) -> bool:
        before = state.get(COMPLETE)
        return isinstance(before, Ahead) and any(owner is self.owner for owner in before.owners)

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
            key = decision.key if decision.key.isprintable() else ascii(decision.key)
            text = "ratelimit %s (%.200s) exceeded at endpoint: %.200s"
            self.refusals.warning(text, decision.item, key, decision.scope)
        headers = self.headers.of_refusal(decision, policies, is_retry_only=not self.headers_enabled)
        return RateLimitExceeded(limit, detail=detail, decision=decision, headers=headers)

    async def settle(self, state: MutableMapping[str, Any], response: Response | None, settle: Settle) -> None:
        """Keeps what the response says is to be kept of the limits that depend on it, and gives back the rest."""
        if HOLDS in state:
            await settle_holds(state, response, settle, self.logger)


def _is_served_by(scope: Mapping[str, Any], plan: Plan) -> bool:
    served = scope.get("endpoint")
    return served is not None and qualified_name(served) == plan.endpoint
