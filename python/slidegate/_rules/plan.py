"""What requests to an endpoint are counted against."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from starlette.requests import HTTPConnection

from .._support.waiting import Wait
from .bucket import Bucket
from .limit_group import LimitGroup

Check: TypeAlias = Callable[[HTTPConnection, Wait], Coroutine[Any, Any, None] | None]
"""Decides a request at once, or returns what has to be awaited to decide it. Raises RateLimitExceeded."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What requests to an endpoint are counted against.

    `own` is what was declared for the endpoint, `common` what applies to it beside that. `fallback` replaces dynamic
    limits that fail. One that is ahead is checked before the endpoint is called, which may have decorators that nobody
    saw. One that is pooled counts in one place, whatever the path.
    """

    endpoint: str
    own: tuple[LimitGroup, ...]
    common: tuple[LimitGroup, ...]
    fallback: tuple[LimitGroup, ...]
    is_ahead: bool = False
    is_pooled: bool = False
    route: str = ""
    """Methods and template of the path, where the limits of dependencies count; empty for others."""
    exempt_name: str | None = None
    """What it is called among the exempt routes; None when another function of its name is exempt, and it is not."""

    groups: tuple[LimitGroup, ...] = field(init=False)
    """All that apply."""
    has_shadow: bool = field(init=False)
    buckets: dict[LimitGroup, Bucket] = field(init=False, compare=False, default_factory=dict)
    """Where groups count, as far as requests have no say in it; without the path, where each path counts apart."""
    policies: dict[Any, Any] = field(init=False, compare=False, default_factory=dict)
    """What takes hits with one call, by their quotas and scopes."""

    def __post_init__(self) -> None:
        groups = self.own + self.common
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "has_shadow", any(group.is_shadow for group in groups + self.fallback))


class RequestContext(NamedTuple):
    """A request, how to wait for answers about it, the answers of key functions so far, by their id, and its plan.

    `record` is where what its response may give back is kept.
    """

    request: HTTPConnection
    wait: Wait
    keys: dict[int, Any]
    plan: Plan
    record: Any = None
