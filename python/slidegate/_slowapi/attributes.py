"""The private names of a limiter that programs and tests put something else in the place of, or change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from .._http.headers import HEADERS, HeaderFormat
from .._limiter.checker import Checker
from .._limiter.planner import Planner
from .._rules.bucket import Bucket, KeyStyle, bucket_of
from .._rules.limit_group import LimitGroup, Yielding
from .._rules.options import OnError, require
from .._rules.strategies import Strategy
from .._storage.limits_package.outage import Outage
from .._support.errors import ConfigurationError
from .route_limits import ObservedList, ObservedNames, RouteLimits

if TYPE_CHECKING:
    from .._limiter.backends.limits_package import LimitsPackageBackend
    from .counter import Counter

_LISTS = ("_default_limits", "_application_limits", "_in_memory_fallback", "_request_filters")
_REPLACEABLE = frozenset(
    {
        *("_check_request_limit", "_inject_asgi_headers", "_Limiter__evaluate_limits", "_limiter", "_auto_check"),
        *("_route_limits", "_dynamic_route_limits", "_header_mapping", "_retry_after", "logger"),
        *("_headers_enabled", "_swallow_errors", "_exempt_routes", "_key_style", "_key_prefix"),
        *("_in_memory_fallback_enabled", *_LISTS),
    }
)
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


class SlowapiAttributes:
    """Has a replaced name take effect with the next request, as it would if each request looked it up.

    Lists and dictionaries that are set are copied, and their copies may be changed in place. Raises ConfigurationError
    for values that cannot be, and AttributeError for names that nothing can come of.
    """

    _checker: Checker
    _planner: Planner
    _headers: HeaderFormat
    _header_mapping: dict[int, str]
    _headers_enabled: bool
    _swallow_errors: bool
    _exempt_routes: set[str]
    _default_limits: list[LimitGroup]
    _in_memory_fallback: list[LimitGroup]
    _in_memory_fallback_enabled: bool
    _retry_after: str | None
    _key_func: Any
    _key_prefix: str
    _key_style: KeyStyle
    _strategy: Strategy
    _on_error: OnError | None
    _outage: Outage | None
    _limits_package: LimitsPackageBackend | None
    _limits_package_by_hand: LimitsPackageBackend | None
    _local_counter: Counter
    _native_counter: Counter
    _shared_places: dict[str, Bucket]
    logger: logging.Logger
    _stock_check: ClassVar[Any]
    _stock_inject: ClassVar[Any]
    _stock_evaluate: ClassVar[Any]
    _is_check_replaced = False
    _is_inject_replaced = False
    _is_told_by_hand = False

    def __setattr__(self, name: str, value: Any) -> None:
        own = vars(self)
        is_made = "_limiter" in own
        if is_made and name in _FIXED:
            raise AttributeError(f"{name} cannot be changed: {_FIXED[name]}")
        if is_made and name in _ONLY_AT_FIRST:
            self.logger.warning("%s is read when a Limiter is made, and no more: nothing comes of setting it", name)
        previous = own.get(name)
        if isinstance(previous, RouteLimits):
            value = previous.replaced_by(value)
        elif name in _LISTS:
            value = self._told_list(name, value)
        elif name == "_exempt_routes" and not isinstance(value, set):
            value = set(value)
        elif name == "_header_mapping":
            value = ObservedNames(value, self._rename_headers)
        super().__setattr__(name, value)
        try:
            self._note_replaced(name)
        except ConfigurationError:
            super().__setattr__(name, previous)
            raise

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._note_replaced(name)

    def _told_list(self, name: str, values: Iterable[Any]) -> ObservedList[Any]:
        def changed() -> None:
            for each in list(told):
                if not is_right(each):
                    list.remove(told, each)
                    raise ConfigurationError(f"{name}: {each!r} is no {what}")
            told.watch()
            self._note_replaced(name)

        what = "function" if name == "_request_filters" else "LimitGroup, and yields no Limits"
        is_right = callable if name == "_request_filters" else _is_of_limits
        for each in values:
            if not is_right(each):
                raise ConfigurationError(f"{name}: {each!r} is no {what}")
        told: ObservedList[Any] = ObservedList(values, changed)
        return told

    def _rename_headers(self) -> None:
        try:
            self._note_replaced("_header_mapping")
        except ConfigurationError:
            vars(self)["_header_mapping"] = ObservedNames(self._headers.names, self._rename_headers)
            raise

    def _watch_storage(self) -> None:
        """Has `on_error` decide about requests while a storage of `limits` is out of reach."""
        if self._limits_package is not None:
            self._outage = self._outage or Outage(self.logger, lambda: self._planner.renew())
            self._limits_package.watch(self._outage)

    def _note_replaced(self, name: str) -> None:
        own = vars(self)
        if name not in _REPLACEABLE or "_checker" not in own:
            return
        own["_is_check_replaced"] = "_check_request_limit" in own
        self._note_told()
        if name in ("_header_mapping", "_retry_after"):
            own["_headers"] = self._named_headers()
        elif name in ("_key_style", "_key_prefix"):
            self._place_anew()
        elif name in ("_in_memory_fallback", "_in_memory_fallback_enabled"):
            self._fall_back_anew(name)
        counting, checker = self._checker.counting, self._checker
        if name == "logger":
            is_usual = isinstance(self.logger, logging.Logger)
            refusals = self.logger.getChild("refusals") if is_usual else self.logger
            checker = replace(checker, logger=self.logger, refusals=refusals)
        reader = replace(counting.reader, key_prefix=self._key_prefix, key_style=self._key_style, logger=checker.logger)
        self._checker = replace(
            checker,
            headers=self._headers,
            headers_enabled=self._headers_enabled,
            swallows_errors=self._swallow_errors,
            exempt_routes=cast("set[str | None]", self._exempt_routes),
            evaluate=self._evaluating(),
            counting=replace(
                counting,
                reader=reader,
                fallback=tuple(self._groups_in(self._in_memory_fallback)),
                on_error=self._on_error or ("open" if self._swallow_errors else "closed"),
                outage=self._outage,
            ),
        )
        self._planner.renew()

    def _note_counter(self) -> None:
        """Takes up what was replaced in a counter."""
        self._note_told()
        self._planner.renew()

    def _note_told(self) -> None:
        own = vars(self)
        # Strategies of `limits` are asked for each request, and need nobody to look.
        own["_is_told_by_hand"] = "get_window_stats" in getattr(own.get("_limiter"), "__dict__", ())
        own["_is_inject_replaced"] = "_inject_asgi_headers" in own or self._is_told_by_hand

    def _groups_in(self, limits: Sequence[Any]) -> list[LimitGroup]:
        """The groups of such a list, in which programs may have put any iterables of limits."""
        return [
            each if isinstance(each, LimitGroup) else Yielding(each, self._key_func, self._strategy) for each in limits
        ]

    def _named_headers(self) -> HeaderFormat:
        fields: dict[str, Any] = {}
        for number, header in self._header_mapping.items():
            if number not in _HEADER_FIELDS or not (isinstance(header, str) and header):
                raise ConfigurationError(f"_header_mapping[{number!r}]={header!r}: no header, or no name for one")
            fields[_HEADER_FIELDS[number]] = header
        require("_retry_after", self._retry_after, (None, "delta-seconds", "http-date"))
        return replace(self._headers, **fields, is_retry_after_date=self._retry_after == "http-date")

    def _place_anew(self) -> None:
        require("_key_style", self._key_style, ("url", "endpoint"))
        if not isinstance(self._key_prefix, str):
            raise ConfigurationError(f"_key_prefix={self._key_prefix!r} is no text")
        for scope in self._shared_places:
            self._shared_places[scope] = bucket_of(self._key_prefix, "shared", scope, None)
        for counter in {id(each): each for each in (self._local_counter, self._native_counter)}.values():
            counter.place_by(self._key_prefix, self._key_style)
        if self._limits_package is not None:
            vars(self)["_limits_package"] = self._limits_package.with_prefix(self._key_prefix)
        vars(self)["_limits_package_by_hand"] = None

    def _fall_back_anew(self, name: str) -> None:
        own = vars(self)
        if name == "_in_memory_fallback" and self._in_memory_fallback:
            own["_in_memory_fallback_enabled"] = True
        if self._in_memory_fallback_enabled and self._on_error is None:
            own["_on_error"] = "local"
            own["_outage"] = self._outage or Outage(self.logger, lambda: self._planner.renew())
            self._watch_storage()
            own["_limits_package_by_hand"] = None

    def _evaluating(self) -> Callable[..., Any] | None:
        kind: Any = type(self)
        is_stock = kind._Limiter__evaluate_limits is kind._stock_evaluate
        if is_stock and "_Limiter__evaluate_limits" not in vars(self):
            return None
        return lambda *given: cast(Any, self)._Limiter__evaluate_limits(*given)

    def _is_replaced(self) -> bool:
        kind: Any = type(self)
        return kind._check_request_limit is not kind._stock_check or self._is_check_replaced

    def _is_inject_stock(self) -> bool:
        kind: Any = type(self)
        return kind._inject_asgi_headers is kind._stock_inject and not self._is_inject_replaced


def _is_of_limits(group: object) -> bool:
    return isinstance(group, Iterable) and not isinstance(group, (str, bytes))
