"""Which endpoint a request will be dispatched to, before it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from starlette.routing import BaseRoute
from starlette.types import Scope

from .candidate import Base, Candidate, Found, Kind
from .index import Step, asking
from .matching import FirstMatch, first_match, most_specific, parts_of
from .route_tree import Layout, layout_of, plain_layout, route_path, router_of
from .snapshot import Snapshot

__all__ = ["Found", "Kind", "RouteFinder", "endpoint_among"]

_LEAST_BETWEEN = 16


class RouteFinder:
    """Finds the route that the router of an application will dispatch a request to.

    `app` is a Starlette or FastAPI application, a router, or anything else with `routes`; TypeError for what has none.

    Routes may change at any time. What is added or removed is noticed at once, with two exceptions: when another route
    serves the request too, it may do for some more requests when routes of a list were replaced in place, or when a
    route was added to one of more than eight included routers. What is changed in a route, its methods or its regular
    expression, is noticed after `refresh()`. Thread-safe.
    """

    def __init__(self, app: Any, base: Base | None = None) -> None:
        self._app = app
        self._base = base or Base()
        self._router, self._root_path = self._resolved()
        self._below: dict[tuple[int, Base], RouteFinder] = {}
        self._known = Snapshot(Layout((), (), [], (), ()))
        self._left = 0
        self._has_warned = False

    def refresh(self) -> None:
        """Looks at the routes again."""
        self._router, self._root_path = self._resolved()
        known = Snapshot(self._layout())
        self._below = {}
        # It is complete when other threads come to see it.
        self._known = known

    def find(self, scope: Scope) -> Found | None:
        """The route for a request with that ASGI scope, which is left as it is.

        None for what no route is for: what is neither HTTP nor a WebSocket, and what the application answers 404 or
        closes without accepting. If a route raises an exception when the router asks it, about a number of thousands
        of digits for instance, that route is found, or none. Raises nothing.
        """
        try:
            if scope["type"] == "http":
                method: str | None = scope["method"]
            elif scope["type"] == "websocket":
                method = None
            else:
                return None
            if self._root_path and scope.get("app") is not self._app:
                scope = {**scope, "root_path": self._root_path}
            path: str = route_path(scope) if scope.get("root_path") else scope["path"]
            routes = self._router.routes
            known = self._known
            self._left -= 1
            if (
                routes is not known.routes
                or len(routes) != known.length
                or self._left < 0
                or (known.included and not known.has_included_the_same())
            ):
                known = self._renewed()
            index = known.index
            if "\n" in path:
                return self._searched(scope, path, method, index.all_steps)
            # As `index.steps` does.
            state = index.start
            for segment in path.split("/", index.depth):
                state = state.edges.get(segment, state.other) or index.step(state, segment)
            found, mount, position, node, steps = state.plan.get(method) or index.decide(state, method)
            if found is not None and routes[position] is node:
                return found
            if mount is not None and routes[position] is node:
                return self._found_in_mount(mount, scope)
            return self._searched(scope, path, method, steps)
        except Exception as error:
            return self._found_plainly(scope, error)

    def every(self) -> Iterator[Found]:
        """All routes there are, those behind mounts and hosts too, in the order of dispatch."""
        return (found for found, _ in self.every_with_apps())

    def every_with_apps(self, outer: tuple[Any, ...] = ()) -> Iterator[tuple[Found, tuple[Any, ...]]]:
        """The same, each with the applications that a request for it passes through, after those that are `outer`.

        The last is what the route itself has made of its endpoint.
        """
        apps = (*outer, self._app)
        layout = self._layout()
        for candidate in (*layout.candidates, *layout.low_priority):
            if candidate.app is None:
                parts = [step.candidate for step in parts_of(candidate)]
                passed = (*apps, getattr(candidate.node, "app", None))
                yield from ((part.found(Kind.FULL), passed) for part in parts or [candidate])
            elif not any(router_of(app)[0] is router_of(candidate.app)[0] for app in apps):
                yield from RouteFinder(candidate.app, candidate.base).every_with_apps(apps)

    def _searched(self, scope: Scope, path: str, method: str | None, steps: Sequence[Step]) -> Found | None:
        match = first_match(steps, scope, path)
        is_moved = match is not None and self._router.routes[match.candidate.position] is not match.candidate.node
        if is_moved or match is None or not match.is_full:
            match = first_match(self._renewed(is_moved).index.steps(path, method), scope, path)
        index = self._known.index
        return self._reached(match, scope, lambda path: index.steps(path, method), self._known.layout)

    def _found_in_mount(self, mount: Candidate, scope: Scope) -> Found | None:
        # What `mount.matches()` says about any path that is below it.
        root_path = scope.get("root_path", "")
        additions = {
            "path_params": dict(scope.get("path_params", {})),
            "app_root_path": scope.get("app_root_path", root_path),
            "root_path": f"{root_path}{mount.mounted_at}",
            "endpoint": mount.app,
        }
        return self._below_of(mount).find({**scope, **additions})

    def _found_plainly(self, scope: Scope, error: Exception) -> Found | None:
        # A mistake about internals, if it is not the route that raised the exception, as it then will again.
        try:
            found = self._found_among(scope)
        except Exception:
            return None
        self._warn(error)
        return found

    def _found_among(self, scope: Scope) -> Found | None:
        layout = plain_layout(self._router, self._base)
        steps = asking(layout.candidates)
        return self._reached(first_match(steps, scope, ""), scope, lambda path: steps, layout)

    def _reached(
        self, match: FirstMatch | None, scope: Scope, steps_for: Callable[[str], Sequence[Step]], layout: Layout
    ) -> Found | None:
        if match is None:
            return self._redirected(scope, steps_for) or most_specific(layout.low_priority, scope)
        candidate, kind = match.candidate, Kind.FULL if match.is_full else Kind.PARTIAL
        if candidate.app is not None:
            return self._below_of(candidate).find({**match.scope, **match.child_scope})
        part = first_match(parts_of(candidate), match.scope, "")
        return (
            candidate.found(kind, match.child_scope) if part is None else self._reached(part, scope, steps_for, layout)
        )

    def _below_of(self, candidate: Candidate) -> RouteFinder:
        key = (id(candidate.app), candidate.base)
        below = self._below.get(key)
        if below is None:
            below = self._below[key] = RouteFinder(candidate.app, candidate.base)
        return below

    def _redirected(self, scope: Scope, steps_for: Callable[[str], Sequence[Step]]) -> Found | None:
        path = route_path(scope)
        if scope["type"] != "http" or path == "/" or not getattr(self._router, "redirect_slashes", False):
            return None
        whole: str = scope["path"]
        there = {**scope, "path": whole.rstrip("/") if path.endswith("/") else whole + "/"}
        match = first_match(steps_for(route_path(there)), there, route_path(there))
        return None if match is None else match.candidate.found(Kind.REDIRECT)

    def _renewed(self, is_stale: bool = False) -> Snapshot:
        is_same = not is_stale and self._resolved()[0] is self._router
        if not is_same or not self._known.is_of(self._router, is_thorough=self._left < 0):
            self.refresh()
        if self._left < 0:
            # What is spent on comparing is little for each request, however many routes there are.
            self._left = max(_LEAST_BETWEEN, self._known.size // 4)
        return self._known

    def _resolved(self) -> tuple[Any, str]:
        router, root_path = router_of(self._app)
        router = self._app if router is None else router
        if not hasattr(router, "routes"):
            raise TypeError(f"{self._app!r} has no routes to find endpoints in")
        return router, root_path

    def _layout(self) -> Layout:
        try:
            return layout_of(self._router, self._base)
        except Exception as error:
            self._warn(error)
            return plain_layout(self._router, self._base)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            logging.getLogger("slidegate").warning(
                "the routes of %r are looked through one by one, which takes longer: %r", self._app, error
            )


def endpoint_among(routes: Iterable[BaseRoute], scope: Scope) -> Callable[..., Any] | None:
    """The endpoint of the one of these routes that a router would dispatch a request to; None without one.

    Asks them one by one, as it is not known whether there will be a second request for them.
    """
    found = RouteFinder(SimpleNamespace(routes=list(routes)))._found_among(scope)
    return found.endpoint if found is not None and found.kind is Kind.FULL else None
