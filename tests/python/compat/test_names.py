"""Every public name, signature and default of slowapi."""

from __future__ import annotations

import importlib
import inspect
from inspect import Parameter
from types import ModuleType
from typing import Any, TypeVar, get_args

import pytest

from compat.library import MODULES, Library, differs, same

PRIVATE = {
    "Limiter": (
        *("_check_request_limit", "_inject_headers", "_inject_asgi_headers", "_storage", "_storage_uri", "_limiter"),
        *("_route_limits", "_dynamic_route_limits", "_exempt_routes", "_default_limits", "_application_limits"),
        *("_in_memory_fallback", "_in_memory_fallback_enabled", "_storage_options", "_auto_check", "_swallow_errors"),
        *("_key_func", "_key_prefix", "_key_style", "_headers_enabled", "_header_mapping", "_retry_after", "_strategy"),
        *("enabled", "logger", "limiter", "app_config", "get_app_config", "reset", "limit", "shared_limit", "exempt"),
    ),
    "middleware": (
        *("_find_route_handler", "_get_route_name", "_should_exempt", "sync_check_limits", "async_check_limits"),
        *("SlowAPIMiddleware", "SlowAPIASGIMiddleware"),
    ),
}


def own_names(module: ModuleType) -> list[str]:
    """The public names that a module defines itself."""
    found = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not isinstance(value, TypeVar)
    ]
    return [name for name in found if not name.startswith("_") or name == "_rate_limit_exceeded_handler"]


