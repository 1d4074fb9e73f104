"""What was used of a limit before it was changed, which counts on until it would have been given back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._core import Quota
from .._rules.resolver import Charge
from .._storage.memory import Policy
from ..decision import Essentials

PolicyOf = Callable[[Quota, Charge], Policy]


def is_carrying(charges: Sequence[Charge]) -> bool:
    """Whether a limit of these has taken the place of another one."""
    return any(charge.limit.previous for charge in charges)


def carried(charge: Charge, policy_of: PolicyOf) -> int:
    """How much of the limit is taken by what was used before it was changed."""
    key = charge.counted_key
    return sum(quota.amount - policy_of(quota, charge).peek(key)[2] for quota in charge.limit.previous)


def beside_carried(
    charges: Sequence[Charge], policy_of: PolicyOf, answer: Callable[[], tuple[Charge, Essentials]]
) -> tuple[Charge, Essentials]:
    """What `answer` says of the charges, if there is room for each of them beside what was used before."""
    for each in charges:
        refusal = _refusal(each, carried(each, policy_of), policy_of)
        if refusal is not None:
            return each, refusal
    charge, (allowed, at, remaining, *times) = answer()
    reset_after_ns, retry_after_ns = times
    return charge, (allowed, at, max(0, remaining - carried(charge, policy_of)), reset_after_ns, retry_after_ns)


def _refusal(charge: Charge, used: int, policy_of: PolicyOf) -> Essentials | None:
    """The refusal of a charge for which there is no room beside what was used before; None when there is."""
    key = charge.counted_key
    now = policy_of(charge.quota, charge)
    _, _, remaining, reset_after_ns, _ = now.peek(key)
    if remaining - used >= charge.cost:
        return None
    wait_ns = now.peek(key, charge.cost)[4]
    most_ns = reset_after_ns
    # The room that is left to the use before: it has to shrink to that, or to go altogether.
    room = remaining - charge.cost
    for quota in charge.limit.previous:
        before = policy_of(quota, charge)
        free = min(quota.amount, max(1, quota.amount - max(0, room)))
        _, _, _, gone_ns, fits_ns = before.peek(key, free)
        most_ns = max(most_ns, gone_ns)
        if wait_ns >= 0:
            # With several of them before, or too little room now, it is the time that is sure to do.
            is_exact = room >= 0 and len(charge.limit.previous) == 1
            wait_ns = max(wait_ns, fits_ns if is_exact else gone_ns)
    return False, 0, max(0, remaining - used), most_ns, wait_ns
