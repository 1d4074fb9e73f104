"""What a limiter is made with, in groups that one part of it each reads, and as the environment has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from inspect import signature
from typing import Any, NamedTuple, TypeAlias

from .._core import Clock
from .._http.header_styles import styles_named
from .._http.headers import HeaderFormat
from .._rules.bucket import KeyStyle
from .._rules.environment import C, Environment
from .._rules.limit import StrOrCallableStr
from .._rules.limit_group import LimitGroup
from .._rules.notation import Strategy, warn_of_amounts
from .._rules.options import OnError, OnFull, OnMissingKey, require, require_on_error, require_share
from .._support.errors import ConfigurationError

LimitsGiven: TypeAlias = StrOrCallableStr | Iterable[StrOrCallableStr]


@dataclass(frozen=True)
class Limits:
    """What is limited, whom, and in which buckets. For the planner and the resolver.

    `key_func` says who sent a request; it is None where every limit has one of its own. `default_limits` are those of
    endpoints without any, `application_limits` those of all together, and `in_memory_fallback` is in the place of all
    others while the storage is out of reach. Buckets begin with the `key_prefix`, and count a path or an endpoint as
    the `key_style` says. `on_missing_key` is about requests that nobody knows the sender of. `settings` has limits
    by their names, and `env_prefix` is what variables with such begin with.
    """

    environment: Environment
    key_func: Callable[..., Any] | None
    default_limits: LimitsGiven
    application_limits: LimitsGiven
    in_memory_fallback: LimitsGiven
    key_prefix: str
    key_style: KeyStyle
    on_missing_key: OnMissingKey
    settings: object
    env_prefix: str | None

    def __post_init__(self) -> None:
        if self.key_func is not None and not callable(self.key_func):
            raise ConfigurationError(
                f"key_func={self.key_func!r} is not callable; slidegate.util has get_remote_address"
            )
        require("key_style", self.key_style, ("url", "endpoint"))
        require("on_missing_key", self.on_missing_key, ("shared", "refuse", "skip"))
        vars(self).update(key_prefix=self.key_prefix or self.environment.text(C.KEY_PREFIX) or "")

    def declared(self, what: str, variable: str, strategy: Strategy, scope: str | None = None) -> list[LimitGroup]:
        """The limits that are given for `what`, or else by a variable."""
        limits = getattr(self, what)
        if isinstance(limits, str) or callable(limits):
            limits = [limits]
        elif not isinstance(limits, Iterable):
            raise ConfigurationError(f'{what}={limits!r} is no list of limits, such as ["10/minute"]')
        entries = list(dict.fromkeys(limits))
        if not entries and (text := self.environment.text(variable)):
            entries, what = [text], variable
        options: tuple[Any, ...] = (self.key_func, scope, False, None, None, None, 1, False)
        for each in entries:
            warn_of_amounts(each, what, strategy)
        return [LimitGroup(each, *options, strategy=strategy, where=what) for each in entries]


@dataclass(frozen=True)
class Counting:
    """Where and how is counted. For what opens storages.

    Without a `storage_uri` it is the memory of the workers of one server, who know the limiter by its `name`, or else
    by the line that makes it. `storage_options` are what the URI does not say. `size` is in bytes, and `on_full` is
    about new keys when they are used up. `record_keys` keeps some keys in the clear. `clock` is None for the machine's.
    """

    environment: InitVar[Environment]
    storage_uri: str | None
    storage_options: Mapping[str, Any]
    strategy: str | None
    size: int | None
    on_full: OnFull
    clock: Clock | None
    record_keys: bool
    name: str | None

    def __post_init__(self, environment: Environment) -> None:
        if self.name is not None and not (isinstance(self.name, str) and self.name):
            raise ConfigurationError(f"name={self.name!r} is no name; it is text that is the same in all workers")
        vars(self).update(
            storage_uri=self.storage_uri or environment.text(C.STORAGE_URL),
            storage_options={**self.storage_options, **environment.mapping(C.STORAGE_OPTIONS)},
            strategy=self.strategy or environment.text(C.STRATEGY),
        )


@dataclass(frozen=True)
class Failures:
    """What becomes of requests that cannot be decided. For the fallback.

    `on_error` holds while the storage is out of reach, and is None where its errors are those of the requests;
    `local_share` is the part of every limit that is counted in this process then, and
    `in_memory_fallback_enabled` slowapi's way to ask for that. `swallow_errors` lets requests pass whose check fails.
    """

    environment: InitVar[Environment]
    on_error: OnError | None
    local_share: float
    in_memory_fallback: LimitsGiven
    in_memory_fallback_enabled: bool
    swallow_errors: bool

    def __post_init__(self, environment: Environment) -> None:
        require_on_error("on_error", self.on_error)
        require_share(self.local_share)
        is_given = bool(self.in_memory_fallback or environment.text(C.IN_MEMORY_FALLBACK))
        is_enabled = self.in_memory_fallback_enabled or environment.flag(C.IN_MEMORY_FALLBACK_ENABLED, False)
        falls_back = is_given or is_enabled
        vars(self).update(
            in_memory_fallback_enabled=falls_back,
            on_error=self.on_error or ("local" if falls_back else None),
            swallow_errors=environment.flag(C.SWALLOW_ERRORS, self.swallow_errors),
        )


@dataclass(frozen=True)
class Output:
    """What responses and the log tell. For the headers and the log of refusals.

    `headers_enabled` is for X-RateLimit-*; `headers` are those of other kinds, which dependencies tell, too, and are
    known as a `format`. `retry_after` is "http-date" for a date instead of seconds, and `retry_after_on_success` has
    it told always. `problem_details_enabled` is the form of RFC 9457. `structured_log` is for pairs of names and
    values, with keys that are hashed with a `log_salt`.
    """

    environment: InitVar[Environment]
    headers_enabled: bool
    headers: str | Sequence[str] | None
    retry_after: str | None
    retry_after_on_success: bool
    problem_details_enabled: bool
    structured_log: bool
    log_salt: str | None
    format: HeaderFormat = field(init=False)

    def __post_init__(self, environment: Environment) -> None:
        retry_after = self.retry_after or environment.text(C.HEADER_RETRY_AFTER_VALUE)
        require("retry_after", retry_after, (None, "delta-seconds", "http-date"))
        is_enabled = self.headers_enabled or self.headers is not None
        vars(self).update(
            headers_enabled=is_enabled or environment.flag(C.HEADERS_ENABLED, False),
            retry_after=retry_after,
            format=HeaderFormat(
                limit=environment.text(C.HEADER_LIMIT) or "X-RateLimit-Limit",
                remaining=environment.text(C.HEADER_REMAINING) or "X-RateLimit-Remaining",
                reset=environment.text(C.HEADER_RESET) or "X-RateLimit-Reset",
                retry_after=environment.text(C.HEADER_RETRY_AFTER) or "Retry-After",
                is_retry_after_date=retry_after == "http-date",
                is_retry_after_on_success=self.retry_after_on_success,
                styles=styles_named("x-ratelimit" if self.headers is None else self.headers),
            ),
        )


@dataclass(frozen=True)
class Switches:
    """What is checked at all. For the limiter itself.

    Nothing is where it is not `enabled`, which a variable that begins with `env_prefix` says too. `auto_check` is for
    decorators and middleware. `unmatched_limited` has the middleware count what no endpoint serves, and
    `preflights_limited` what browsers ask for other origins.
    """

    environment: InitVar[Environment]
    enabled: bool
    auto_check: bool
    unmatched_limited: bool
    preflights_limited: bool
    env_prefix: str | None

    def __post_init__(self, environment: Environment) -> None:
        enabled = environment.flag(C.ENABLED, self.enabled)
        if self.env_prefix is not None:
            enabled = environment.flag(f"{self.env_prefix}ENABLED", enabled)
        vars(self).update(enabled=enabled)


class Settings(NamedTuple):
    """What a limiter is made with."""

    limits: Limits
    counting: Counting
    failures: Failures
    output: Output
    switches: Switches

    @classmethod
    def packed(cls, given: Mapping[str, Any]) -> Settings:
        """All of them, of parameters that have the names of their fields."""
        given = {**given, "environment": Environment(given["config_filename"])}
        groups = (Limits, Counting, Failures, Output, Switches)
        return cls._make(group(**{name: given[name] for name in signature(group).parameters}) for group in groups)