def form(function: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults of the parameters that may be given by position."""
    parameters = inspect.signature(function).parameters.values()
    kept = [each for each in parameters if each.kind is not Parameter.KEYWORD_ONLY and each.name not in ("self", "cls")]
    return [(each.name, each.kind, each.default) for each in kept]


def begins_with(ours: Any, theirs: Any) -> bool:
    """Whether a call that is right for theirs is right for ours."""
    known = form(theirs)
    return form(ours)[: len(known)] == known and all(
        default is not Parameter.empty for *_, default in form(ours)[len(known) :]
    )


def theirs(module: str) -> ModuleType:
    return importlib.import_module(f"slowapi.{module}")


def ours(module: str) -> ModuleType:
    return importlib.import_module(f"slidegate.{module}")


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_of_a_module_is_there(module: str) -> None:
    names = own_names(theirs(module))
    assert names
    assert [name for name in names if not hasattr(ours(module), name)] == []


def test_the_package_offers_the_names_of_slowapi(library: Library) -> None:
    assert {"Limiter", "_rate_limit_exceeded_handler"} <= set(library.module().__all__)


FUNCTIONS = [
    (module, name)
    for module in MODULES
    for name in own_names(theirs(module))
    if inspect.isfunction(getattr(theirs(module), name)) or inspect.isclass(getattr(theirs(module), name))
    if getattr(theirs(module), name).__module__ == f"slowapi.{module}"
]


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_every_signature_begins_with_that_of_slowapi(module: str, name: str) -> None:
    assert begins_with(getattr(ours(module), name), getattr(theirs(module), name))


@pytest.mark.parametrize("method", ["__init__", "limit", "shared_limit", "exempt", "reset", "get_app_config"])
def test_every_method_of_the_limiter_begins_with_the_parameters_of_slowapi(method: str) -> None:
    assert begins_with(getattr(ours("extension").Limiter, method), getattr(theirs("extension").Limiter, method))


@pytest.mark.parametrize("method", ["_check_request_limit", "_inject_headers", "_inject_asgi_headers"])
def test_private_methods_that_are_patched_in_the_wild_have_their_parameters(method: str) -> None:
    assert begins_with(getattr(ours("extension").Limiter, method), getattr(theirs("extension").Limiter, method))


@pytest.mark.parametrize("function", PRIVATE["middleware"][:5])
def test_private_functions_of_the_middleware_have_their_parameters(function: str) -> None:
    assert begins_with(getattr(ours("middleware"), function), getattr(theirs("middleware"), function))


@pytest.mark.parametrize("name", PRIVATE["Limiter"])
def test_the_attributes_of_a_limiter_are_there(name: str, library: Library) -> None:
    limiter = library.limiter(default_limits=["1/minute"], key_prefix="p", headers_enabled=True)
    assert hasattr(limiter, name) == library.expected(same(True))


@pytest.mark.parametrize("name", PRIVATE["middleware"])
def test_the_names_of_the_middleware_are_there(name: str, library: Library) -> None:
    assert hasattr(library.module("middleware"), name) == library.expected(same(True))


def test_the_options_of_a_limiter_can_be_read_back(library: Library) -> None:
    limiter = library.limiter(
        headers_enabled=True,
        strategy="fixed-window",
        storage_uri="memory://",
        key_prefix="p",
        swallow_errors=True,
        key_style="endpoint",
    )
    told = [getattr(limiter, name) for name in ("_headers_enabled", "_strategy", "_storage_uri", "_key_prefix")]
    told += [getattr(limiter, name) for name in ("_swallow_errors", "_key_style", "_auto_check", "enabled")]
    assert told == library.expected(same([True, "fixed-window", "memory://", "p", True, "endpoint", True, True]))


def test_limits_may_be_annotated_with_the_alias_of_slowapi(library: Library) -> None:
    assert get_args(library.module("extension").StrOrCallableStr)[0] == library.expected(same(str))


def test_the_names_of_settings_and_headers_are_those_of_slowapi() -> None:
    for holder in ("C", "HEADERS"):
        mine, original = getattr(ours("extension"), holder), getattr(theirs("extension"), holder)
        values = {name: value for name, value in vars(original).items() if not name.startswith("_")}
        assert values
        assert {name: getattr(mine, name, None) for name in values} == values


def test_the_logger_has_the_name_of_the_package(library: Library) -> None:
    assert library.limiter().logger.name == library.name


def test_the_strategy_that_was_not_chosen(library: Library) -> None:
    strategy = library.limiter()._strategy
    assert strategy == library.expected(differs(slowapi=None, slidegate="moving-window", difference="moving-window"))


def test_a_refusal_is_an_http_exception_with_the_limit(library: Library) -> None:
    from limits import RateLimitItemPerMinute
    from starlette.exceptions import HTTPException

    def text(message: Any) -> Any:
        limit = library.Limit(RateLimitItemPerMinute(5), lambda: "k", None, False, None, message, None, 1, False)
        error = library.RateLimitExceeded(limit)
        assert isinstance(error, HTTPException)
        assert error.limit is limit
        return (error.status_code, error.detail, str(error.limit.limit))

    assert [text(message) for message in (None, "slow", lambda: "slow")] == library.expected(
        same([(429, "5 per 1 minute", "5 per 1 minute"), *[(429, "slow", "5 per 1 minute")] * 2])
    )


def test_a_limit_says_its_scope_and_whether_it_is_exempt(library: Library) -> None:
    from limits import RateLimitItemPerMinute

    def limit(scope: Any, exempt_when: Any) -> Any:
        item = RateLimitItemPerMinute(5)
        return library.Limit(item, lambda: "k", scope, True, ["get"], "m", exempt_when, 3, True)

    told = [limit(scope, None).scope for scope in (None, "shared")]
    told += [limit(None, exempt).is_exempt() for exempt in (None, lambda: True, lambda: False)]
    one = limit(None, None)
    told += [one.per_method, one.methods, one.error_message, one.cost, one.override_defaults]
    assert told == library.expected(same(["", "shared", False, True, False, True, ["get"], "m", 3, True]))


def test_a_group_of_limits_can_be_iterated(library: Library) -> None:
    options = (lambda request: request, None, False, ["GET"], None, None, 1, True)

    def limits(provider: Any, request: Any = None) -> list[str]:
        group = library.LimitGroup(provider, *options)
        return [str(each.limit) for each in (group.with_request(request) if request else group)]

    told = [
        limits("5/minute; 10/hour"),
        limits(lambda: "5/minute", "ada"),
        limits(lambda key: f"{len(key)}/minute", "ada"),
        library.LimitGroup("5/minute", *options).methods,
    ]
    assert told == library.expected(
        same([["5 per 1 minute", "10 per 1 hour"], ["5 per 1 minute"], ["3 per 1 minute"], ["get"]])
    )
