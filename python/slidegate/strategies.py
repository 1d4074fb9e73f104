"""The ways to count."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast, get_args

from .errors import ConfigurationError

Strategy: TypeAlias = Literal["moving-window", "fixed-window", "sliding-window-counter", "gcra"]


def strategy_named(name: str) -> Strategy:
    """The strategy of this name. Raises ConfigurationError, which lists them, when there is none."""
    known = get_args(Strategy)
    if name not in known:
        raise ConfigurationError(f"strategy={name!r} is none of {', '.join(known)}")
    return cast(Strategy, name)
