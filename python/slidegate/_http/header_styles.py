"""Header fields about limits, besides X-RateLimit-*.

`ietf`: RateLimit and RateLimit-Policy of draft-ietf-httpapi-ratelimit-headers-10, in structured fields (RFC 9651).
`openai`: x-ratelimit-limit-requests and its like, as the API of OpenAI has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from limits import RateLimitItem

from .._support.errors import ConfigurationError
from ..decision import RawDecision, whole_seconds

DRAFT = "ietf-draft-10"
STYLES = ("x-ratelimit", "ietf", "openai")
IETF_NAMES = ("ratelimit", "ratelimit-policy")
OPENAI_NAMES = tuple(f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset"))


class Policy(NamedTuple):
    """A limit as clients are told of it, and what is left of it, where that is known."""

    name: str
    item: RateLimitItem
    raw_decision: RawDecision | None = None


def styles_named(headers: Any) -> tuple[str, ...]:
    """The styles that `headers` names, one or several. Raises ConfigurationError for what is none."""
    names = [headers] if isinstance(headers, str) else list(headers)
    known = [*STYLES, DRAFT]
    if not names or any(name not in known for name in names):
        raise ConfigurationError(f"headers={headers!r} is none, or no list, of {', '.join(map(repr, known))}")
    return tuple(dict.fromkeys("ietf" if name == DRAFT else name for name in names))


def ietf_fields(item: RateLimitItem, raw_decision: RawDecision, policies: Sequence[Policy]) -> dict[str, str]:
    """What is left of the limit that matters most, and all limits that there are."""
    known = policies or (Policy(str(item), item, raw_decision),)
    told = next((each for each in known if each.raw_decision is not None and each.item == item), known[0])
    listed = dict.fromkeys((each.name, each.item) for each in known)
    return {
        "ratelimit": f"{_string(told.name)};r={raw_decision[2]};t={whole_seconds(raw_decision[3])}",
        "ratelimit-policy": ", ".join(
            f"{_string(name)};q={each.amount};w={each.get_expiry()}" for name, each in listed
        ),
    }


def openai_fields(item: RateLimitItem, raw_decision: RawDecision) -> dict[str, str]:
    """The limit, what is left, and how long until it is whole, as in "6m0s"."""
    values = (str(item.amount), str(raw_decision[2]), duration(whole_seconds(raw_decision[3])))
    return dict(zip(OPENAI_NAMES, values, strict=True))


def duration(seconds: int) -> str:
    """As in "1h0m5s", "6m0s", "59s"."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds}s"


def _string(text: str) -> str:
    printable = "".join(each if " " <= each <= "~" else "?" for each in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
