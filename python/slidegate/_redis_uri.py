"""Where a Redis server is, and how to be let in."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from .errors import ConfigurationError

Address: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""

_SCHEMES = ("redis", "rediss", "redis+unix")
_PLAIN_OPTIONS = ("connect_timeout_ms", "command_timeout_ms", "hash_keys")
_TLS_OPTIONS = ("ca_file", "cert_file", "key_file", "server_name", "verify")
_DEFAULT_PORT = 6379
_LONGEST_TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class RedisTarget:
    """One server, from a URI. Neither its repr nor its name tells the password."""

    address: Address
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    connect_timeout_s: float = 0.25
    command_timeout_s: float = 0.1
    is_hashed: bool = False

    @property
    def name(self) -> str:
        """What messages call it."""
        if isinstance(self.address, str):
            return f"the Redis server at {self.address}"
        host, port = self.address
        return f"the Redis server at {f'[{host}]' if ':' in host else host}:{port}"

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


def parse_redis_uri(uri: str) -> RedisTarget:
    """The server that a URI names. "async+" in front of it changes nothing.

    redis://[[user]:password@]host[:port][/database], rediss:// with TLS, redis+unix://[[user]:password@]/path?database=1.
    Raises ConfigurationError, which does not repeat the credentials.
    """
    scheme, separator, rest = uri.removeprefix("async+").partition("://")
    if scheme not in _SCHEMES or not separator:
        raise ConfigurationError(f"storage_uri: {scheme!r} is no Redis URI; there are {_listed(_SCHEMES)}")
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"storage_uri: {scheme}://: host or port cannot be read; {_form(scheme)}") from None
    if parts.fragment:
        raise ConfigurationError(f"storage_uri: {scheme}:// takes no '#...'; write %23 for a # in a name or password")
    options = _Options(scheme, parts)
    is_unix = scheme == "redis+unix"
    if is_unix:
        if parts.hostname or port or not parts.path.strip("/"):
            raise ConfigurationError(f"storage_uri: redis+unix:// names the path of a socket; {_form(scheme)}")
        address: Address = unquote(parts.path)
        database = options.number("database", 0, 1 << 31)
    else:
        address = (parts.hostname or "localhost", port or _DEFAULT_PORT)
        database = _database(scheme, parts.path)
    username, password = parts.username, parts.password
    if username and password is None:
        raise ConfigurationError(f"storage_uri: {scheme}:// has a user without a password; {_form(scheme)}")
    return RedisTarget(
        address=address,
        username=unquote(username) if username else None,
        password=None if password is None else unquote(password),
        database=database,
        tls=options.tls() if scheme == "rediss" else None,
        server_name=(options.text("server_name") or parts.hostname) if scheme == "rediss" else None,
        connect_timeout_s=options.number("connect_timeout_ms", 250, _LONGEST_TIMEOUT_MS, least=1) / 1000,
        command_timeout_s=options.number("command_timeout_ms", 100, _LONGEST_TIMEOUT_MS, least=1) / 1000,
        is_hashed=options.truth("hash_keys", default=False),
    )


class _Options:
    """The part of a URI after the question mark."""

    def __init__(self, scheme: str, parts: SplitResult) -> None:
        self._scheme = scheme
        known = (*_PLAIN_OPTIONS, *(_TLS_OPTIONS if scheme == "rediss" else ()))
        if scheme == "redis+unix":
            known = (*known, "database")
        self._values: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name not in known:
                hint = " (it needs rediss://)" if name in _TLS_OPTIONS else ""
                raise ConfigurationError(
                    f"storage_uri: {scheme}:// has no option {name!r}{hint}; it has {_listed(known)}"
                )
            if name in self._values:
                raise ConfigurationError(f"storage_uri: option {name!r} is given twice")
            self._values[name] = value

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

    def tls(self) -> ssl.SSLContext:
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


def _no_passphrase() -> str:
    # Without this, OpenSSL would ask for one on the terminal.
    raise ConfigurationError("storage_uri: key_file has a passphrase, which cannot be given; use a key without one")


def _database(scheme: str, path: str) -> int:
    number = path.removeprefix("/")
    if not number:
        return 0
    if not (number.isascii() and number.isdigit() and int(number) < 1 << 31):
        raise ConfigurationError(f"storage_uri: the database of {scheme}:// is a whole number, not {number!r}")
    return int(number)


def _form(scheme: str) -> str:
    if scheme == "redis+unix":
        return "write redis+unix://[[user]:password@]/path/of/the.sock[?database=number]"
    return f"write {scheme}://[[user]:password@]host[:port][/database]"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
