"""What proxies say about whom they forward for: X-Forwarded-For, and Forwarded of RFC 7239.

Each proxy adds at the right, so what is at the left may have been sent by anybody. Lines are read from the right, and
no farther than the nearest address that is not trusted: what a client made up before it is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from .addresses import Address, TrustedProxies, address_of

_MOST_ELEMENTS = 20
_MOST_CHARACTERS = 1024
_MOST_QUOTES = 16
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# What a quoted string may hold is matched without choice, so that no element takes long to be refused.
_PAIR = re.compile(rf'[ \t;]*({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*(?:;|$)', re.ASCII | re.DOTALL)
_OWS = " \t"


def x_forwarded_for(line: str) -> Iterator[str]:
    """The nodes of one header line as they are written, the last first; empty for an element without anything."""
    end = len(line)
    while end >= 0:
        start = line.rfind(",", 0, end) + 1
        yield line[start:end].strip(_OWS)
        end = start - 1


def forwarded(line: str) -> Iterator[str | None]:
    """The same of Forwarded. None for an element without a node, and as the last one for what is not as RFC 7239 has
    it.
    """
    end = len(line)
    while end >= 0:
        start = _start_of_element(line, end)
        if start is None:
            yield None
            return
        element = line[start:end].strip(_OWS + ";")
        pairs = _pairs(element)
        if pairs is None:
            yield None
            return
        yield pairs.get("for") if pairs else ""
        end = start - 1


READERS: dict[str, Callable[[str], Iterator[str | None]]] = {
    "x-forwarded-for": x_forwarded_for,
    "forwarded": forwarded,
}


def client_behind(
    peer: Address | None,
    lines: Sequence[str],
    read: Callable[[str], Iterator[str | None]],
    trusted: TrustedProxies,
) -> tuple[Address | None, bool]:
    """Who sent a request that came from `peer`: the nearest address that is no trusted proxy's; True with it.

    Where all are trusted, it is the farthest. Where one of them says nothing that is an address, or the chain is longer
    than anybody's, it is that proxy, and False: somebody unknown behind it. None is a peer without an address.
    """
    nearest = peer
    if not trusted.trust(peer):
        return nearest, True
    nodes = (node for line in reversed(lines) for node in read(line))
    for at, node in enumerate(nodes):
        if at == _MOST_ELEMENTS:
            return nearest, False
        if node == "":
            continue
        address = None if node is None else address_of(node)
        if address is None:
            return nearest, False
        nearest = address
        if not trusted.trust(address):
            break
    return nearest, True


def _start_of_element(line: str, end: int) -> int | None:
    """Where the element begins that ends there; None when it is longer than anybody's, or a quoted string in it has no
    beginning.
    """
    least = max(0, end - _MOST_CHARACTERS)
    is_quoted = False
    for _ in range(_MOST_QUOTES):
        comma, quote = line.rfind(",", least, end), line.rfind('"', least, end)
        if comma > quote and not is_quoted:
            return comma + 1
        if quote < 0:
            return 0 if least == 0 and not is_quoted else None
        before = line[least:quote]
        # Within a quoted string, one that a backslash escapes does not end it.
        is_quoted = not is_quoted or (len(before) - len(before.rstrip("\\"))) % 2 == 1
        end = quote
    return None


def _pairs(element: str) -> dict[str, str] | None:
    """The parameters of an element, by name in lower case; None when it is none."""
    pairs: dict[str, str] = {}
    at = 0
    while at < len(element):
        match = _PAIR.match(element, at)
        if match is None or match[1].lower() in pairs:
            return None
        value = match[2] if match[2] is not None else re.sub(r"\\(.)", r"\1", match[3], flags=re.DOTALL)
        pairs[match[1].lower()] = value
        at = match.end()
    return pairs
