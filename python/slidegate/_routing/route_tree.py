"""What the routers of Starlette and FastAPI are made of.

This module and `stock` are the only ones that know what they do not document. All of it is looked for before it
is relied upon; a route of which something is missing is asked with its public `matches()`, and so are all of them in a
`plain_layout`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette import routing
from starlette.types import Scope

from .candidate import Base, Candidate, Protocol
from .path_shape import shape_of
from .stock_routes import stock_matches

_MOST_WRAPPERS = 32
_USUAL_HANDLES = (routing.Mount.handle, routing.Host.handle)


@dataclass(frozen=True)
class Layout:
    """The candidates of a router in the order of dispatch, and those for what none of them matches.

    They are right for as long as `lists` have the same elements and `routers`, of which `included` are some, have the
    same versions.
    """

    candidates: Sequence[Candidate]
    low_priority: Sequence[Candidate]
    lists: list[list[routing.BaseRoute]]
    routers: Sequence[Any]
    included: Sequence[Any]


def router_of(app: Any) -> tuple[Any, str]:
    """The router that an application dispatches with, or None, and the root path that it insists on, or "".

    Middleware is looked through, as long as it keeps to Starlette's custom of calling what it wraps `app`.
    """
    for _ in range(_MOST_WRAPPERS):
        if inspect.ismethod(app):
            # Middleware of a router wraps what the router itself goes on with.
            app = app.__self__
        if isinstance(app, routing.Router):
            return app, ""
        router = getattr(app, "router", None)
        if isinstance(router, routing.Router):
            root_path = getattr(app, "root_path", "")
            return router, root_path if isinstance(root_path, str) else ""
        app = getattr(app, "app", None)
        if app is None:
            break
    return None, ""


def wrapped_apps(app: Any) -> Iterator[Any]:
    """An application, what it wraps by that custom, and so on."""
    for _ in range(_MOST_WRAPPERS):
        if app is None:
            return
        yield app
        app = getattr(app, "app", None)


def layout_of(router: Any, base: Base) -> Layout:
    """The layout of a router. Raises whatever comes of internals that are not as they are known to be."""
    return _Reader(base).layout(router)


def plain_layout(router: Any, base: Base) -> Layout:
    """The same from public interfaces only: candidates to be asked, one by one, and not to be kept."""
    reader = _Reader(base, is_plain=True)
    candidates = [reader.candidate(at, node, node) for at, node in enumerate(router.routes)]
    return Layout(candidates, reader.low_priority(router), [router.routes], [], [])


def route_path(scope: Scope) -> str:
    """The path of a request as routes see it, below the application's root path."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path


def specificity(child_scope: Scope) -> int | None:
    """How much of the path a frontend is for, when that is known."""
    found = child_scope.get("fastapi", {}).get("frontend_specificity")
    return found if isinstance(found, int) else None


