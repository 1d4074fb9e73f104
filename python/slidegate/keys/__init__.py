"""Who is limited: functions for `key_func=` and `key=`.

An identity has to be one that the client cannot choose, or it is no limit: whoever sends another one with every request
is never refused. What is made here believes a header from trusted peers only, and a token only when its signature is
right. Where you ask for less, `limiter.report(app)` and a warning when the application starts say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from starlette.authentication import SimpleUser
from starlette.requests import HTTPConnection

from .._rules.options import require
from .._support.callables import CALLED
from .._support.errors import ConfigurationError
from .addresses import SOCKET, Address, TrustedProxies, address_of, counted_as
from .composed import combine, first_of, text_of, with_fallback
from .forwarded import READERS, client_behind
from .identity import Identity, KeyFunction, of_kinds
from .jwt import jwt_subject

__all__ = [
    "KeyFunction",
    "authenticated_user",
    "combine",
    "first_of",
    "header",
    "jwt_subject",
    "remote_address",
    "user_or_ip",
]

_MOST_CHARACTERS = 1024
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ADDRESS = "address"
_PEER_KIND = "peer"
_UNKNOWN = "unknown behind"
_USER = "user"


@of_kinds(_ADDRESS, _PEER_KIND, _UNKNOWN)
def remote_address(
    trusted_proxies: str | Iterable[str] = (),
    *,
    header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for",
    ipv6_prefix: int = 64,
) -> KeyFunction:
    """The address of the client: the nearest one that is not of `trusted_proxies`.

    - `trusted_proxies`: addresses and networks such as "10.0.0.0/8"; "unix" for a proxy on a socket without an address;
      "*" for anybody, who then can choose an address. None: the peer itself.
    - `header`: the one that your proxies write. Never both, as they pass on the other as the client sent it.
    - `ipv6_prefix`: what of an IPv6 address counts: who has one has a whole /64 of them. IPv4 addresses count whole,
      also those that are mapped into IPv6, or that NAT64 has made IPv6 addresses of (64:ff9b::/96).

    Keys are addresses and networks as they are usually written. Whoever a proxy calls something else than an address
    ("unknown", a name) has the key "unknown behind 10.0.0.1". A peer that is no address is "peer:<name>"; without a
    name the key is empty, and `on_missing_key` applies. Where a key function is wanted, `remote_address` itself is
    `remote_address()`. Raises ConfigurationError.
    """
    return _RemoteAddress(trusted_proxies, header, ipv6_prefix)


def header(name: str, *, trusted_proxies: str | Iterable[str], fallback: KeyFunction | None = None) -> KeyFunction:
    """The value of a header that your own proxy or gateway sets, believed only if the peer is one of them.

    That proxy has to remove what clients send under this name. `trusted_proxies` as in `remote_address`. The fallback,
    such as `remote_address(...)`, counts requests from other peers, without the header, or with several of it; without
    one their key is empty, and `on_missing_key` applies. Keys are "header:<name>:<value>", the name in lower case.
    Raises ConfigurationError.
    """
    return with_fallback(_Header(name, trusted_proxies), fallback)


@of_kinds(_USER)
def authenticated_user(request: HTTPConnection) -> str:
    """The user that Starlette's AuthenticationMiddleware has found, as "user:<identity>"; empty when it is nobody.

    Raises TypeError for a user without an `identity`, as a mere `display_name` may be anybody's, and for one whose
    identity is no text, bytes or number.
    """
    user = request.scope.get("user")
    if user is None:
        return ""
    try:
        if not user.is_authenticated:
            return ""
        identity = user.username if isinstance(user, SimpleUser) else user.identity
    except (AttributeError, NotImplementedError) as error:
        raise TypeError(f"{type(user).__name__} has no identity; give it that property, as of BaseUser") from error
    return f"{_USER}:{text_of(identity)}" if identity not in (None, "", b"") else ""


@of_kinds(_USER, _ADDRESS, _PEER_KIND)
def user_or_ip(request: HTTPConnection) -> str:
    """The authenticated user, else the address of the peer. Behind proxies:
    `first_of(authenticated_user, remote_address([...]))`.
    """
    return authenticated_user(request) or _PEER(request)


class _RemoteAddress(Identity):
    kinds = frozenset({_ADDRESS, _PEER_KIND, _UNKNOWN})

    def __init__(self, trusted_proxies: str | Iterable[str], header: str, ipv6_prefix: int) -> None:
        if isinstance(trusted_proxies, HTTPConnection):
            raise ConfigurationError("remote_address makes a key function; write key_func=remote_address()")
        require("header", header, tuple(READERS))
        if not (isinstance(ipv6_prefix, int) and 1 <= ipv6_prefix <= 128):
            raise ConfigurationError(f"ipv6_prefix={ipv6_prefix!r} is no length of 1 to 128 bits, such as 64")
        self._trusted = TrustedProxies(trusted_proxies)
        self._header = header
        self._read = READERS[header]
        self._prefix = ipv6_prefix
        self.told = f"remote_address({', '.join(self._trusted.named)})" if self._trusted.named else "remote_address"
        if self._trusted.is_anybody:
            self.chosen_by_client = f"{self.told} believes the header {header} from anybody"

    def __call__(self, request: HTTPConnection) -> str:
        host, peer = _peer_of(request)
        if host and peer is None:
            return f"{_PEER_KIND}:{host}"
        lines = request.headers.getlist(self._header) if self._trusted.trust(peer) else ()
        address, is_known = client_behind(peer, lines, self._read, self._trusted)
        if not is_known:
            return f"{_UNKNOWN} {address or SOCKET}"
        return "" if address is None else counted_as(address, self._prefix)


class _Header(Identity):
    def __init__(self, name: str, trusted_proxies: str | Iterable[str]) -> None:
        if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name):
            raise ConfigurationError(f'header({name!r}) names no header, such as "X-User-ID"')
        self._name = name.lower()
        self._trusted = TrustedProxies(trusted_proxies)
        if not self._trusted.named:
            raise ConfigurationError(
                f'header({name!r}): trusted_proxies is empty, so nobody is believed; name your proxies, as "10.0.0.0/8"'
            )
        self._lead = f"header:{self._name}"
        self.kinds = frozenset({self._lead})
        self.told = f"header {name}"
        if self._trusted.is_anybody:
            self.chosen_by_client = f"anybody can send the header {name}"

    def __call__(self, request: HTTPConnection) -> str:
        host, peer = _peer_of(request)
        if not self._trusted.trust(peer) or (host and peer is None and not self._trusted.is_anybody):
            return ""
        values = request.headers.getlist(self._name)
        value = values[0].strip() if len(values) == 1 else ""
        return f"{self._lead}:{value}" if 0 < len(value) <= _MOST_CHARACTERS else ""


def _peer_of(request: HTTPConnection) -> tuple[str, Address | None]:
    client = request.scope.get("client")
    host = (client[0] or "") if client else ""
    return host, address_of(host)


_PEER = _RemoteAddress((), "x-forwarded-for", 64)


setattr(remote_address, CALLED, remote_address())
for _makes in (header, jwt_subject, first_of, combine):
    setattr(_makes, CALLED, None)
