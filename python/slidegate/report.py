"""Which limits will be enforced on which routes of an application, and why: to be read before production."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.staticfiles import StaticFiles

from ._fastapi.decorator import is_verified, limiters_behind
from ._fastapi.dependency_tree import application_of, is_overriding, rate_limits_of
from ._fastapi.middleware import has_middleware, middleware_of
from ._fastapi.rate_limit import DeclaredRateLimit, limiter_for
from ._fastapi.route_checks import CheckedBy, checked_by
from ._limiter.core import LimiterCore
from ._routing.endpoint_finder import Found, RouteFinder
from ._rules.limit_group import LimitGroup
from ._rules.plan import Plan
from ._support.callables import qualified_name, wrapped_chain
from ._support.text_table import aligned
from .keys.identity import choice_of_client, name_of

__all__ = ["Report", "RouteReport", "report_of"]

BY_PATH = 'Limiter(key_style="endpoint") counts a route as one, and so does a RateLimit'

_WEBSOCKET = ("WEBSOCKET",)
_METHODS = ("get", "post", "put", "patch", "delete", "head", "options")


@dataclass(frozen=True)
class RouteReport:
    """One route, or one method of a class that serves a route."""

    methods: tuple[str, ...]
    """Empty when it takes any; ("WEBSOCKET",) for a WebSocket."""
    path: str
    """With the prefixes of routers and mounts, and after the host when the route is limited to one."""
    endpoint: str
    """Module and qualified name."""
    limits: tuple[str, ...]
    """What is enforced; empty when nothing is."""
    reason: str
    """Where the limits come from, or why there are none."""
    way: str
    """The value of the `CheckedBy` in which it is limited, or would be."""
    is_exempt: bool
    is_counted_by_path: bool
    """Whether every concrete path counts apart."""
    is_of_framework: bool
    """Whether the framework made it, such as the pages of an API's documentation."""
    is_inert: bool = False
    """Whether it has a decorator that nothing calls."""
    is_varied_by_path: bool = False
    """Whether every concrete path counts apart, and there are many, so that whoever varies it is not limited."""
    is_verified: bool = True
    """Whether the decorator of its limit is called for sure, and not wrapped by what may answer without it."""
    choices: tuple[str, ...] = ()
    """Why clients can choose whom its limits count, if they can."""

    @property
    def name(self) -> str:
        """Methods and path."""
        return f"{','.join(self.methods) or 'ANY'} {self.path}"

    @property
    def is_websocket(self) -> bool:
        """Whether it is a WebSocket's."""
        return self.methods == _WEBSOCKET


