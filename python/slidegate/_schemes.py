"""Which storages are ours, and which those of the `limits` package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import limits.storage

REDIS_SCHEMES = ("redis", "rediss", "redis+unix", "redis+sentinel", "redis+cluster")
_OWN_SCHEMES = ("memory", "shared", "file", *REDIS_SCHEMES)


def is_redis(uri: str | None) -> bool:
    """Whether a storage is a Redis server. "async+" in front of the scheme changes nothing."""
    return _scheme_of(uri) in REDIS_SCHEMES


def is_bridged(uri: str | None) -> bool:
    """Whether a storage is one of `limits`, and none of ours."""
    scheme, colon, _ = str(uri or "").partition("://")
    return bool(colon) and not is_redis(uri) and scheme not in _OWN_SCHEMES and scheme in _schemes()


def bridged_schemes() -> list[str]:
    """What `is_bridged` is true for."""
    return sorted(f"{scheme}://" for scheme in _schemes() if is_bridged(f"{scheme}://"))


def _scheme_of(uri: str | None) -> str:
    scheme, separator, _ = str(uri or "").partition("://")
    return scheme.removeprefix("async+") if separator else ""


def _schemes() -> Mapping[str, Any]:
    known: Mapping[str, Any] = vars(limits.storage)["SCHEMES"]
    return known
