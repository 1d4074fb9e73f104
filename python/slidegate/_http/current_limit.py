"""What is kept of the limits that were checked for a request."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from limits import RateLimitItem

from .._rules.limit import Limit
from ..decision import Decision, RawDecision
from .header_styles import Policy
from .request_state import VIEW, Mark, Record, known_of

CurrentLimitLike: TypeAlias = tuple[RateLimitItem, list[str]]
"""What `request.state.view_rate_limit` holds: a limit, and the key and the scope that it counts."""


class CurrentLimit(tuple[RateLimitItem, list[str]]):
    """A limit, its key and its scope, with what the engine answered about them."""

    raw_decision: RawDecision
    policies: tuple[Policy, ...] = ()
    """All limits that were asked, where that is known."""
    hit: Any = None
    """The `Hit` that it is about, where that is known."""

    def updated(self, remaining: int, reset_after_ns: int) -> CurrentLimit:
        """What is told instead when so much is left of it by now."""
        current = CurrentLimit(self)
        current.raw_decision, current.hit = (True, 0, remaining, reset_after_ns, 0), self.hit
        return current

    @property
    def decision(self) -> Decision:
        item, (*_, key, scope) = self
        return Decision.of(self.raw_decision, item, key, scope)


@dataclass(frozen=True, slots=True)
class Ahead(Mark):
    """What `_rate_limiting_complete` is when only plans that are ahead were checked: not true.

    It tells by which limiters, and for which endpoints; or that nobody knows for which any more.
    """

    checked: tuple[tuple[object, str | None], ...]

    def __bool__(self) -> bool:
        return False


NOTHING_YET = Ahead(())


def untouched(limits: Iterable[Limit], scope: str) -> Decision:
    """What is said where nothing limits: all is left, of the smallest."""
    item = min(limits, key=lambda each: each.limit.amount).limit
    return Decision.of((True, 0, item.amount, 0, 0), item, "", scope)


def told_of(record: Record, owner: object, view: CurrentLimit) -> CurrentLimit:
    """What to tell of a request after one more decision: a refusal, else the decision with the least left.

    Where nothing but decorators and middleware have decided, it is the last one.
    """
    if record.headers_owner is not owner or record.view is None:
        return view
    before = view_of(record)
    if not isinstance(before, CurrentLimit):
        return view
    is_scarcer = not view.raw_decision[0] or view.raw_decision[2] <= before.raw_decision[2]
    chosen, other = (view, before) if is_scarcer else (before, view)
    known = {(each.name, each.item) for each in chosen.policies}
    told = CurrentLimit(chosen)
    told.raw_decision, told.hit = chosen.raw_decision, chosen.hit
    told.policies = (*chosen.policies, *(each for each in other.policies if (each.name, each.item) not in known))
    return told


def view_in(scope: MutableMapping[str, Any]) -> Any:
    """What is to be told of the limits of the request with this scope; None when there is nothing."""
    record, state = known_of(scope), scope.get("state")
    mine = None if record is None else record.view
    return mine if state is None else _told(state, mine)


def view_of(record: Record) -> Any:
    """What is to be told of the limits of a request; None when there is nothing."""
    return _told(record.state, record.view)


def _told(state: MutableMapping[str, Any], mine: Any) -> Any:
    said = state.get(VIEW, mine)
    # What is like ours, and is not, is of another request that has the same state; all else programs have put there.
    return mine if isinstance(said, CurrentLimit) else said
