"""What is known of one request, in the very scope that it was found out for.

A scope is copied in two ways. On the way in, middleware may hand on a copy with another path: that is the same request,
and what is known goes with it. Or an endpoint makes requests of its own, by calling the application with a copy of its
scope: what is known of the outer one says nothing about those, although the copy has it.

A record therefore belongs to one scope object, and goes over to a copy only while its own scope is on the way to an
endpoint. What enters a middleware that it has passed is another request. Without a middleware of ours there is no way
in: what decorators, dependencies and checks by hand have decided stays with the scope that they have seen.

`Record` is made in C++ for the sake of speed. Its members, None where nothing is known:

- `scope`: the scope that it belongs to, while a middleware is called, which closes the record in the end, so that no
  cycle is left. `holder`: else a weak reference to the request that has the scope. With neither it belongs to nobody.
- `state`: what the scope's `request.state` keeps its attributes in.
- `entered`: the middlewares that the request has passed. `method` and `path`: what the last of them has seen.
  `reached`: whether anything behind them has decided it.
- `done`: a `Mark`, what was checked. `view`: what came of it. `told_by`: the limiter whose headers tell that, beside
  decorators and middleware.
- `taken`: what was paid for, and how much, by the ids of limiters. `decided`: decisions by the ids of `RateLimit`s.
  `injected`: what FastAPI has injected, by the same.
- `holds`: what is given back if the response says so. `is_held_by_middleware`: whether a middleware sees to that.
"""

from __future__ import annotations

import inspect
from collections.abc import MutableMapping
from typing import Any
from weakref import ref

from starlette.requests import HTTPConnection

from .._core import Record as Record
from .._routing.layout import router_of

VIEW = "view_rate_limit"
COMPLETE = "_rate_limiting_complete"
_KEY = "_slidegate"


class Mark:
    """What `_rate_limiting_complete` is by our own hand, in the state and in the record. All else is of programs."""


def state_of(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What `request.state` of this scope keeps its attributes in."""
    state: MutableMapping[str, Any] | None = scope.get("state")
    if state is None:
        state = scope["state"] = {}
    return state


def record_of(connection: HTTPConnection) -> Record:
    """The record of a request that has been dispatched; a new one if nothing is known of it."""
    scope = connection.scope
    record: Record | None = scope.get(_KEY)
    if record is None or _scope_of(record) is not scope:
        if record is None or not _is_on_its_way(record, scope):
            record = scope[_KEY] = Record()
        record.scope = None
        try:
            record.holder = ref(connection)
        except TypeError:
            # Of what stands in for a request in somebody's tests.
            record.scope = scope
    record.state = state_of(scope)
    return record


def known_of(scope: MutableMapping[str, Any]) -> Record | None:
    """The record that is among the values of a scope, whether it belongs to it or not."""
    record: Record | None = scope.get(_KEY)
    return record


def enter(scope: MutableMapping[str, Any], middleware: object) -> tuple[Record, bool]:
    """The record of a request that comes to a middleware, and whether to close it when the middleware is left."""
    record: Record | None = scope.get(_KEY)
    is_known = record is not None and _scope_of(record) is scope
    if record is None or not (is_known or (_is_on_its_way(record, scope) and middleware not in record.entered)):
        record = scope[_KEY] = Record()
    if middleware not in (record.entered or ()):
        record.entered = (*(record.entered or ()), middleware)
    record.state = state_of(scope)
    record.method, record.path = scope.get("method"), scope.get("path")
    if is_known:
        return record, False
    record.scope = scope
    return record, True


def close(record: Record) -> None:
    """The request is over: what its scope is used for from now on is another one."""
    record.scope = None


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


def _scope_of(record: Record) -> Any:
    if record.scope is not None:
        return record.scope
    holder = record.holder() if record.holder is not None else None
    return holder.scope if holder is not None else None


def _is_on_its_way(record: Record, scope: MutableMapping[str, Any]) -> bool:
    # Whether this is a copy of a scope that was handed on by middleware, before or instead of being dispatched.
    own = _scope_of(record)
    if own is None or record.entered is None or record.reached:
        return False
    endpoint = own.get("endpoint")
    if endpoint is None or endpoint is scope.get("endpoint"):
        return True
    # A mount calls what it has found an endpoint, too, and that has routes still to be found.
    return not inspect.isroutine(endpoint) and router_of(endpoint)[0] is not None
