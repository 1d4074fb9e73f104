"""The options of redis-py and of its storages in `limits`: what each of them is here."""

from __future__ import annotations

import math
import ssl
from collections.abc import Mapping
from typing import Any

from ..._support.errors import ConfigurationError

LONGEST_TIMEOUT_MS = 60_000
SAME = {"ssl_ca_certs": "ca_file", "ssl_certfile": "cert_file", "ssl_keyfile": "key_file", "db": "database"}
"""Those that have another name here."""
SECONDS = {"socket_connect_timeout": "connect_timeout_ms", "socket_timeout": "command_timeout_ms"}
CREDENTIALS = ("username", "password")

_NUMBERS = {
    *("cluster_error_retry_attempts", "health_check_interval", "max_connections", "min_other_sentinels", "protocol"),
    *("reinitialize_steps", "socket_read_size", "timeout"),
}
_TRUTHS = {
    *("auto_close_connection_pool", "decode_responses", "dynamic_startup_nodes", "legacy_responses"),
    *("read_from_replicas", "require_full_coverage", "retry_on_timeout", "single_connection_client"),
    *("skip_full_coverage_check", "socket_keepalive", "use_replicas", "wrap_exceptions"),
}
_ANYTHING = {
    *("cache", "cache_config", "cache_factory", "charset", "client_name", "command_packer", "connection_class"),
    *("connection_pool", "driver_info", "encoding", "encoding_errors", "errors", "event_dispatcher"),
    *("implementation", "key_prefix", "lib_name", "lib_version", "load_balancing_strategy", "parser_class"),
    *("maint_notifications_config", "maint_notifications_pool_handler", "oss_cluster_maint_notifications_handler"),
    *("policy_resolver", "queue_class", "retry", "retry_on_error", "socket_keepalive_options", "socket_type"),
}
NEEDLESS = _NUMBERS | _TRUTHS | _ANYTHING
"""Those about things that are otherwise here."""
_OF_REVOCATION = ("ssl_validate_ocsp", "ssl_validate_ocsp_stapled", "ssl_ocsp_context", "ssl_ocsp_expected_cert")
_REFUSED = {
    **dict.fromkeys(("credential_provider", "redis_connect_func"), "give username and password"),
    **dict.fromkeys(_OF_REVOCATION, "nothing here asks whether a certificate was revoked"),
}
_TRUE = ("true", "t", "yes", "y", "on", "1")
_FALSE = ("false", "f", "no", "n", "off", "0")
_VERIFYING = {ssl.CERT_NONE: "false", ssl.CERT_OPTIONAL: "true", ssl.CERT_REQUIRED: "true"}
_CERT_REQS = {"none": "false", "optional": "true", "required": "true"}


def check_needless(name: str, given: Any) -> None:
    """Raises ConfigurationError for a value that redis-py does not take either."""
    if given is None or name in _ANYTHING:
        return
    if name in _TRUTHS:
        truth(name, given)
    elif name == "protocol" and str(given) not in ("2", "3"):
        raise ConfigurationError(f"storage_uri: protocol is 2 or 3, not {given!r}")
    elif isinstance(given, bool) or _number(given) is None:
        raise ConfigurationError(f"storage_uri: {name} is a number, not {given!r}")


def check_not_refused(name: str, given: Any) -> None:
    """Raises ConfigurationError for what would be less safe without it, and is not here."""
    is_off = given is None or (name.startswith("ssl_validate") and truth(name, given) == "false")
    if name in _REFUSED and not is_off:
        raise ConfigurationError(f"storage_uri: the option {name} cannot be had here: {_REFUSED[name]}")


def truth(name: str, given: Any) -> str:
    """ "true" or "false". Raises ConfigurationError for what is neither."""
    text = str(given).lower()
    if text not in _TRUE + _FALSE:
        raise ConfigurationError(f"storage_uri: {name} is true or false, not {given!r}")
    return "true" if text in _TRUE else "false"


def verifies(given: Any) -> str:
    """Whether `ssl_cert_reqs` has the server's certificate checked: "true" or "false"."""
    if given is None:
        return "false"
    known: Mapping[Any, str] = _CERT_REQS if isinstance(given, str) else _VERIFYING
    if given not in known:
        raise ConfigurationError(f"storage_uri: ssl_cert_reqs is none, optional or required, not {given!r}")
    return known[given]


def milliseconds(name: str, given: Any) -> int:
    """Of a number of seconds, also as text. Raises ConfigurationError for what is none above 0."""
    seconds = None if isinstance(given, bool) else _number(given)
    if seconds is None or not seconds > 0:
        raise ConfigurationError(f"storage_options: {name}={given!r} is no number of seconds above 0")
    return max(1, min(round(seconds * 1000), LONGEST_TIMEOUT_MS))


def _number(given: Any) -> float | None:
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
