"""What the native module says to interpreters, objects and arguments that it cannot work with."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slidegate import _core

ODD_CALLS = Path(__file__).with_name("odd_calls.py")
LATEST_NS = (1 << 62) - 1
QUOTA = _core.Quota(3, 60 * 10**9)
MADE_BY_PYTHON = [_core.Quota, _core.Limiter, _core.BootClock, _core.ManualClock, _core.PythonClock, _core.RedisReader]
MADE_BY_THE_ENGINE = [_core.Clock, _core.Policy, _core.Ticket, _core.Stats, _core.Segment, _core.SegmentInfo]
IN_ANOTHER_INTERPRETER = """
import sys
if {first!r}:
    import slidegate._core
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
made = interpreters.create()
program = '''
import sys
sys.path[:] = {path!r}
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
try:
    spec = spec_from_file_location("slidegate._core", {module!r})
    spec.loader.exec_module(module_from_spec(spec))
except ImportError as error:
    print(error, flush=True)
else:
    print("imported", flush=True)
'''
interpreters.run_string(made, program)
interpreters.destroy(made)
from slidegate import _core
assert _core.Limiter(size=1 << 20).policy([(_core.Quota(1, 10**9), "a")]).hit("ada")[0]
print("counts here", flush=True)
"""


def run(program: str, *arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *arguments, *([] if arguments else ["-c", program])],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=240,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("first", [False, True], ids=["before the main one", "after the main one"])
def test_fault_23_an_import_in_a_sub_interpreter_is_an_error_at_once(first: bool) -> None:
    told = run(IN_ANOTHER_INTERPRETER.format(first=first, path=sys.path, module=_core.__file__))
    # Since Python 3.12 it says so itself to interpreters that have a lock of their own.
    assert "main interpreter" in told or "does not support loading in subinterpreters" in told
    assert "imported" not in told
    assert "counts here" in told


@pytest.mark.parametrize("made", [*MADE_BY_PYTHON, *MADE_BY_THE_ENGINE], ids=lambda made: made.__name__)
def test_fault_23_nothing_native_is_half_made(made: type[Any]) -> None:
    base = made.__mro__[-2]
    for new in (made.__new__, object.__new__, base.__new__):
        with pytest.raises(TypeError):
            new(made)


@pytest.mark.parametrize("made", MADE_BY_THE_ENGINE, ids=lambda made: made.__name__)
def test_fault_23_what_the_engine_makes_is_made_by_nobody_else(made: type[Any]) -> None:
    with pytest.raises(TypeError):
        made()


def test_fault_23_no_clock_of_python_is_half_a_clock() -> None:
    class Own(_core.Clock):
        def __init__(self) -> None: ...

        def now(self) -> int:
            return 0

    with pytest.raises(TypeError):
        Own()


def test_fault_23_nothing_is_made_twice() -> None:
    clock = _core.ManualClock(5)
    with pytest.raises(TypeError):
        clock.__init__(7)  # type: ignore[misc]
    assert clock.now() == 5


def test_fault_23_a_quota_can_be_copied_and_pickled() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(QUOTA, protocol)) == QUOTA
    assert copy.copy(QUOTA) == copy.deepcopy(QUOTA) == QUOTA


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_fault_23_what_cannot_be_pickled_says_so_whatever_the_protocol(protocol: int) -> None:
    # Protocols 0 and 1 ended the process, so another one is asked.
    told = run(
        f"""
import pickle
from slidegate import _core
limiter = _core.Limiter(size=1 << 20)
policy = limiter.policy([(_core.Quota(3, 10**9), "a")])
segment = _core.Segment.inherited(1 << 20)
made = [limiter, policy, policy.reserve("ada")[1], limiter.stats(), segment, _core.RedisReader(), limiter.clock]
for each in [*made, _core.ManualClock(), _core.BootClock()]:
    try:
        pickle.dumps(each, {protocol})
    except TypeError as error:
        print(error)
"""
    )
    assert told.count("cannot copy or pickle") == 9


@pytest.mark.parametrize("now_ns", [-1, -(2**63), LATEST_NS + 1, 2**63 - 1])
def test_fault_23_a_clock_is_not_set_to_times_that_the_engine_cannot_count_in(now_ns: int) -> None:
    with pytest.raises(ValueError, match="a time is from 0"):
        _core.ManualClock(now_ns)
    clock = _core.ManualClock(7)
    with pytest.raises(ValueError, match="a time is"):
        clock.set(now_ns)
    with pytest.raises(ValueError, match="a time is"):
        clock.advance(max(now_ns - 7, -(2**63)))
    assert clock.now() == 7


@pytest.mark.parametrize("strategy", ["moving-window", "fixed-window", "sliding-window-counter", "gcra"])
@pytest.mark.parametrize("window_ns", [10**7, (1 << 27) * 10**9])
def test_fault_23_the_latest_time_of_a_clock_can_be_counted_in(strategy: Any, window_ns: int) -> None:
    clock = _core.ManualClock(LATEST_NS)
    policy = _core.Limiter(size=1 << 20, clock=clock).policy([(_core.Quota(2, window_ns, strategy), "a")])
    assert [policy.hit("ada")[0] for _ in range(3)] == [True, True, False]
    clock.set(0)
    assert not policy.hit("ada")[0]


def test_fault_23_a_sequence_of_rules_that_never_ends_is_refused() -> None:
    class Rules:
        def __len__(self) -> int:
            return 1 << 62

        def __getitem__(self, position: int) -> tuple[_core.Quota, str]:
            return QUOTA, "a"

    with pytest.raises(ValueError, match="from 1 to 16 rules"):
        _core.Limiter(size=1 << 20).policy(Rules())  # type: ignore[arg-type]


@pytest.mark.parametrize("now_s", [float("nan"), float("inf"), -1e300])
def test_fault_23_a_time_beyond_all_times_is_no_header(now_s: float) -> None:
    with pytest.raises(ValueError, match="beyond all times"):
        _core.with_quota([], (b"a", b"b", b"c"), 3, (True, 0, 1, 5, 0), now_s)


@pytest.mark.parametrize("seed", range(4))
def test_fault_23_odd_arguments_are_errors_and_end_no_process(seed: int, tmp_path: Path) -> None:
    assert run("", str(ODD_CALLS), str(seed), "3000", cwd=tmp_path).strip().endswith("survived")
