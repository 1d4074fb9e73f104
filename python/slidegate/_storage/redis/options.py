"""The options of a Redis server: those of its URI, and those that programs give to redis-py."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from ..._support.errors import ConfigurationError
from .redis_py_options import (
    CREDENTIALS,
    LONGEST_TIMEOUT_MS,
    NEEDLESS,
    SAME,
    SECONDS,
    check_needless,
    check_not_refused,
    milliseconds,
    truth,
    verifies,
)

_TLS_OPTIONS = ("ca_file", "cert_file", "key_file", "server_name", "verify")
_TLS_OPTIONS_OF_REDIS_PY = (
    *("ssl_ca_path", "ssl_ca_data", "ssl_check_hostname", "ssl_password", "ssl_min_version", "ssl_ciphers"),
    *("ssl_include_verify_flags", "ssl_exclude_verify_flags"),
)
"""Those that have no other name here."""
_PLAIN = ("connect_timeout_ms", "command_timeout_ms", "deny_cache_ms", "hash_keys")


class Options:
    """What stands after the question mark of a URI, and in `storage_options`, under the names of the former."""

    def __init__(
        self, scheme: str, query: str, more: Mapping[str, Any], known: Sequence[str], logger: logging.Logger | None
    ) -> None:
        """`known` are those that not all schemes have. Raises ConfigurationError for others.

        Those of redis-py mean here what they mean there, in both places. One line in the log names those that mean
        nothing.
        """
        self._scheme = scheme
        self._has_tls = scheme == "rediss" or "tls" in known
        self._known = (*_PLAIN, *(_TLS_OPTIONS if self._has_tls else ()), *known)
        self._values: dict[str, str] = {}
        self._needless: dict[str, str] = {}
        for place, given in (
            ("storage_uri", parse_qsl(query, keep_blank_values=True)),
            ("storage_options", more.items()),
        ):
            for name, value in given:
                self._take(place, name, value)
        if self._needless and logger is not None:
            logger.warning(
                "%s: these options have no meaning here, and are left aside: %s",
                " and ".join(sorted(set(self._needless.values()), reverse=True)),
                ", ".join(map(repr, sorted(self._needless))),
            )

    def _take(self, place: str, name: str, given: Any) -> None:
        check_not_refused(name, given)
        if name in NEEDLESS:
            check_needless(name, given)
            self._needless[name] = place
        elif name == "ssl_cert_reqs":
            self._put("verify", name, verifies(given))
        elif name in CREDENTIALS:
            self._values[name] = "" if given is None else str(given)
        elif given is None or name.startswith("ssl_validate"):
            pass
        elif name == "sentinel_kwargs" and "sentinel_password" in self._known:
            self._take_of_sentinels(place, given)
        elif name in SECONDS:
            self._put(SECONDS[name], name, str(milliseconds(name, given)))
        elif name == "ssl":
            self._take_tls(truth(name, given))
        elif name == "service_name" and "sentinel_password" in self._known:
            self._values["service"] = str(given)
        elif name == "ssl_check_hostname":
            self._put(name, name, truth(name, given))
        else:
            self._put(SAME.get(name, name), name, _text(given))

    def _take_of_sentinels(self, place: str, given: Mapping[str, Any]) -> None:
        for name, value in given.items():
            if name not in CREDENTIALS:
                self._needless[f"sentinel_kwargs[{name!r}]"] = place
            elif value:
                self._put(f"sentinel_{name}", "sentinel_kwargs", str(value))

    def _take_tls(self, wanted: str) -> None:
        if "tls" in self._known:
            self._put("tls", "ssl", wanted)
        elif (wanted == "true") != self._has_tls:
            right = {"redis": "rediss", "rediss": "redis"}.get(self._scheme)
            advice = f"write {right}://" if right else "a socket of this host has no TLS"
            raise ConfigurationError(f"storage_uri: {self._scheme}:// contradicts ssl={wanted}; {advice}")

    def text(self, name: str) -> str | None:
        return self._values.get(name) or None

    def number(self, name: str, default: int, most: int, *, least: int = 0) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
            raise ConfigurationError(f"storage_uri: {name} is a whole number from {least} to {most}, not {value!r}")
        return int(value)

    def truth(self, name: str, *, default: bool) -> bool:
        value = self._values.get(name)
        if value is not None and value not in ("true", "false"):
            raise ConfigurationError(f"storage_uri: {name} is true or false, not {value!r}")
        return default if value is None else value == "true"

    def common(self) -> dict[str, Any]:
        """What all targets have."""
        return {
            "connect_timeout_s": self.number("connect_timeout_ms", 250, LONGEST_TIMEOUT_MS, least=1) / 1000,
            "command_timeout_s": self.number("command_timeout_ms", 100, LONGEST_TIMEOUT_MS, least=1) / 1000,
            "deny_cache_s": self.number("deny_cache_ms", 1000, LONGEST_TIMEOUT_MS) / 1000,
            "is_hashed": self.truth("hash_keys", default=False),
        }

    def _put(self, name: str, called: str, value: str) -> None:
        is_of_tls = name in _TLS_OPTIONS or name in _TLS_OPTIONS_OF_REDIS_PY
        is_known = name in self._known or (is_of_tls and self._has_tls) or called == "db"
        if not is_known:
            hint = " (it needs rediss://)" if is_of_tls else ""
            raise ConfigurationError(
                f"storage_uri: {self._scheme}:// has no option {called!r}{hint}; it has {', '.join(self._known)}"
            )
        if self._values.setdefault(name, value) != value:
            raise ConfigurationError(f"storage_uri: option {called!r} is given twice, with different values")


def _text(given: Any) -> str:
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, bytes):
        return ssl.DER_cert_to_PEM_cert(given)
    if isinstance(given, ssl.TLSVersion):
        return given.name
    if isinstance(given, (list, tuple, set)):
        return ",".join(str(each.name) if isinstance(each, ssl.VerifyFlags) else str(each) for each in given)
    return str(given)
