"""Limits as people write them: "10/minute", "5 per 2 hours; 100/day"."""

from __future__ import annotations

from limits import RateLimitItem, parse_many

from ._core import InvalidQuota, Quota
from .decision import NS_PER_S
from .errors import ConfigurationError
from .strategies import Strategy

_EXAMPLES = 'write for example "10/minute", "5 per 2 hours" or "2/second; 100/day"'


def parse_limits(text: object, where: str) -> tuple[RateLimitItem, ...]:
    """The limits that `text` names, in its order.

    `where` says in an error whose limit it is. Raises ConfigurationError when `text` is not in the notation.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{where}: {text!r} is not a limit; {_EXAMPLES}")
    try:
        return tuple(parse_many(text))
    except ValueError as error:
        raise ConfigurationError(f"{where}: cannot read the limit {text!r}; {_EXAMPLES}") from error


def quota_of(item: RateLimitItem, strategy: Strategy, where: str) -> Quota:
    """The engine's form of a limit. Raises ConfigurationError when the engine cannot count it."""
    try:
        return Quota(item.amount, item.get_expiry() * NS_PER_S, strategy)
    except InvalidQuota as error:
        raise ConfigurationError(f'{where}: the limit "{item}" cannot be counted: {error}') from error