class _Reader:
    def __init__(self, base: Base, is_plain: bool = False) -> None:
        self._base = base
        # Without the module there are no routes of its classes, and no reason to import it.
        self._fastapi: Any = None if is_plain else sys.modules.get("fastapi.routing")
        self._context: Any = getattr(self._fastapi, "_EffectiveRouteContext", ())
        self._stock = frozenset() if is_plain else stock_matches(self._fastapi)
        self._kinds: dict[type, bool] = {}

    def layout(self, router: Any) -> Layout:
        nested = [node for node in router.routes if self._is_included(node)]
        routers = {id(router): router} if hasattr(router, "_routes_version") else {}
        lists = [router.routes]
        while nested:
            inner = nested.pop().original_router
            if id(inner) not in routers:
                routers[id(inner)] = inner
                below = [node for node in inner.routes if self._is_included(node)]
                nested += below
                lists += [inner.routes] if below else []
        candidates = [
            self._leaf(at, node, leaf) for at, node in enumerate(router.routes) for leaf in self._leaves(node)
        ]
        included = [each for each in routers.values() if each is not router]
        return Layout(candidates, self.low_priority(router), lists, list(routers.values()), included)

    def candidate(self, position: int, node: object, route: Any) -> Candidate:
        """The route of that node as its class, and what it says about itself, have it."""
        try:
            known = self._of_known_class(position, node, route)
        except AttributeError:
            # Its class has a constructor of its own that leaves out what its base class would know.
            known = None
        if known is not None:
            return known
        return self._unknown(position, node, route, parts=partial(self._parts, position, node, route))

    def _unknown(self, position: int, node: object, route: Any, **more: Any) -> Candidate:
        registered = getattr(route, "endpoint", None) or getattr(route, "app", None)
        template = getattr(route, "path_format", None) or getattr(route, "path", None) or ""
        registered = registered or getattr(route, "original_route", route)
        return Candidate(position, node, self._base, template, route.matches, registered, **more)

    def _of_known_class(self, position: int, node: object, route: Any) -> Candidate | None:
        if isinstance(route, routing.Mount):
            below = Base(self._base.prefix + route.path_format.removesuffix("/{path}"), self._base.host)
            return self._passing(position, node, route, route.path_format, below)
        if isinstance(route, routing.Host):
            return self._passing(position, node, route, "/{path}", Base(self._base.prefix, route.host_format))
        if isinstance(route, (routing.Route, routing.WebSocketRoute)):
            protocol: Protocol = "http" if isinstance(route, routing.Route) else "websocket"
            return self._pathed(position, node, route, route.matches, protocol, self._is_stock(route))
        return None

    def low_priority(self, router: Any) -> list[Candidate]:
        """What the router looks at last: files of frontends."""
        routes: Callable[[], Iterable[Any]] | None = getattr(router, "_iter_low_priority_routes", None)
        return [] if routes is None else [each for route in routes() for each in self._last(route)]

    def _last(self, route: Any) -> Iterator[Candidate]:
        group = getattr(route, "original_route", route)
        if type(group) is not getattr(self._fastapi, "_FrontendRouteGroup", None):
            yield self._unknown(-1, group, route)
            return
        for frontend in group.routes:
            path = self._fastapi._join_frontend_paths(getattr(route, "frontend_prefix", ""), frontend.path)
            yield Candidate(
                -1,
                group,
                self._base,
                path.rstrip("/") + "/{path}",
                partial(frontend.matches_with_path, path=path),
                frontend.app,
                methods=frontend.methods,
                protocol="http",
                is_opaque=True,
            )

    def _is_included(self, node: Any) -> bool:
        if self._fastapi is None or type(node) is not getattr(self._fastapi, "_IncludedRouter", None):
            return False
        router, usual = type(node.original_router), self._fastapi.APIRouter
        return (
            router.matches is usual.matches
            and router.handle is usual.handle
            and hasattr(node, "effective_candidates")
            and hasattr(node.original_router, "_routes_version")
        )

    def _leaves(self, node: Any) -> Iterator[Any]:
        # The router goes by the same list, which it does not always renew when routes change.
        if self._is_included(node):
            for inner in node.effective_candidates():
                yield from self._leaves(inner)
        else:
            yield node

    def _leaf(self, position: int, node: object, leaf: Any) -> Candidate:
        if not isinstance(leaf, self._context):
            return self.candidate(position, node, leaf)
        original = leaf.original_route
        if leaf.starlette_route is not None:
            return self.candidate(position, node, leaf.starlette_route)
        if not isinstance(original, self._fastapi.APIRoute):
            return self._unknown(position, node, leaf)
        ask = partial(self._asked_in_context, leaf)
        is_stock = self._is_stock(original) and self._is_stock(leaf)
        return self._pathed(position, node, leaf, ask, "http", is_stock)

    def _asked_in_context(self, context: Any, scope: Scope) -> tuple[routing.Match, Scope]:
        known: dict[str, Any] = scope.setdefault(self._fastapi._FASTAPI_SCOPE_KEY, {})
        key = self._fastapi._FASTAPI_EFFECTIVE_ROUTE_CONTEXT_KEY
        before = dict(known)
        known[key] = context
        try:
            found: tuple[routing.Match, Scope] = context.original_route.matches(scope)
            return found
        finally:
            known.clear()
            known.update(before)

    def _pathed(
        self, position: int, node: object, route: Any, ask: Any, protocol: Protocol, is_stock: bool
    ) -> Candidate:
        shape = shape_of(route.path_format, route.path_regex, route.param_convertors) if is_stock else None
        return Candidate(
            position,
            node,
            self._base,
            route.path_format,
            ask,
            route.endpoint,
            methods=getattr(route, "methods", None),
            protocol=protocol if is_stock else None,
            pattern=None if shape is None else route.path_regex,
            shape=shape,
            dependant=getattr(route, "dependant", None),
        )

    def _passing(self, position: int, node: object, route: Any, template: str, below: Base) -> Candidate:
        is_stock = self._is_stock(route)
        shape = shape_of(route.path_format, route.path_regex, route.param_convertors) if is_stock else None
        wrapped, is_usual = getattr(route, "_base_app", route.app), type(route).handle in _USUAL_HANDLES
        app = next((app for app in (route.app, wrapped) if router_of(app)[0] is not None), None) if is_usual else None
        return Candidate(
            position,
            node,
            self._base,
            template,
            route.matches,
            wrapped,
            pattern=route.path_regex if shape is not None and app is None else None,
            shape=shape,
            app=app,
            below=below,
            is_opaque=True,
        )

    def _parts(self, position: int, node: object, route: Any) -> Iterator[Candidate]:
        contexts = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
        for part in () if contexts is None else contexts([route]):
            if part.original_route is route:
                continue
            effective = getattr(part, "starlette_route", None) or getattr(part, "_effective_route", None)
            if isinstance(effective, (routing.Mount, routing.Host)):
                yield self.candidate(position, node, effective)
            else:
                yield self._unknown(position, node, part, methods=part.methods)

    def _is_stock(self, route: Any) -> bool:
        if "matches" in vars(route):
            return False
        kind = type(route)
        known = self._kinds.get(kind)
        if known is None:
            # Classes of users may come between those that are known: each that has a say is looked at.
            functions = [vars(each)["matches"] for each in kind.__mro__ if "matches" in vars(each)]
            known = self._kinds[kind] = self._stock.issuperset(functions)
        return known
