"""The keys under which the `limits` package stores counts, such as "LIMITER/192.0.2.1//items/10/1/minute"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from limits import RateLimitItem
from limits.limits import GRANULARITIES

_MOST_PARTS = 64
_NUMBER = re.compile("[1-9][0-9]{0,18}", re.ASCII)


def readings(flat_key: str, prefix: str) -> Iterator[tuple[RateLimitItem, tuple[str, ...]]]:
    """The limits and their identifiers, with the prefix if there is one, that have this flat key.

    None when it is no such key; several when more of its slashes can be the one between key and scope.
    """
    namespace, *parts = flat_key.split("/")
    if prefix:
        count = len(prefix.split("/"))
        own, parts = "/".join(parts[:count]), parts[count:]
        if own != prefix:
            return
    if not 5 <= len(parts) <= _MOST_PARTS:
        return
    *names, amount, multiples, granularity = parts
    kind = GRANULARITIES.get(granularity)
    if kind is None or not (_NUMBER.fullmatch(amount) and _NUMBER.fullmatch(multiples)):
        return
    item = kind(int(amount), int(multiples), namespace)
    for at in range(1, len(names)):
        identifiers = ("/".join(names[:at]), "/".join(names[at:]))
        yield item, (prefix, *identifiers) if prefix else identifiers
