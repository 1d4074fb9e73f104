"""The first of some candidates that a request matches, as routers choose it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from starlette.routing import Match
from starlette.types import Scope

from .candidate import Candidate, Found, Kind
from .index import How, Step, asking
from .route_tree import specificity


class FirstMatch(NamedTuple):
    """A candidate, with a copy of the scope that it was asked with and what it adds to that."""

    candidate: Candidate
    is_full: bool
    scope: Scope
    child_scope: Scope


def first_match(steps: Iterable[Step], scope: Scope, path: str) -> FirstMatch | None:
    """The first candidate that matches fully, else the first that matches in part."""
    partial: FirstMatch | None = None
    copy: Scope | None = None
    for candidate, how, is_full in steps:
        child_scope: Scope = {}
        if how is How.BY_PATTERN:
            if candidate.pattern is None or candidate.pattern.match(path) is None:
                continue
        elif how is How.BY_ASKING:
            # One copy for all of them: what a route leaves in the scope, the next one sees.
            copy = copied(scope) if copy is None else copy
            match, child_scope = candidate.ask(copy)
            if match is Match.NONE:
                continue
            is_full = match is Match.FULL
        if is_full:
            return FirstMatch(candidate, True, copy or scope, child_scope)
        partial = partial or FirstMatch(candidate, False, copy or scope, child_scope)
    return partial


def most_specific(candidates: Sequence[Candidate], scope: Scope) -> Found | None:
    """The one of a router's last candidates that is for most of the path."""
    best: FirstMatch | None = None
    copy = copied(scope) if candidates else scope
    for candidate in candidates:
        match, child_scope = candidate.ask(copy)
        if match is Match.NONE:
            continue
        new = FirstMatch(candidate, match is Match.FULL, copy, child_scope)
        if best is None or new.is_full > best.is_full or (new.is_full is best.is_full and _exceeds(new, best)):
            best = new
    if best is None:
        return None
    return best.candidate.found(Kind.FULL if best.is_full else Kind.PARTIAL, best.child_scope)


def parts_of(candidate: Candidate) -> list[Step]:
    """What may be asked about a node of an unknown kind, of which only is known that it matches."""
    return asking(candidate.parts()) if candidate.parts is not None else []


def copied(scope: Scope) -> Scope:
    """A scope that routes may write to as FastAPI's do."""
    shared = scope.get("fastapi")
    return {**scope, "fastapi": dict(shared)} if isinstance(shared, dict) else {**scope}


def _exceeds(one: FirstMatch, other: FirstMatch) -> bool:
    size, other_size = specificity(one.child_scope), specificity(other.child_scope)
    return size is not None and other_size is not None and size > other_size
