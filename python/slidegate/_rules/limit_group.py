"""What one decorator, or one entry of default limits, declares."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from limits import RateLimitItem, parse_many
from starlette.requests import HTTPConnection

from .._support.callables import adapt, is_async, takes_nothing
from .._support.errors import ConfigurationError
from .last_limits import LastLimits
from .limit import Limit, StrOrCallableStr, whole_cost
from .notation import Strategy, parse_limits, quota_of
from .options import OnError

_DYNAMIC_LIMITS_KEPT = 256
_DECLARED = {"per_method", "methods", "error_message", "exempt_when", "cost", "override_defaults"}
_OF_A_GROUP = {*_DECLARED, "key_function", "_LimitGroup__limit_provider", "_LimitGroup__scope"}


def nobody() -> str:
    """The key function of limits that are told the key otherwise."""
    return ""


class LimitGroup:
    """What one decorator, or one entry of `default_limits`, declares: limits that have everything else in common.

    Safe to share between threads: what a request brings is passed in. What is set later holds from the next request on.
    A subclass that has its own `__iter__` is asked for its `Limit`s by every request. Every `read_...` is a callable
    ready to be called with the request (`read_limits` and `read_scope` with one thing more, `read_deduct` with the
    response), whatever the user's own one takes, and may return an awaitable. A group with a `name` can be configured;
    what is shadow counts and logs and does not refuse; what requests make has a scope or limits that are not known
    before. Raises ConfigurationError, beginning with `where`, for all that
    can be known to be wrong before the first request.
    """

    # Where programs find it, also when it is sent to another process.
    __module__ = "slidegate.wrappers"

    def __init__(
        self,
        limit_provider: StrOrCallableStr,
        key_function: Callable[..., Any],
        scope: StrOrCallableStr | None,
        per_method: bool,
        methods: Sequence[str] | None,
        error_message: StrOrCallableStr | None,
        exempt_when: Callable[..., Any] | None,
        cost: float | Callable[..., Any],
        override_defaults: bool,
        *,
        strategy: Strategy = "moving-window",
        where: str = "a limit",
        deduct_when: Callable[..., Any] | None = None,
        on_error: OnError | None = None,
        name: str | None = None,
        is_shadow: bool = False,
    ) -> None:
        self.on_error: OnError | None = on_error
        self.name = name
        self.is_shadow = is_shadow
        self.key_function = key_function
        self.__scope = scope
        self.per_method = per_method
        self.methods = methods and _lower_methods(methods, where)
        self.error_message = error_message
        self.exempt_when = exempt_when
        self.cost = cost
        self.override_defaults = override_defaults
        self.request: HTTPConnection | None = None
        self._where = where
        self.strategy = strategy
        self.deduct_when = deduct_when
        self.__limit_provider = limit_provider
        self._prepare()
        self._is_ready = True

    read_notation: Callable[[str], list[RateLimitItem]] = staticmethod(parse_many)
    """What reads the notation of limits; to be replaced for all of them."""
    _is_ready = False
    _watchers: tuple[Callable[[], None], ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        own = vars(self)
        previous = own.get(name)
        super().__setattr__(name, value)
        if self._is_ready and name in _OF_A_GROUP:
            try:
                self._prepare()
            except Exception:
                own[name] = previous
                self._prepare()
                raise
            for tell in self._watchers:
                tell()

    def watch(self, tell: Callable[[], None]) -> None:
        """Has `tell` called whenever something is set."""
        if tell not in self._watchers:
            self._watchers = (*self._watchers, tell)

    @property
    def provider(self) -> StrOrCallableStr:
        """The notation, or the callable that returns it."""
        return self.__limit_provider

    @property
    def scope(self) -> StrOrCallableStr | None:
        """The name of a shared limit, or the callable that returns it."""
        return self.__scope

    def _prepare(self) -> None:
        where, limit_provider, scope = self._where, self.__limit_provider, self.__scope
        key_function, exempt_when, error_message = self.key_function, self.exempt_when, self.error_message
        cost, deduct_when = self.cost, self.deduct_when

        def take(function: Any, what: str, offer: str = "request") -> Callable[[Any], Any]:
            if not callable(function):
                raise ConfigurationError(f"{where}: {what}={function!r} is not callable")
            return adapt(function, (offer,), f"{where}: {what}", offer)

        if not (error_message is None or isinstance(error_message, str) or callable(error_message)):
            raise ConfigurationError(f"{where}: error_message={error_message!r} is neither a text nor a callable")
        self.read_key = take(key_function, "key_func")
        self.read_exempt = take(exempt_when, "exempt_when") if exempt_when is not None else None
        self.read_message = take(error_message, "error_message") if callable(error_message) else None
        self.read_cost = take(cost, "cost") if callable(cost) else None
        self.read_deduct = take(deduct_when, "deduct_when", "response") if deduct_when is not None else None
        self.fixed_cost = 1 if callable(cost) else self._checked_cost(cost)
        self.read_scope: Callable[[HTTPConnection, str], Any] | None = None
        if callable(scope):
            self.read_scope = adapt(scope, ("request", "endpoint"), f"{where}: scope", "endpoint")
        self._named = lru_cache(_DYNAMIC_LIMITS_KEPT)(self._parse)
        self.read_limits: Callable[[HTTPConnection, Any], Any] | None = None
        self.limits: tuple[Limit, ...] | None = None
        self._has_one_answer = callable(limit_provider) and takes_nothing(limit_provider)
        self.last_limits: LastLimits[Limit] = LastLimits(self._has_one_answer)
        """What the callable has said of each key last; copies of this group know it too."""
        self._reader: Callable[[HTTPConnection | None, Any], Any] | None = None
        if callable(limit_provider):
            self._reader = adapt(limit_provider, ("request", "key"), f"{where}: the limit", None)
        elif not isinstance(self, Yielding):
            self.limits = self._declared(limit_provider)
        self._parsed = self.limits
        self.is_iterated = type(self).__iter__ is not LimitGroup.__iter__
        """Whether it is of a subclass that says itself what limits it has."""
        if self.is_iterated:
            # Every request asks for them.
            self.limits = None
        else:
            self.read_limits = self._reader
        users = (key_function, exempt_when, error_message, cost, scope, limit_provider, deduct_when)
        self.is_made_by_requests = callable(scope) or callable(limit_provider)
        self.is_async = any(callable(each) and is_async(each) for each in users)

    def limits_named(self, given: object) -> tuple[Limit, ...]:
        """The limits that a callable has returned: none for None and for what is empty, the most there is for infinity.

        Raises ConfigurationError when it is nonsense.
        """
        if given is None or (isinstance(given, str) and not given.strip()):
            return ()
        text = "inf" if isinstance(given, float) and given == math.inf else given
        return self._named(text) if isinstance(text, str) else self._parse(text)

    @classmethod
    def of(cls, limit: Limit, strategy: Strategy, where: str, like: LimitGroup | None = None) -> LimitGroup:
        """The declaration of a limit that was made by hand, or changed: then `like` the one that it was of."""
        if not isinstance(limit, Limit):
            raise ConfigurationError(f"{where}: {limit!r} is no Limit")
        cost = limit.cost if callable(limit.cost) else 1
        given = (limit.error_message, limit.exempt_when, cost, limit.override_defaults)
        group = cls(
            str(limit.limit),
            limit.key_func,
            limit.declared_scope,
            limit.per_method,
            limit.methods,
            *given,
            strategy=strategy,
            where=where,
            deduct_when=None if like is None else like.deduct_when,
            on_error=None if like is None else like.on_error,
            name=None if like is None else like.name,
            is_shadow=like is not None and like.is_shadow,
        )
        # Another limiter may have it too.
        counted = copy.copy(limit)
        counted.quota = quota_of(limit.limit, strategy, where)
        if not callable(limit.cost):
            # One above the limit is refused, as that of a callable: requests may have made this.
            group = group.costing(group._checked_cost(limit.cost))
        return group.copied(limits=(counted,))

    def copied(self, **others: Any) -> LimitGroup:
        """A copy with other attributes, of which nothing else is made anew: each of other `limits` has a quota."""
        other = copy.copy(self)
        vars(other).update(others)
        return other

    def costing(self, cost: int) -> LimitGroup:
        """A copy that takes something else."""
        return self.copied(fixed_cost=cost, read_cost=None, cost=cost)

    def reads(self, text: str, where: str) -> tuple[Limit, ...]:
        """Limits in another notation, in the context of this group. Raises ConfigurationError about `where`."""
        return self.copied(_where=where)._declared(text)

    def with_request(self, request: HTTPConnection) -> LimitGroup:
        """A copy that can be iterated although its limits depend on the request."""
        return self.copied(request=request)

    def __iter__(self) -> Iterator[Limit]:
        found: tuple[Limit, ...] = self.limits or self._parsed or ()
        if self.limits is None and self._reader is not None:
            if self.request is None and not self._has_one_answer:
                raise ConfigurationError(f"{self._where}: these limits depend on the request; use with_request()")
            key = None if self.request is None else self.read_key(self.request)
            found = self.limits_named(self._reader(self.request, key))
        # Copies: whoever changes them changes nothing for others.
        return iter([limit.copied() for limit in found])

    def _declared(self, text: object) -> tuple[Limit, ...]:
        limits = self._parse(text)
        for limit in limits:
            if self.read_cost is None and self.fixed_cost > limit.limit.amount and not limit.refuses_all:
                raise ConfigurationError(
                    f"{self._where}: cost={self.cost!r} is above {str(limit.limit)!r}, so that no request would ever be"
                    f" let through; write a cost of at most {limit.limit.amount}, or a higher limit"
                )
        return limits

    def _parse(self, text: object) -> tuple[Limit, ...]:
        items = parse_limits(text, self._where, self.strategy, self.read_notation)
        limits = tuple(
            Limit(
                item,
                self.key_function,
                self.__scope,
                self.per_method,
                self.methods,
                self.error_message,
                self.exempt_when,
                self.cost,
                self.override_defaults,
                quota=quota_of(item, self.strategy, self._where),
            )
            for item in items
        )
        for limit in limits:
            limit.name = self.name and (self.name if len(limits) == 1 else f"{self.name}-{limit.limit.get_expiry()}s")
        return limits

    def _checked_cost(self, cost: object) -> int:
        try:
            return whole_cost(cost)
        except ValueError as error:
            raise ConfigurationError(f"{self._where}: {error}") from error


class Yielding(LimitGroup):
    """Any iterable of `Limit`s, in the place of a group."""

    def __init__(self, limits: Iterable[Limit], key_function: Callable[..., Any], strategy: Strategy) -> None:
        self.source = limits
        super().__init__("", key_function, None, False, None, None, None, 1, False, strategy=strategy)

    def __iter__(self) -> Iterator[Limit]:
        return iter(self.source)


def _lower_methods(methods: Sequence[str], where: str) -> list[str]:
    is_list = isinstance(methods, Iterable) and not isinstance(methods, (str, bytes))
    if not is_list or not all(isinstance(each, str) for each in methods):
        example = [methods] if isinstance(methods, str) else ["GET", "POST"]
        raise ConfigurationError(f"{where}: methods={methods!r} is not a list of methods, such as {example!r}")
    return [method.lower() for method in methods]