@dataclass(frozen=True)
class Report:
    """All routes of an application, in the order of dispatch. `str()` makes a table of it."""

    routes: tuple[RouteReport, ...]
    notes: tuple[str, ...]
    """What holds for all of them."""

    @property
    def unlimited(self) -> tuple[RouteReport, ...]:
        """The routes without a limit that nobody has exempted and the framework has not made."""
        return tuple(each for each in self.routes if not (each.limits or each.is_exempt or each.is_of_framework))

    @property
    def varied(self) -> tuple[RouteReport, ...]:
        """The routes with a limit that whoever varies the path is not limited by."""
        return tuple(each for each in self.routes if each.is_varied_by_path)

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`."""
        return {"notes": list(self.notes), "routes": [asdict(route) for route in self.routes]}

    def __str__(self) -> str:
        head = ("METHODS", "PATH", "LIMITS", "WHY")
        rows = [
            (",".join(each.methods) or "ANY", each.path, limit, each.reason if at == 0 else "")
            for each in self.routes
            for at, limit in enumerate(each.limits or ("none",))
        ]
        count = len(self.unlimited)
        summary = f"{len(self.routes)} routes, still to be limited or exempted: {count or 'none'}"
        return "\n".join([*aligned([head, *rows]), "", *self.notes, summary])


def dependencies_of(app: Any) -> Iterator[tuple[DeclaredRateLimit, LimiterCore | None, Any]]:
    """Every `RateLimit`, the limiter that it has by now, as a lifespan may still bring one, and the application."""
    for found, apps in RouteFinder(app).every_with_apps():
        of = application_of(apps)
        for rate_limit in rate_limits_of(found.dependant):
            yield rate_limit, limiter_for(rate_limit, of), of


def limiters_of(app: Any) -> list[LimiterCore]:
    """The limiters of an application: its own, those of its middleware and those that decorate its endpoints."""
    finder = RouteFinder(app)
    found = [getattr(getattr(app, "state", None), "limiter", None)]
    found += [each.kwargs.get("limiter") for each in middleware_of(app)]
    found += [limiter for route in finder.every() for limiter in limiters_behind(route.endpoint)]
    found += [limiter for _, limiter, _ in dependencies_of(app)]
    return [each for each in dict.fromkeys(found) if isinstance(each, LimiterCore)]


def report_of(limiter: LimiterCore, app: Any) -> Report:
    """The report of one limiter about an application. Raises TypeError for what has no routes."""
    finder = RouteFinder(app)
    every = list(finder.every_with_apps())
    registered = [each for found, _ in every for each in wrapped_chain(found.endpoint)]

    def is_registered(function: object) -> bool:
        return any(function is each for each in registered)

    routes = (
        _route_report(limiter, found, apps, methods, called, is_registered)
        for found, apps in every
        for methods, called in _parts_of(found)
    )
    return Report(tuple(routes), tuple(_notes_on(limiter)))


def _parts_of(found: Found) -> Iterator[tuple[tuple[str, ...], Any]]:
    if found.protocol == "websocket":
        yield _WEBSOCKET, found.endpoint
    elif inspect.isclass(found.endpoint):
        served = [each for each in _METHODS if hasattr(found.endpoint, each)]
        yield from (((each.upper(),), getattr(found.endpoint, each)) for each in served)
        if not served:
            yield (), found.endpoint
    else:
        yield tuple(sorted(found.methods or ())), found.endpoint


def _route_report(
    limiter: LimiterCore,
    found: Found,
    apps: Sequence[Any],
    methods: tuple[str, ...],
    called: Any,
    is_registered: Callable[[object], bool],
) -> RouteReport:
    overridden = is_overriding(limiter, found.dependant)
    way, plan = checked_by(limiter, called, found.endpoint, is_registered, overridden=overridden)
    is_covered = found.protocol != "websocket" and any(has_middleware(each, limiter) for each in apps)
    is_exempt = plan.exempt_name in limiter.planner.exempt_routes
    is_enforced = (
        not is_exempt and (way is CheckedBy.DECORATOR or is_covered) and limiter.auto_check and limiter.enabled
    )
    served = {method.lower() for method in methods}
    groups = [each for each in plan.groups if each.methods is None or not served or served.intersection(each.methods)]
    by_path = any(limiter.checker.resolver.is_by_path(plan, group.scope) for group in groups)
    is_varied = by_path and is_enforced and "{" in found.route
    app, added = application_of(apps), list[LimitGroup]()
    if limiter.enabled and not is_exempt:
        declared = (each for each in rate_limits_of(found.dependant) if limiter_for(each, app) is limiter)
        added = [group for each in declared for group in each.groups(limiter)]
    enforced = [*added, *(groups if is_enforced else [])]
    reason = _reason(limiter, way, plan, is_exempt=is_exempt, is_covered=is_covered, found=found)
    if added:
        reason = f"dependency and {reason}" if plan.groups else "dependency"
    verified = way is not CheckedBy.DECORATOR or not is_enforced or is_verified(limiter, called)
    if not verified:
        reason = f"{reason}, not verified: {qualified_name(called)} is wrapped by what may answer without it"
    if is_varied:
        reason = f"{reason}; counts each path apart: {BY_PATH}"
    return RouteReport(
        methods=methods,
        path=f"{found.host or ''}{found.route}",
        endpoint=qualified_name(found.endpoint) if found.endpoint is not None else "",
        limits=tuple(dict.fromkeys(text for group in enforced for text in _described(limiter, group))),
        reason=reason,
        way=way.value,
        is_exempt=is_exempt,
        is_counted_by_path=by_path,
        is_varied_by_path=is_varied,
        is_verified=verified,
        is_of_framework=_is_of_framework(found.endpoint),
        is_inert=way is CheckedBy.INERT and not (is_exempt or (is_enforced and groups)),
        choices=tuple(dict.fromkeys(filter(None, (choice_of_client(group.key_function) for group in enforced)))),
    )


def _is_of_framework(endpoint: Any) -> bool:
    # An instance of a class of the framework, such as a mounted WSGI application, runs what users have written.
    module = str(getattr(endpoint, "__module__", "")).partition(".")[0]
    return module in ("fastapi", "starlette") and (inspect.isroutine(endpoint) or isinstance(endpoint, StaticFiles))


def _described(limiter: LimiterCore, group: LimitGroup) -> Iterator[str]:
    if group.is_iterated:
        texts = [f"what {qualified_name(type(group))} yields"]
    elif group.limits is None:
        texts = [f"what {qualified_name(group.provider)} returns"] if callable(group.provider) else []
    else:
        texts = [str(limit.limit) for limit in group.limits]
    if group.last_limits.was_none:
        texts = [f"{text}, which has been none for some requests" for text in texts]
    details = [f"by {name_of(group.key_function)}"]
    if choice_of_client(group.key_function) is not None:
        details.append("which clients can choose")
    if group.name is not None:
        details.insert(0, group.name)
    if group.is_shadow:
        details.append("counted and logged only")
    if group.scope:
        details.append(f"shared as {group.scope!r}" if isinstance(group.scope, str) else "shared")
    if group.per_method:
        details.append("each method")
    if group.methods:
        details.append("/".join(group.methods).upper() + " only")
    conditions = {"cost": group.read_cost, "exempt_when": group.read_exempt, "deduct_when": group.read_deduct}
    details += [name for name, condition in conditions.items() if condition is not None]
    if group.fixed_cost != 1:
        details.append(f"cost {group.fixed_cost}")
    yield from (f"{text} ({', '.join(details)})" for text in texts)


def _reason(
    limiter: LimiterCore, way: CheckedBy, plan: Plan, *, is_exempt: bool, is_covered: bool, found: Found
) -> str:
    if is_exempt:
        return "exempt"
    if way is CheckedBy.STATIC:
        return "static files are not limited"
    sources = ["decorator"] if plan.own else []
    if any(group in plan.common for group in limiter.planner.application_limits):
        sources.append("application_limits")
    if any(group in plan.common for group in limiter.planner.default_limits):
        sources.append("default_limits")
    if not sources:
        return "no limit was declared for it"
    told = " and ".join(sources)
    if way is CheckedBy.DECORATOR or (is_covered and way is CheckedBy.MIDDLEWARE):
        return told
    if way is CheckedBy.INERT:
        above = "the decorator stands above that of the route"
        return f"{told}; {above}, the middleware checks it" if is_covered else f"{above}, so nothing checks it"
    if found.protocol == "websocket":
        return f"{told} do not apply to WebSockets; decorate it"
    return f"{told} need SlowAPIMiddleware, which the application does not have"


def _notes_on(limiter: LimiterCore) -> Iterator[str]:
    if not limiter.enabled:
        yield "The limiter is switched off (enabled=False): nothing is limited."
    elif not limiter.auto_check:
        yield "auto_check=False: nothing is limited but what the program checks by hand."
    if limiter.unmatched_limited:
        yield "Requests that no endpoint serves are limited together (unmatched_limited=True)."
