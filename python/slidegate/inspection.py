"""A look into the memory that limiters count in, from outside of their processes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from ._core import Limiter, Quota, Segment, SegmentError, Stats, shared_segments
from ._rules.bucket import is_led, joined, parts_in
from ._rules.limit_texts import limit_text, scope_text, text_of, window_text
from ._storage.uri import is_redis
from ._support.errors import StorageError
from ._support.escaping import escaped
from .decision import NS_PER_S

__all__ = ["Inspection", "KeyRow", "RuleRow", "SegmentRow", "segment_named", "segments"]

_MOST_KEYS = 1 << 16
_MOST_OF_SCOPE = 400
# Of a segment that this user has, whoever it was opened to.
_ANY_MODE = 0o777


@dataclass(frozen=True)
class SegmentRow:
    """One segment in the shared memory of this host."""

    name: str
    size: int
    """Bytes of index and cells."""
    server_pid: int | None
    """The server that it belongs to, if it belongs to one."""
    born: str
    """When it was made, in UTC; "-" where it is damaged or of another version."""
    state: str
    """"in order", "left over" by a server that has ended, or what is wrong with it."""


@dataclass(frozen=True)
class RuleRow:
    """A limit, and what came of the requests that it was asked about since its memory was made."""

    limit: str
    scope: str
    admitted: int
    refused: int
    name: str = ""
    """What the limit is called; empty without a name."""
    keys: int = 0
    """For how many keys it holds memory, those that have expired and were not reused included."""

    @property
    def told(self) -> str:
        """The limit, after its name when it has one."""
        return f"{self.name}: {self.limit}" if self.name else self.limit


@dataclass(frozen=True)
class KeyRow:
    """How much of a limit a key has used."""

    key: str
    """A digest, after "#", when the limiter does not record keys."""
    limit: str
    scope: str
    """What counts together: a path, an endpoint, a shared scope. Empty when it is not known."""
    used: int
    amount: int
    reset_after_s: float | None = None

    @property
    def is_used_up(self) -> bool:
        """Whether the next request is refused."""
        return self.used >= self.amount


def segments() -> list[SegmentRow]:
    """Those of this user, by name."""
    rows: list[SegmentRow] = []
    for each in shared_segments():
        # What is damaged, or of another version, does not tell when it was made.
        moment = datetime.fromtimestamp(each.born_ns / NS_PER_S, timezone.utc).isoformat(" ", "seconds")
        born = moment if each.born_ns else "-"
        state = each.damage or ("left over" if each.is_leftover else "in order")
        rows.append(SegmentRow(each.name, each.size, each.owner_pid or None, born, state))
    return rows


def segment_named(name: str) -> Segment:
    """The segment of a name, or in a file when there is a slash in it. Raises StorageError when there is none."""
    if is_redis(name):
        raise StorageError("what Redis counts cannot be looked into from here; `slidegate reset` takes its URI")
    try:
        if name.startswith("file://") or ("/" in name and not name.startswith("shared://")):
            return Segment.file(name.removeprefix("file://"), may_create=False, mode=_ANY_MODE)
        return Segment.shared(name.removeprefix("shared://"), may_create=False, mode=_ANY_MODE)
    except (SegmentError, ValueError) as error:
        names = [row.name for row in segments()]
        close = difflib.get_close_matches(name.removeprefix("shared://"), names, n=3) or names[:3]
        if "@" in name and "://" not in name and name[0] not in "/.":
            # What stands before the @ may be a password.
            raise StorageError(
                "that is no name of a segment, and not repeated, as it may hold a password; the URI of a Redis server"
                " begins with redis://, as in redis://user:password@host"
            ) from None
        there_are = f"there are: {', '.join(close)}" if close else "there is none of this user"
        raise StorageError(f"{error}; {there_are} (slidegate ls)") from error


class Inspection:
    """The memory of a name, looked into. Counts nothing."""

    def __init__(self, segment: Segment) -> None:
        self._engine = Limiter(segment=segment)

    @property
    def stats(self) -> Stats:
        """Of the memory as a whole."""
        return self._engine.stats()

    def rules(self) -> list[RuleRow]:
        """All limits that have counted here."""
        return rule_rows(self._engine)

    def elsewhere(self) -> list[str]:
        """Limits that another storage counts, such as Redis, and this memory only tells of."""
        return [limit_text(quota) for _, quota, *_, counted_elsewhere in self._engine.rules() if counted_elsewhere]

    def errors(self) -> dict[str, int]:
        """Requests that could not be decided as they were meant to be, by what came of them."""
        return self._engine.errors()

    def keys(self, most: int) -> list[KeyRow]:
        """Those that have used the largest part of their limits, fullest first."""
        known = {index: (quota, text_of(scope)) for index, quota, scope, *_ in self._engine.rules()}
        rows: list[KeyRow] = []
        for identity, strategy, window_ns, about, used, noted in self._engine.survey(most):
            if noted is not None and noted[0] in known:
                quota, scope = known[noted[0]]
                key, place = key_and_place(text_of(noted[1]) + ("" if noted[2] else "..."), scope)
                rows.append(KeyRow(key, limit_text(quota), place, used, quota.amount))
            else:
                limit = f"about {about} per {window_text(window_ns)}, {strategy}"
                rows.append(KeyRow(f"#{identity >> 21:011x}", limit, "", used, about))
        return rows

    def find(self, key: str, path: str | None = None) -> list[KeyRow]:
        """What the limits have counted for a key. Those that count every path apart are asked about `path`."""
        rows: list[KeyRow] = []
        for quota, scope, space, candidate in self._candidates(key, path):
            policy = self._engine.reader([(quota, scope, "", False, space)])
            _, _, remaining, reset_after_ns, _ = policy.peek(candidate)
            if remaining < quota.amount:
                used = quota.amount - remaining
                after_s = reset_after_ns / NS_PER_S
                key_text, place = key_and_place(candidate, scope)
                rows.append(KeyRow(key_text, limit_text(quota), place, used, quota.amount, after_s))
        return rows

    def similar(self, key: str) -> list[str]:
        """Recorded keys that one may have meant."""
        recorded = {row.key for row in self.keys(_MOST_KEYS) if not row.key.startswith("#")}
        return difflib.get_close_matches(key, recorded, n=3)

    def reset(self, key: str | None = None, path: str | None = None) -> int:
        """Forgets all hits, or those of a key; returns how many limits had counted some for it, or there are."""
        if key is None:
            self._engine.reset()
            return len(self._engine.rules())
        found = self.find(key, path)
        for quota, scope, space, candidate in self._candidates(key, path):
            self._engine.reader([(quota, scope, "", False, space)]).reset(candidate)
        return len(found)

    def _candidates(self, key: str, path: str | None) -> Iterator[tuple[Quota, str, int, str]]:
        # The key as it is, as it is counted on this path, and as it was recorded on others.
        candidates = [key, *([joined(path) + key] if path is not None else [])]
        for *_, noted in self._engine.survey(_MOST_KEYS):
            recorded = "" if noted is None else text_of(noted[1])
            if path is None and recorded.endswith(key) and is_led(recorded.removesuffix(key)):
                candidates.append(recorded)
        # A rule of several names is there for each of them.
        rules = [
            (quota, scope, space) for _, quota, scope, is_whole, _, _, _, space, _ in self._engine.rules() if is_whole
        ]
        for quota, scope, space in dict.fromkeys(rules):
            for candidate in dict.fromkeys(candidates):
                yield quota, text_of(scope), space, candidate


def rule_rows(engine: Limiter) -> list[RuleRow]:
    """The limits of an engine. Those that would look the same are one."""
    counts: dict[tuple[str, str, str], list[int]] = {}
    holdings = engine.holdings()
    for index, quota, scope, is_whole, admitted, refused, name, *_ in engine.rules():
        # What is no UTF-8 is shown as Python would, as others want text.
        text = scope_text(text_of(scope)).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        place = escaped(text, _MOST_OF_SCOPE) + ("" if is_whole else "...")
        called = escaped(name.decode("utf-8", "backslashreplace"))
        sums = counts.setdefault((limit_text(quota), place, called), [0, 0, 0])
        sums[0] += admitted
        sums[1] += refused
        sums[2] += holdings.get(index, 0)
    return [RuleRow(limit, scope, sums[0], sums[1], called, sums[2]) for (limit, scope, called), sums in counts.items()]


def key_and_place(key: str, scope: str) -> tuple[str, str]:
    """A key as its user knows it, and where it is counted, in words."""
    parts, _ = parts_in(scope)
    kind = parts[1] if len(parts) > 1 else ""
    leading = (kind.partition("/")[0] == "url") + kind.endswith("/method")
    names, key = parts_in(key, leading)
    return key, " ".join(names) if kind.startswith("url") and names else " ".join([scope_text(scope), *names])
