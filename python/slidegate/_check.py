"""The one path that decides a request. Decorators, dependencies and middleware end here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from limits import RateLimitItem
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from ._callables import Settle
from ._charges import Asked, Charge, ChargeReader, Plan
from ._headers import HeaderFormat
from .decision import NS_PER_S, Decision, Essentials
from .errors import ConfigurationError, RateLimitExceeded
from .storage import Storage
from .wrappers import Limit

Check: TypeAlias = Callable[[HTTPConnection, Settle], Coroutine[Any, Any, None] | None]
"""Decides a request at once, or returns what has to be awaited to decide it. Raises RateLimitExceeded."""

VIEW = "view_rate_limit"
COMPLETE = "_rate_limiting_complete"


CurrentLimitLike: TypeAlias = tuple[RateLimitItem, list[str]]
"""What `request.state.view_rate_limit` holds: a limit, and the key and the scope that it counts."""


class CurrentLimit(tuple[RateLimitItem, list[str]]):
    """A limit, its key and its scope, with the decision that they come from."""

    decision: Decision

    @classmethod
    def of(cls, decision: Decision, key_prefix: str) -> CurrentLimit:
        identifiers = [decision.key, decision.scope]
        current = cls((decision.item, [key_prefix, *identifiers] if key_prefix else identifiers))
        current.decision = decision
        return current


@dataclass(frozen=True)
class Checker:
    """Decides requests for one limiter. Thread-safe: everything about a request is passed in.

    `owner` marks the requests that were decided, so that an endpoint that calls another one is counted once, and two
    limiters on one endpoint both count.
    """

    owner: object
    storage: Storage
    reader: ChargeReader
    headers: HeaderFormat
    logger: logging.Logger
    refusals: logging.Logger
    exempt_routes: set[str]
    headers_enabled: bool
    swallows_errors: bool

    async def check(self, plan: Plan, request: HTTPConnection, settle: Settle, known_keys: Mapping[int, Any]) -> None:
        """Counts a request against all limits of a plan, or against none when one of them refuses.

        Leaves what came of it in `request.state.view_rate_limit`. `known_keys` holds what key functions, by their id,
        have returned already. Raises RateLimitExceeded, and whatever `ChargeReader.charges` does.
        """
        state = state_of(request.scope)
        state.setdefault(VIEW, None)
        if self.is_settled(plan, state):
            return
        asked = Asked(request, settle, dict(known_keys))
        try:
            charges = await self.reader.charges(plan, asked)
            charge, decision = self._decide(charges) if charges else (None, None)
        except (HTTPException, ConfigurationError):
            raise
        except Exception:
            if not self.swallows_errors:
                raise
            self.logger.exception("Failed to rate limit. Swallowing error")
            return
        state[COMPLETE] = self.owner
        if charge is None or decision is None:
            return
        state[VIEW] = CurrentLimit.of(decision, self.reader.key_prefix)
        if not decision.allowed:
            detail = None
            if charge.group.read_message is not None:
                detail = str(await asked.answer(charge.group.read_message(request)))
            raise self.refusal(charge.limit, decision, detail)

    def is_settled(self, plan: Plan, state: Mapping[str, Any]) -> bool:
        """Whether nothing is left to decide: this limiter has done it, or somebody has said so."""
        done = state.get(COMPLETE)
        return done is True or done is self.owner or plan.endpoint in self.exempt_routes

    def refusal(self, limit: Limit, decision: Decision, detail: str | None = None) -> RateLimitExceeded:
        """The exception for a refused request, logged."""
        key = decision.key if decision.key.isprintable() else ascii(decision.key)
        self.refusals.warning("ratelimit %s (%.200s) exceeded at endpoint: %.200s", decision.item, key, decision.scope)
        headers = self.headers.of_refusal(decision, is_retry_only=not self.headers_enabled)
        return RateLimitExceeded(limit, detail=detail, decision=decision, headers=headers)

    def _decide(self, charges: list[Charge]) -> tuple[Charge, Decision]:
        if self.reader.on_missing_key == "refuse":
            for charge in charges:
                if not charge.key:
                    window_ns = charge.limit.limit.get_expiry() * NS_PER_S
                    return charge, decision_of((False, 0, 0, window_ns, window_ns), charge)
        policy = self.storage.policy(tuple((each.quota, each.place.rule_scope) for each in charges))
        keys = tuple(each.place.lead + each.key for each in charges)
        essentials = policy.hit(keys, tuple(each.cost for each in charges))
        return charges[essentials[1]], decision_of(essentials, charges[essentials[1]])


def decision_of(essentials: Essentials, charge: Charge) -> Decision:
    """The engine's answer about a charge."""
    return Decision.of(essentials, charge.limit.limit, charge.key, charge.place.label)


def state_of(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What `request.state` of this scope keeps its attributes in."""
    state: MutableMapping[str, Any] | None = scope.get("state")
    if state is None:
        state = scope["state"] = {}
    return state
