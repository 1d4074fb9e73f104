"""Whether routes are still those that an index was made from."""

from __future__ import annotations

from operator import attrgetter, is_
from typing import Any

from .index import RouteIndex
from .route_tree import Layout

_MOST_COMPARED = 1024
_MOST_INCLUDED = 8
_version = attrgetter("_routes_version")


class Snapshot:
    """A layout and its index, and what its lists and routers were like at the time."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.index = RouteIndex(layout.candidates)
        self.contents = [list(each) for each in layout.lists]
        self.versions = sum(map(_version, layout.routers))
        self.size = sum(map(len, self.contents)) + 2 * len(layout.routers)
        self.routes: Any = layout.lists[0] if layout.lists else None
        self.length = len(self.contents[0]) if self.contents else 0
        is_small = len(layout.included) <= _MOST_INCLUDED
        self.included = layout.included if is_small else []
        self._nested = layout.lists[1:] if is_small else []
        self._counts = self._included_counts()

    def has_included_the_same(self) -> bool:
        """Whether included routers have as many routes as they had, as far as there are few of those routers."""
        return self._counts == self._included_counts()

    def _included_counts(self) -> tuple[int, int]:
        return sum(map(_version, self.included)), sum(map(len, self._nested))

    def is_of(self, router: Any, is_thorough: bool) -> bool:
        """Whether the router has these routes.

        What was replaced by something equal is noticed when that is to be thorough, as is what was replaced at all
        when there are too many routes to compare them often.
        """
        lists = self.layout.lists
        if not lists or lists[0] is not router.routes or sum(map(_version, self.layout.routers)) != self.versions:
            return False
        if is_thorough:
            pairs = zip(lists, self.contents, strict=True)
            return all(len(now) == len(before) and all(map(is_, now, before)) for now, before in pairs)
        if self.size <= _MOST_COMPARED:
            return lists == self.contents
        return list(map(len, lists)) == list(map(len, self.contents))
