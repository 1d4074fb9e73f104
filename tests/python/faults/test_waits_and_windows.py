"""How long clients are told to wait: a window, and what rounding up to a whole second adds, in every style."""

from __future__ import annotations

import math
import random
import re
import time
from typing import Any

import pytest
from conftest import Client
from fastapi import Depends, FastAPI, Request
from redis_servers import RedisServer

from slidegate import Limiter, _rate_limit_exceeded_handler
from slidegate._core import Limiter as Engine
from slidegate._core import Quota
from slidegate.decision import NS_PER_S, whole_seconds
from slidegate.demo import __main__ as demonstration
from slidegate.dependencies import RateLimit
from slidegate.errors import RateLimitExceeded
from slidegate.testing import ManualClock
from slidegate.util import get_remote_address

WINDOWS_S = [1, 2, 7, 59, 60, 61, 3600, 86400, 86401, 30 * 86400]
AMOUNTS = [1, 2, 5, 13, 14, 29, 30, 61, 62, 100, 5000]
# What a window may take in whole windows: the counter of a sliding window remembers the one before.
WINDOWS_OF = {"moving-window": 1, "fixed-window": 1, "gcra": 1, "sliding-window-counter": 2}


@pytest.mark.parametrize("strategy", WINDOWS_OF)
@pytest.mark.parametrize("seed", range(150))
def test_fault_28_no_wait_and_no_reset_is_longer_than_the_window_and_a_second_of_rounding(
    strategy: Any, seed: int
) -> None:
    dice = random.Random(seed)
    clock = ManualClock()
    clock.set(dice.randrange(10**15))
    window_s, amount = dice.choice(WINDOWS_S), dice.choice(AMOUNTS)
    policy = Engine(clock=clock).policy([(Quota(amount, window_s * NS_PER_S, strategy), "scope")])
    longest = 0
    for _ in range(150):
        some_ns = dice.randrange(1, window_s * NS_PER_S // 3)
        clock.advance(dice.choice([0, 1, 50_000, 1_000_000, 10_000_000, some_ns]))
        _, _, _, reset_after_ns, retry_after_ns = policy.hit("key", dice.choice([1, 1, dice.randrange(1, amount + 1)]))
        longest = max(longest, whole_seconds(reset_after_ns), whole_seconds(retry_after_ns))
    assert 1 <= longest <= WINDOWS_OF[strategy] * window_s + 1


STORAGES = {"memory": None, "redis": "redis", "limits": "async+memory://"}


def seconds_in(duration: str) -> int:
    """Of what OpenAI writes, as in "1m0s"."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(\d+)s", duration)
    assert match is not None
    hours, minutes, seconds = (int(each or 0) for each in match.groups())
    return 3600 * hours + 60 * minutes + seconds


@pytest.mark.parametrize("way", ["decorator", "dependency"])
@pytest.mark.parametrize("amount", [1, 10, 100])
@pytest.mark.parametrize("strategy", ["moving-window", "fixed-window"])
@pytest.mark.parametrize("storage", STORAGES)
def test_fault_28_no_style_of_headers_tells_more(
    server: RedisServer, storage: str, strategy: str, amount: int, way: str
) -> None:
    uri = server.uri if storage == "redis" else STORAGES[storage]
    limiter = Limiter(
        key_func=get_remote_address,
        storage_uri=uri,
        strategy=strategy,
        headers=["x-ratelimit", "ietf", "openai"],
        key_prefix=f"{strategy}{way}",
    )
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
    limits = f"{amount}/minute"
    if way == "decorator":

        @app.get("/")
        @limiter.limit(limits)
        async def limited(request: Request) -> str:
            return "ok"
    else:
        app.get("/", dependencies=[Depends(RateLimit(limits))])(lambda: "ok")
    client = Client(app)
    for _ in range(amount + 2):
        response = client.get("/")
        now_s = math.ceil(time.time())
        told = response.headers
        match = re.search(r";t=(\d+)", told["RateLimit"])
        assert match is not None
        assert 0 <= int(match[1]) <= 61
        assert seconds_in(told["X-RateLimit-Reset-Requests"]) <= 61
        assert int(told["X-RateLimit-Reset"]) <= now_s + 61
        assert int(told.get("Retry-After", 1)) in range(1, 62)
    assert response.status_code == 429
    limiter.close()


def test_fault_28_the_demonstration_takes_no_more_than_that_for_right() -> None:
    route = demonstration.Route("GET", "/", 1, excess=1)
    body = '{"error": "Rate limit exceeded: 1 per 1 minute"}'
    for seconds, is_right in (("60", True), ("61", True), ("62", False), ("0", False)):
        headers = demonstration.HTTPMessage()
        headers["Retry-After"] = seconds
        route.answers[:] = [
            demonstration.Answer(200, "OK", headers, ""),
            demonstration.Answer(429, "Too Many Requests", headers, body),
        ]
        assert (route.complaint() is None) is is_right
        assert (demonstration.about_waits([route]) is not None) is (seconds == "61")
