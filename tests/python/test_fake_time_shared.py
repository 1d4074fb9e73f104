"""Where other processes count along, time stays the machine's: what one fakes would be the future to the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import NEW_YEAR_2020, NEW_YEAR_2100, TOOLS, FakeFrom
from limits import parse

from slidegate import Limiter
from slidegate._core import BootClock, Quota, Segment
from slidegate._core import Limiter as Engine
from slidegate.decision import NS_PER_S
from slidegate.testing import ManualClock, frozen

SIZE = 1 << 24
MINUTE_NS = 60 * NS_PER_S


@pytest.fixture
def name() -> Iterator[str]:
    name = f"pytest.faked.{os.getpid()}"
    yield name
    (Path(Segment.shared_directory) / f"{Segment.shared_prefix}{name}").unlink(missing_ok=True)


@pytest.fixture(params=["shared", "file", "inherited"])
def segment(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Segment:
    opening: dict[str, Callable[[], Segment]] = {
        "shared": lambda: Segment.shared(name, size=SIZE),
        "file": lambda: Segment.file(str(tmp_path / "limits"), size=SIZE),
        "inherited": lambda: Segment.inherited(SIZE),
    }
    return opening[request.param]()


@pytest.fixture(params=TOOLS)
def fake_from(request: pytest.FixtureRequest) -> FakeFrom:
    return TOOLS[request.param]


def test_what_one_process_fakes_keeps_nobody_out(fake_from: FakeFrom, segment: Segment) -> None:
    rules = [(Quota(10, MINUTE_NS), "")]
    faked, other = Engine(segment=segment), Engine(segment=segment, clock=BootClock())
    here, there = faked.policy(rules), other.policy(rules)
    with fake_from(NEW_YEAR_2020) as fake:
        for step in range(40):
            here.hit("ada")
            fake.advance(59)
            assert faked.now() <= other.now()
            if step == 20:
                fake.move_to(NEW_YEAR_2100 + timedelta(days=1))
    assert here.peek("ada")[2] == there.peek("ada")[2] == 0, "nothing has passed, and nothing was forgotten"
    boot, wait_ns = BootClock(), there.peek("ada")[3]
    start_ns = boot.now()
    while boot.now() < start_ns + 30_000_000:
        pass
    assert there.peek("ada")[3] < wait_ns, "a hit of the future keeps this where it is until then"


def test_what_others_counted_is_not_forgotten_when_a_fake_goes_far(fake_from: FakeFrom, segment: Segment) -> None:
    daily = Engine(segment=segment, clock=BootClock()).policy([(Quota(1, 86_400 * NS_PER_S), "")])
    assert daily.hit("ada")[0]
    faked = Engine(segment=segment).policy([(Quota(1, NS_PER_S), "")])
    with fake_from(NEW_YEAR_2020) as fake:
        faked.hit("grace")
        fake.advance(3)
        faked.hit("grace")
    assert not daily.hit("ada")[0]


@pytest.mark.parametrize("scheme", ["shared", "file"])
def test_limiters_that_share_cannot_be_frozen(scheme: str, name: str, tmp_path: Path) -> None:
    uri = f"shared://{name}" if scheme == "shared" else f"file://{tmp_path}/limits"
    limiter, item = Limiter(lambda: "ada", storage_uri=uri), parse("1/day")
    assert limiter.limiter.hit(item, "ada", "/")
    with pytest.raises(TypeError, match=r'counts together with other processes .* storage_uri="memory://"'):
        frozen(limiter).__enter__()
    assert not limiter.limiter.hit(item, "ada", "/"), "nothing was forgotten"


def test_a_clock_that_was_given_is_that_of_a_segment_too(segment: Segment) -> None:
    clock = ManualClock(3)
    assert Engine(segment=segment, clock=clock).clock is clock
