"""Resident memory, of processes that do nothing else. Run as a program, measures one thing and prints its bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from figures import Figure

_KEYS = 1_000_000
_KEYS_OF_LIMITS = 100_000
_MIB = 1 << 20
_WINDOW_NS = 60_000_000_000
_SECTION = "Resident memory"


def measure() -> list[Figure]:
    idle = _in_new_process("idle") / _MIB
    ours = _in_new_process("keys") / _KEYS
    theirs = _in_new_process("keys_of_limits") / _KEYS_OF_LIMITS
    return [
        Figure(_SECTION, "an idle limiter", "MiB", idle, idle, at_most=1),
        Figure(
            _SECTION,
            f"for each of {_KEYS:,} keys of 10/minute",
            "bytes",
            ours,
            ours,
            at_most=200,
            peer_name="limits",
            peer=theirs,
        ),
        Figure(_SECTION, f"limits, moving window, for each of {_KEYS_OF_LIMITS:,} hit once", "bytes", theirs, theirs),
    ]


def idle() -> int:
    from slidegate import Limiter
    from slidegate.util import get_remote_address

    before = _resident_bytes()
    limiter = Limiter(key_func=get_remote_address)
    grown = _resident_bytes() - before
    limiter.reset()
    return grown


def keys() -> int:
    from slidegate._core import Limiter, Quota

    before = _resident_bytes()
    policy = Limiter().policy([(Quota(10, _WINDOW_NS), "benchmark")])
    for number in range(_KEYS):
        policy.hit(f"key {number}")
    return _resident_bytes() - before


def keys_of_limits() -> int:
    from limits import RateLimitItemPerMinute
    from limits.storage import MemoryStorage
    from limits.strategies import MovingWindowRateLimiter

    storage = MemoryStorage()
    limiter, item = MovingWindowRateLimiter(storage), RateLimitItemPerMinute(10)
    before = _resident_bytes()
    for number in range(_KEYS_OF_LIMITS):
        limiter.hit(item, f"key {number}")
    return _resident_bytes() - before


def _resident_bytes() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Rss:"))


def _in_new_process(what: str) -> int:
    command = [sys.executable, str(Path(__file__).resolve()), what]
    return int(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    _MEASURES: dict[str, Callable[[], int]] = {"idle": idle, "keys": keys, "keys_of_limits": keys_of_limits}
    print(_MEASURES[sys.argv[1]]())
