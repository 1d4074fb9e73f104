"""What a limit takes for a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from .._core import Quota
from ..decision import RawDecision
from .bucket import Bucket, Rule
from .limit import Limit
from .limit_group import LimitGroup

Same: TypeAlias = tuple[Quota | None, Bucket, str]


class Hit(NamedTuple):
    """What one limit takes for one request. The key is empty when nobody knows who sent it."""

    limit: Limit
    group: LimitGroup
    quota: Quota
    bucket: Bucket
    key: str
    cost: int

    @property
    def rule(self) -> Rule:
        """What the engine counts by."""
        return self.quota, self.bucket.rule_scope, self.limit.name or "", self.group.is_made_by_requests

    @property
    def counted_key(self) -> str:
        """Under which key."""
        return self.bucket.lead + self.key

    def told(self, raw_decision: RawDecision) -> RawDecision:
        """An answer about it, in which a cost above the limit, and no other, is never to be asked for again.

        A share of the limit, and what others count by, may be too small only for now.
        """
        allowed, at, remaining, reset_after_ns, retry_after_ns = raw_decision
        if allowed:
            return raw_decision
        if self.cost > self.limit.limit.amount and not self.limit.refuses_all:
            retry_after_ns = -1
        elif retry_after_ns < 0:
            retry_after_ns = self.quota.window_ns
        return allowed, at, remaining, reset_after_ns, retry_after_ns

    @property
    def same(self) -> Same:
        """What hits of the same have in common."""
        return None if self.limit.refuses_all else self.quota, self.bucket, self.key


Outcome: TypeAlias = tuple[Hit, RawDecision]
"""The hit that matters most, and what was decided about it."""


def asked_of(hits: Sequence[Hit]) -> tuple[tuple[Rule, ...], tuple[tuple[str, ...], tuple[int, ...]]]:
    """What they are counted by; under which keys, and what they take."""
    rules, keys, costs = zip(*[(each.rule, each.counted_key, each.cost) for each in hits], strict=True)
    return rules, (keys, costs)


def held_parts(hits: Sequence[Hit]) -> list[list[int]]:
    """Where those stand that depend on the response: together for each declaration, which has a say of its own."""
    by_group: dict[int, list[int]] = {}
    for at, hit in enumerate(hits):
        if hit.group.read_deduct is not None:
            by_group.setdefault(id(hit.group), []).append(at)
    return list(by_group.values())


def merged(hits: Iterable[Hit]) -> list[Hit]:
    """The hits, but one for each bucket, however often it was declared: at the highest cost."""
    by_same: dict[Same, Hit] = {}
    for hit in hits:
        same = hit.same
        by_same[same] = hit if same not in by_same else _dearer(by_same[same], hit)
    return list(by_same.values())


def beyond(hits: Iterable[Hit], paid: Iterable[tuple[Iterable[Hit], str | None]]) -> list[Hit]:
    """What is left of the hits where so much was paid already: of hits, or of those of a key that they do not have."""
    costs: dict[Same, int] = {}
    for earlier, key in paid:
        for each in earlier:
            same = each.same if key is None else each._replace(key=key).same
            costs[same] = costs.get(same, 0) + each.cost
    left = ((hit, hit.cost - costs.get(hit.same, 0)) for hit in hits)
    return [hit if cost == hit.cost else hit._replace(cost=cost) for hit, cost in left if cost > 0]


def _kind(hit: Hit) -> tuple[bool, bool]:
    return not hit.group.is_shadow, hit.group.read_deduct is None


def _weight(hit: Hit) -> tuple[bool, bool, int]:
    # Of two about one bucket, one that is enforced, and sure to be kept, and strictest, is the one to take.
    return *_kind(hit), {"closed": 2, "open": 0}.get(hit.group.on_error or "", 1)


def _dearer(one: Hit, other: Hit) -> Hit:
    """What two declarations about one bucket come to: one hit, at the higher cost."""
    chosen = max(one, other, key=_weight)
    return chosen._replace(cost=max(one.cost, other.cost)) if _kind(one) == _kind(other) else chosen
