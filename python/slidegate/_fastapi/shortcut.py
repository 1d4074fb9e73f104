"""What the middleware remembers of earlier requests for the same method and path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.types import Scope, Send

from .._core import shortcut
from .._limiter.checker import Check
from .._limiter.compiled import Quick

if TYPE_CHECKING:
    from .app_checks import AppChecks

_MOST_PATHS = 4096
_LONGEST_PATH = 256
_REST = 64


class Known(NamedTuple):
    """What there is to do about a request: nothing without a check. `quick` is the form of it that needs no request.

    `tell` makes the `send` that adds the headers; None when there are none to be added, or in another way.
    """

    app_checks: AppChecks
    check: Check | None
    quick: Quick | None
    tell: Callable[[Send, Scope], Send] | None


class Watched(NamedTuple):
    """What must not have changed for anything to be remembered: entries of dictionaries, attributes, lengths of lists.

    The first list is that of the application's routes.
    """

    entries: tuple[tuple[dict[str, Any], str, Any], ...]
    attributes: tuple[tuple[Any, str, Any], ...]
    lists: tuple[tuple[list[Any], int], ...]

    def is_same(self, other: Watched) -> bool:
        """Whether both watch the same things and saw the same."""
        mine, others = (
            [part for watch in (each.entries, each.attributes, each.lists) for entry in watch for part in entry]
            for each in (self, other)
        )
        return len(mine) == len(others) and all(one is two for one, two in zip(mine, others, strict=True))


class Memory:
    """What is known by method and path: `Known`, as long as a node is at a position of the routes."""

    def __init__(self) -> None:
        self.by_method: dict[str, dict[str, tuple[Known, int, object]]] = {}
        self._size = 0

    def put(self, scope: Mapping[str, Any], known: Known, position: int, node: object) -> None:
        """Keeps it, if the path is not too long."""
        path: str = scope["path"]
        if len(path) > _LONGEST_PATH:
            return
        if self._size >= _MOST_PATHS:
            self.by_method.clear()
            self._size = 0
        self._size += 1
        self.by_method.setdefault(scope["method"], {})[path] = (known, position, node)


class Shortcut:
    """Finds what is known about the requests for one application and limiter.

    `find` takes an ASGI scope. It returns None when nothing is known, and False when something that is watched has
    changed, or was not compared for so many requests: then only `renew` or `rest` help. What is learned about a request
    belongs into the `memory` of the moment before it was learned. Thread-safe.
    """

    def __init__(self) -> None:
        self.find: Callable[[Scope], Any] = lambda scope: False
        self.memory = Memory()
        self._app: Any = None
        self._watched: Watched | None = None

    def renew(self, app: Any, watched: Watched, uses: int) -> None:
        """Knows as much as before if nothing has changed since, and nothing else. Good for so many requests."""
        if self._watched is None or app is not self._app or not watched.is_same(self._watched):
            self.memory = Memory()
        self._app, self._watched = app, watched
        self.find = shortcut(app, *watched, self.memory.by_method, uses)

    def rest(self) -> None:
        """Knows nothing for a while."""
        self._watched = None
        left = iter(range(_REST))
        self.find = lambda scope: False if next(left, None) is None else None
