"""What `RateLimit`s declare, and which limiter counts for them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias, cast
from weakref import WeakKeyDictionary

from limits import RateLimitItem
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from .._http.request_state import RECORD, record_of
from .._limiter import core
from .._rules.limit import StrOrCallableStr
from .._rules.limit_group import LimitGroup, nobody
from .._rules.notation import warn_of_amounts
from .._rules.options import OnError, require_on_error
from .._support.copies import OneOfAKind
from .._support.waiting import Wait
from ..decision import Decision
from ..errors import ConfigurationError, InvalidCost, RateLimitExceeded, StorageOut, as_of_websocket
from ..keys.identity import Identity, KeyFunction, name_of
from .signatures import resolved_signature
from .startup_hook import watch_start_up

if TYPE_CHECKING:
    # FastAPI leaves annotations alone that it cannot evaluate, and where it is given the class fails with those that it
    # can, before the start of the application tells what is wrong.
    from .._limiter.core import LimiterCore

UNSET: Any = object()

_Groups: TypeAlias = "WeakKeyDictionary[LimiterCore, dict[tuple[str, ...], tuple[int, tuple[LimitGroup, ...]]]]"


class DeclaredRateLimit(OneOfAKind):
    """What a `RateLimit` declares, and who decides about it."""

    stock_call: ClassVar[Any] = None
    """What FastAPI calls, unless a subclass has parameters of its own."""
    stock_take: ClassVar[Any] = None
    """What that calls."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        # FastAPI asks for it where a parameter of this type is no dependency, and would not say so. Of `Annotated[int,
        # RateLimit(...)]` the start of the application tells, with the route.
        if source is not cls:
            return handler(source)
        raise ConfigurationError(
            f'a parameter has the type {cls.__name__} and no Depends; write Depends({cls.__name__}("10/minute"))'
        )

    def __init__(
        self,
        limits: StrOrCallableStr | Any = None,
        *,
        key: KeyFunction | Any = None,
        name: str | None = None,
        scope: StrOrCallableStr | None = None,
        shared: bool = False,
        cost: float | Callable[..., Any] | Any = 1,
        exempt_when: Callable[..., Any] | None = None,
        error_message: StrOrCallableStr | None = None,
        override_defaults: bool = True,
        shadow: bool = False,
        on_error: OnError | None = None,
        limiter: LimiterCore | None = None,
    ) -> None:
        require_on_error("on_error", on_error)
        self.name = name
        self.limiter = limiter
        self.override_defaults = override_defaults
        self._shadow = shadow
        self._on_error = on_error
        limit = [repr(str(limits))] if isinstance(limits, (str, RateLimitItem)) else []
        told = ", ".join([*limit, *([f"name={name!r}"] if name is not None else [])])
        self.where = f"RateLimit({told})"
        for what, flag in (("shadow", shadow), ("shared", shared), ("override_defaults", override_defaults)):
            if not isinstance(flag, bool):
                raise ConfigurationError(f"{self.where}: {what}={flag!r} is neither True nor False")
        if limiter is not None and not isinstance(limiter, core.LimiterCore):
            raise ConfigurationError(f"{self.where}: limiter={limiter!r} is no Limiter")
        if limits is None and name is None:
            raise ConfigurationError(f'{self.where}: there is no limit; write RateLimit("10/minute"), or a name')
        if shared:
            if scope is not None or name is None:
                raise ConfigurationError(f"{self.where}: shared=True is one bucket by its name; give name=, not scope=")
            scope = name
        if scope is not None and not callable(scope) and not (isinstance(scope, str) and scope):
            raise ConfigurationError(f"{self.where}: scope={scope!r} is neither a name nor a callable")
        self.scope = scope
        given = {"limits": limits, "key": key, "cost": cost}
        self._depends = {what: value for what, value in given.items() if _is_depends(value)}
        self._limits, self._key, self._cost = (
            _Injected(self, what, value) if what in self._depends else value for what, value in given.items()
        )
        self.is_take_replaced = getattr(type(self), "take", None) is not type(self).stock_take
        self._error_message = error_message
        self._exempt_when = exempt_when
        self._groups: _Groups = WeakKeyDictionary()
        if self._limits is not None:
            # By any strategy: what is wrong by all of them is an error here, not when the application starts.
            self._group(self._limits, self._key or nobody, "moving-window", self._cost)
            warn_of_amounts(self._limits, self.where, "moving-window")
        if self._is_stock:
            self.__signature__ = _signature(HTTPConnection, self._depends)
        else:
            # Older versions of FastAPI do not find out what the annotations of a method stand for.
            self.__signature__ = resolved_signature(cast(Any, self).__call__)
        watch_start_up()

    @property
    def dependency(self) -> NoReturn:
        """What FastAPI asks of what should be a `Depends`. Raises ConfigurationError."""
        raise ConfigurationError(f"{self.where} is a dependency; write Depends({self.where})")

    @property
    def is_alone(self) -> bool:
        """Whether a request is all that is needed to decide."""
        return not self._depends and self._is_stock

    @property
    def _is_stock(self) -> bool:
        kind: Any = type(self)
        return bool(kind.__call__ is kind.stock_call)

    def counted(
        self, connection: HTTPConnection, given: Mapping[str, Any], wait: Wait, *, is_message: bool = False
    ) -> Any:
        """Counts a request, or a message of a WebSocket, with what is given beside what was declared.

        Returns the decision, None when nothing was limited, or a coroutine that returns that.
        """
        scope = connection.scope
        limiter = limiter_for(self, scope.get("app"))
        if limiter is None:
            raise ConfigurationError(f"{self.where} found no limiter; set app.state.limiter, or RateLimit(limiter=...)")
        record = record_of(connection)
        if given:
            record.injected = {**(record.injected or {}), self: given}
        decide = limiter.dependency_checks.decide
        if scope["type"] == "websocket":
            return _of_websocket(lambda: decide(self, connection, record, wait, tuple(given), is_message))
        return decide(self, connection, record, wait, tuple(given), is_message)

    def groups(self, limiter: LimiterCore, given: tuple[str, ...] = ()) -> tuple[LimitGroup, ...]:
        """What is counted, as that limiter is configured now, where these of `limits`, `key` and `cost` come with the
        request. Raises ConfigurationError.
        """
        made_for = self._groups.setdefault(limiter, {})
        known = made_for.get(given)
        if known is not None and known[0] == limiter.named.revision:
            return known[1]
        revision, limits = limiter.named.revision, self._limits
        if limits is None:
            limits = limiter.named.text_of(self.name, self.where)
        values = {"limits": limits, "key": self._key or limiter.key_func, "cost": self._cost}
        values |= {what: _Injected(self, what, None) for what in set(given) - self._depends.keys()}
        if values["key"] is None:
            raise ConfigurationError(f"{self.where}: the limiter has no key_func; give one, or RateLimit(key=...)")
        made = self._group(values["limits"], values["key"], limiter.strategy, values["cost"])
        limiter.named.declare(made, self.where)
        if self._on_error is not None:
            limiter.watch_storage()
        groups = tuple(limiter.planner.configured([made]))
        made_for[given] = (revision, groups)
        return groups

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_groups": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _groups=WeakKeyDictionary())
        for what, value in self._depends.items():
            setattr(self, f"_{what}", _Injected(self, what, value))

    def _group(self, limits: Any, key: Any, strategy: Any, cost: Any) -> LimitGroup:
        return LimitGroup(
            limits,
            key,
            self.scope,
            False,
            None,
            self._error_message,
            self._exempt_when,
            cost,
            self.override_defaults,
            strategy=strategy,
            where=self.where,
            name=self.name,
            is_shadow=self._shadow,
            on_error=self._on_error,
        )

    def __repr__(self) -> str:
        return self.where


