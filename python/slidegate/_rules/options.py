"""The words that options may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from .._support.errors import ConfigurationError

OnFull: TypeAlias = Literal["evict", "refuse", "admit"]
OnMissingKey: TypeAlias = Literal["shared", "refuse", "skip"]
OnError: TypeAlias = Literal["open", "closed", "local"]
"""What becomes of requests while a storage cannot be asked: to admit, to refuse with 503, to count in this process."""


def require(name: str, value: object, known: Sequence[object]) -> None:
    """Raises ConfigurationError for what is none of the known values."""
    if value not in known:
        raise ConfigurationError(f"{name}={value!r} is none of {', '.join(map(repr, known))}")


def require_on_error(name: str, on_error: object) -> None:
    """Raises ConfigurationError for a policy that there is not. None leaves it to others to say."""
    require(name, on_error, (None, *get_args(OnError)))


def require_share(share: object) -> None:
    """Raises ConfigurationError for what is no part of a limit."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ConfigurationError(f"local_share={share!r} is no part of a limit; write for example 0.25 for four hosts")
