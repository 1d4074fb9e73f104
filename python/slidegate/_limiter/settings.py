"""What a limiter is made with, in groups that one part of it each reads, and as the environment has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, NamedTuple, TypeAlias

from .._core import Clock
from .._http.header_styles import styles_named
from .._http.headers import HeaderFormat
from .._rules.bucket import KeyStyle
from .._rules.environment import C, Environment
from .._rules.limit import StrOrCallableStr
from .._rules.limit_group import LimitGroup
from .._rules.notation import warn_of_amounts
from .._rules.options import OnError, OnFull, OnMissingKey, require, require_on_error, require_share
from .._rules.strategies import Strategy
from .._support.errors import ConfigurationError

LimitsGiven: TypeAlias = StrOrCallableStr | Iterable[StrOrCallableStr]


@dataclass(frozen=True)
class Limits:
    """What is limited by default, whom, and in which buckets. For the planner and the resolver."""

    environment: Environment
    key_func: Callable[..., Any] | None
    """Says who sent a request; None where every limit has a function of its own."""
    default_limits: LimitsGiven
    """Of endpoints without any of their own."""
    application_limits: LimitsGiven
    """Of all endpoints together."""
    in_memory_fallback: LimitsGiven
    """In the place of all others while the storage is out of reach."""
    key_prefix: str
    """What all buckets begin with."""
    key_style: KeyStyle
    """Whether a path or an endpoint is counted as one."""
    on_missing_key: OnMissingKey
    """What becomes of requests of which nobody knows who sent them."""
    named: object
    """An object or mapping with limits by their names."""
    env_prefix: str | None
    """What the variables with limits begin with."""

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
    """Where and how is counted. For what opens storages."""

    environment: InitVar[Environment]
    storage_uri: str | None
    """None for the memory of the workers of one server."""
    storage_options: Mapping[str, Any]
    """What the URI does not say."""
    strategy: str | None
    """None for moving windows, where the storage has them."""
    size: int | None
    """Bytes of memory."""
    on_full: OnFull
    """What becomes of new keys when they are used up."""
    clock: Clock | None
    """Where the time comes from; None for the machine's."""
    record_keys: bool
    """Whether some keys are kept in the clear."""
    name: str | None
    """What the workers of a server know the limiter by; None for the line that makes it."""

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
    """What becomes of requests that cannot be decided. For the fallback."""

    environment: InitVar[Environment]
    on_error: OnError | None
    """While the storage is out of reach; None where its errors are those of the requests."""
    local_share: float
    """The part of every limit that is counted in this process then."""
    falls_back: bool
    """Whether slowapi's way of counting here was asked for."""
    swallow_errors: bool
    """Whether requests pass that cannot be checked."""

    def __post_init__(self, environment: Environment) -> None:
        require_on_error("on_error", self.on_error)
        require_share(self.local_share)
        is_asked_for = self.falls_back or environment.text(C.IN_MEMORY_FALLBACK) is not None
        falls_back = is_asked_for or environment.flag(C.IN_MEMORY_FALLBACK_ENABLED, False)
        vars(self).update(
            falls_back=falls_back,
            on_error=self.on_error or ("local" if falls_back else None),
            swallow_errors=environment.flag(C.SWALLOW_ERRORS, self.swallow_errors),
        )


@dataclass(frozen=True)
class Output:
    """What responses and the log tell. For the headers and the log of refusals."""

    environment: InitVar[Environment]
    headers_enabled: bool
    """Whether responses have headers that tell of limits."""
    headers: str | Sequence[str] | None
    """Which ones; None for X-RateLimit-* alone, and not where dependencies have decided."""
    retry_after: str | None
    """http-date for a date instead of seconds."""
    retry_after_on_success: bool
    """Whether Retry-After is told always."""
    problem_details_enabled: bool
    """Whether refusals are answered in the form of RFC 9457."""
    structured_log: bool
    """Whether all refusals are logged as pairs of names and values."""
    log_salt: str | None
    """With what keys are hashed for the log; None for what each process chooses itself."""
    format: HeaderFormat = field(init=False)
    """The names and forms of the headers."""

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
    """What is checked at all. For the limiter itself."""

    environment: InitVar[Environment]
    enabled: bool
    """Whether anything is."""
    auto_check: bool
    """Whether decorators and middleware do it."""
    unmatched_limited: bool
    """Whether the middleware counts requests that no endpoint serves."""
    preflights_limited: bool
    """Whether the middleware counts what browsers ask for other origins."""
    env_prefix: str | None
    """What the variable begins with that switches all off, beside slowapi's."""

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
