"""Which storages are ours, and which those of the `limits` package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import limits.storage

REDIS_SCHEMES = ("redis", "rediss", "redis+unix", "redis+sentinel", "redis+cluster")
_OWN_SCHEMES = ("memory", "shared", "file", *REDIS_SCHEMES)
_OTHER_NAMES = {
    "valkey": "redis",
    "valkeys": "rediss",
    "valkey+unix": "redis+unix",
    "valkey+sentinel": "redis+sentinel",
    "valkey+cluster": "redis+cluster",
    "unix": "redis+unix",
}


def redis_scheme(written: str) -> str:
    """The one of `REDIS_SCHEMES` that has another name, too; others as they are written."""
    return _OTHER_NAMES.get(written, written)


def is_redis(uri: str | None) -> bool:
    """Whether a storage is a Redis or Valkey server. "async+" in front of the scheme changes nothing."""
    return redis_scheme(_scheme_of(uri)) in REDIS_SCHEMES


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
