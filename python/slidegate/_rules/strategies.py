"""The ways to count."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast, get_args

from .._support.errors import ConfigurationError

Strategy: TypeAlias = Literal["moving-window", "fixed-window", "sliding-window-counter", "gcra"]


def is_known(name: str) -> bool:
    """Whether there is a strategy of this name."""
    return name == ELASTIC or name in get_args(Strategy)


ELASTIC = "fixed-window-elastic-expiry"
"""What `limits` had before its version 5: a fixed window that each hit prolongs."""


def strategy_named(name: str) -> Strategy:
    """The strategy of this name, a fixed window for the elastic one. Raises ConfigurationError, which lists them, when
    there is none.
    """
    known = get_args(Strategy)
    if name == ELASTIC:
        return "fixed-window"
    if name not in known:
        raise ConfigurationError(f"strategy={name!r} is none of {', '.join(known)}")
    return cast(Strategy, name)
