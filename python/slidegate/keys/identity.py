"""What the key functions of `slidegate.keys` have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from .._support.callables import innermost, qualified_name
from ..util import get_ipaddr

KeyFunction: TypeAlias = Callable[..., Any]
"""Takes the request, or nothing; returns who sent it, empty or None when it does not know. May be asynchronous."""

_Function = TypeVar("_Function", bound=KeyFunction)

# By id, as functions that wrap others copy their attributes, and may return anything.
_KINDS: dict[int, frozenset[str]] = {}


class Identity:
    """A key function that can tell about itself. Immutable, so safe to share between threads and limiters."""

    told: str
    """What it is, for people."""
    kinds: frozenset[str] | None = None
    """What all of its keys begin with, or "address" for those that are addresses; None when they may be any text."""
    chosen_by_client: str | None = None
    """Why whoever sends a request can choose its key, or None if nobody can."""

    def __repr__(self) -> str:
        return self.told


def of_kinds(*kinds: str) -> Callable[[_Function], _Function]:
    """Declares the kinds of a function of this package, as `Identity.kinds` does of an object."""

    def declare(function: _Function) -> _Function:
        _KINDS[id(function)] = frozenset(kinds)
        return function

    return declare


def kinds_of(function: KeyFunction) -> frozenset[str] | None:
    """The kinds that the keys of a function are of; None for a function of somebody else, whose text may be any."""
    inner = innermost(function)
    return inner.kinds if isinstance(inner, Identity) else _KINDS.get(id(inner))


def name_of(function: KeyFunction) -> str:
    """What reports call a key function."""
    inner = innermost(function)
    return inner.told if isinstance(inner, Identity) else qualified_name(function).rpartition(".")[2]


def choice_of_client(function: KeyFunction | None) -> str | None:
    """Why clients can choose the keys of this function; None when they cannot, or nobody knows."""
    if function is None:
        return None
    inner = innermost(function)
    if inner is get_ipaddr:
        return "get_ipaddr believes the header X_FORWARDED_FOR from anybody"
    return inner.chosen_by_client if isinstance(inner, Identity) else None
