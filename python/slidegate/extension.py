"""The limiter of an application."""

from __future__ import annotations

import inspect
import logging as logging
import time as time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from limits import RateLimitItem as RateLimitItem
from limits.storage import MemoryStorage as MemoryStorage
from limits.storage import storage_from_string as storage_from_string
from limits.strategies import STRATEGIES as STRATEGIES
from limits.strategies import RateLimiter as RateLimiter
from starlette.config import Config as Config
from starlette.datastructures import MutableHeaders as MutableHeaders
from starlette.requests import Request as Request
from starlette.responses import JSONResponse as JSONResponse
from starlette.responses import Response as Response

from ._core import Clock
from ._fastapi.declaration_errors import UNUSED
from ._fastapi.decorator import Endpoint
from ._fastapi.startup_hook import watch_start_up
from ._http.headers import HEADERS
from ._http.response import _rate_limit_exceeded_handler
from ._limiter.settings import LimitsGiven, Settings
from ._rules.bucket import KeyStyle
from ._rules.environment import C as C
from ._rules.limit import Limit as Limit
from ._rules.limit import StrOrCallableStr
from ._rules.limit_group import LimitGroup
from ._rules.notation import warn_of_amounts
from ._rules.options import OnError, OnFull, OnMissingKey, require_on_error
from ._slowapi.attributes import SlowapiAttributes
from ._storage.uri import SUPPORTED
from ._support.copies import OfAModule
from ._support.escaping import escaped
from .errors import ConfigurationError
from .errors import RateLimitExceeded as RateLimitExceeded
from .report import Report, report_of

