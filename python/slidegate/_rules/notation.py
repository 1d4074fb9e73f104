"""Limits as people write them: "10/minute", "5 per 2 hours; 100/day"; and the strategies to count by."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Literal, TypeAlias, cast, get_args

from limits import RateLimitItem, parse_many

from .._core import InvalidQuota, Quota
from .._support.errors import ConfigurationError
from ..decision import NS_PER_S

Strategy: TypeAlias = Literal["moving-window", "fixed-window", "sliding-window-counter", "gcra"]
ELASTIC = "fixed-window-elastic-expiry"
"""What `limits` had before its version 5: a fixed window that each hit prolongs."""

_EXAMPLES = 'write for example "10/minute", "5 per 2 hours" or "2/second; 100/day"'
_INFINITE = re.compile(r"(?<![\w.])inf(?:inity)?(?!\w)(?P<window>\s*(?:/|per\b))?", re.IGNORECASE)
_ABOVE_ANY = 1 << 64
_MOST_CHARACTERS = 1024
MOST_AMOUNT = (1 << 23) - 1
"""The largest amount that the engine counts, but for sliding-window counters."""
_MOST_SLIDING = (1 << 20) - 1
_GCRA_UNIT_NS = 64


def is_known(name: str) -> bool:
    """Whether there is a strategy of this name."""
    return name == ELASTIC or name in get_args(Strategy)


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


def parse_limits(
    text: object, where: str, strategy: Strategy, parse: Callable[[str], list[RateLimitItem]] = parse_many
) -> tuple[RateLimitItem, ...]:
    """The limits that `text` names, in its order: with the amount that is the most a strategy counts, if it is higher.

    It may be a limit of the `limits` package, too; () names none. An amount of "inf" is that most as well. `where` says
    in an error whose limit it is; `parse` reads the notation.

    Raises ConfigurationError when `text` is not in the notation.
    """
    return tuple(countable(item, strategy) for item in _parsed(text, where, parse))


def warn_of_amounts(text: object, where: str, strategy: Strategy) -> None:
    """Logs what is odd about the amounts of limits that somebody has declared; nothing about callables.

    Raises ConfigurationError when `text` is not in the notation.
    """
    for item in [] if callable(text) else _parsed(text, where, parse_many):
        most, told = _most(item, strategy), ""
        if item.amount < 1:
            told = f'the limit "{item}" refuses every request'
        elif item.amount > most:
            told = f'the limit {text!r} is counted as "{countable(item, strategy)}": {most} is the most there is'
        if told:
            logging.getLogger("slidegate").warning("%s: %s", where, told)


def quota_of(item: RateLimitItem, strategy: Strategy, where: str) -> Quota:
    """The engine's form of a limit: of the nearest amount that it can count.

    A limit of zero, of which the engine has none, is for the caller to refuse. Raises ConfigurationError for a window
    that the engine cannot count.
    """
    try:
        return Quota(max(1, countable(item, strategy).amount), item.get_expiry() * NS_PER_S, strategy)
    except InvalidQuota as error:
        raise ConfigurationError(f'{where}: the limit "{item}" cannot be counted: {error}') from error


def _parsed(text: object, where: str, parse: Callable[[str], list[RateLimitItem]]) -> list[RateLimitItem]:
    if isinstance(text, RateLimitItem):
        return [text]
    if text == ():
        return []
    if not isinstance(text, str):
        raise ConfigurationError(f"{where}: {text!r:.{_MOST_CHARACTERS}} is not a limit; {_EXAMPLES}")
    if len(text) > _MOST_CHARACTERS:
        # A request may have made it, and what is read of limits is kept.
        raise ConfigurationError(f"{where}: {text[:100]!r}... is longer than limits are; {_EXAMPLES}")
    try:
        return parse(_INFINITE.sub(lambda found: f"{_ABOVE_ANY}{found['window'] or '/second'}", text))
    except ValueError as error:
        raise ConfigurationError(f"{where}: cannot read the limit {text!r}; {_EXAMPLES}") from error


def countable(item: RateLimitItem, strategy: Strategy) -> RateLimitItem:
    """The item, or one of the highest amount that the strategy counts, if that is less."""
    most = _most(item, strategy)
    return item if item.amount <= most else type(item)(most, item.multiples, item.namespace)


def _most(item: RateLimitItem, strategy: Strategy) -> int:
    if strategy == "gcra":
        return min(MOST_AMOUNT, item.get_expiry() * NS_PER_S // _GCRA_UNIT_NS)
    return _MOST_SLIDING if strategy == "sliding-window-counter" else MOST_AMOUNT