class DeclaredPerMessage:
    """A limit of the messages of WebSockets."""

    def __init__(self, rate_limit: DeclaredRateLimit) -> None:
        self.rate_limit = rate_limit
        self.__signature__ = _signature(WebSocket, rate_limit._depends)


class _Injected(Identity):
    """Reads what FastAPI has injected into a `RateLimit` for a request."""

    def __init__(self, rate_limit: DeclaredRateLimit, what: str, depends: Any) -> None:
        self._of = rate_limit
        self._what = what
        dependency = getattr(depends, "dependency", None)
        self.told = f"what {name_of(dependency)} returns" if dependency is not None else "what was given"

    def __call__(self, request: HTTPConnection) -> Any:
        return request.scope[RECORD].injected[self._of][self._what]


async def _of_websocket(decide: Callable[[], Any]) -> Decision | None:
    try:
        decision = decide()
        if inspect.iscoroutine(decision):
            decision = await decision
    except (RateLimitExceeded, StorageOut, InvalidCost) as error:
        raise as_of_websocket(error) from error
    return cast("Decision | None", decision)


def limiter_for(rate_limit: DeclaredRateLimit, app: Any) -> LimiterCore | None:
    """The limiter that counts for it in an application; None when it has none, or none yet."""
    found: Any = rate_limit.limiter
    if found is None:
        state = getattr(app, "state", None)
        # Where Starlette's State keeps its attributes; to ask the State itself takes ten times as long.
        values = getattr(state, "_state", None)
        found = values.get("limiter") if type(values) is dict else getattr(state, "limiter", None)
    return found if isinstance(found, core.LimiterCore) else None


def values_given(limits: object, key: object, cost: object) -> dict[str, Any]:
    """What comes with a request, by its names."""
    given = {"limits": limits, "key": key, "cost": cost}
    return {what: value for what, value in given.items() if value is not UNSET}


def _signature(kind: type, depends: Mapping[str, Any]) -> Signature:
    first = Parameter("connection", Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
    return Signature(
        [first, *(Parameter(what, Parameter.KEYWORD_ONLY, default=each) for what, each in depends.items())]
    )


def _is_depends(value: object) -> bool:
    # Without the module nobody can have made one.
    kind = getattr(sys.modules.get("fastapi.params"), "Depends", None)
    return kind is not None and isinstance(value, kind)
