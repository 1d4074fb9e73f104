"""What was used of a limit before it was changed, which counts on until it would have been given back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._core import Quota
from .._rules.hit import Hit
from .._storage.base import Policy
from ..decision import RawDecision

PolicyOf = Callable[[Quota, Hit], Policy]


def is_carrying(hits: Sequence[Hit]) -> bool:
    """Whether a limit of these has taken the place of another one."""
    return any(hit.limit.previous for hit in hits)


def carried(hit: Hit, policy_of: PolicyOf) -> int:
    """How much of the limit is taken by what was used before it was changed."""
    key = hit.counted_key
    return sum(quota.amount - policy_of(quota, hit).peek(key)[2] for quota in hit.limit.previous)


def beside_carried(
    hits: Sequence[Hit], policy_of: PolicyOf, answer: Callable[[], tuple[Hit, RawDecision]]
) -> tuple[Hit, RawDecision]:
    """What `answer` says of the charges, if there is room for each of them beside what was used before."""
    for each in hits:
        refusal = _refusal(each, carried(each, policy_of), policy_of)
        if refusal is not None:
            return each, refusal
    hit, (allowed, at, remaining, *times) = answer()
    reset_after_ns, retry_after_ns = times
    return hit, (allowed, at, max(0, remaining - carried(hit, policy_of)), reset_after_ns, retry_after_ns)


def _refusal(hit: Hit, used: int, policy_of: PolicyOf) -> RawDecision | None:
    """The refusal of a charge for which there is no room beside what was used before; None when there is."""
    key = hit.counted_key
    now = policy_of(hit.quota, hit)
    _, _, remaining, reset_after_ns, _ = now.peek(key)
    if remaining - used >= hit.cost:
        return None
    wait_ns = now.peek(key, hit.cost)[4]
    most_ns = reset_after_ns
    # The room that is left to the use before: it has to shrink to that, or to go altogether.
    room = remaining - hit.cost
    for quota in hit.limit.previous:
        before = policy_of(quota, hit)
        free = min(quota.amount, max(1, quota.amount - max(0, room)))
        _, _, _, gone_ns, fits_ns = before.peek(key, free)
        most_ns = max(most_ns, gone_ns)
        if wait_ns >= 0:
            # With several of them before, or too little room now, it is the time that is sure to do.
            is_exact = room >= 0 and len(hit.limit.previous) == 1
            wait_ns = max(wait_ns, fits_ns if is_exact else gone_ns)
    return False, 0, max(0, remaining - used), most_ns, wait_ns
