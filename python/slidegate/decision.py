"""What a check came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from limits import RateLimitItem

NS_PER_S = 1_000_000_000

RawDecision: TypeAlias = tuple[bool, int, int, int, int]
"""What the engine answers: allowed, index of the rule, remaining, reset_after_ns, retry_after_ns (or -1)."""


@dataclass(frozen=True)
class Decision:
    """The answer to one check, about the quota that matters most to the caller.

    That is the quota that keeps the caller waiting longest when refused, and the one with the least remaining when
    admitted. Times count from the moment of the check.
    """

    allowed: bool
    item: RateLimitItem
    """The limit in question: amount and window."""
    key: str
    """Who is limited."""
    scope: str
    """What is limited: a path, the name of an endpoint or of a shared limit."""
    remaining: int
    """What the quota would still admit."""
    reset_after_ns: int
    """Until the quota is whole again."""
    retry_after_ns: int | None
    """Until it would admit the same cost: 0 when allowed, None when it never will."""

    @classmethod
    def of(cls, raw_decision: RawDecision, item: RateLimitItem, key: str, scope: str) -> Decision:
        """The engine's answer, with names."""
        allowed, _, remaining, reset_after_ns, retry_ns = raw_decision
        decision = object.__new__(cls)
        # All at once, as __init__ of a frozen class sets one after the other, which takes three times as long.
        vars(decision).update(
            allowed=allowed,
            item=item,
            key=key,
            scope=scope,
            remaining=remaining,
            reset_after_ns=reset_after_ns,
            retry_after_ns=None if retry_ns < 0 else retry_ns,
        )
        return decision

    @property
    def limit(self) -> int:
        """Amount of the quota."""
        return self.item.amount

    @property
    def window_s(self) -> int:
        """Length of the window."""
        return self.item.get_expiry()

    @property
    def retry_after_s(self) -> int | None:
        """Whole seconds to wait, never less than the true time: 0 when allowed, else at least 1; None when no wait will
        help, as the cost is above the limit itself.
        """
        if self.allowed:
            return 0
        return None if self.retry_after_ns is None else whole_seconds(self.retry_after_ns)

    @property
    def reset_after_s(self) -> int:
        """Whole seconds until the quota is whole again, never less than the true time."""
        return whole_seconds(self.reset_after_ns)


def whole_seconds(duration_ns: int) -> int:
    """The duration in seconds, rounded up."""
    return -(-duration_ns // NS_PER_S)
