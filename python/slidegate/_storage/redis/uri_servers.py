"""URIs that name several servers: sentinels, and nodes of a cluster."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..._support.errors import ConfigurationError
from .options import Options
from .tls import tls_of

if TYPE_CHECKING:
    from .uri import Address, RedisTarget

MANY = ("redis+sentinel", "redis+cluster")
_PORTS = {"redis+sentinel": 26379, "redis+cluster": 6379}
_OPTIONS = {
    "redis+sentinel": ("tls", "sentinel_username", "sentinel_password"),
    "redis+cluster": ("tls",),
}
_FORMS = {
    "redis+sentinel": "write redis+sentinel://[[user]:password@]host[:port],host[:port]/service[/database]",
    "redis+cluster": "write redis+cluster://[[user]:password@]host[:port],host[:port]",
}


def parse_many(scheme: str, rest: str, more: Mapping[str, Any], logger: logging.Logger | None) -> RedisTarget:
    """What comes of the part after the scheme. Raises ConfigurationError, which does not repeat the credentials."""
    from .uri import RedisTarget, database_of

    if "#" in rest:
        raise ConfigurationError(f"storage_uri: {scheme}:// takes no '#...'; write %23 for a # in a name or password")
    places, _, query = rest.partition("?")
    authority, _, path = places.partition("/")
    credentials, has_credentials, hosts = authority.rpartition("@")
    user, has_password, secret = credentials.partition(":")
    options = Options(scheme, query, more, _OPTIONS[scheme], logger)
    username = unquote(user) or options.text("username")
    password = unquote(secret) if has_credentials and has_password else options.text("password")
    if username and password is None:
        raise ConfigurationError(f"storage_uri: {scheme}:// has a user without a password; {_FORMS[scheme]}")
    addresses = tuple(_address(scheme, each) for each in hosts.split(","))
    has_tls = options.truth("tls", default=False)
    tls = tls_of(options) if has_tls else None
    common = {**options.common(), "tls": tls, "server_name": options.text("server_name")}
    credentials_of_servers: dict[str, Any] = {"username": username, "password": password}
    if scheme == "redis+cluster":
        if path.strip("/") not in ("", "0") or options.text("database") not in (None, "0"):
            raise ConfigurationError(f"storage_uri: a cluster has no databases; {_FORMS[scheme]}")
        return RedisTarget(addresses[0], seeds=addresses, **credentials_of_servers, **common)
    service, _, database = path.partition("/")
    service = unquote(service) or options.text("service") or ""
    if not service:
        raise ConfigurationError(f"storage_uri: {scheme}:// names no service; {_FORMS[scheme]}")
    own: dict[str, Any] = {"username": options.text("sentinel_username"), "password": options.text("sentinel_password")}
    return RedisTarget(
        addresses[0],
        database=database_of(options, scheme, database),
        sentinels=tuple(RedisTarget(each, **own, **common) for each in addresses),
        service=service,
        **credentials_of_servers,
        **common,
    )


def _address(scheme: str, text: str) -> Address:
    host, _, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not host:
        host, port = text, ""
    is_port = not port or (port.isascii() and port.isdigit() and 0 < int(port) < 65536)
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or not is_port or (":" in host and not text.startswith("[")):
        raise ConfigurationError(f"storage_uri: {scheme}://: host or port cannot be read; {_FORMS[scheme]}")
    return unquote(host), int(port) if port else _PORTS[scheme]
