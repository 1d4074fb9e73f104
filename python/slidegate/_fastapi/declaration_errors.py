"""What FastAPI takes for something else than was meant, so that it would limit nothing, or fail every request."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from .._routing.endpoint_finder import Found, RouteFinder
from .._support.callables import qualified_name
from .dependency_tree import calls_of
from .rate_limit import DeclaredPerMessage, DeclaredRateLimit
from .signatures import resolved_signature

UNUSED = "__slidegate_unused__"
"""The attribute of a decorator that tells which limit it has; an endpoint that has it is a decorator itself."""


def declaration_errors(app: Any) -> Iterator[str]:
    """What is wrong with the routes of an application, whatever limiter it has, and what would be right."""
    for found in RouteFinder(app).every():
        at = f"{','.join(found.methods or ()) or 'WEBSOCKET'} {found.route}"
        yield from (f"{at}: {error}" for error in (*_of_endpoint(found), *_of_dependencies(found)))


def _of_endpoint(found: Found) -> Iterator[str]:
    if hasattr(found.endpoint, UNUSED):
        yield _without_parentheses(found.endpoint)
        return
    if found.dependant is None or not callable(found.endpoint):
        return
    try:
        parameters = resolved_signature(found.endpoint).parameters.values()
    except (TypeError, ValueError):
        return
    for parameter in parameters:
        for given in (parameter.default, *getattr(parameter.annotation, "__metadata__", ())):
            if isinstance(given, DeclaredRateLimit):
                yield f"{given.where} is not asked as the parameter {parameter.name!r}; write Depends({given.where})"
            elif isinstance(given, DeclaredPerMessage):
                written = f"Depends({given.rate_limit.where}.per_message)"
                yield f"a limit of messages is not asked as the parameter {parameter.name!r}; write {written}"


def _of_dependencies(found: Found) -> Iterator[str]:
    for call, _ in calls_of(found.dependant):
        owner = getattr(call, "__self__", None)
        if isinstance(owner, DeclaredRateLimit):
            # FastAPI would make query parameters of what they take, so that clients could choose their limits.
            yield (
                f"Depends({owner.where}.{call.__name__}) would let clients choose the limit;"
                f" write Depends({owner.where})"
            )
        elif inspect.isclass(call) and issubclass(call, DeclaredRateLimit):
            name = call.__name__
            yield f'Depends({name}) would let clients choose the limit; write Depends({name}("10/minute"))'
        elif hasattr(call, UNUSED):
            yield f"Depends(limiter.limit({_told(call)})) limits nothing; write Depends(RateLimit({_told(call)}))"
        elif isinstance(call, DeclaredPerMessage) and found.protocol != "websocket":
            where = call.rate_limit.where
            yield f"{where}.per_message limits the messages of WebSockets, and this is none; write Depends({where})"


def _told(decorator: Any) -> str:
    limit = getattr(decorator, UNUSED)
    return qualified_name(limit) if callable(limit) else repr(limit)


def _without_parentheses(decorator: Any) -> str:
    told = _told(decorator)
    if callable(getattr(decorator, UNUSED)):
        return f'@limiter.limit has taken {told} for its limit; write @limiter.limit("10/minute")'
    return f"limiter.limit({told}) is a decorator, and no endpoint; write limiter.limit({told})(endpoint)"
