"""Which storages are those of the `limits` package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import limits.storage

_OWN_SCHEMES = ("memory", "shared", "file")


def is_bridged(uri: str | None) -> bool:
    """Whether a storage is one of `limits`, and none of ours."""
    scheme, colon, _ = str(uri or "").partition("://")
    return bool(colon) and scheme not in _OWN_SCHEMES and scheme in _schemes()


def bridged_schemes() -> list[str]:
    """What `is_bridged` is true for."""
    return sorted(f"{scheme}://" for scheme in _schemes() if scheme not in _OWN_SCHEMES)


def _schemes() -> Mapping[str, Any]:
    known: Mapping[str, Any] = vars(limits.storage)["SCHEMES"]
    return known
