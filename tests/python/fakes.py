"""The tools that tests move time with, behind one face, and what counts meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import hiro
import time_machine
from freezegun import freeze_time

from slidegate import _core
from slidegate.decision import NS_PER_S

NEW_YEAR_2020 = datetime(2020, 1, 1, tzinfo=timezone.utc)
NEW_YEAR_2100 = datetime(2100, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Fake:
    """A time that is faked now."""

    advance: Callable[[float], object]
    move_to: Callable[[datetime], object]


FakeFrom = Callable[[datetime], AbstractContextManager[Fake]]


@contextmanager
def frozen_by_freezegun(start: datetime, ticks: bool = False) -> Iterator[Fake]:
    with freeze_time(start, tick=ticks) as factory:
        yield Fake(lambda seconds: factory.tick(timedelta(seconds=seconds)), factory.move_to)


@contextmanager
def frozen_by_time_machine(start: datetime, ticks: bool = False) -> Iterator[Fake]:
    with time_machine.travel(start, tick=ticks) as traveller:
        yield Fake(lambda seconds: traveller.shift(timedelta(seconds=seconds)), traveller.move_to)


@contextmanager
def frozen_by_hiro(start: datetime, ticks: bool = False) -> Iterator[Fake]:
    with hiro.Timeline(start=start) as timeline:
        if not ticks:
            timeline.freeze(start)
        yield Fake(timeline.forward, timeline.freeze)


TOOLS = {"freezegun": frozen_by_freezegun, "time-machine": frozen_by_time_machine, "hiro": frozen_by_hiro}


def policy_on(limiter: _core.Limiter, window_s: int = 60, strategy: str = "moving-window") -> _core.Policy:
    """10 in the window."""
    return limiter.policy([(_core.Quota(10, window_s * NS_PER_S, strategy), "")])  # type: ignore[arg-type]


def admitted(policy: _core.Policy, key: str = "ada") -> int:
    """How many of a few more hits than the limit are admitted."""
    return sum(policy.hit(key)[0] for _ in range(13))


def pass_really(duration_ns: int) -> None:
    """Lets real time pass, which no tool fakes."""
    boot = _core.BootClock()
    start_ns = boot.now()
    while boot.now() < start_ns + duration_ns:
        pass