__all__ = ["HEADERS", "C", "Limiter", "StrOrCallableStr", "_rate_limit_exceeded_handler"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Limiter(SlowapiAttributes, OfAModule):
    """Limits the requests to endpoints that it decorates. The parameters up to `key_style` are those of slowapi.

    - `key_func`: says who sent a request. It, and every other callable, may be asynchronous, and may take the request
      or nothing.
    - `default_limits`: for endpoints without a limit of their own, and for those whose limits do not override them;
      also what applies when a dynamic limit fails. `application_limits`: one bucket for all endpoints.
    - `headers_enabled`: tell X-RateLimit-Limit, -Remaining and -Reset on every limited response.
    - `strategy`: "moving-window" (the default), "fixed-window", "sliding-window-counter" or "gcra".
    - `storage_uri`: where hits are counted: "memory://" (this process alone), "shared://name?size=64MiB" (all processes
      of this user and host that name it), or "file:///path?size=64MiB" (the same, across restarts). None: the
      workers of one server (uvicorn, gunicorn, hypercorn, granian) together, any other process alone. "redis://host", rediss://,
      redis+unix://, redis+sentinel:// or redis+cluster://: Redis or Valkey, which is connected to with the first
      request. Or a URI of the `limits` package, whose strategies then count, with `storage_options` for its
      constructor.
    - `on_error`: what becomes of requests while a server cannot be asked, or there is no room for a new key in shared
      memory or on disk: "closed" answers 503, "open" lets them through, "local" counts them in this process, and in
      the workers of its server; against `local_share` of every limit, or against the limits in `in_memory_fallback`.
      "local" if those are given, or `in_memory_fallback_enabled`; else "open" if `swallow_errors`; else "closed".
      Errors of a storage of `limits` are errors of the requests then.
    - `auto_check`: when False, decorators do not check.
    - `swallow_errors`: let requests pass when they cannot be checked. Wrong configuration is never swallowed.
    - `retry_after`: "http-date" for a date instead of seconds.
    - `key_style`: count by the "url" path of a request or by the "endpoint" function that serves it.
    - `clock`: where the time comes from. Without one it is the machine's, or, where no other process counts along, what
      tests make of `time.time`.
    - `retry_after_on_success`: tell Retry-After always, not only on refusals.
    - `on_missing_key`: what to do about a request that `key_func` knows no key for: count all of them together
      ("shared"), "refuse" them, or not limit them ("skip").
    - `size`, `on_full`: bytes of memory for counting, and what to do when they are used up.
    - `record_keys`: keep some 4,096 keys in the clear beside the counts, for `slidegate top` to show. Without, only
      digests of keys are kept.
    - `unmatched_limited`: whether the middleware counts, all together for each key, requests that no endpoint serves:
      unknown paths, wrong methods, redirects of slashes.
    - `preflights_limited`: whether the middleware counts CORS preflights.
    - `headers`: which headers to tell, which enables them: "x-ratelimit", "ietf" (RateLimit and RateLimit-Policy of
      draft 10, which "ietf-draft-10" is too), "openai" (x-ratelimit-limit-requests and its like), or a list of these.
    - `problem_details_enabled`: whether refusals are answered by problem details of RFC 9457.
    - `env_prefix`: "LLM_RATE_" has LLM_RATE_CHAT="20/hour" replace the limit named "chat", which LLM_RATE_CHAT=off, or
      LLM_RATE_CHAT_MODE=shadow, switches off, or to counting and logging. LLM_RATE_ENABLED=false switches all off.
    - `settings`: an object or mapping whose `chat`, and `chat_mode`, do the same, below the environment.
    - `structured_log`: whether all refusals are logged as those of `RateLimit` are, in `name=value` pairs with a hash
      of the key, which is the same in all processes that have the same `log_salt`.

    - `name`: what the workers of a server know this limiter by, so that those of one name count together. Without one
      they know it by the line that makes it while the server starts; one that is made later, such as one for each
      tenant at its first request, has to have a name, or counts alone in every worker, with a warning.

    `enabled` may be set at any time. Everything is thread-safe. Raises ConfigurationError for what cannot work.
    """

    def __init__(
        self,
        key_func: Callable[..., Any],
        default_limits: LimitsGiven = [],  # noqa: B006
        application_limits: LimitsGiven = [],  # noqa: B006
        headers_enabled: bool = False,
        strategy: str | None = None,
        storage_uri: str | None = None,
        storage_options: dict[str, Any] = {},  # noqa: B006
        auto_check: bool = True,
        swallow_errors: bool = False,
        in_memory_fallback: LimitsGiven = [],  # noqa: B006
        in_memory_fallback_enabled: bool = False,
        retry_after: str | None = None,
        key_prefix: str = "",
        enabled: bool = True,
        config_filename: str | None = None,
        key_style: KeyStyle = "url",
        *,
        clock: Clock | None = None,
        on_error: OnError | None = None,
        local_share: float = 1,
        retry_after_on_success: bool = False,
        on_missing_key: OnMissingKey = "shared",
        size: int | None = None,
        on_full: OnFull = "evict",
        unmatched_limited: bool = False,
        preflights_limited: bool = False,
        headers: str | Sequence[str] | None = None,
        problem_details_enabled: bool = False,
        settings: object = None,
        env_prefix: str | None = None,
        structured_log: bool = False,
        log_salt: str | None = None,
        record_keys: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(Settings.packed(locals()), storage_from_string)
        watch_start_up()

    def limit(
        self,
        limit_value: StrOrCallableStr,
        key_func: Callable[..., Any] | None = None,
        per_method: bool = False,
        methods: Sequence[str] | None = None,
        error_message: StrOrCallableStr | None = None,
        exempt_when: Callable[..., Any] | None = None,
        cost: float | Callable[..., Any] = 1,
        override_defaults: bool = True,
        *,
        deduct_when: Callable[..., Any] | None = None,
        on_error: OnError | None = None,
        name: str | None = None,
        shadow: bool = False,
    ) -> Callable[[_Function], _Function]:
        """Limits an endpoint, which needs no parameters for that.

        Several on one endpoint are decided together: all take, or none. Every callable may be asynchronous.

        - `limit_value`: such as "10/minute" or "2/second; 100/day"; or a callable of `request`, `key` or nothing that
          returns that. When it fails, the default limits apply and what it last returned for the same key; without
          any of them the request is an error. None and "" are no limit: then the default limits apply, unless another
          limit overrides them.
        - `key_func`: instead of the limiter's.
        - `per_method`: count every HTTP method apart. `methods`: limit these only.
        - `error_message`: instead of the notation in the error; or a callable of the request, or of nothing.
        - `exempt_when`: a callable of the request, or of nothing, that is true for requests not to be limited.
        - `cost`: what a request takes, rounded up; or a callable of the request, or of nothing.
        - `override_defaults`: whether the default limits do not apply here.
        - `name`: what the limit is configured and told by. `shadow`: count and log, and do not refuse.
        - `deduct_when`: a callable of the response that is true for requests that are to count. They are counted before
          the endpoint runs and given back if it is not, so that no more than the limit are ever under way. The
          response has a status and headers and no body; with the middleware it is the one that is sent, without it the
          one that the endpoint returned, or that a raised HTTPException stands for. Other exceptions count.
        - `on_error`: what becomes of requests while the storage cannot be asked, instead of the limiter's: "open",
          "closed" or "local". Of several limits on one request, one that is closed decides.

        Raises ConfigurationError, when it is applied, for what cannot work; the endpoint raises RateLimitExceeded for
        what is refused, StorageOut for what is closed, and InvalidCost (422) for a cost that is no positive finite
        number.
        """
        options = (per_method, methods, error_message, exempt_when, cost, override_defaults)
        ours = {"deduct_when": deduct_when, "on_error": on_error, "name": name, "is_shadow": shadow}
        return self._decorator(limit_value, key_func, None, options, ours)

    def shared_limit(
        self,
        limit_value: StrOrCallableStr,
        scope: StrOrCallableStr,
        key_func: Callable[..., Any] | None = None,
        error_message: StrOrCallableStr | None = None,
        exempt_when: Callable[..., Any] | None = None,
        cost: float | Callable[..., Any] = 1,
        override_defaults: bool = True,
        *,
        deduct_when: Callable[..., Any] | None = None,
        on_error: OnError | None = None,
        name: str | None = None,
        shadow: bool = False,
    ) -> Callable[[_Function], _Function]:
        """As `limit`, counted together with all endpoints that name the same `scope`.

        A callable scope gets the request for a parameter named `request`, and the name of the endpoint (module and
        qualified name) for one of any other name; it may take nothing, too.
        """
        if not callable(scope) and not (isinstance(scope, str) and scope):
            raise ConfigurationError(f"scope={scope!r} is neither a name nor a callable")
        options = (False, None, error_message, exempt_when, cost, override_defaults)
        ours = {"deduct_when": deduct_when, "on_error": on_error, "name": name, "is_shadow": shadow}
        return self._decorator(limit_value, key_func, scope, options, ours)

    def exempt(self, obj: _Function) -> _Function:
        """Decorates an endpoint that is never limited, neither by default limits nor by decorators."""
        self.planner.exempt(obj)
        return obj

    def reset(self) -> None:
        """Forgets all hits, wherever they are counted now; in Redis those of all programs that count in its database,
        and blocks meanwhile.

        Logs a warning when the storage is one of `limits` that cannot. Raises StorageError.
        """
        is_own = self.checker.backend.primary is self.own_backend
        now = getattr(self._native_counter if is_own else self._limiter, "storage", None)
        found: list[Any] = [self._local_view, self._storage, now]
        for storage in {id(each): each for each in found if hasattr(each, "reset")}.values():
            try:
                if inspect.iscoroutinefunction(storage.reset):
                    raise NotImplementedError("the storage is asynchronous; await limiter._storage.reset()")
                storage.reset()
            except NotImplementedError as error:
                self.logger.warning("This storage type does not support being reset %s", escaped(error))

    def report(self, app: Any) -> Report:
        """Every route of an application with the limits that will be enforced on it, and why. `print` it."""
        return report_of(self, app)

    def _decorator(
        self,
        limit_value: StrOrCallableStr,
        key_func: Callable[..., Any] | None,
        scope: StrOrCallableStr | None,
        options: tuple[Any, ...],
        ours: dict[str, Any],
    ) -> Callable[[_Function], _Function]:
        require_on_error("on_error", ours["on_error"])
        # As of slowapi: no limit, unless settings have one of its name.
        limits = () if limit_value is None else limit_value
        # Once more, as FastAPI may not have been imported before.
        watch_start_up()

        def decorate(function: Any) -> Any:
            if isinstance(function, (staticmethod, classmethod)):
                return type(function)(decorate(function.__func__))
            if inspect.isclass(function) or not callable(function):
                raise ConfigurationError(f"{function!r} is not an endpoint; decorate functions and methods")
            endpoint = Endpoint.of(self, function)
            if ours["on_error"] is not None:
                self.watch_storage()
            if ours["deduct_when"] is not None and self.strategy_of_limits is not None:
                raise ConfigurationError(
                    f"{endpoint.name}: deduct_when gives back what a request took, which the storages of `limits`"
                    f" cannot; it needs no storage_uri, or one of {', '.join(SUPPORTED)}"
                )
            key_function, where = key_func or self.key_func, endpoint.name
            group = LimitGroup(limits, key_function, scope, *options, strategy=self.strategy, where=where, **ours)
            warn_of_amounts(limits, where, self.strategy)
            self.named.declare(group, where)
            self.named.applied(group)
            endpoint.groups.append(group)
            self.planner.add(endpoint)
            group.watch(self.renew)
            for limit in group.limits or ():
                limit.watch(self.renew)
            return endpoint.wrap(function)

        setattr(decorate, UNUSED, limit_value)
        return decorate
