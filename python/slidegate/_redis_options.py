"""The options of a Redis server: those of its URI, and those that programs give to redis-py."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from .errors import ConfigurationError

_PLAIN = ("connect_timeout_ms", "command_timeout_ms", "deny_cache_ms", "hash_keys")
_TLS = ("ca_file", "cert_file", "key_file", "server_name", "verify")
_OF_REDIS_PY = {
    "ssl_ca_certs": "ca_file",
    "ssl_certfile": "cert_file",
    "ssl_keyfile": "key_file",
    "db": "database",
}
_IN_SECONDS = {"socket_connect_timeout": "connect_timeout_ms", "socket_timeout": "command_timeout_ms"}
_CREDENTIALS = ("username", "password")
_LONGEST_TIMEOUT_MS = 60_000
# Of redis-py, or of its storage in `limits`; about things that are otherwise here.
_NEEDLESS = {
    *("client_name", "connection_class", "connection_pool", "decode_responses", "encoding", "encoding_errors"),
    *("health_check_interval", "implementation", "key_prefix", "lib_name", "lib_version", "max_connections"),
    *("protocol", "retry", "retry_on_error", "retry_on_timeout", "single_connection_client", "socket_keepalive"),
    *("socket_keepalive_options", "wrap_exceptions"),
}


class Options:
    """What stands after the question mark of a URI, and in `storage_options`, under the names of the former."""

    def __init__(
        self, scheme: str, query: str, more: Mapping[str, Any], known: Sequence[str], logger: logging.Logger | None
    ) -> None:
        """`known` are those that not all schemes have. Raises ConfigurationError for others."""
        self._scheme = scheme
        self._known = (*_PLAIN, *(_TLS if scheme == "rediss" or "tls" in known else ()), *known)
        self._values: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            name = "database" if name == "db" and "database" in known else name
            self._put(name, name, value)
        needless = sorted(name for name in more if name in _NEEDLESS)
        if needless and logger is not None:
            logger.warning("storage_options: nobody reads %s here", ", ".join(map(repr, needless)))
        for name, given in more.items():
            if name in _IN_SECONDS:
                if given is not None:
                    self._put(_IN_SECONDS[name], name, str(_milliseconds(name, given)))
            elif name == "ssl" and "tls" in known:
                self._put("tls", name, "true" if given else "false")
            elif name == "service_name" and "sentinel_password" in known:
                self._values["service"] = str(given)
            elif name == "sentinel_kwargs" and "sentinel_password" in known:
                for each in _CREDENTIALS:
                    if given and given.get(each):
                        self._put(f"sentinel_{each}", name, str(given[each]))
            elif name == "ssl_cert_reqs":
                self._put("verify", name, "false" if given in (None, "none", ssl.CERT_NONE) else "true")
            elif name in _CREDENTIALS:
                self._values[name] = "" if given is None else str(given)
            elif name not in _NEEDLESS and given is not None:
                text = str(given).lower() if isinstance(given, bool) else str(given)
                self._put(_OF_REDIS_PY.get(name, name), name, text)

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
            "connect_timeout_s": self.number("connect_timeout_ms", 250, _LONGEST_TIMEOUT_MS, least=1) / 1000,
            "command_timeout_s": self.number("command_timeout_ms", 100, _LONGEST_TIMEOUT_MS, least=1) / 1000,
            "deny_cache_s": self.number("deny_cache_ms", 1000, _LONGEST_TIMEOUT_MS) / 1000,
            "is_hashed": self.truth("hash_keys", default=False),
        }

    def tls(self) -> ssl.SSLContext:
        """What checks the server, and shows it a certificate of ours."""
        for name in ("ca_file", "cert_file", "key_file"):
            path = self.text(name)
            if path is not None and not Path(path).is_file():
                raise ConfigurationError(f"storage_uri: {name}: there is no file {path!r}")
        if self.text("key_file") and not self.text("cert_file"):
            raise ConfigurationError("storage_uri: key_file is of no use without cert_file")
        try:
            context = ssl.create_default_context(cafile=self.text("ca_file"))
            if certificate := self.text("cert_file"):
                context.load_cert_chain(certificate, self.text("key_file"), password=_no_passphrase)
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError(f"storage_uri: ca_file, cert_file, key_file: {error}") from error
        if not self.truth("verify", default=True):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _put(self, name: str, called: str, value: str) -> None:
        if name not in self._known:
            hint = " (it needs rediss://)" if name in _TLS else ""
            raise ConfigurationError(
                f"storage_uri: {self._scheme}:// has no option {called!r}{hint}; it has {', '.join(self._known)}"
            )
        if name in self._values:
            raise ConfigurationError(f"storage_uri: option {name!r} is given twice")
        self._values[name] = value


def _milliseconds(name: str, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
        raise ConfigurationError(f"storage_options: {name}={given!r} is no number of seconds above 0")
    return max(1, round(given * 1000))


def _no_passphrase() -> str:
    # Without this, OpenSSL would ask for one on the terminal.
    raise ConfigurationError("storage_uri: key_file has a passphrase, which cannot be given; use a key without one")
