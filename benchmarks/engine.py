"""The engine from C++: what `slidegate_bench` prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

from figures import Figure

_ROOT = Path(__file__).resolve().parent.parent
_BUILD = _ROOT / "build" / "bench"

# name in slidegate_bench, text, nanoseconds at most
_FIGURES = (
    ("clock", "clock alone", None),
    ("digest", "digest alone, key of 12 bytes", None),
    ("hot-refused", "hot key, refused (10/minute)", 80),
    ("hot-head", "hot key, admitted, hits of one quantum", 80),
    ("hot-ring", "hot key, admitted, all 61 entries alive", None),
    ("hot-exact", "hot key, admitted, 10/minute, one expires for each", None),
    ("million", "1,000,000 keys of 10/minute, at random", 250),
    ("choice", "... of which choosing the key", None),
    ("insert-new", "new key, in memory never touched before", None),
    ("insert-used", "new key, in the cell of an expired one", None),
    ("threads-same", "2 threads, one hot key, for each thread", None),
    ("threads-own", "2 threads, a hot key each, for each thread", None),
    ("process-one", "1 process, hot key in a shared segment", None),
    ("process-two", "2 processes, one hot key, for each process", 250),
    ("attach", "attaching to a segment of 64 MiB", 5_000_000),
)


def build() -> Path:
    """Builds slidegate_bench from the sources as they are. Raises CalledProcessError with cmake's output."""
    if not (_BUILD / "CMakeCache.txt").exists():
        _run("cmake", "-S", _ROOT, "-B", _BUILD, "-G", "Ninja", "-DSLIDEGATE_BENCHMARKS=ON")
    _run("cmake", "--build", _BUILD)
    return _BUILD / "slidegate_bench"


def measure(program: Path, rounds: int) -> list[Figure]:
    lines = _run(program, rounds).splitlines()
    measured = {name: (float(typical), float(least)) for name, typical, least in (line.split("\t") for line in lines)}
    return [
        Figure("Engine, called from C++; clock and digest included", text, "ns", *measured[name], at_most=at_most)
        for name, text, at_most in _FIGURES
    ]


def _run(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
