"""Whether routes are still those that an index was made from."""

from __future__ import annotations

from operator import attrgetter, is_
from typing import Any

from .layout import Layout

version = attrgetter("_routes_version")
_MOST_COMPARED = 1024


class Snapshot:
    """A layout, and what its lists and routers were like at the time."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.contents = [list(each) for each in layout.lists]
        self.versions = sum(map(version, layout.routers))
        self.size = sum(map(len, self.contents)) + 2 * len(layout.routers)

    def is_of(self, router: Any, is_thorough: bool) -> bool:
        """Whether the router has these routes.

        What was replaced by something equal is noticed when that is to be thorough, as is what was replaced at all
        when there are too many routes to compare them often.
        """
        lists = self.layout.lists
        if not lists or lists[0] is not router.routes or sum(map(version, self.layout.routers)) != self.versions:
            return False
        if is_thorough:
            pairs = zip(lists, self.contents, strict=True)
            return all(len(now) == len(before) and all(map(is_, now, before)) for now, before in pairs)
        if self.size <= _MOST_COMPARED:
            return lists == self.contents
        return list(map(len, lists)) == list(map(len, self.contents))
