"""Which `RateLimit`s stand among the dependencies of a route, and which of them are decided together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._limiter.core import LimiterCore
from .rate_limit import DeclaredPerMessage, DeclaredRateLimit


def calls_of(dependant: Any) -> Iterator[tuple[Any, bool]]:
    """The calls of all dependencies below in the order in which they are made, and whether each has some of its own.

    One that was made before is not made again.
    """
    seen: set[int] = set()

    def below(parent: Any) -> Iterator[tuple[Any, bool]]:
        for each in getattr(parent, "dependencies", ()):
            yield from below(each)
            if id(each.call) not in seen:
                seen.add(id(each.call))
                yield each.call, bool(each.dependencies)

    return below(dependant)


def rate_limits_of(dependant: Any) -> Iterator[DeclaredRateLimit]:
    """The `RateLimit`s among all dependencies below, also those that count messages."""
    for call, _ in calls_of(dependant):
        if isinstance(call, DeclaredRateLimit):
            yield call
        elif isinstance(call, DeclaredPerMessage):
            yield call.rate_limit


def application_of(apps: Sequence[Any]) -> Any:
    """The application that a request is for, of those that it passes through on its way to a route."""
    return next((each for each in reversed(apps) if hasattr(each, "state")), None)


def followers_of(first: DeclaredRateLimit, dependant: Any, overrides: Mapping[Any, Any]) -> list[DeclaredRateLimit]:
    """Those that follow a `RateLimit` with no other dependency in between, and need none: one decision will do for all.

    What was overridden for a test is no longer there.
    """
    followers: list[DeclaredRateLimit] = []
    calls = calls_of(dependant)
    if not any(call is first for call, _ in calls):
        return followers
    for call, has_own in calls:
        if not isinstance(call, DeclaredRateLimit) or has_own or not call.is_alone:
            break
        if call not in overrides:
            followers.append(call)
    return followers


def is_overriding(limiter: LimiterCore, dependant: Any) -> bool:
    """Whether dependencies of a route have limits instead of the default ones."""
    if dependant is None:
        return False
    # One that is switched off leaves the defaults in force.
    overriding = (each for each in rate_limits_of(dependant) if each.override_defaults)
    return any(each.limiter in (None, limiter) and each.groups(limiter) for each in overriding)
