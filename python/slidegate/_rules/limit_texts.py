"""Limits, windows and scopes in words."""

from __future__ import annotations

from .._core import Quota
from ..decision import NS_PER_S
from .bucket import parts_in

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def limit_text(quota: Quota) -> str:
    return f"{quota.amount} per {window_text(quota.window_ns)}, {quota.strategy}"


def window_text(window_ns: int) -> str:
    """A window in words: "minute", "2 hours", "0.5 seconds"."""
    for seconds, unit in _UNITS:
        if window_ns % (seconds * NS_PER_S) == 0:
            count = window_ns // (seconds * NS_PER_S)
            return unit if count == 1 else f"{count} {unit}s"
    return f"{window_ns / NS_PER_S:g} seconds"


def scope_text(scope: str) -> str:
    """A scope of a limiter in words; others as they are."""
    parts, rest = parts_in(scope)
    if rest or len(parts) < 2:
        return scope
    prefix, kind, *names = parts
    words = {"url": "each path", "endpoint": "", "shared": "shared", "custom": "by hand"}
    described = " ".join(filter(None, (words.get(kind.partition("/")[0], kind), *names)))
    by_method = " by method" if kind.endswith("/method") else ""
    return f"{prefix}: {described}{by_method}" if prefix else f"{described}{by_method}"


def text_of(raw: bytes) -> str:
    """Bytes of a key or a scope, to be read, and to be given back as they are."""
    return raw.decode("utf-8", "surrogateescape")
