"""What responses tell about limits."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from types import BuiltinFunctionType

from limits import RateLimitItem

from .._core import with_quota
from .._support.clock import wall_time_s
from ..decision import NS_PER_S, Decision, RawDecision
from .header_styles import Policy, ietf_fields, openai_fields


class HEADERS:
    """Numbers of the headers, in the terms of slowapi."""

    RESET = 1
    REMAINING = 2
    LIMIT = 3
    RETRY_AFTER = 4


@dataclass(frozen=True)
class HeaderFormat:
    """Names and forms of the headers: whole seconds, never earlier than the true moment."""

    limit: str
    remaining: str
    reset: str
    retry_after: str
    is_retry_after_date: bool
    is_retry_after_on_success: bool
    styles: tuple[str, ...] = ("x-ratelimit",)
    quota_names: tuple[bytes, bytes, bytes] = field(init=False, compare=False, repr=False)
    """Raw, of the limit, what remains, and the reset."""

    has_quota: bool = field(init=False, compare=False, repr=False)
    """Whether there are X-RateLimit-*, however they are called. `is_plain`: and no others."""
    is_plain: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_quota", "x-ratelimit" in self.styles)
        object.__setattr__(self, "is_plain", self.styles == ("x-ratelimit",))
        object.__setattr__(self, "quota_names", (_raw(self.limit), _raw(self.remaining), _raw(self.reset)))

    @property
    def names(self) -> dict[int, str]:
        return {
            HEADERS.RESET: self.reset,
            HEADERS.REMAINING: self.remaining,
            HEADERS.LIMIT: self.limit,
            HEADERS.RETRY_AFTER: self.retry_after,
        }

    def retry_field(self, decision: Decision, now_s: float, existing: str | None = None) -> dict[str, str]:
        """Retry-After, of a refusal or when asked for on success too; the later one when the response has its own.

        None of a refusal that no wait will help.
        """
        if decision.allowed and not self.is_retry_after_on_success:
            return {}
        after_s = max(1, decision.reset_after_s) if decision.allowed else decision.retry_after_s
        if after_s is None:
            return {}
        if existing is not None:
            after_s = max(after_s, _seconds_until(existing, now_s))
        date = formatdate(_later(now_s, after_s * NS_PER_S), usegmt=True)
        return {self.retry_after: date if self.is_retry_after_date else str(after_s)}

    def written(
        self,
        raw: Iterable[tuple[bytes, bytes]],
        item: RateLimitItem,
        raw_decision: RawDecision,
        policies: Sequence[Policy] = (),
    ) -> list[tuple[bytes, bytes]]:
        """The raw headers of a response with those that the styles have, and Retry-After.

        X-RateLimit-Reset is in seconds since the epoch. They replace those of an earlier check; Retry-After is as
        `retry_field` has it.
        """
        read_s = time.time
        # As `wall_time_s` does, which it takes a while to call.
        now_s = read_s() if type(read_s) is BuiltinFunctionType else wall_time_s()
        headers = with_quota(raw, self.quota_names, item.amount, raw_decision, now_s) if self.has_quota else list(raw)
        if not self.is_plain:
            others = {
                _raw(name): value.encode("ascii") for name, value in self._others(item, raw_decision, policies).items()
            }
            headers = [*(each for each in headers if each[0].lower() not in others), *others.items()]
        if not raw_decision[0] or self.is_retry_after_on_success:
            name = _raw(self.retry_after)
            existing = next((value.decode("latin-1") for each, value in headers if each.lower() == name), None)
            for value in self.retry_field(Decision.of(raw_decision, item, "", ""), now_s, existing).values():
                headers = [each for each in headers if each[0].lower() != name]
                headers.append((name, value.encode("latin-1")))
        return headers

    def of_refusal(
        self, decision: Decision, policies: Sequence[Policy] = (), *, is_retry_only: bool
    ) -> Mapping[str, str]:
        """The headers of a 429 that no response was made for yet."""
        now_s = wall_time_s()
        if is_retry_only:
            return self.retry_field(decision, now_s)
        quota = {
            self.limit: str(decision.limit),
            self.remaining: str(decision.remaining),
            self.reset: str(_later(now_s, decision.reset_after_ns)),
        }
        raw_decision = (decision.allowed, 0, decision.remaining, decision.reset_after_ns, 0)
        others = {} if self.is_plain else self._others(decision.item, raw_decision, policies)
        return (quota if self.has_quota else {}) | others | self.retry_field(decision, now_s)

    def _others(self, item: RateLimitItem, raw_decision: RawDecision, policies: Sequence[Policy]) -> dict[str, str]:
        ietf = ietf_fields(item, raw_decision, policies) if "ietf" in self.styles else {}
        return ietf | (openai_fields(item, raw_decision) if "openai" in self.styles else {})


def _raw(name: str) -> bytes:
    return name.lower().encode("latin-1")


def _later(now_s: float, duration_ns: int) -> int:
    return math.ceil(now_s + duration_ns / NS_PER_S)


def _seconds_until(retry_after: str, now_s: float) -> int:
    if retry_after.isdecimal():
        return int(retry_after)
    try:
        return int(parsedate_to_datetime(retry_after).timestamp() - now_s) + 1
    except (TypeError, ValueError):
        return 0
