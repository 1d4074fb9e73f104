"""Takes what requests cost from a server: without blocking on event loops, and blocking elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ..._http.state import Record
from ..._rules.resolver import Hit, costs_of, held_parts, keys_of
from ..._storage.redis.storage import RedisPolicy, RedisStorage, RedisTicket
from ..._support.callables import Wait, wait_in_thread
from ...decision import RawDecision
from ..reservations import Reservation

Refresh = Callable[[Record, Reservation, Wait], Awaitable[None]]


async def take_remotely(
    storage: RedisStorage, hits: Sequence[Hit], wait: Wait, record: Record, refresh: Refresh
) -> tuple[Hit, RawDecision]:
    """Takes all of the charges in one round trip, or none; says about which there is least, or too little.

    What depends on the response is held in the record until that is known. Raises StorageError.
    """
    policy = policy_of(storage, hits)
    keys, costs = keys_of(hits), costs_of(hits)
    if all(each.group.read_deduct is None for each in hits):
        is_blocking = wait is wait_in_thread
        raw_decision = policy.hit(keys, costs) if is_blocking else await policy.hit_async(keys, costs)
        return hits[raw_decision[1]], raw_decision
    if wait is wait_in_thread:
        raw_decision, ticket = policy.reserve(keys, costs)
    else:
        raw_decision, ticket = await policy.reserve_async(keys, costs)
    if ticket is not None:
        record.holds = [*(record.holds or ()), *_reservations(storage, hits, keys, ticket, refresh)]
    return hits[raw_decision[1]], raw_decision


async def peek_remotely(storage: RedisStorage, hits: Sequence[Hit], wait: Wait) -> tuple[Hit, RawDecision]:
    """What would be said about the charges, which are not taken. Raises StorageError."""
    policy = policy_of(storage, hits)
    context = keys_of(hits), costs_of(hits)
    raw_decision = policy.peek(*context) if wait is wait_in_thread else await policy.peek_async(*context)
    return hits[raw_decision[1]], raw_decision


def policy_of(storage: RedisStorage, hits: Sequence[Hit]) -> RedisPolicy:
    return storage.policy(tuple(each.rule for each in hits))


def _reservations(
    storage: RedisStorage, hits: Sequence[Hit], keys: Sequence[str], ticket: RedisTicket, refresh: Refresh
) -> list[Reservation]:
    reservations, parts = [], held_parts(hits)
    for part, own in zip(parts, ticket.divided(parts), strict=True):
        held = [hits[at] for at in part]
        reservations.append(
            Reservation(policy_of(storage, held), own, tuple(held), tuple(keys[at] for at in part), refresh)
        )
    return reservations
