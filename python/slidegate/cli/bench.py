"""`slidegate bench`: what a hit takes on this machine, beside the memory storage of `limits`."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import queue
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing.synchronize import Barrier
from statistics import median
from time import perf_counter_ns
from typing import Any, NamedTuple, TypeAlias

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from .._core import Limiter, Quota, Segment
from .._support.text_table import aligned
from .errors import Unusable

_AMOUNT = 10
_QUOTA = Quota(_AMOUNT, 60_000_000_000)
_HITS = 20_000
_KEYS = 10_000
_PROCESSES = 2
_PATIENCE_S = 60
_ONE_KEY = ("192.0.2.1",) * _HITS

_Hit: TypeAlias = Callable[[str], object]


class _Round(NamedTuple):
    """Nanoseconds for a hit."""

    slidegate: float
    limits: float


@dataclass(frozen=True)
class Measured:
    """Medians of several rounds, in each of which both had a turn."""

    name: str
    slidegate_ns: float
    limits_ns: float
    times_faster: float

    @classmethod
    def of(cls, name: str, rounds: list[_Round]) -> Measured:
        ours, theirs = (median(each) for each in zip(*rounds, strict=True))
        return cls(name, round(ours, 1), round(theirs, 1), round(median(b / a for a, b in rounds), 1))


def add_bench(commands: Any) -> None:
    """Adds the command to the subparsers."""
    bench = commands.add_parser(
        "bench",
        help="measure on this machine what a hit takes, beside the `limits` package",
        description=(
            f"Hits limits of {_AMOUNT} per minute (moving window) from Python, and the same in the memory storage of"
            " `limits`, in turns. Ratios hold where nanoseconds do not: on a machine that does other things, too."
        ),
    )
    bench.add_argument("--rounds", type=int, default=20, metavar="N", help="turns of each (default: 20)")
    bench.add_argument("--json", action="store_true", help="print JSON")
    bench.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    if options.rounds < 1:
        raise Unusable(f"--rounds is 1 or more, not {options.rounds}")
    dice = random.Random(1)
    some_keys = tuple(f"10.0.{number >> 8}.{number & 255}" for number in range(_KEYS))
    # Processes first: `limits` starts threads, which are not to be forked.
    cases: list[tuple[str, Callable[[], Iterator[_Round]]]] = [
        (f"one key, {_PROCESSES} processes*", lambda: _in_processes(options.rounds)),
        ("one key", lambda: _in_turns(options.rounds, _ONE_KEY)),
        (f"{_KEYS:,} keys", lambda: _in_turns(options.rounds, dice.choices(some_keys, k=_HITS))),
    ]
    measured = []
    for name, run in cases:
        rounds: list[_Round] = []
        for each in run():
            rounds.append(each)
            _show(f"{name}: {len(rounds)} of {options.rounds}")
        measured.append(Measured.of(name.rstrip("*"), rounds))
    _show("")
    if options.json:
        machine = {"python": platform.python_version(), "limits": version("limits"), "processors": os.cpu_count()}
        print(json.dumps({**machine, "measured": [asdict(each) for each in measured]}, indent=2))
        return 0
    head = ("FOR EACH HIT", "SLIDEGATE", f"LIMITS {version('limits')}", "RATIO")
    rows = [
        (name, f"{each.slidegate_ns:,.0f} ns", f"{each.limits_ns:,.0f} ns", f"{each.times_faster:,.1f}")
        for (name, _), each in zip(cases, measured, strict=True)
    ]
    print(*aligned([head, *rows]), sep="\n")
    print("* slidegate counts for both together, the memory of `limits` for each process alone")
    return 0


def _show(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _in_turns(times: int, keys: Sequence[str]) -> Iterator[_Round]:
    ours, theirs = Limiter().policy([(_QUOTA, "bench")]).hit, _hit_of_limits()
    for _ in range(times):
        yield _Round(_ns(ours, keys), _ns(theirs, keys))


def _hit_of_limits() -> _Hit:
    item, strategy = RateLimitItemPerMinute(_AMOUNT), MovingWindowRateLimiter(MemoryStorage())
    return lambda key: strategy.hit(item, key)


def _ns(hit: _Hit, keys: Sequence[str]) -> float:
    begun_ns = perf_counter_ns()
    for key in keys:
        hit(key)
    return (perf_counter_ns() - begun_ns) / len(keys)


def _in_processes(times: int) -> Iterator[_Round]:
    fork = multiprocessing.get_context("fork")
    segment = Segment.inherited(Segment.default_size)
    both, told = fork.Barrier(_PROCESSES), fork.Queue()
    processes = [fork.Process(target=_measure, args=(segment, both, told, times)) for _ in range(_PROCESSES)]
    for process in processes:
        process.start()
    try:
        for _ in range(times):
            rounds = [told.get(timeout=_PATIENCE_S) for _ in range(_PROCESSES)]
            yield _Round(*(sum(each) / _PROCESSES for each in zip(*rounds, strict=True)))
    except queue.Empty as error:
        raise Unusable("a process that was to be measured has failed") from error
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _measure(segment: Segment, both: Barrier, told: Any, times: int) -> None:
    ours, theirs = Limiter(segment=segment).policy([(_QUOTA, "bench")]).hit, _hit_of_limits()
    for _ in range(times):
        both.wait(_PATIENCE_S)
        slidegate = _ns(ours, _ONE_KEY)
        both.wait(_PATIENCE_S)
        told.put((slidegate, _ns(theirs, _ONE_KEY)))
