"""Limits with all that was declared beside them."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from limits import RateLimitItem
from starlette.requests import HTTPConnection

from .._core import Quota
from .._support.callables import adapt, takes_nothing
from .._support.copies import left_behind, sendable
from .._support.escaping import escaped_value
from .notation import quota_of
from .watched_item import watched

StrOrCallableStr: TypeAlias = str | Callable[..., Any]

_HIGHEST_COST = 1 << 53
_DECLARED = {"per_method", "methods", "error_message", "exempt_when", "cost", "override_defaults"}
_OF_A_LIMIT = {*_DECLARED, "limit", "key_func", "_Limit__scope"}


class Limit:
    """One limit and its context. `quota` is the engine's form of it, `previous` those that it has taken the place of,
    whose use still counts. `name` is what it is configured and told by; None when it has none.

    What is set later, the amount of `limit` included, holds from the next request on. Raises ConfigurationError, and
    leaves things as they were, for what cannot be.
    """

    # Where programs find it, also when it is sent to another process.
    __module__ = "slidegate.wrappers"
    name: str | None = None
    previous: tuple[Quota, ...] = ()
    is_changed = False
    _watchers: tuple[Callable[[], None], ...] = ()

    def __init__(
        self,
        limit: RateLimitItem,
        key_func: Callable[..., Any],
        scope: StrOrCallableStr | None,
        per_method: bool,
        methods: Sequence[str] | None,
        error_message: StrOrCallableStr | None,
        exempt_when: Callable[..., Any] | None,
        cost: float | Callable[..., Any],
        override_defaults: bool,
        *,
        quota: Quota | None = None,
    ) -> None:
        self.limit = limit
        self.quota = quota
        self.key_func = key_func
        self.per_method = per_method
        self.methods = methods
        self.error_message = error_message
        self.exempt_when = exempt_when
        self.cost = cost
        self.override_defaults = override_defaults
        self.__scope = scope
        self._is_exempt = self._adapted_exempt()

    def __setattr__(self, name: str, value: Any) -> None:
        own = vars(self)
        is_declared_anew, previous = name in own and name in _OF_A_LIMIT, own.get(name)
        super().__setattr__(name, watched(value, self._changed) if name == "limit" else value)
        if is_declared_anew:
            try:
                self._changed()
            except Exception:
                own[name] = previous
                self._changed()
                raise

    def __copy__(self) -> Limit:
        other = type(self).__new__(type(self))
        vars(other).update({name: value for name, value in vars(self).items() if name != "_watchers"})
        return other

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Limit:
        return self.copied()

    def __getstate__(self) -> dict[str, Any]:
        # In another process nobody counts by it, so that functions that cannot be sent there may be missing.
        left = ("_watchers", "_is_exempt")
        state = {name: sendable(value) for name, value in vars(self).items() if name not in left}
        return {**state, "exempt_when": None} if state["exempt_when"] is left_behind else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        item = vars(self).pop("limit")
        self.limit = item
        self._is_exempt = self._adapted_exempt()

    def watch(self, tell: Callable[[], None]) -> None:
        """Has `tell` called whenever something is set."""
        if tell not in self._watchers:
            self._watchers = (*self._watchers, tell)

    def copied(self) -> Limit:
        """An equal one, that nobody is told about when it is changed."""
        other = copy.copy(self)
        other.limit = copy.copy(self.limit)
        other.is_changed = self.is_changed
        return other

    def _changed(self) -> None:
        if self.quota is not None:
            self.quota = quota_of(self.limit, self.quota.strategy, "a limit")
        self._is_exempt = self._adapted_exempt()
        self.is_changed = True
        for tell in self._watchers:
            tell()

    def _adapted_exempt(self) -> Any:
        return self.exempt_when and adapt(self.exempt_when, ("request",), "exempt_when", "request")

    @property
    def _exempt_when_takes_request(self) -> Any:
        return self.exempt_when and not takes_nothing(self.exempt_when)

    @property
    def refuses_all(self) -> bool:
        """Whether it is a limit of zero."""
        return self.limit.amount < 1

    def is_exempt(self, request: HTTPConnection | None = None) -> Any:
        """What `exempt_when` says; False without one. The result of an asynchronous one is to be awaited."""
        return self._is_exempt(request) if self._is_exempt else False

    @property
    def scope(self) -> str:
        """Name of a shared limit; empty for one of a single route and for a scope that depends on the request."""
        return self.__scope if isinstance(self.__scope, str) else ""

    @property
    def declared_scope(self) -> StrOrCallableStr | None:
        """The scope as it was declared."""
        return self.__scope


def whole_cost(cost: Any) -> int:
    """The cost of a hit as a whole number, rounded up. Raises ValueError for what is no positive finite number."""
    if type(cost) is int and 0 < cost < _HIGHEST_COST:
        return cost
    is_number = isinstance(cost, (numbers.Real, Decimal)) and not isinstance(cost, bool)
    try:
        if is_number and 0 < cost < math.inf:
            # Above that it is above every limit; to round what somebody may have sent up can take for ever.
            return _HIGHEST_COST if cost >= _HIGHEST_COST else math.ceil(cost)
    except ArithmeticError:
        # A Decimal that is not a number cannot be compared.
        pass
    raise ValueError(f"a cost must be a finite number above 0, not {escaped_value(cost)}")
