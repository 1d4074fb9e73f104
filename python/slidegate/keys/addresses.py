"""Addresses of clients as they are counted, and the peers that are believed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeAlias

from .._support.errors import ConfigurationError

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_MOST_CHARACTERS = 128
_NODE = re.compile(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<four>[0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?", re.ASCII)
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_ANYBODY = "*"
SOCKET = "unix"
"""A peer without an address."""


def address_of(text: str) -> Address | None:
    """The address that a node is written as: with a port or without, in brackets or not; None when it is none.

    An IPv4 address mapped into IPv6 is that IPv4 address, in whatever notation. Zones are left aside, as whoever sends
    them can vary them.
    """
    text = text.strip(" \t")
    if not text or len(text) > _MOST_CHARACTERS:
        return None
    match = _NODE.fullmatch(text)
    bare = text if match is None else match["bracketed"] if match["four"] is None else match["four"]
    try:
        address = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def counted_as(address: Address, ipv6_prefix: int) -> str:
    """The key of an address: itself, or the network of that prefix that an IPv6 address is in.

    What NAT64 makes of an IPv4 address (64:ff9b::/96) counts as that. It is not believed as that: who is trusted by an
    IPv4 address comes from it.
    """
    if isinstance(address, IPv6Address) and address in _NAT64:
        address = IPv4Address(int(address) & 0xFFFFFFFF)
    if isinstance(address, IPv4Address) or ipv6_prefix == address.max_prefixlen:
        return str(address)
    kept = int(address) >> (address.max_prefixlen - ipv6_prefix) << (address.max_prefixlen - ipv6_prefix)
    return f"{IPv6Address(kept)}/{ipv6_prefix}"


class TrustedProxies:
    """The peers that are believed: addresses, networks, "unix" for a socket without an address, "*" for anybody.

    Raises ConfigurationError for what is none of these.
    """

    def __init__(self, proxies: str | Iterable[str]) -> None:
        names = [proxies] if isinstance(proxies, str) else list(proxies)
        self.named = tuple(map(str, names))
        self._has_socket = SOCKET in names
        self._networks = [_network(name) for name in names if name not in (_ANYBODY, SOCKET)]
        self.is_anybody = _ANYBODY in names or any(network.prefixlen == 0 for network in self._networks)

    def trust(self, peer: Address | None) -> bool:
        """Whether this peer is believed; None for one without an address."""
        if peer is None:
            return self._has_socket
        return self.is_anybody or any(peer.version == network.version and peer in network for network in self._networks)


def _network(name: object) -> Network:
    if not isinstance(name, (str, IPv4Network, IPv6Network, IPv4Address, IPv6Address)):
        raise ConfigurationError(f'trusted_proxies: {name!r} is no address or network, such as "10.0.0.0/8"')
    try:
        network = ipaddress.ip_network(name)
    except ValueError as error:
        raise ConfigurationError(f"trusted_proxies: {name!r}: {_better(name)}") from error
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        assert mapped is not None
        return IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network


def _better(name: Any) -> str:
    try:
        return f"write {str(ipaddress.ip_network(name, strict=False))!r}"
    except ValueError:
        return 'not an address or network, such as "10.0.0.0/8", "unix" or "*"; names of hosts are not looked up'
