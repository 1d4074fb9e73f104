"""The keys under which the `limits` package stores counts, such as "LIMITER/192.0.2.1//items/10/1/minute"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from limits.limits import GRANULARITIES

from .._core import Quota
from .._limiter.core import LimiterCore
from .._rules.bucket import Bucket, bucket_of, parts_in
from .._rules.notation import countable, quota_of
from .._storage.base import Storage
from .._support.errors import ConfigurationError
from ..decision import NS_PER_S, RawDecision

_MOST_PARTS = 64
_NUMBER = re.compile("[1-9][0-9]{0,18}", re.ASCII)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "WEBSOCKET"})


class Located(NamedTuple):
    """Where a key is counted."""

    storage: Storage
    quota: Quota
    rule_scope: str
    key: str

    def hit(self, cost: int) -> RawDecision:
        return self.storage.policy(((self.quota, self.rule_scope),)).hit(self.key, cost)

    def peek(self, cost: int = 1) -> RawDecision:
        return self.storage.reader(((self.quota, self.rule_scope),)).peek(self.key, cost)

    def reset(self) -> None:
        self.storage.reader(((self.quota, self.rule_scope),)).reset(self.key)

    @property
    def used(self) -> int:
        return self.quota.amount - self.peek()[2]


def located(flat_key: str, storage: Storage, limiter: LimiterCore) -> Located | None:
    """The bucket of a limiter that `limits` would keep under this key; None for what can be none.

    Of several that the key can mean the first that is used, or else the first.
    """
    namespace, *parts = flat_key.split("/")
    lead = limiter.key_prefix.split("/") if limiter.key_prefix else []
    own = parts[len(lead) :]
    if parts[: len(lead)] != lead or not 5 <= len(own) <= _MOST_PARTS:
        return None
    *names, amount, multiples, granularity = own
    kind = GRANULARITIES.get(granularity)
    if kind is None or not (_NUMBER.fullmatch(amount) and _NUMBER.fullmatch(multiples)):
        return None
    item = kind(int(amount), int(multiples), namespace)
    try:
        quota = quota_of(item, limiter.strategy, "a limit")
    except ConfigurationError:
        return None
    # What nobody can have declared, nobody counts.
    if countable(item, limiter.strategy) is not item:
        return None
    pairs = [("/".join(names[:at]), "/".join(names[at:])) for at in range(1, len(names))]
    likely = [(key, scope) for key, scope in pairs if _is_likely(scope, limiter)]
    found = [
        Located(storage, quota, bucket.rule_scope, bucket.lead + key)
        for key, scope in likely or pairs
        for bucket in _buckets_of(scope, limiter)
    ]
    return found[0] if len(found) == 1 else next((at for at in found if at.used), found[0])


def flat_key_of(key: str, quota: Quota, rule_scope: str) -> str:
    """What `limits` would keep this bucket under."""
    parts, rest = parts_in(rule_scope)
    if rest or len(parts) < 2:
        # Of a key that stands for itself.
        return key
    prefix, kind, *names = parts
    leading = kind.startswith("url") + kind.endswith("/method")
    lead, own = parts_in(key, leading)
    label = ":".join([*names, *lead])
    seconds = quota.window_ns // NS_PER_S
    known = sorted((each.GRANULARITY for each in GRANULARITIES.values()), reverse=True)
    unit = next((each for each in known if seconds and seconds % each.seconds == 0), known[-1])
    told = [*([prefix] if prefix else []), own, label, str(quota.amount), str(seconds // unit.seconds), unit.name]
    return "/".join(["LIMITER", *told])


def _is_likely(scope: str, limiter: LimiterCore) -> bool:
    is_own = scope.startswith("/") if limiter.key_style == "url" else "/" not in scope
    return is_own or scope in limiter.planner.shared_scopes


def _buckets_of(scope: str, limiter: LimiterCore) -> Iterator[Bucket]:
    prefix, style = limiter.key_prefix, limiter.key_style
    if scope in limiter.planner.shared_scopes:
        yield bucket_of(prefix, "shared", scope, None)
        return
    name, _, method = scope.rpartition(":")
    if name and method in _METHODS:
        # A limit that counts methods apart tells its scope as "/items:GET". A path can be that, too.
        yield bucket_of(prefix, style, name, method)
    yield bucket_of(prefix, style, scope, None)
