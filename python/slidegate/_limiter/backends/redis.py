"""Takes what requests cost from a server: without blocking on event loops, and blocking elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ..._http.state import Record
from ..._rules.resolver import Charge, costs_of, held_parts, keys_of
from ..._storage.redis.storage import RedisPolicy, RedisStorage, RedisTicket
from ..._support.callables import Settle, settle_blocking
from ...decision import Essentials
from ..reservations import Hold

Refresh = Callable[[Record, Hold, Settle], Awaitable[None]]


async def take_remotely(
    storage: RedisStorage, charges: Sequence[Charge], settle: Settle, record: Record, refresh: Refresh
) -> tuple[Charge, Essentials]:
    """Takes all of the charges in one round trip, or none; says about which there is least, or too little.

    What depends on the response is held in the record until that is known. Raises StorageError.
    """
    policy = policy_of(storage, charges)
    keys, costs = keys_of(charges), costs_of(charges)
    if all(each.group.read_deduct is None for each in charges):
        is_blocking = settle is settle_blocking
        essentials = policy.hit(keys, costs) if is_blocking else await policy.hit_async(keys, costs)
        return charges[essentials[1]], essentials
    if settle is settle_blocking:
        essentials, ticket = policy.reserve(keys, costs)
    else:
        essentials, ticket = await policy.reserve_async(keys, costs)
    if ticket is not None:
        record.holds = [*(record.holds or ()), *_holds(storage, charges, keys, ticket, refresh)]
    return charges[essentials[1]], essentials


async def peek_remotely(storage: RedisStorage, charges: Sequence[Charge], settle: Settle) -> tuple[Charge, Essentials]:
    """What would be said about the charges, which are not taken. Raises StorageError."""
    policy = policy_of(storage, charges)
    asked = keys_of(charges), costs_of(charges)
    essentials = policy.peek(*asked) if settle is settle_blocking else await policy.peek_async(*asked)
    return charges[essentials[1]], essentials


def policy_of(storage: RedisStorage, charges: Sequence[Charge]) -> RedisPolicy:
    return storage.policy(tuple(each.rule for each in charges))


def _holds(
    storage: RedisStorage, charges: Sequence[Charge], keys: Sequence[str], ticket: RedisTicket, refresh: Refresh
) -> list[Hold]:
    holds, parts = [], held_parts(charges)
    for part, own in zip(parts, ticket.divided(parts), strict=True):
        held = [charges[at] for at in part]
        holds.append(Hold(policy_of(storage, held), own, tuple(held), tuple(keys[at] for at in part), refresh))
    return holds
