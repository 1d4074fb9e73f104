"""What a server has refused, so that it need not be asked again before it would admit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic_ns
from typing import NamedTuple

from ..._support.fork import ForkableLock
from ...decision import NS_PER_S, RawDecision

_MOST_KEPT = 16_384


class _Denial(NamedTuple):
    since_ns: int
    until_ns: int
    cost: int
    raw_decision: RawDecision


class DenyCache:
    """Refusals by the server's keys, each until its retry time, but never longer than `longest_s`: others may reset or
    refund meanwhile. Thread-safe.

    `age` changes with whatever makes earlier refusals void.
    """

    def __init__(self, longest_s: float) -> None:
        self.age = 0
        self._longest_ns = round(longest_s * NS_PER_S)
        self.by_key: dict[bytes, _Denial] = {}
        """Empty where `find` finds nothing."""
        self._lock = ForkableLock()

    def find(self, keys: Sequence[bytes], costs: Sequence[int]) -> RawDecision | None:
        """The refusal of such a hit that keeps the caller waiting longest, as of now; None when there is none."""
        now_ns = monotonic_ns()
        found: tuple[int, int, _Denial] | None = None
        for at, key in enumerate(keys):
            denial = self.by_key.get(key)
            if denial is None or costs[at] < denial.cost:
                continue
            if denial.until_ns <= now_ns:
                self.by_key.pop(key, None)
            elif found is None or denial.until_ns > found[0]:
                found = denial.until_ns, at, denial
        if found is None:
            return None
        _, at, denial = found
        _, _, remaining, reset_after_ns, retry_after_ns = denial.raw_decision
        passed_ns = now_ns - denial.since_ns
        retry_after_ns = max(1, retry_after_ns - passed_ns) if retry_after_ns > 0 else retry_after_ns
        return False, at, remaining, max(0, reset_after_ns - passed_ns), retry_after_ns

    def put(self, keys: Sequence[bytes], costs: Sequence[int], raw_decision: RawDecision, age: int) -> None:
        """Keeps what was asked for at that age, if it was refused."""
        allowed, at, _, _, retry_after_ns = raw_decision
        if allowed or not self._longest_ns:
            return
        now_ns = monotonic_ns()
        kept_ns = min(retry_after_ns, self._longest_ns) if retry_after_ns > 0 else self._longest_ns
        with self._lock:
            if age == self.age:
                if len(self.by_key) >= _MOST_KEPT:
                    self.by_key.clear()
                self.by_key[keys[at]] = _Denial(now_ns, now_ns + kept_ns, costs[at], raw_decision)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Forgets what a reset or a refund of these keys makes void."""
        with self._lock:
            self.age += 1
            for key in keys:
                self.by_key.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self.age += 1
            self.by_key.clear()
