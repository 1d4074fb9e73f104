"""What decorators, dependencies, middleware and reports know of a limiter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from .._http.headers import HeaderFormat
from .._http.view import CurrentLimitLike
from .._rules.bucket import KeyStyle
from .._rules.limit_group import LimitGroup
from .._rules.named import NamedLimits
from .._rules.options import OnError
from .._rules.strategies import Strategy
from .._storage.base import Health
from .._storage.limits_package.outage import Outage
from .._storage.memory import MemoryStorage
from .._storage.redis.storage import RedisStorage
from .backends.base import Backend
from .backends.memory import MemoryBackend
from .checker import Check, Checker

if TYPE_CHECKING:
    from .planner import Limited, Planner


class LimiterCore:
    """Everything of a limiter but what programs call. Thread-safe.

    `planner` says what is checked, and `checker` checks it. Both are made again when something is replaced, so that
    nobody keeps a `checker` longer than a plan.
    """

    enabled: bool
    logger: logging.Logger
    problem_details_enabled: bool
    planner: Planner
    checker: Checker
    named: NamedLimits
    headers: HeaderFormat
    headers_enabled: bool
    adds_headers_to_all: bool
    """Whether what dependencies have decided is told of all applications, by headers that the limiter names."""
    key_func: Any
    key_prefix: str
    key_style: KeyStyle
    strategy: Strategy
    auto_check: bool
    swallow_errors: bool
    unmatched_limited: bool
    preflights_limited: bool
    falls_back: bool
    """Whether other limits, or this process, count while the storage is out of reach, as slowapi has it."""
    on_error: OnError | None
    outage: Outage | None
    local: MemoryStorage
    """What counts in this process, in shared memory or in a file."""
    redis: RedisStorage | None
    local_backend: MemoryBackend
    own_backend: Backend
    """What counts in `redis` where there is one, else in `local`."""
    is_of_limits: bool
    """Whether the storage is one of the `limits` package."""
    is_patched = False
    """Whether somebody has replaced what checks requests."""
    is_writing_patched = False
    """Whether somebody has replaced what writes headers."""
    applications: WeakSet[Any]
    """Those that were looked at when they started."""
    dependency_checks: Any

    def patched_check(self, function: Callable[..., Any] | None, in_middleware: bool) -> Check:
        """What checks requests for a function where the limiter `is_patched`, in the middleware or in a decorator."""
        raise NotImplementedError

    def inject_headers(self, response: Response, current_limit: CurrentLimitLike | None) -> Response:
        """Writes what is to be told of a request's limits, when headers are enabled."""
        raise NotImplementedError

    def inject_asgi_headers(self, headers: MutableHeaders, current_limit: CurrentLimitLike | None) -> MutableHeaders:
        """The same for the headers alone."""
        raise NotImplementedError

    def groups_of(self, endpoint: Limited) -> Sequence[LimitGroup]:
        """What an endpoint is limited by beside what applies to all."""
        return endpoint.groups

    def counting_backend(self) -> Backend:
        """What counts as long as it can be asked."""
        return self.own_backend

    @property
    def evaluate(self) -> Callable[..., Any] | None:
        """What decides about limits instead of the checker."""
        return None

    def renew(self) -> None:
        """Has what was replaced take effect with the next request."""
        checker, is_usual = self.checker, isinstance(self.logger, logging.Logger)
        resolver = replace(checker.resolver, key_prefix=self.key_prefix, key_style=self.key_style, logger=self.logger)
        self.checker = replace(
            checker,
            logger=self.logger,
            refusals=self.logger.getChild("refusals") if is_usual else self.logger,
            headers=self.headers,
            headers_enabled=self.headers_enabled,
            swallows_errors=self.swallow_errors,
            exempt_routes=cast("set[str | None]", self.planner.exempt_routes),
            evaluate=self.evaluate,
            resolver=resolver,
            backend=replace(
                checker.backend,
                primary=self.counting_backend(),
                resolver=resolver,
                limits=tuple(self.planner.groups_in(self.planner.fallback_limits)),
                on_error=self.on_error or ("open" if self.swallow_errors else "closed"),
                outage=self.outage,
            ),
        )
        self.planner.renew()

    def watch_storage(self) -> None:
        """Has `on_error` decide about requests while a storage of `limits` is out of reach."""
        if self.outage is None and (self.is_of_limits or self.on_error is not None):
            self.outage = Outage(self.logger, lambda: self.planner.renew())
            self.checker = replace(self.checker, backend=replace(self.checker.backend, outage=self.outage))

    def health(self) -> Health:
        """Whether the storage is asked now, and why it is not. Asks no server.

        Shared memory or a file is available as long as the system has room there for new keys. A storage of `limits` is
        known to be out of reach only where there is an `on_error`, or a fallback.
        """
        return self.checker.backend.health()

    def close(self) -> None:
        """Closes the connections to a Redis server, as the end of an event loop or of a thread does with its own.

        For programs that make limiters and drop them. To be called when nobody counts any more.
        """
        if self.redis is not None:
            self.redis.close()
