"""Which routes need no asking, as it is known how they would answer."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from starlette import routing

_READ_FOR_PATHS = frozenset(
    {
        *("APIRoute", "FULL", "Match", "NONE", "PARTIAL", "_FrontendRouteGroup"),
        *("_get_scope_effective_route_context", "app", "app_root_path", "convert", "dict", "endpoint"),
        *("frontend_prefix", "get", "get_route_path", "groupdict", "http", "isinstance", "items", "len"),
        *("match", "matches", "matches_with_prefix", "method", "methods", "original_route"),
        *("param_convertors", "path", "path_params", "path_regex", "pop", "root_path", "route", "startswith"),
        *("starlette_route", "super", "type", "update", "websocket", "/", ""),
    }
)


def stock_matches(fastapi: Any) -> frozenset[object]:
    """The `matches()` that go by path, method and protocol; `fastapi` is the module of FastAPI's routes, or None."""
    if not _reads_for_paths(vars(routing).get("get_route_path"), "starlette._utils"):
        return frozenset()
    places = [(routing, ("Route", "WebSocketRoute", "Mount"))]
    places += [(fastapi, ("APIRoute", "APIWebSocketRoute", "_EffectiveRouteContext"))] if fastapi else []
    kinds = [(vars(module).get(name), module.__name__) for module, names in places for name in names]
    functions = [(vars(kind).get("matches"), module) for kind, module in kinds if kind is not None]
    stock = frozenset(function for function, module in functions if _reads_for_paths(function, module))
    return stock | {routing.BaseRoute.matches}


def _reads_for_paths(function: object, module: str) -> bool:
    # Versions to come may let more decide, a header for instance, and people patch. Either shows in the names.
    if type(function) is not FunctionType or function.__globals__.get("__name__") != module:
        return False
    code = function.__code__
    constants = [each for each in code.co_consts if isinstance(each, (str, tuple))]
    texts = {text for each in constants for text in ((each,) if isinstance(each, str) else each)}
    return _READ_FOR_PATHS.issuperset({*code.co_names, *texts})
