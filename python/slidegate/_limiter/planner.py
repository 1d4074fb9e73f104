"""What the endpoints of a limiter are limited by, and the checks that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from .._rules.environment import C
from .._rules.limit_group import LimitGroup, Yielding
from .._rules.named_limits import NamedLimits
from .._rules.notation import Strategy
from .._rules.plan import Check, Plan
from .._support.callables import qualified_name, wrapped_chain
from .settings import Limits


class LimitedEndpoint(Protocol):
    """An endpoint that decorators have limited."""

    check: Check
    function: Callable[..., Any]
    groups: list[LimitGroup]
    name: str
    wrappers: list[Callable[..., Any]]


class PlannedLimiter(Protocol):
    """A limiter, as far as what it checks is concerned."""

    is_patched: bool
    key_func: Any
    named: NamedLimits
    strategy: Strategy

    def compiled(self, plan: Plan) -> Check: ...

    def groups_of(self, endpoint: LimitedEndpoint) -> Sequence[LimitGroup]: ...

    def patched_check(self, function: Callable[..., Any] | None, in_middleware: bool) -> Check: ...


class Planner:
    """Makes the checks of one limiter, and makes them again when what they depend on is replaced.

    `revision` rises whenever checks that were handed out are out of date. Thread-safe.
    """

    def __init__(self, limiter: PlannedLimiter, limits: Limits) -> None:
        self._limiter = limiter
        strategy = limiter.strategy
        self.default_limits: Sequence[Any] = limits.declared("default_limits", C.DEFAULT_LIMITS, strategy)
        self.application_limits: Sequence[Any] = limits.declared(
            "application_limits", C.APPLICATION_LIMITS, strategy, "global"
        )
        self.fallback_limits: Sequence[Any] = limits.declared("in_memory_fallback", C.IN_MEMORY_FALLBACK, strategy)
        self.request_filters: Sequence[Callable[[], Any]] = ()
        self.exempt_routes: set[str] = set()
        self.shared_scopes = {"global"}
        # Not weakly: nothing else refers to one whose decorator stands above that of the route.
        self.endpoints: dict[str, list[LimitedEndpoint]] = {}
        self.revision = 0
        self.is_holding = False
        self._exempt_functions: dict[str, list[Any]] = {}

    def add(self, endpoint: LimitedEndpoint) -> None:
        """Takes up an endpoint, or what was added to one."""
        namesakes = self.endpoints.setdefault(endpoint.name, [])
        if endpoint not in namesakes:
            namesakes.append(endpoint)
        self.shared_scopes |= {group.scope for group in endpoint.groups if isinstance(group.scope, str)}
        self.is_holding |= any(group.read_deduct is not None for group in endpoint.groups)
        self._renew(endpoint)
        self.revision += 1

    def exempt(self, function: Callable[..., Any]) -> None:
        """Has an endpoint never limited."""
        name = qualified_name(function)
        self._exempt_functions.setdefault(name, []).append(function)
        self.exempt_routes.add(name)
        self.renew(name)

    def renew(self, name: str | None = None) -> None:
        """Makes all checks again, or those of the endpoints of this name."""
        for namesakes in [self.endpoints.get(name, [])] if name is not None else list(self.endpoints.values()):
            for endpoint in list(namesakes):
                self._renew(endpoint)
        self.revision += 1

    def exempt_name(self, name: str, *functions: Any) -> str | None:
        """The name of an endpoint, if it is the one that is exempt under it, or nobody knows which one that is."""
        exempt = self._exempt_functions.get(name)
        if exempt is None:
            return name
        those = {id(part) for function in exempt for part in _parts_of(function)}
        return name if any(id(part) in those for function in functions for part in _parts_of(function)) else None

    def plan(
        self,
        name: str,
        own: Sequence[LimitGroup],
        *functions: Any,
        overridden: bool = False,
        is_ahead: bool = False,
        is_pooled: bool = False,
    ) -> Plan:
        """Own limits of these functions, those of the application, and the defaults where they apply."""
        own = self.configured(own)
        has_defaults = not (overridden or any(group.override_defaults for group in own))
        defaults = self.defaults()
        common = (*self.groups_in(self.application_limits), *(defaults if has_defaults else ()))
        exempt_name = self.exempt_name(name, *functions)
        return Plan(name, tuple(own), common, defaults, is_ahead, is_pooled, exempt_name=exempt_name)

    def configured(self, groups: Iterable[LimitGroup]) -> list[LimitGroup]:
        """The groups as settings have them, without those that are switched off, or limit nothing."""
        return [each for each in map(self._limiter.named.applied, groups) if each is not None and each.limits != ()]

    def plan_of(self, endpoint: LimitedEndpoint) -> Plan:
        return self.plan(endpoint.name, self._limiter.groups_of(endpoint), endpoint.function, *endpoint.wrappers)

    def defaults(self) -> tuple[LimitGroup, ...]:
        """The limits of endpoints that have none of their own."""
        return tuple(self.groups_in(self.default_limits))

    def groups_in(self, limits: Iterable[Any]) -> list[LimitGroup]:
        """The groups of such a list, in which programs may have put any iterables of limits."""
        limiter = self._limiter
        return [
            each if isinstance(each, LimitGroup) else Yielding(each, limiter.key_func, limiter.strategy)
            for each in limits
        ]

    def check(self, plan: Plan) -> Check:
        """The check of a plan, as the limiter is configured now."""
        check, filters = self._limiter.compiled(plan), tuple(self.request_filters)
        if not filters:
            return check
        return lambda request, wait: None if any(each() for each in filters) else check(request, wait)

    def _renew(self, endpoint: LimitedEndpoint) -> None:
        if self._limiter.is_patched:
            endpoint.check = self._limiter.patched_check(endpoint.function, False)
        else:
            endpoint.check = self.check(self.plan_of(endpoint))


def _parts_of(function: Any) -> Iterator[Any]:
    # Bound methods are others every time; what they are of is not.
    return (getattr(part, "__func__", part) for part in wrapped_chain(function))
