"""URIs of Redis servers: of one, of sentinels, and of the nodes of a cluster."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from ..._support.errors import ConfigurationError
from ..uri import REDIS_SCHEMES, redis_scheme
from ..uri_secrets import hiding_secrets, is_scheme
from .options import Options
from .target import Address, RedisTarget
from .tls import tls_of

_PORT, _PORT_OF_SENTINELS = 6379, 26379
_ONE = "[[user]:password@]host[:port][/database]"
_FORMS = {
    "redis": f"redis://{_ONE}",
    "rediss": f"rediss://{_ONE}",
    "redis+unix": "redis+unix://[[user]:password@]/path/of/the.sock[?database=number]",
    "redis+sentinel": "redis+sentinel://[[user]:password@]host[:port],host[:port]/service[/database]",
    "redis+cluster": "redis+cluster://[[user]:password@]host[:port],host[:port]",
}
_OPTIONS = {
    "redis+unix": ("database",),
    "redis+sentinel": ("tls", "sentinel_username", "sentinel_password"),
    "redis+cluster": ("tls",),
}


def parse_redis_uri(uri: str, more: Mapping[str, Any] = {}, logger: logging.Logger | None = None) -> RedisTarget:
    """What a URI in one of `_FORMS` names. "async+" in front of it changes nothing.

    "valkey" means "redis" in all of them, and unix:// is redis+unix://. `more` are options beside those of the URI;
    those of redis-py are taken in both places. Raises ConfigurationError, which does not repeat the credentials.
    """
    written, separator, rest = uri.removeprefix("async+").partition("://")
    scheme = redis_scheme(written)
    if scheme not in REDIS_SCHEMES or not separator:
        told = repr(scheme) if is_scheme(scheme) and separator else "this"
        raise ConfigurationError(f"storage_uri: {told} is no Redis URI; there are {', '.join(REDIS_SCHEMES)}")
    with hiding_secrets(uri):
        if "#" in rest:
            raise ConfigurationError(
                f"storage_uri: {scheme}:// takes no '#...'; write %23 for a # in a name or password"
            )
        places, _, query = rest.partition("?")
        options = Options(scheme, query, more, _OPTIONS.get(scheme, ()), logger)
        return _parse(scheme, places, options)


def _parse(scheme: str, places: str, options: Options) -> RedisTarget:
    authority, _, path = places.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    user, has_password, secret = credentials.partition(":")
    login = _credentials(scheme, user, secret if has_password else None, options)
    tls = tls_of(options) if scheme == "rediss" or options.truth("tls", default=False) else None
    common = {**options.common(), "tls": tls, "server_name": options.text("server_name")}
    if scheme == "redis+unix":
        if hosts or not path.strip("/"):
            raise ConfigurationError(f"storage_uri: redis+unix:// names the path of a socket; write {_FORMS[scheme]}")
        return RedisTarget(f"/{unquote(path)}", database=options.number("database", 0, 1 << 31), **login, **common)
    if scheme in ("redis", "rediss"):
        try:
            parts = urlsplit(f"//{authority}")
            address = (parts.hostname or "localhost", parts.port or _PORT)
        except ValueError:
            raise _unreadable(scheme) from None
        return RedisTarget(address, database=_database_of(options, scheme, path), **login, **common)
    port = _PORT_OF_SENTINELS if scheme == "redis+sentinel" else _PORT
    addresses = tuple(_address(scheme, each, port) for each in hosts.split(","))
    if scheme == "redis+cluster":
        if path.strip("/") not in ("", "0") or options.text("database") not in (None, "0"):
            raise ConfigurationError(f"storage_uri: a cluster has no databases; write {_FORMS[scheme]}")
        return RedisTarget(addresses[0], seeds=addresses, **login, **common)
    service, _, database = path.partition("/")
    service = unquote(service) or options.text("service") or ""
    if not service:
        raise ConfigurationError(f"storage_uri: {scheme}:// names no service; write {_FORMS[scheme]}")
    own: dict[str, Any] = {"username": options.text("sentinel_username"), "password": options.text("sentinel_password")}
    return RedisTarget(
        addresses[0],
        database=_database_of(options, scheme, database.removeprefix("/")),
        sentinels=tuple(RedisTarget(each, **own, **common) for each in addresses),
        service=service,
        **login,
        **common,
    )


def _credentials(scheme: str, user: str | None, secret: str | None, options: Options) -> dict[str, Any]:
    username = unquote(user) if user else options.text("username")
    password = unquote(secret) if secret is not None else options.text("password")
    if username and password is None:
        raise ConfigurationError(f"storage_uri: {scheme}:// has a user without a password; write {_FORMS[scheme]}")
    return {"username": username, "password": password}


def _address(scheme: str, text: str, default_port: int) -> Address:
    host, _, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not host:
        host, port = text, ""
    is_port = not port or (port.isascii() and port.isdigit() and 0 < int(port) < 65536)
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or not is_port or (":" in host and not text.startswith("[")):
        raise _unreadable(scheme)
    return unquote(host), int(port) if port else default_port


def _database_of(options: Options, scheme: str, number: str) -> int:
    """The one that the path or an option names."""
    named = options.number("database", 0, 1 << 31)
    if not number:
        return named
    if not (number.isascii() and number.isdigit() and int(number) < 1 << 31):
        raise ConfigurationError(f"storage_uri: the database of {scheme}:// is a whole number, not {number!r}")
    if int(number) and named and int(number) != named:
        raise ConfigurationError(f"storage_uri: the database of {scheme}:// is {number} and {named}; name one")
    return int(number) or named


def _unreadable(scheme: str) -> ConfigurationError:
    return ConfigurationError(f"storage_uri: {scheme}://: host or port cannot be read; write {_FORMS[scheme]}")
