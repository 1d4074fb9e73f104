"""Limits, under the name that slowapi has for them."""

from __future__ import annotations

from limits import RateLimitItem, parse_many

from ._rules.limit import Limit
from ._rules.limit_group import LimitGroup

__all__ = ["Limit", "LimitGroup", "parse_many"]


def _read(text: str) -> list[RateLimitItem]:
    # Tests put another `parse_many` in the place of the one of this module.
    return parse_many(text)


LimitGroup.read_notation = staticmethod(_read)
