"""Window after window, eight workers that are killed and started again admit exactly the limit together.

Every answer is written down by the worker that gives it, with the time before and after it was decided: what is counted
here are hits, whether or not a client got the answer. A worker decides and writes without doing anything in between, so
one that is killed takes at most one hit with it that nobody knows of.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from servers import Server, running, wait_until

LIMIT = 30
WINDOW_NS = 1_000_000_000
# A tick of this window is 20 us; a hit may stay for one longer, and leaves no sooner.
SLACK_NS = 1_000_000
# A machine with more to do than it has processors for may keep a worker from writing for this long.
KEPT_NS = 500_000_000
ENOUGH_WINDOWS = 6

PROGRAM = """
import os
import time
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from slidegate import Limiter, RateLimitExceeded

moving = Limiter(key_func=lambda: "everybody", headers_enabled=True)
fixed = Limiter(key_func=lambda: "everybody", headers_enabled=True, strategy="fixed-window")
log = open("answers", "ab", buffering=0)

def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

def write(request, is_admitted):
    ends_ns = request.state.view_rate_limit.decision.reset_after_ns
    line = f"{request.url.path[1:]} {int(is_admitted)} {request.scope['begun']} {now()} {ends_ns} {os.getpid()}"
    log.write(f"{line}\\n".encode())

class Timed:
    def __init__(self, app):
        self.app = app
    async def __call__(self, scope, receive, send):
        scope["begun"] = now()
        await self.app(scope, receive, send)

app = FastAPI()
app.add_middleware(Timed)

@app.exception_handler(RateLimitExceeded)
async def refuse(request, error):
    write(request, False)
    return JSONResponse({}, 429)

@app.get("/moving")
@moving.limit("{limit}")
async def count_moving(request: Request):
    write(request, True)
    return os.getpid()

@app.get("/fixed")
@fixed.limit("{limit}")
async def count_fixed(request: Request):
    write(request, True)
    return os.getpid()

@app.get("/pid")
async def pid():
    return os.getpid()
"""

CLIENT = """
import http.client, itertools, sys, threading

def fire(first):
    for number in itertools.count(first):
        connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
        try:
            connection.request("GET", ("/moving", "/fixed")[number % 2])
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

for number in range(3):
    threading.Thread(target=fire, args=(number,)).start()
"""


class Answer(NamedTuple):
    """One decision, with times of the clock that the engine reads."""

    is_admitted: bool
    begun_ns: int
    ended_ns: int
    reset_after_ns: int
    pid: int


def answers(directory: Path, endpoint: str) -> list[Answer]:
    """In the order in which they were written."""
    found = []
    for line in (directory / "answers").read_text().splitlines():
        name, is_admitted, *numbers = line.split()
        if name == endpoint:
            found.append(Answer(is_admitted == "1", *map(int, numbers)))
    return found


class FixedWindow:
    """Answers that say that their window ends at the same time."""

    def __init__(self, first: Answer) -> None:
        self.answers = [first]
        self.ends_ns = first.ended_ns + first.reset_after_ns

    @property
    def admitted(self) -> int:
        return sum(each.is_admitted for each in self.answers)

    @property
    def is_used_up(self) -> bool:
        return any(not each.is_admitted for each in self.answers)

    def kills(self, killed_ns: list[int]) -> int:
        return sum(self.ends_ns - WINDOW_NS - SLACK_NS <= each <= self.ends_ns + KEPT_NS for each in killed_ns)


def fixed_windows(every: list[Answer]) -> list[FixedWindow]:
    windows: list[FixedWindow] = []
    for answer in sorted(every, key=lambda each: each.ended_ns + each.reset_after_ns):
        # Ends are known as exactly as it is when an answer was decided, and are no less than a window apart.
        if windows and answer.ended_ns + answer.reset_after_ns - windows[-1].ends_ns < WINDOW_NS // 2:
            windows[-1].answers.append(answer)
        else:
            windows.append(FixedWindow(answer))
    return windows


def most_in_a_moving_window(admitted: list[Answer]) -> int:
    """Hits that were, all of them, certainly within some window."""
    return max(
        sum(first.begun_ns <= each.begun_ns and each.ended_ns < first.begun_ns + WINDOW_NS for each in admitted)
        for first in admitted
    )


@contextlib.contextmanager
def clients(server: Server) -> Iterator[None]:
    command = [sys.executable, "-c", CLIENT, str(server.port)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize("kind", ["uvicorn", "gunicorn"])
def test_a36_every_window_admits_exactly_the_limit_while_workers_are_killed(kind: str, tmp_path: Path) -> None:
    dice = random.Random(36)
    killed_ns: list[int] = []
    with running(kind, tmp_path, workers=8, limit=f"{LIMIT}/second", program=PROGRAM) as server:
        assert len(server.workers(least=3)) >= 3

        def has_enough() -> bool:
            used_up = [each for each in fixed_windows(answers(tmp_path, "fixed"))[:-1] if each.is_used_up]
            disturbed = sum(each.kills(killed_ns) > 0 for each in used_up)
            return min(disturbed, len(used_up) - disturbed) >= ENOUGH_WINDOWS // 2

        def kill_one() -> bool:
            # In every other three windows, so that some are whole.
            if time.monotonic_ns() // (3 * WINDOW_NS) % 2 == 0:
                recent = sorted({each.pid for each in answers(tmp_path, "moving")[-50:]})
                with contextlib.suppress(ProcessLookupError):
                    os.kill(dice.choice(recent), signal.SIGKILL)
                    killed_ns.append(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
            time.sleep(0.2)
            return has_enough()

        with clients(server):
            assert wait_until(lambda: (tmp_path / "answers").exists() and len(answers(tmp_path, "moving")) > 50)
            assert wait_until(kill_one)
            assert wait_until(lambda: len({each.pid for each in answers(tmp_path, "moving")}) > 8)
    assert len(killed_ns) >= 3

    windows = fixed_windows(answers(tmp_path, "fixed"))
    for window in windows[:-1]:
        least = LIMIT - window.kills(killed_ns) if window.is_used_up else 0
        assert least <= window.admitted <= LIMIT, (window.ends_ns, window.admitted, killed_ns)
    assert sum(each.admitted == LIMIT for each in windows) >= ENOUGH_WINDOWS // 2

    moving = answers(tmp_path, "moving")
    admitted = [each for each in moving if each.is_admitted]
    assert most_in_a_moving_window(admitted) <= LIMIT
    for refused in (each for each in moving if not each.is_admitted):
        since_ns = refused.begun_ns - WINDOW_NS - SLACK_NS
        before = sum(since_ns <= each.ended_ns and each.begun_ns <= refused.ended_ns for each in admitted)
        assert before + sum(since_ns <= each <= refused.ended_ns + KEPT_NS for each in killed_ns) >= LIMIT
