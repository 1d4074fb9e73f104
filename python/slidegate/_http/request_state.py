"""What is known of one request, in the very scope that it was found out for.

A scope is copied in two ways. On the way in, middleware may hand on a copy with another path: that is the same request,
and what is known goes with it. Or an endpoint makes requests of its own, by calling the application with a copy of its
scope: what is known of the outer one says nothing about those, although the copy has it.

A record therefore belongs to one scope object, and goes over to a copy only while its own scope is on the way to an
endpoint. What enters a middleware that it has passed is another request. Without a middleware of ours there is no way
in: what decorators, dependencies and checks by hand have decided stays with the scope that they have seen.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, MutableMapping
from typing import Any
from weakref import ref

from starlette.requests import HTTPConnection

from .._routing.route_tree import router_of

VIEW = "view_rate_limit"
COMPLETE = "_rate_limiting_complete"
RECORD = "_slidegate"


class Mark:
    """What `_rate_limiting_complete` is by our own hand, in the state and in the record. All else is of programs."""


class Record:
    """What is known of one request. The defaults are of the class, so that to make one calls nothing."""

    scope: MutableMapping[str, Any] | None = None
    """The scope that it belongs to, while a middleware is called, which closes the record in the end, so that no cycle
    is left."""
    holder: Callable[[], HTTPConnection | None] | None = None
    """Else a weak reference to the request that has the scope. With neither it belongs to nobody."""
    state: Any = None
    """What the scope's `request.state` keeps its attributes in."""
    entered: tuple[object, ...] = ()
    """The middlewares that the request has passed."""
    method: Any = None
    path: Any = None
    """The method and the path that the last of them has seen."""
    reached = False
    """Whether anything behind them has decided it."""
    done: Any = None
    """A `Mark`: what was checked."""
    view: Any = None
    """What came of it."""
    headers_owner: Any = None
    """The limiter whose headers tell that, beside decorators and middleware."""
    taken: dict[Any, list[Any]] | None = None
    """What was paid for, by limiters: hits, and the key where they have none."""
    decided: Any = None
    """Decisions, by their `RateLimit`s."""
    injected: Any = None
    """What FastAPI has injected, by the same."""
    reservations: Any = None
    """What is given back if the response says so."""
    is_held_by_middleware = False
    """Whether a middleware sees to that."""

    def belongs_to(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether the scope is the very one that this is known of."""
        return scope is self._own_scope()

    def is_on_its_way(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether this is a copy of its scope that middleware handed on, before or instead of having it dispatched."""
        own = self._own_scope()
        if own is None or not self.entered or self.reached:
            return False
        endpoint = own.get("endpoint")
        if endpoint is None or endpoint is scope.get("endpoint"):
            return True
        # A mount calls what it has found an endpoint, too, and that has routes still to be found.
        return not inspect.isroutine(endpoint) and router_of(endpoint)[0] is not None

    def _own_scope(self) -> Any:
        if self.scope is not None or self.holder is None:
            return self.scope
        holder = self.holder()
        return None if holder is None else holder.scope


def record_of(connection: HTTPConnection) -> Record:
    """The record of a request that has been dispatched; a new one if nothing is known of it."""
    scope = connection.scope
    record: Record | None = scope.get(RECORD)
    if record is None or (record.scope is not scope and not record.belongs_to(scope)):
        if record is None or not record.is_on_its_way(scope):
            record = scope[RECORD] = Record()
        record.scope = None
        try:
            record.holder = ref(connection)
        except TypeError:
            # Of what stands in for a request in somebody's tests.
            record.scope = scope
    record.state = scope.get("state")
    if record.state is None:
        record.state = scope["state"] = {}
    return record


def known_of(scope: MutableMapping[str, Any]) -> Record | None:
    """The record that is among the values of a scope, whether it belongs to it or not."""
    record: Record | None = scope.get(RECORD)
    return record


def enter(scope: MutableMapping[str, Any], middleware: object) -> tuple[Record, bool]:
    """The record of a request that comes to a middleware, and whether to close it when the middleware is left."""
    record: Record | None = scope.get(RECORD)
    is_known = record is not None and record.belongs_to(scope)
    if record is None or not (is_known or (record.is_on_its_way(scope) and middleware not in record.entered)):
        record = scope[RECORD] = Record()
    if middleware not in record.entered:
        record.entered = (*record.entered, middleware)
    record.state = scope.get("state")
    if record.state is None:
        record.state = scope["state"] = {}
    record.method, record.path = scope.get("method"), scope.get("path")
    if is_known:
        return record, False
    record.scope = scope
    return record, True


def done_of(record: Record) -> Any:
    """What was checked of the request, or what the program has made of that."""
    said = record.state.get(COMPLETE, record.done)
    return record.done if isinstance(said, Mark) else said


def mark(record: Record, done: Mark) -> None:
    """Remembers what was checked, where programs look for it, too."""
    record.done = record.state[COMPLETE] = done


def see(record: Record, view: Any) -> None:
    """Remembers what came of it, where programs look for it, too."""
    record.view = record.state[VIEW] = view
