"""The private names of slowapi's limiter, which programs and tests read, call, change and put something else for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import limits.storage
from limits.strategies import STRATEGIES
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response

from .._fastapi.base_limiter import BaseLimiter
from .._fastapi.route_checks import plan_by_hand
from .._http.current_limit import CurrentLimit, CurrentLimitLike
from .._http.headers import HEADERS, HeaderFormat
from .._http.request_doubles import as_request
from .._limiter.backends.fallback import Fallback
from .._limiter.planner import LimitedEndpoint
from .._limiter.settings import Settings
from .._rules.bucket import counted_path
from .._rules.limit import Limit
from .._rules.limit_group import LimitGroup
from .._rules.notation import is_known
from .._rules.options import require
from .._rules.plan import Check, Plan
from .._rules.resolver import Resolver
from .._support.clock import wall_time_s
from .._support.errors import ConfigurationError, StorageError
from ..decision import NS_PER_S
from .counter import Counter, counter_on
from .names import DYNAMIC, FIXED, Name, functions_of, groups_of, limits_of
from .replaced_counter import ReplacedEvaluation, backend_of
from .replaced_methods import LIMITERS, REPLACEABLE, KnowsItsLimiters, is_replaced, patched_check
from .storage_view import StorageView, view_of

_FIXED = {
    "_strategy": "give it as Limiter(strategy=...)",
    "_Limiter__check_backend_count": "health() tells when a storage is asked again",
    "_Limiter__last_check_backend": "health() tells when a storage is asked again",
}
_HEADER_FIELDS = {
    HEADERS.LIMIT: "limit",
    HEADERS.REMAINING: "remaining",
    HEADERS.RESET: "reset",
    HEADERS.RETRY_AFTER: "retry_after",
}
_ONLY_AT_FIRST = ("_storage_uri", "_storage_options", "app_config")


def _key_prefix_of(limiter: Any, name: str, value: object) -> object:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}={value!r} is no text")
    return value


def _one_of(*known: str | None) -> Callable[[Any, str, Any], Any]:
    def made(limiter: Any, name: str, value: Any) -> Any:
        require(name, value, known)
        return value

    return made


def _headers_named(limiter: Any, name: str, names: Mapping[int, Any]) -> HeaderFormat:
    for number, header in names.items():
        if number not in _HEADER_FIELDS or not (isinstance(header, str) and header):
            raise ConfigurationError(f"{name}[{number!r}]={header!r}: no header, or no name for one")
    headers: HeaderFormat = limiter.headers
    return replace(headers, **{_HEADER_FIELDS[number]: header for number, header in names.items()})


class SlowapiAttributes(BaseLimiter, metaclass=KnowsItsLimiters):
    """Has a replaced name take effect with the next request, as it would if each request looked it up.

    Lists and dictionaries that are set are copied, and their copies may be changed in place. Raises ConfigurationError
    for values that cannot be, and AttributeError for names that nothing can come of.
    """

    _is_told_dead = False
    _is_written_by_hand = False

    def __init__(self, settings: Settings, storage_from_string: Callable[..., Any]) -> None:
        counting, environment = settings.counting, settings.limits.environment
        self.app_config = environment.config
        self._storage_uri, self._storage_options = counting.storage_uri, counting.storage_options
        self.falls_back, self.retry_after = settings.failures.in_memory_fallback_enabled, settings.output.retry_after
        asked = counting.strategy
        # One that a program has added to those of `limits`.
        own_strategy = None if asked is None or is_known(asked) else STRATEGIES.get(asked)
        if own_strategy is not None:
            counting = replace(counting, environment=environment, strategy="fixed-window")
        super().__init__(settings._replace(counting=counting))
        for group in (*self._default_limits, *self._application_limits, *self._in_memory_fallback):
            group.watch(self.renew)
        self._local_view = view_of(self.local, self)
        view = self._local_view if self.redis is None else view_of(self.redis, self)
        self._local_counter = counter_on(self._local_view, self)
        self._native_counter = self._local_counter if self.redis is None else counter_on(view, self)
        counter: Any = self._native_counter if self.strategy_of_limits is None else self.strategy_of_limits
        self._storage: Any = view if self.strategy_of_limits is None else self.strategy_of_limits.storage
        if storage_from_string is not limits.storage.storage_from_string:
            # Somebody's test has other storages made.
            made = storage_from_string(self._storage_uri or "memory://", **self._storage_options)
            counter.storage = self._storage = made
        self._limiter = counter if own_strategy is None else own_strategy(self._storage)
        self.renew()

    def _tell_retry_after(self) -> None:
        self.headers = replace(self.headers, is_retry_after_date=self.retry_after == "http-date")

    def _fall_back_if_given(self) -> None:
        if self.planner.fallback_limits:
            self._in_memory_fallback_enabled = True

    def _fall_back(self) -> None:
        if self.falls_back and self.on_error is None:
            self.on_error = "local"
            self.watch_storage()

    _key_func = Name("key_func")
    _strategy = Name("strategy")
    _auto_check = Name("auto_check")
    _headers_enabled = Name("headers_enabled")
    _swallow_errors = Name("swallow_errors")
    _key_style = Name("key_style", made=_one_of("url", "endpoint"))
    _key_prefix = Name("key_prefix", made=_key_prefix_of)
    _retry_after = Name("retry_after", made=_one_of(None, "delta-seconds", "http-date"), follows=_tell_retry_after)
    _header_mapping = Name("headers", shown="headers.names", made=_headers_named)
    _exempt_routes = Name("planner.exempt_routes", made=lambda limiter, name, value: set(value))
    _default_limits = Name("planner.default_limits", made=limits_of)
    _application_limits = Name("planner.application_limits", made=limits_of)
    _in_memory_fallback = Name("planner.fallback_limits", made=limits_of, follows=_fall_back_if_given)
    _in_memory_fallback_enabled = Name("falls_back", follows=_fall_back)
    _request_filters = Name("planner.request_filters", made=functions_of)
    _route_limits = FIXED
    _dynamic_route_limits = DYNAMIC

    def __setattr__(self, name: str, value: Any) -> None:
        is_made = "_limiter" in vars(self)
        if is_made and name in _FIXED:
            raise AttributeError(f"{name} cannot be changed: {_FIXED[name]}")
        if is_made and name in _ONLY_AT_FIRST:
            self.logger.warning("%s is read when a Limiter is made, and no more: nothing comes of setting it", name)
        super().__setattr__(name, value)
        if is_made and name in REPLACEABLE:
            self.renew()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name in REPLACEABLE:
            self.renew()

    def renew(self) -> None:
        """Has what was replaced take effect with the next request."""
        if "_limiter" not in vars(self):
            return
        LIMITERS.add(self)
        self.is_patched = is_replaced(self, SlowapiAttributes, "_check_request_limit")
        # Strategies of `limits` are asked for each request, and need nobody to look.
        self._is_written_by_hand = "get_window_stats" in getattr(self._limiter, "__dict__", ())
        is_patched = is_replaced(self, SlowapiAttributes, "_inject_asgi_headers")
        self.is_writing_patched = is_patched or self._is_written_by_hand
        super().renew()

    def patched_check(self, function: Callable[..., Any] | None, in_middleware: bool) -> Check:
        return patched_check(self, function, in_middleware)

    @property
    def _fallback_limiter(self) -> Counter | None:
        """What counts by hand while the storage is out of reach; None where nothing does."""
        return self._local_counter if self.on_error == "local" else None

    @property
    def _fallback_storage(self) -> StorageView | None:
        """Where that is counted."""
        return self._local_view if self.on_error == "local" else None

    @property
    def _Limiter__marked_for_limiting(self) -> Mapping[str, list[Callable[..., Any]]]:
        """The functions that were decorated, by their qualified names. Read-only."""
        endpoints = self.planner.endpoints
        return MappingProxyType({name: [each.function for each in named] for name, named in endpoints.items()})

    @property
    def limiter(self) -> Any:
        """Hits and reads buckets by hand: a `Counter`, or the strategy of `limits` when the storage is one of its."""
        return self._local_counter if self.on_error == "local" and self._storage_dead else self._limiter

    @property
    def _storage_dead(self) -> bool:
        """Whether the storage is out of reach, and not asked until it is back.

        Setting it begins or ends that, where there is an `on_error` or a fallback. As in slowapi, nothing comes of it
        where there is none.
        """
        return self._is_told_dead or not self.health().is_available

    @_storage_dead.setter
    def _storage_dead(self, is_dead: bool) -> None:
        if self.breaker is None:
            self._is_told_dead = is_dead
        elif is_dead:
            self.breaker.failed(StorageError("_storage_dead was set"))
            self.planner.renew()
        else:
            self.breaker.close()

    def get_app_config(self, key: str, default_value: Any = None) -> Any:
        """A setting of the environment, or of the configuration file."""
        return self.app_config(key, default=default_value)

    def backend(self, resolver: Resolver) -> Fallback:
        known = (self._native_counter, self._local_counter)
        primary = backend_of(self._limiter, known, self.key_prefix, self.own_backend, self.local_backend)
        usual = replace(super().backend(resolver), primary=primary)
        if not is_replaced(self, SlowapiAttributes, "_Limiter__evaluate_limits"):
            return usual
        return ReplacedEvaluation(**vars(usual), evaluate=getattr(self, "_Limiter__evaluate_limits"))  # noqa: B009

    def _Limiter__evaluate_limits(self, request: HTTPConnection, endpoint: str, limits: Sequence[Limit]) -> None:
        """Counts a request against these limits, for this path or name of an endpoint.

        Checks go through here when it is replaced, in a subclass or in the object. Blocks, and raises, as
        `_check_request_limit` does.
        """
        request = as_request(request)
        is_usual = self.key_style == "endpoint" or endpoint == counted_path(request.scope)
        counted = [each.copied() for each in limits]
        for limit in counted:
            if not is_usual and limit.declared_scope is None:
                limit._Limit__scope = endpoint
        groups = tuple(LimitGroup.of(each, self.strategy, endpoint) for each in counted)
        usual = Fallback(**{each.name: getattr(self.checker.backend, each.name) for each in fields(Fallback)})
        replace(self.checker, backend=usual).check_now(Plan(endpoint, groups, (), ()), request)

    def _check_request_limit(
        self, request: HTTPConnection, endpoint_func: Callable[..., Any] | None, in_middleware: bool = True
    ) -> None:
        """Counts a request by hand, as a request for that function, whatever was counted for it before.

        In the middleware's way: against the default limits and those of the application, unless the function has
        limits of its own; else in the way of a decorator. Blocks while asynchronous callables are awaited, which is
        possible in a worker thread only; TypeError elsewhere. Raises RateLimitExceeded.

        Checks go through here when it is replaced.
        """
        if self.enabled and not any(each() for each in self.planner.request_filters):
            self.checker.check_now(plan_by_hand(self, endpoint_func, in_middleware), as_request(request))

    def _inject_headers(self, response: Response, current_limit: CurrentLimitLike | None) -> Response:
        """Writes the headers of `request.state.view_rate_limit`, when headers are enabled."""
        if not isinstance(response, Response):
            raise TypeError("parameter `response` must be an instance of starlette.responses.Response")
        self._inject_asgi_headers(response.headers, current_limit)
        return response

    def _inject_asgi_headers(self, headers: MutableHeaders, current_limit: CurrentLimitLike | None) -> MutableHeaders:
        """The same for the headers alone."""
        is_known = isinstance(current_limit, CurrentLimit) and not self._is_written_by_hand
        if is_known or not (self.enabled and self.headers_enabled and isinstance(current_limit, (tuple, list))):
            return super().inject_asgi_headers(headers, current_limit)
        item, identifiers = current_limit
        try:
            reset_time_s, remaining = self._limiter.get_window_stats(item, *identifiers)
        except StorageError:
            return headers
        wait_ns = max(0, round((reset_time_s - wall_time_s()) * NS_PER_S))
        raw_decision = (remaining > 0, 0, remaining, wait_ns, 0 if remaining > 0 else wait_ns)
        headers.raw[:] = self.headers.written(headers.raw, item, raw_decision, getattr(current_limit, "policies", ()))
        return headers

    def inject_headers(self, response: Response, current_limit: CurrentLimitLike | None) -> Response:
        return self._inject_headers(response, current_limit)

    def inject_asgi_headers(self, headers: MutableHeaders, current_limit: CurrentLimitLike | None) -> MutableHeaders:
        return self._inject_asgi_headers(headers, current_limit)

    def groups_of(self, endpoint: LimitedEndpoint) -> Sequence[LimitGroup]:
        return groups_of(self, endpoint)
