"""What was used of a limit before it was changed, which counts on until it would have been given back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._core import Quota
from .._rules.hit import Hit, Outcome
from .._storage.base import Policy, Storage
from .._support.fork import ForkableLock
from ..decision import RawDecision


def beside_previous(
    hits: Sequence[Hit], storage: Storage, lock: ForkableLock, answer: Callable[[], Outcome]
) -> Outcome:
    """What `answer` says of the hits, if there is room for each of them beside what was used before.

    Where a limit has taken the place of another one, that is one step for all who have the same lock.
    """
    if not any(hit.limit.previous for hit in hits):
        return answer()
    with lock:
        for each in hits:
            refusal = _refusal(each, _used(each, storage), storage)
            if refusal is not None:
                return each, refusal
        hit, (allowed, at, remaining, reset_after_ns, retry_after_ns) = answer()
        return hit, (allowed, at, max(0, remaining - _used(hit, storage)), reset_after_ns, retry_after_ns)


def _policy(storage: Storage, quota: Quota, hit: Hit) -> Policy:
    return storage.policy(((quota, *hit.rule[1:]),))


def _used(hit: Hit, storage: Storage) -> int:
    """How much of the limit is taken by what was used before it was changed."""
    key = hit.counted_key
    return sum(quota.amount - _policy(storage, quota, hit).peek(key)[2] for quota in hit.limit.previous)


def _refusal(hit: Hit, used: int, storage: Storage) -> RawDecision | None:
    """The refusal of a hit for which there is no room beside what was used before; None when there is."""
    key = hit.counted_key
    now = _policy(storage, hit.quota, hit)
    _, _, remaining, reset_after_ns, _ = now.peek(key)
    if remaining - used >= hit.cost:
        return None
    wait_ns = now.peek(key, hit.cost)[4]
    most_ns = reset_after_ns
    # The room that is left to the use before: it has to shrink to that, or to go altogether.
    room = remaining - hit.cost
    for quota in hit.limit.previous:
        before = _policy(storage, quota, hit)
        free = min(quota.amount, max(1, quota.amount - max(0, room)))
        _, _, _, gone_ns, fits_ns = before.peek(key, free)
        most_ns = max(most_ns, gone_ns)
        if wait_ns >= 0:
            # With several of them before, or too little room now, it is the time that is sure to do.
            is_exact = room >= 0 and len(hit.limit.previous) == 1
            wait_ns = max(wait_ns, fits_ns if is_exact else gone_ns)
    return False, 0, max(0, remaining - used), most_ns, wait_ns
