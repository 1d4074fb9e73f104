"""The settings of a limiter: what it is given, and the variables of slowapi in the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from starlette.config import Config

from .._support.errors import ConfigurationError


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
