"""What was measured, and how measurements take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeAlias

Run: TypeAlias = Callable[[int], int]
"""Does something so often; returns the nanoseconds that it took."""

_ROUND_NS = 5_000_000


@dataclass(frozen=True)
class Figure:
    """One number: the median of all rounds, and that of the least disturbed one.

    `at_most` is the target of the number itself; `peer` the same measured of somebody else in the same rounds, which
    it should be `times_better` than.
    """

    section: str
    name: str
    unit: str
    typical: float
    least: float
    at_most: float | None = None
    peer_name: str = ""
    peer: float | None = None
    times_better: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the peer needs what this needs."""
        return None if self.peer is None or self.typical <= 0 else self.peer / self.typical

    @property
    def target(self) -> str:
        aims = [f"<= {self.at_most:g} {self.unit}"] if self.at_most is not None else []
        return ", ".join([*aims, f">= {self.times_better:g} x"] if self.times_better is not None else aims)

    @property
    def verdict(self) -> str:
        """Whether the target was met; "least" when only the least disturbed round met it; empty without a target."""
        if not self.target:
            return ""
        if self.times_better is not None and (self.peer is None or self.typical * self.times_better > self.peer):
            return "no"
        if self.at_most is None or self.typical <= self.at_most:
            return "yes"
        return "least" if self.least <= self.at_most else "no"


@dataclass(frozen=True)
class Rounds:
    """Nanoseconds for one time, by name, one entry for each round."""

    ns: Mapping[str, list[float]]

    def typical(self, name: str) -> float:
        return median(self.ns[name])

    def least(self, name: str) -> float:
        return min(self.ns[name])

    def added(self, name: str, to: str) -> float:
        """How much longer `name` takes than `to`: the median of the differences within each round."""
        return median(one - other for one, other in zip(self.ns[name], self.ns[to], strict=True))

    def added_least(self, name: str, to: str) -> float:
        """The same of the least disturbed round of each."""
        return self.least(name) - self.least(to)

    def ratio(self, name: str, to: str) -> float:
        """How many times as long as `to` it takes: the median of the ratios within each round."""
        return median(one / other for one, other in zip(self.ns[name], self.ns[to], strict=True))

    def figure_of_added(self, section: str, name: str, to: str, **aims: Any) -> Figure:
        """Of rounds in microseconds; `aims` are the other fields of a figure."""
        over = "" if to == "plain" else f" over {to}"
        return Figure(section, f"{name}: adds{over}", "us", self.added(name, to), self.added_least(name, to), **aims)


def take_turns(runs: Mapping[str, Run], rounds: int) -> Rounds:
    """Measures all of `runs` in every round, so that what else the machine does falls on all of them."""
    times = {name: _times_for_a_round(run) for name, run in runs.items()}
    ns: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            ns[name].append(run(times[name]) / times[name])
    return Rounds(ns)


def _times_for_a_round(run: Run) -> int:
    times = 64
    while run(times) < _ROUND_NS:
        times *= 2
    return times
