"""What proxies say about whom they forward for: X-Forwarded-For, and Forwarded of RFC 7239.

Each proxy adds at the right, so what is at the left may have been sent by anybody. A line that is no such header tells
nothing: what is right of the place where it goes wrong cannot be told from what a client made up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from ._addresses import Address, TrustedProxies, address_of

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# What a quoted string may hold is matched without choice, so that no line takes long to be refused.
_PAIR = re.compile(rf'[ \t]*({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*', re.ASCII | re.DOTALL)
_OWS = " \t"


def x_forwarded_for(line: str) -> Iterator[Address | None]:
    """The addresses of one header line, the last first; None for one that is not to be known."""
    end = len(line)
    while end >= 0:
        start = line.rfind(",", 0, end) + 1
        node = line[start:end].strip(_OWS)
        if node:
            yield address_of(node)
        end = start - 1


def forwarded(line: str) -> Iterator[Address | None]:
    """The same of Forwarded. One None is all that a line tells that is not as RFC 7239 has it."""
    elements: list[Address | None] = []
    names: set[str] = set()
    node: str | None = None
    at = 0
    while True:
        match = _PAIR.match(line, at)
        if match is not None:
            name = match[1].lower()
            if name in names:
                yield None
                return
            names.add(name)
            if name == "for":
                node = match[2] if match[2] is not None else re.sub(r"\\(.)", r"\1", match[3], flags=re.DOTALL)
            at = match.end()
        while line[at : at + 1] in (" ", "\t"):
            at += 1
        delimiter = line[at : at + 1]
        if delimiter not in ("", ",", ";"):
            yield None
            return
        if delimiter != ";":
            if names:
                elements.append(None if node is None else address_of(node))
            names, node = set(), None
        if not delimiter:
            break
        at += 1
    yield from reversed(elements)


READERS: dict[str, Callable[[str], Iterator[Address | None]]] = {
    "x-forwarded-for": x_forwarded_for,
    "forwarded": forwarded,
}


def client_behind(
    peer: Address | None, lines: Sequence[str], read: Callable[[str], Iterator[Address | None]], trusted: TrustedProxies
) -> Address | None:
    """Who sent a request that came from `peer`: the nearest address that is no trusted proxy's.

    Where a proxy does not say, or says nothing that is an address, it is that proxy; where all are trusted, the
    farthest. None when there is no address at all.
    """
    nearest = peer
    if not trusted.trust(peer):
        return nearest
    for line in reversed(lines):
        for address in read(line):
            if address is None:
                return nearest
            nearest = address
            if not trusted.trust(address):
                return nearest
    return nearest
