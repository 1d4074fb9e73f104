"""The private names of a limiter that programs and tests put something else in the place of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, cast

from ._check import Checker
from ._declared import Declared
from ._plans import Plans

_REPLACEABLE = frozenset(
    {
        *("_check_request_limit", "_inject_asgi_headers", "_limiter", "_auto_check"),
        *("_default_limits", "_application_limits", "_route_limits", "_dynamic_route_limits"),
        *("_headers_enabled", "_swallow_errors", "_exempt_routes"),
    }
)


class Replaceable:
    """Has a replaced name take effect with the next request, as it would if each request looked it up."""

    _checker: Checker
    _plans: Plans
    _headers_enabled: bool
    _swallow_errors: bool
    _exempt_routes: set[str]
    _stock_check: ClassVar[Any]
    _stock_inject: ClassVar[Any]
    _is_check_replaced = False
    _is_inject_replaced = False

    def __setattr__(self, name: str, value: Any) -> None:
        previous = vars(self).get(name)
        super().__setattr__(name, previous.replaced_by(value) if isinstance(previous, Declared) else value)
        self._note_replaced(name)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._note_replaced(name)

    def _note_replaced(self, name: str) -> None:
        own = vars(self)
        if name in _REPLACEABLE and "_checker" in own:
            own["_is_check_replaced"] = "_check_request_limit" in own
            own["_is_inject_replaced"] = "_inject_asgi_headers" in own
            self._checker = replace(
                self._checker,
                headers_enabled=self._headers_enabled,
                swallows_errors=self._swallow_errors,
                exempt_routes=cast("set[str | None]", self._exempt_routes),
            )
            self._plans.renew()

    def _is_replaced(self) -> bool:
        kind: Any = type(self)
        return kind._check_request_limit is not kind._stock_check or self._is_check_replaced

    def _is_inject_stock(self) -> bool:
        kind: Any = type(self)
        return kind._inject_asgi_headers is kind._stock_inject and not self._is_inject_replaced
