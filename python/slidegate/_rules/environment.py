"""The settings of a limiter: what it is given, and the variables of slowapi in the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.config import Config

from .._http.header_styles import styles_named
from .._http.headers import HeaderFormat
from .._support.errors import ConfigurationError
from .limit import StrOrCallableStr
from .limit_group import LimitGroup
from .notation import warn_of_amounts
from .options import require
from .strategies import Strategy


class C:
    """Names of the variables."""

    ENABLED = "RATELIMIT_ENABLED"
    HEADERS_ENABLED = "RATELIMIT_HEADERS_ENABLED"
    STORAGE_URL = "RATELIMIT_STORAGE_URL"
    STORAGE_OPTIONS = "RATELIMIT_STORAGE_OPTIONS"
    STRATEGY = "RATELIMIT_STRATEGY"
    GLOBAL_LIMITS = "RATELIMIT_GLOBAL"
    DEFAULT_LIMITS = "RATELIMIT_DEFAULT"
    APPLICATION_LIMITS = "RATELIMIT_APPLICATION"
    HEADER_LIMIT = "RATELIMIT_HEADER_LIMIT"
    HEADER_REMAINING = "RATELIMIT_HEADER_REMAINING"
    HEADER_RESET = "RATELIMIT_HEADER_RESET"
    SWALLOW_ERRORS = "RATELIMIT_SWALLOW_ERRORS"
    IN_MEMORY_FALLBACK = "RATELIMIT_IN_MEMORY_FALLBACK"
    IN_MEMORY_FALLBACK_ENABLED = "RATELIMIT_IN_MEMORY_FALLBACK_ENABLED"
    HEADER_RETRY_AFTER = "RATELIMIT_HEADER_RETRY_AFTER"
    HEADER_RETRY_AFTER_VALUE = "RATELIMIT_HEADER_RETRY_AFTER_VALUE"
    KEY_PREFIX = "RATELIMIT_KEY_PREFIX"


class Environment:
    """Reads the environment, and below it the one file that was named, if any. An empty value counts as none.

    Raises ConfigurationError for a file that cannot be read, and for values of a wrong form.
    """

    def __init__(self, config_filename: str | None) -> None:
        try:
            # Not Starlette's own environment: that one forbids to set what has been read.
            self.config = Config(config_filename, environ=os.environ)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"config_filename={config_filename!r} cannot be read: {error}") from error

    def every(self) -> Mapping[str, str]:
        """All variables, those of the environment before those of the file."""
        return {**self.config.file_values, **os.environ}

    def text(self, name: str) -> str | None:
        return self.config(name, default=None) or None

    def flag(self, name: str, default: bool) -> bool:
        if self.text(name) is None:
            return default
        try:
            return self.config(name, cast=bool)
        except ValueError as error:
            raise ConfigurationError(f"{name}={self.text(name)!r} is none of true, false, 1, 0") from error

    def mapping(self, name: str) -> Mapping[str, Any]:
        text = self.text(name)
        try:
            options = json.loads(text) if text else {}
        except ValueError:
            options = None
        if not isinstance(options, dict):
            raise ConfigurationError(f'{name}={text!r} is not a JSON object such as {{"size": 1048576}}')
        return options


def header_format(
    environment: Environment, retry_after: str | None, is_retry_after_on_success: bool, headers: Any = None
) -> HeaderFormat:
    """Names and forms of the headers. Raises ConfigurationError for a form of Retry-After that there is not."""
    require("retry_after", retry_after, (None, "delta-seconds", "http-date"))
    return HeaderFormat(
        limit=environment.text(C.HEADER_LIMIT) or "X-RateLimit-Limit",
        remaining=environment.text(C.HEADER_REMAINING) or "X-RateLimit-Remaining",
        reset=environment.text(C.HEADER_RESET) or "X-RateLimit-Reset",
        retry_after=environment.text(C.HEADER_RETRY_AFTER) or "Retry-After",
        is_retry_after_date=retry_after == "http-date",
        is_retry_after_on_success=is_retry_after_on_success,
        styles=styles_named("x-ratelimit" if headers is None else headers),
    )


def declared_limits(
    environment: Environment,
    limits: StrOrCallableStr | Iterable[StrOrCallableStr],
    variable: str,
    what: str,
    scope: str | None,
    key_function: Callable[..., Any],
    strategy: Strategy,
) -> list[LimitGroup]:
    """Limits that are given for `what`, or else by a variable."""
    if isinstance(limits, str) or callable(limits):
        limits = [limits]
    elif not isinstance(limits, Iterable):
        raise ConfigurationError(f'{what}={limits!r} is no list of limits, such as ["10/minute"]')
    entries = list(dict.fromkeys(limits))
    if not entries and (text := environment.text(variable)):
        entries, what = [text], variable
    options: tuple[Any, ...] = (scope, False, None, None, None, 1, False)
    for each in entries:
        warn_of_amounts(each, what, strategy)
    return [LimitGroup(each, key_function, *options, strategy=strategy, where=what) for each in entries]
