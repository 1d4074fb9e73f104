"""What storages and their policies have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from .._rules.bucket import Rule
from ..decision import RawDecision

Key: TypeAlias = str | bytes
Keys: TypeAlias = Key | tuple[Key, ...]
Costs: TypeAlias = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a storage is asked, how long it has been so, how often it was not, and the last error, if any."""

    is_available: bool
    since_s: float
    outages: int
    last_error: str | None


class Policy(Protocol):
    """Rules that are hit together: one key for all or one for each, costs likewise. All of them take, or none."""

    def hit(self, keys: Keys, cost: Costs = 1, /) -> RawDecision: ...
    def peek(self, keys: Keys, cost: Costs = 1, /) -> RawDecision: ...
    def reset(self, keys: Keys, /) -> None: ...
    def reserve(self, keys: Keys, cost: Costs = 1, /) -> tuple[RawDecision, Any]:
        """The ticket is None for what was refused."""
        ...

    def refund(self, ticket: Any, /) -> bool: ...


class Storage(Protocol):
    """Thread-safe. Policies are handles: equal rules share their counts."""

    def policy(self, rules: tuple[Rule, ...], /) -> Policy: ...
    def reader(self, rules: tuple[Rule, ...], /) -> Policy:
        """One to peek with: metrics do not tell of its rules."""
        ...

    def reset(self) -> None:
        """Forgets all hits."""
        ...

    def check(self) -> bool:
        """Whether hits can be counted now."""
        ...
