"""Limits as dependencies of FastAPI: `Depends(RateLimit("10/minute"))`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, NoReturn

from limits import RateLimitItem
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from ._fastapi.dependency_tree import limiter_for
from ._fastapi.signatures import resolved_signature
from ._http.state import record_of
from ._rules.limit import StrOrCallableStr
from ._rules.limit_group import LimitGroup, nobody
from ._rules.notation import warn_of_amounts
from ._rules.options import OnError, require_on_error
from ._startup import watch_start_up
from ._support.callables import Wait, run_blocking, wait_in_thread, wait_on_loop
from ._support.copies import OneOfAKind
from .decision import Decision
from .errors import ConfigurationError, InvalidCost, RateLimitExceeded, StorageOut, as_of_websocket
from .keys.identity import Identity, KeyFunction, name_of

if TYPE_CHECKING:
    from .extension import Limiter

__all__ = ["Gate", "RateLimit"]

_UNSET: Any = object()


class RateLimit(OneOfAKind):
    """Limits the requests to a route, to those of a router, or to all of an application.

    `Depends(RateLimit("20/hour"))` goes into `dependencies=[...]`, or stands for a parameter, which gets the `Decision`
    (None when nothing was limited). Every route counts for itself, by its methods and the template of its path.

    - `limits`: such as "10/minute" or "2/second; 100/day"; a callable of `request`, `key` or nothing that returns that;
      or `Depends(...)`. It may be left out where settings have a limit of that `name`.
    - `key`: who is limited: a callable as for `Limiter(key_func=...)`, which is used without one; or `Depends(...)`, so
      that FastAPI injects who it is.
    - `name`: what the limit is configured, logged and told by.
    - `scope`: one bucket for all routes that name it; or a callable of `request`, or of `endpoint`. `shared=True`: one
      for all routes that this limit is declared for, or any other one of this `name`.
    - `cost`: what a request takes; or a callable of the request; or `Depends(...)`.
    - `exempt_when`, `error_message`, `on_error`: as of `Limiter.limit`.
    - `override_defaults`: whether the middleware's default limits do not apply to these routes.
    - `shadow`: count and log, and do not refuse.
    - `limiter`: instead of `app.state.limiter`.

    All that is declared in one notation is taken together or not at all, and so is what follows directly upon each
    other among the dependencies of a route, if FastAPI injects nothing into what follows. A limit that is declared
    twice for a route counts once. Thread-safe. Raises ConfigurationError for what cannot work, some of it when the
    application starts; where it is called RateLimitExceeded, for a WebSocket as a WebSocketRateLimitExceeded.
    """

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
        limiter: Limiter | None = None,
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
        if limiter is not None and not hasattr(limiter, "_dependency_checks"):
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
        self._options: tuple[Any, ...] = (error_message, exempt_when)
        self._groups: dict[tuple[int, frozenset[str]], tuple[Limiter, int, tuple[LimitGroup, ...]]] = {}
        if self._limits is not None:
            # By any strategy: what is wrong by all of them is an error here, not when the application starts.
            self._group(self._limits, self._key or nobody, "moving-window", self._cost)
            warn_of_amounts(self._limits, self.where, "moving-window")
        if type(self).__call__ is RateLimit.__call__:
            self.__signature__ = _signature(HTTPConnection, self._depends)
        else:
            # Older versions of FastAPI do not find out what the annotations of a method stand for.
            self.__signature__ = resolved_signature(self.__call__)
        watch_start_up()

    async def __call__(self, connection: HTTPConnection, **injected: Any) -> Decision | None:
        """Counts a request. A subclass with parameters of its own, which FastAPI then injects, calls `take`."""
        return await self.take(connection, **injected)

    async def take(
        self, connection: HTTPConnection, *, limits: str = _UNSET, key: object = _UNSET, cost: float = _UNSET
    ) -> Decision | None:
        """Counts a request, with these instead of what was declared; the decision, or None when nothing was limited."""
        return await self._take(connection, _given(limits, key, cost), wait_on_loop)

    def take_sync(
        self, connection: HTTPConnection, *, limits: str = _UNSET, key: object = _UNSET, cost: float = _UNSET
    ) -> Decision | None:
        """The same in a worker thread; TypeError elsewhere if it has to wait for something asynchronous."""
        decision: Decision | None = run_blocking(self._take(connection, _given(limits, key, cost), wait_in_thread))
        return decision

    @property
    def dependency(self) -> NoReturn:
        """What FastAPI asks of what should be a `Depends`. Raises ConfigurationError."""
        raise ConfigurationError(f"{self.where} is a dependency; write Depends({self.where})")

    @property
    def per_message(self) -> PerMessage:
        """A dependency of a WebSocket that counts nothing by itself: a `Gate`, to be asked for every message."""
        return PerMessage(self)

    @property
    def is_alone(self) -> bool:
        """Whether a request is all that is needed to decide."""
        return not self._depends and type(self).__call__ is RateLimit.__call__

    def is_for(self, limiter: Limiter) -> bool:
        """Whether this limiter counts, or may if it is that of the application."""
        return self.limiter is None or self.limiter is limiter

    def limiter_of(self, connection: HTTPConnection) -> Limiter:
        """The limiter that counts this request. Raises ConfigurationError when there is none."""
        found = limiter_for(self, connection.scope.get("app"))
        if found is None:
            raise ConfigurationError(f"{self.where} found no limiter; set app.state.limiter, or RateLimit(limiter=...)")
        return found

    def groups(self, limiter: Limiter, given: frozenset[str] = frozenset()) -> tuple[LimitGroup, ...]:
        """What is counted, as that limiter is configured now, where these of `limits`, `key` and `cost` come with the
        request. Raises ConfigurationError.
        """
        known = self._groups.get((id(limiter), given))
        if known is not None and known[0] is limiter and known[1] == limiter._named.revision:
            return known[2]
        revision, limits = limiter._named.revision, self._limits
        if limits is None:
            limits = limiter._named.text_of(self.name, self.where)
        values = {"limits": limits, "key": self._key or limiter._key_func, "cost": self._cost}
        values |= {what: _Injected(self, what, None) for what in given - self._depends.keys()}
        if values["key"] is None:
            raise ConfigurationError(f"{self.where}: the limiter has no key_func; give one, or RateLimit(key=...)")
        made = self._group(values["limits"], values["key"], limiter._strategy, values["cost"])
        limiter._named.declare(made, self.where)
        if self._on_error is not None:
            limiter._watch_storage()
        groups = tuple(limiter._planner.configured([made]))
        self._groups[id(limiter), given] = (limiter, revision, groups)
        return groups

    async def _take(self, connection: HTTPConnection, given: Mapping[str, Any], wait: Wait) -> Decision | None:
        self.inject(connection, given)
        limiter = self.limiter_of(connection)
        try:
            return await limiter._dependency_checks.decide(self, connection, wait, frozenset(given))
        except (RateLimitExceeded, StorageOut, InvalidCost) as error:
            if connection.scope["type"] == "websocket":
                raise as_of_websocket(error) from error
            raise

    def inject(self, connection: HTTPConnection, given: Mapping[str, Any]) -> None:
        """Keeps for the request what was injected."""
        if given:
            record = record_of(connection)
            record.injected = {**(record.injected or {}), id(self): given}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_groups": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for what, value in self._depends.items():
            setattr(self, f"_{what}", _Injected(self, what, value))

    def _group(self, limits: Any, key: Any, strategy: Any, cost: Any) -> LimitGroup:
        message, exempt_when = self._options
        return LimitGroup(
            limits,
            key,
            self.scope,
            False,
            None,
            message,
            exempt_when,
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


class PerMessage:
    """Makes the `Gate` of a WebSocket."""

    def __init__(self, rate_limit: RateLimit) -> None:
        self.rate_limit = rate_limit
        self.__signature__ = _signature(WebSocket, rate_limit._depends)

    async def __call__(self, connection: WebSocket, **injected: Any) -> Gate:
        return Gate(self.rate_limit, connection, injected)


class Gate:
    """Limits the messages of one WebSocket. Not thread-safe, as the WebSocket is not."""

    def __init__(self, rate_limit: RateLimit, websocket: WebSocket, injected: Mapping[str, Any]) -> None:
        self._rate_limit = rate_limit
        self._websocket = websocket
        self._injected = injected

    async def take(self, *, cost: float = _UNSET) -> Decision | None:
        """Counts a message; the decision, or None when nothing is limited.

        Raises WebSocketRateLimitExceeded, which closes the WebSocket with 1008 if nobody catches it, as the endpoint
        may to tell the client and go on. Nothing was counted then.
        """
        given = {**self._injected, **_given(_UNSET, _UNSET, cost)}
        rate_limit, websocket = self._rate_limit, self._websocket
        rate_limit.inject(websocket, given)
        limiter = rate_limit.limiter_of(websocket)
        try:
            return await limiter._dependency_checks.decide_again(rate_limit, websocket, frozenset(given))
        except (RateLimitExceeded, StorageOut, InvalidCost) as error:
            raise as_of_websocket(error) from error


class _Injected(Identity):
    """Reads what FastAPI has injected into a `RateLimit` for a request."""

    def __init__(self, rate_limit: RateLimit, what: str, depends: Any) -> None:
        self._of = id(rate_limit)
        self._what = what
        dependency = getattr(depends, "dependency", None)
        self.told = f"what {name_of(dependency)} returns" if dependency is not None else "what was given"

    def __call__(self, request: HTTPConnection) -> Any:
        return record_of(request).injected[self._of][self._what]


def _given(limits: object, key: object, cost: object) -> dict[str, Any]:
    given = {"limits": limits, "key": key, "cost": cost}
    return {what: value for what, value in given.items() if value is not _UNSET}


def _signature(kind: type, depends: Mapping[str, Any]) -> Signature:
    first = Parameter("connection", Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
    return Signature(
        [first, *(Parameter(what, Parameter.KEYWORD_ONLY, default=each) for what, each in depends.items())]
    )


def _is_depends(value: object) -> bool:
    # Without the module nobody can have made one.
    kind = getattr(sys.modules.get("fastapi.params"), "Depends", None)
    return kind is not None and isinstance(value, kind)
