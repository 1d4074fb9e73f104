"""What a request's state keeps of the limits that were checked for it."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from limits import RateLimitItem

from .decision import Decision, Essentials
from .wrappers import Limit

VIEW = "view_rate_limit"
COMPLETE = "_rate_limiting_complete"
TAKEN = "_slidegate_taken"
TOLD_BY = "_slidegate_told_by"

CurrentLimitLike: TypeAlias = tuple[RateLimitItem, list[str]]
"""What `request.state.view_rate_limit` holds: a limit, and the key and the scope that it counts."""


class Policy(NamedTuple):
    """A limit as clients are told of it, and what is left of it, where that is known."""

    name: str
    item: RateLimitItem
    essentials: Essentials | None = None


class CurrentLimit(tuple[RateLimitItem, list[str]]):
    """A limit, its key and its scope, with what the engine answered about them."""

    essentials: Essentials
    policies: tuple[Policy, ...] = ()
    """All limits that were asked, where that is known."""

    @classmethod
    def of(cls, essentials: Essentials, item: RateLimitItem, key: str, scope: str, key_prefix: str) -> CurrentLimit:
        current = cls((item, [key_prefix, key, scope] if key_prefix else [key, scope]))
        current.essentials = essentials
        return current

    @property
    def decision(self) -> Decision:
        """The answer, with names."""
        item, (*_, key, scope) = self
        return Decision.of(self.essentials, item, key, scope)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What `_rate_limiting_complete` is when only plans that are ahead were checked, by these limiters: not true."""

    owners: tuple[object, ...]

    def __bool__(self) -> bool:
        return False


def state_of(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What `request.state` of this scope keeps its attributes in."""
    state: MutableMapping[str, Any] | None = scope.get("state")
    if state is None:
        state = scope["state"] = {}
    return state


def untouched(limits: Iterable[Limit], scope: str) -> Decision:
    """What is said where nothing limits: all is left, of the smallest."""
    item = min(limits, key=lambda each: each.limit.amount).limit
    return Decision.of((True, 0, item.amount, 0, 0), item, "", scope)


def told_of(state: MutableMapping[str, Any], owner: object, view: CurrentLimit) -> CurrentLimit:
    """What to tell of a request after one more decision: a refusal, else the decision with the least left.

    Where nothing but decorators and middleware have decided, it is the last one.
    """
    before = state.get(VIEW)
    if state.get(TOLD_BY) is not owner or not isinstance(before, CurrentLimit):
        return view
    is_scarcer = not view.essentials[0] or view.essentials[2] <= before.essentials[2]
    chosen, other = (view, before) if is_scarcer else (before, view)
    known = {(each.name, each.item) for each in chosen.policies}
    told = CurrentLimit(chosen)
    told.essentials = chosen.essentials
    told.policies = (*chosen.policies, *(each for each in other.policies if (each.name, each.item) not in known))
    return told
