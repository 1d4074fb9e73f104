"""What decorators, dependencies, middleware and reports know of a limiter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, cast
from weakref import WeakSet

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from .._http.current_limit import CurrentLimit, CurrentLimitLike
from .._http.refusal_log import RefusalLog
from .._rules.limit_group import LimitGroup
from .._rules.named_limits import NamedLimits
from .._rules.options import OnError
from .._rules.plan import Check, Plan
from .._rules.resolver import Resolver
from .._storage.base import Health
from .._storage.circuit_breaker import CircuitBreaker
from .._support.escaping import ESCAPED_TRACEBACKS
from .backends.base import PrimaryBackend
from .backends.fallback import Fallback
from .backends.memory import MemoryBackend
from .backends.opening import open_storages
from .backends.redis import RedisBackend
from .checker import Checker
from .compiled import compile_check
from .planner import LimitedEndpoint, Planner
from .settings import Settings


class LimiterCore:
    """Everything of a limiter but what programs call. Thread-safe.

    `planner` says what is checked, and `checker` checks it. Both are made again when something is replaced, so that
    nobody keeps a `checker` longer than a plan.
    """

    is_patched = False
    """Whether somebody has replaced what checks requests."""
    is_writing_patched = False
    """Whether somebody has replaced what writes headers."""
    planner: Planner
    checker: Checker
    dependency_checks: Any

    def __init__(self, settings: Settings) -> None:
        limits, counting, failures, output, switches = settings
        self.logger: logging.Logger = logging.getLogger("slidegate")
        self.logger.addFilter(ESCAPED_TRACEBACKS)
        self.enabled, self.auto_check = switches.enabled, switches.auto_check
        self.unmatched_limited, self.preflights_limited = switches.unmatched_limited, switches.preflights_limited
        self.key_func: Any = limits.key_func
        self.key_prefix, self.key_style = limits.key_prefix, limits.key_style
        self.named = NamedLimits(limits.settings, limits.env_prefix, limits.environment.every())
        self.headers, self.headers_enabled = output.format, output.headers_enabled
        # Whether what dependencies have decided is told of all applications.
        self.adds_headers_to_all = output.headers is not None
        self.problem_details_enabled = output.problem_details_enabled
        self.swallow_errors = failures.swallow_errors
        self.on_error, self.local_share = failures.on_error, failures.local_share
        self.breaker = None if self.on_error is None else CircuitBreaker(self.logger, lambda: self.planner.renew())
        self.local, self.redis, self.strategy_of_limits, self.strategy = open_storages(counting, self.logger)
        self.local_backend = MemoryBackend(self.local)
        # What counts in Redis where that was asked for, else what counts here.
        self.own_backend: PrimaryBackend = self.local_backend if self.redis is None else RedisBackend(self.redis)
        self.planner = Planner(self, limits)
        # Those that were looked at when they started.
        self.applications = WeakSet[Any]()
        refusals = self.logger.getChild("refusals")
        if not refusals.handlers:
            # Who configures logging sees refusals; who does not is spared a line on stderr for each of them.
            refusals.addHandler(logging.NullHandler())
        self._refusal_log, self._is_log_structured = RefusalLog(refusals, output.log_salt), output.structured_log
        self._on_missing_key, self._warned_of = limits.on_missing_key, set[str]()
        self.renew()

    def patched_check(self, function: Callable[..., Any] | None, in_middleware: bool) -> Check:
        """What checks requests for a function where the limiter `is_patched`, in the middleware or in a decorator."""
        raise NotImplementedError

    def inject_headers(self, response: Response, current_limit: CurrentLimitLike | None) -> Response:
        """Writes what is to be told of a request's limits, when headers are enabled."""
        self.inject_asgi_headers(response.headers, current_limit)
        return response

    def inject_asgi_headers(self, headers: MutableHeaders, current_limit: CurrentLimitLike | None) -> MutableHeaders:
        """The same for the headers alone."""
        if self.enabled and self.headers_enabled and isinstance(current_limit, CurrentLimit):
            item, raw_decision = current_limit[0], current_limit.raw_decision
            headers.raw[:] = self.headers.written(headers.raw, item, raw_decision, current_limit.policies)
        return headers

    def compiled(self, plan: Plan) -> Check:
        """The check of a plan, as the limiter is configured now."""
        return compile_check(self.checker, plan) if self.auto_check else lambda request, wait: None

    def groups_of(self, endpoint: LimitedEndpoint) -> Sequence[LimitGroup]:
        """What an endpoint is limited by beside what applies to all."""
        return endpoint.groups

    def backend(self, resolver: Resolver) -> Fallback:
        """Where hits are counted, as the limiter is configured now."""
        limits = tuple(self.planner.groups_in(self.planner.fallback_limits))
        on_error: OnError = self.on_error or ("open" if self.swallow_errors else "closed")
        return Fallback(
            self.own_backend, self.local_backend, resolver, on_error, self.local_share, limits, self.breaker
        )

    def renew(self) -> None:
        """Has what was replaced take effect with the next request."""
        logger, has_children = self.logger, isinstance(self.logger, logging.Logger)
        prefix, style, count_error = self.key_prefix, self.key_style, self.local.count_error
        resolver = Resolver(prefix, style, self._on_missing_key, logger, count_error, self._warned_of)
        self.checker = Checker(
            owner=self,
            backend=self.backend(resolver),
            resolver=resolver,
            headers=self.headers,
            logger=logger,
            refusals=logger.getChild("refusals") if has_children else logger,
            refusal_log=self._refusal_log,
            is_log_structured=self._is_log_structured,
            exempt_routes=cast("set[str | None]", self.planner.exempt_routes),
            headers_enabled=self.headers_enabled,
            swallows_errors=self.swallow_errors,
        )
        self.planner.renew()

    def watch_storage(self) -> None:
        """Has `on_error` decide about requests while a storage of `limits` is out of reach."""
        if self.breaker is None and (self.strategy_of_limits is not None or self.on_error is not None):
            self.breaker = CircuitBreaker(self.logger, lambda: self.planner.renew())
            self.renew()

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
