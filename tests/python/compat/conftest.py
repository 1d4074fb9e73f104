"""Every case runs with either package."""

from __future__ import annotations

import time
from importlib import metadata

import fastapi.routing
import pytest

from compat.library import MIDDLEWARES, Library
from slidegate.testing import ManualClock

# What slowapi does is written down for one version of it, and depends on how FastAPI keeps included routers. slowapi
# calls asynchronous functions without awaiting them, and on Python 3.14 a deprecated function of asyncio.
KEEPS_ROUTERS = hasattr(fastapi.routing, "_IncludedRouter")
IS_DOCUMENTED_SLOWAPI = metadata.version("slowapi") == "0.1.10" and KEEPS_ROUTERS
SLOWAPI = pytest.param(
    "slowapi",
    marks=[
        pytest.mark.skipif(not IS_DOCUMENTED_SLOWAPI, reason="the outcomes are those of slowapi 0.1.10 on new FastAPI"),
        pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
        pytest.mark.filterwarnings("ignore:.*iscoroutinefunction:DeprecationWarning"),
    ],
)


class Wall:
    """Time for both packages: the clock of the machine as Python sees it, and that of slidegate's limiters."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0
        self.clock = ManualClock(int(self.now_s) * 1_000_000_000)

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self.clock.advance(round(seconds * 1_000_000_000))


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()
    monkeypatch.setattr(time, "time", lambda: wall.now_s)
    return wall


@pytest.fixture(params=[SLOWAPI, "slidegate"])
def library(request: pytest.FixtureRequest, wall: Wall) -> Library:
    return Library(request.param, {"clock": wall.clock} if request.param == "slidegate" else {})


@pytest.fixture(params=MIDDLEWARES)
def middleware(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
