"""Where a Redis server is, and how to be let in."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from ..._support.errors import ConfigurationError
from ..._support.escaping import escaped
from ..uri_schemes import REDIS_SCHEMES, redis_scheme
from ..uri_secrets import hiding_secrets, is_scheme
from .options import Options
from .tls import tls_of
from .uri_servers import MANY, parse_many

Address: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""

_DEFAULT_PORT = 6379


@dataclass(frozen=True)
class RedisTarget:
    """One server, or a master that sentinels name, or a cluster, from a URI. Neither its repr nor its name tells a
    password."""

    address: Address
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    connect_timeout_s: float = 0.25
    command_timeout_s: float = 0.1
    deny_cache_s: float = 1.0
    is_hashed: bool = False
    sentinels: tuple[RedisTarget, ...] = ()
    service: str = ""
    """What the sentinels call the master."""
    seeds: tuple[Address, ...] = ()
    """Some nodes of the cluster."""

    @property
    def name(self) -> str:
        """What messages call it."""
        if self.sentinels:
            return f"the Redis master {self.service!r}"
        kind = "cluster" if self.seeds else "server"
        if isinstance(self.address, str):
            return f"the Redis {kind} at {escaped(self.address)}"
        host, port = self.address
        # A node of a cluster names others as it likes.
        return f"the Redis {kind} at {escaped(f'[{host}]' if ':' in host else host)}:{port}"

    def at(self, address: Address) -> RedisTarget:
        """The node of this cluster at an address."""
        return replace(self, address=address, seeds=())

    @property
    def host(self) -> str | None:
        """What a certificate has to be for, if the URI does not say."""
        return self.server_name or (self.address[0] if isinstance(self.address, tuple) else None)

    @property
    def greetings(self) -> list[tuple[bytes, ...]]:
        """The commands that a new connection begins with. Each is answered OK."""
        commands = list[tuple[bytes, ...]]()
        if self.password is not None:
            names = () if self.username is None else (self.username.encode(),)
            commands.append((b"AUTH", *names, self.password.encode()))
        if self.database:
            commands.append((b"SELECT", b"%d" % self.database))
        return commands


def parse_redis_uri(uri: str, more: Mapping[str, Any] = {}, logger: logging.Logger | None = None) -> RedisTarget:
    """What a URI names. "async+" in front of it changes nothing.

    - redis://[[user]:password@]host[:port][/database], rediss:// with TLS
    - redis+unix://[[user]:password@]/path?database=1
    - redis+sentinel://[[user]:password@]host[:port],host[:port].../service[/database]
    - redis+cluster://[[user]:password@]host[:port],host[:port]...

    "valkey" means "redis" in all of them, and unix:// is redis+unix://. `more` are options beside those of the URI;
    those of redis-py are taken in both places. Raises ConfigurationError, which does not repeat the credentials.
    """
    written, separator, rest = uri.removeprefix("async+").partition("://")
    scheme = redis_scheme(written)
    if scheme not in REDIS_SCHEMES or not separator:
        told = repr(scheme) if is_scheme(scheme) and separator else "this"
        raise ConfigurationError(f"storage_uri: {told} is no Redis URI; there are {', '.join(REDIS_SCHEMES)}")
    with hiding_secrets(uri):
        return parse_many(scheme, rest, more, logger) if scheme in MANY else _parse_one(scheme, rest, more, logger)


def _parse_one(scheme: str, rest: str, more: Mapping[str, Any], logger: logging.Logger | None) -> RedisTarget:
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"storage_uri: {scheme}://: host or port cannot be read; {_form(scheme)}") from None
    if parts.fragment:
        raise ConfigurationError(f"storage_uri: {scheme}:// takes no '#...'; write %23 for a # in a name or password")
    is_unix = scheme == "redis+unix"
    options = Options(scheme, parts.query, more, ("database",) if is_unix else (), logger)
    if is_unix:
        if parts.hostname or port or not parts.path.strip("/"):
            raise ConfigurationError(f"storage_uri: redis+unix:// names the path of a socket; {_form(scheme)}")
        address: Address = unquote(parts.path)
        database = options.number("database", 0, 1 << 31)
    else:
        address = (parts.hostname or "localhost", port or _DEFAULT_PORT)
        database = database_of(options, scheme, parts.path)
    username = unquote(parts.username) if parts.username else options.text("username")
    password = unquote(parts.password) if parts.password is not None else options.text("password")
    if username and password is None:
        raise ConfigurationError(f"storage_uri: {scheme}:// has a user without a password; {_form(scheme)}")
    return RedisTarget(
        address=address,
        username=username,
        password=password,
        database=database,
        tls=tls_of(options) if scheme == "rediss" else None,
        server_name=options.text("server_name") if scheme == "rediss" else None,
        **options.common(),
    )


def database_of(options: Options, scheme: str, path: str) -> int:
    """The one that the path or an option names."""
    number = path.removeprefix("/")
    named = options.number("database", 0, 1 << 31)
    if not number:
        return named
    if not (number.isascii() and number.isdigit() and int(number) < 1 << 31):
        raise ConfigurationError(f"storage_uri: the database of {scheme}:// is a whole number, not {number!r}")
    if int(number) and named and int(number) != named:
        raise ConfigurationError(f"storage_uri: the database of {scheme}:// is {number} and {named}; name one")
    return int(number) or named


def _form(scheme: str) -> str:
    if scheme == "redis+unix":
        return "write redis+unix://[[user]:password@]/path/of/the.sock[?database=number]"
    return f"write {scheme}://[[user]:password@]host[:port][/database]"
