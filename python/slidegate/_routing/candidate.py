"""What a router may dispatch a request to, and what is told about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from re import Pattern
from typing import Any, Literal, NamedTuple, TypeAlias

from starlette.routing import Match
from starlette.types import Scope

Protocol: TypeAlias = Literal["http", "websocket"]


class Kind(Enum):
    """What becomes of a request.

    - `FULL`: the route serves it.
    - `PARTIAL`: the path is the route's but the method is not; it answers 405.
    - `REDIRECT`: the client is sent to the same path with, or without, a slash at its end, where the route is.
    """

    FULL = "full"
    PARTIAL = "partial"
    REDIRECT = "redirect"


@dataclass(frozen=True, eq=False)
class Found:
    """A route, as far as a request concerns it.

    - `endpoint`: the function or class that was registered, or the application that was mounted when it has no routes
      to be known; None for a redirect.
    - `route`: the template of the path with the prefixes of routers and mounts, such as "/users/{id}".
    - `methods`: None when the route takes any, or has none.
    - `protocol`: None when the route takes both.
    - `host`: the template of the host that the route is limited to.
    - `dependant`: what FastAPI knows of the route's dependencies; None for routes of others.

    Compared by identity: until routes change, requests for the same route and of the same kind find the same object.
    """

    kind: Kind
    endpoint: Callable[..., Any] | None
    route: str
    methods: frozenset[str] | None = None
    protocol: Protocol | None = None
    host: str | None = None
    dependant: Any = None


class Base(NamedTuple):
    """Where the routes of a router are reached."""

    prefix: str = ""
    host: str | None = None


@dataclass(frozen=True)
class Shape:
    """The segments of the paths that a route matches, None for any that is not empty.

    An open one takes any path that goes on. What has the shape of an exact one, and no line feed, is matched by the
    route.
    """

    segments: tuple[str | None, ...]
    is_open: bool
    is_exact: bool


@dataclass(eq=False)
class Candidate:
    """A route in the order of dispatch.

    `position` and `node` are its place in the router's own list. With a `pattern`, that and `methods` decide; else
    `ask`, the route's own `matches()`, does. Without a `shape` any path may be the route's. What has an `app` passes
    requests on, to routes at `base`, which is `below` if that is given. `is_opaque` says that the route is an
    application of which no more is known, and `parts` has what may be known of a node of an unknown kind.
    """

    position: int
    node: object
    base: Base
    template: str
    ask: Callable[[Scope], tuple[Match, Scope]]
    registered: Any
    methods: Collection[str] | None = None
    protocol: Protocol | None = None
    pattern: Pattern[str] | None = None
    shape: Shape | None = None
    app: Any = None
    below: Base | None = None
    is_opaque: bool = False
    parts: Callable[[], Iterable[Candidate]] | None = None
    dependant: Any = None
    mounted_at: str | None = None
    """The part of paths that a mount is for, if that is always the same and any may follow."""

    def __post_init__(self) -> None:
        self.template = self.base.prefix + self.template
        self.base = self.below or self.base
        if self.app is not None and self.shape is not None and self.shape.is_exact and None not in self.shape.segments:
            self.mounted_at = "/".join(map(str, self.shape.segments))
        self._found: dict[Kind, Found] = {}

    def found(self, kind: Kind, child_scope: Scope | None = None) -> Found:
        """The route as found, with the endpoint that it put into `child_scope`, if it is asked for one."""
        endpoint = None if kind is Kind.REDIRECT else self.registered
        if child_scope and endpoint is not None and not self.is_opaque:
            endpoint = child_scope.get("endpoint", endpoint)
        found = self._found.get(kind)
        if found is None or found.endpoint is not endpoint:
            methods = frozenset(self.methods) if self.methods else None
            found = Found(kind, endpoint, self.template, methods, self.protocol, self.base.host, self.dependant)
            self._found[kind] = found
        return found
