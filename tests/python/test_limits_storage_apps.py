"""The real slowapi and the real Flask-Limiter, changed by one URI."""

from __future__ import annotations

import time
from typing import Any

import flask
import flask_limiter
import flask_limiter.util
import limits.strategies
import pytest
import slowapi
import slowapi.util
from conftest import Client
from fastapi import FastAPI, Request, Response
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIMiddleware

from slidegate.decision import NS_PER_S
from slidegate.limits_storage import SlidegateStorage
from slidegate.testing import ManualClock, advance

GRID_S = 400_000 * 3600
STRATEGIES = ["fixed-window", "moving-window"]
is_with_sliding_windows = pytest.mark.skipif(
    "sliding-window-counter" not in limits.strategies.STRATEGIES,
    reason="this version of limits has no sliding-window counter",
)


@pytest.fixture
def wall(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The engine's clock, and the wall's with it."""
    clock.set(GRID_S * NS_PER_S)
    monkeypatch.setattr(time, "time", lambda: clock.now() / NS_PER_S)
    return clock


def slowapi_on(uri: str, **options: Any) -> tuple[slowapi.Limiter, Client]:
    limiter = slowapi.Limiter(key_func=slowapi.util.get_remote_address, storage_uri=uri, **options)
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, slowapi._rate_limit_exceeded_handler)  # type: ignore[arg-type]

    @app.get("/chat")
    @limiter.limit("3/minute")
    async def chat(request: Request, response: Response) -> str:
        return "ok"

    @app.get("/batch")
    @limiter.limit("10/hour", cost=4)
    def batch(request: Request, response: Response) -> str:
        return "ok"

    return limiter, Client(app)


def flask_on(uri: str, **options: Any) -> tuple[flask_limiter.Limiter, Any]:
    app = flask.Flask("limited")
    limiter = flask_limiter.Limiter(
        flask_limiter.util.get_remote_address, app=app, storage_uri=uri, headers_enabled=True, **options
    )

    @app.get("/chat")
    @limiter.limit("3/minute")
    def chat() -> str:
        return "ok"

    @app.get("/batch")
    @limiter.limit("10/hour", cost=4)
    def batch() -> str:
        return "ok"

    return limiter, app.test_client()


def statuses(client: Any, path: str, count: int) -> list[int]:
    return [client.get(path).status_code for _ in range(count)]


@pytest.mark.parametrize("make", [slowapi_on, flask_on])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_application_is_limited_by_the_engine(make: Any, strategy: str, wall: ManualClock) -> None:
    limiter, client = make("slidegate://?size=2MiB", strategy=strategy, storage_options={"clock": wall})
    assert isinstance(limiter._storage, SlidegateStorage)
    assert statuses(client, "/chat", 5) == [200, 200, 200, 429, 429]
    assert statuses(client, "/batch", 3) == [200, 200, 429]
    advance(wall, seconds=59.999)
    assert statuses(client, "/chat", 1) == [429]
    advance(wall, seconds=0.002)
    assert statuses(client, "/chat", 4) == [200, 200, 200, 429]
    limiter.reset()
    assert statuses(client, "/chat", 4) == [200, 200, 200, 429]
    assert statuses(client, "/batch", 3) == [200, 200, 429]


@pytest.mark.parametrize("make", [slowapi_on, flask_on])
def test_an_application_counts_in_the_machines_time_by_default(make: Any) -> None:
    _, client = make("slidegate://", strategy="moving-window")
    # An hour's limit: the test may take its time.
    assert statuses(client, "/batch", 3) == [200, 200, 429]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_slowapi_tells_what_is_left_in_its_headers(strategy: str, wall: ManualClock) -> None:
    options = {"clock": wall}
    _, client = slowapi_on("slidegate://", strategy=strategy, headers_enabled=True, storage_options=options)
    client.get("/chat")
    advance(wall, seconds=20)
    left = client.get("/chat").headers
    assert (left["X-RateLimit-Limit"], left["X-RateLimit-Remaining"]) == ("3", "1")
    # slowapi adds a second of its own.
    assert float(left["X-RateLimit-Reset"]) == pytest.approx(GRID_S + 61, abs=1e-4)
    assert int(left["Retry-After"]) == pytest.approx(41, abs=1)


@pytest.mark.parametrize("strategy", ["fixed-window", "moving-window"])
def test_slowapi_s_middleware_is_limited_too(strategy: str, wall: ManualClock) -> None:
    app = FastAPI()
    app.state.limiter = slowapi.Limiter(
        key_func=slowapi.util.get_remote_address,
        default_limits=["2/minute"],
        strategy=strategy,
        storage_uri="slidegate://",
        storage_options={"clock": wall},  # type: ignore[dict-item]
    )
    app.add_middleware(SlowAPIMiddleware)
    app.add_api_route("/", lambda: "ok")
    assert statuses(Client(app), "/", 3) == [200, 200, 429]


@pytest.mark.parametrize(
    "strategy", [*STRATEGIES, pytest.param("sliding-window-counter", marks=is_with_sliding_windows)]
)
def test_flask_limiter_tells_what_is_left_in_its_headers(strategy: str, wall: ManualClock) -> None:
    _, client = flask_on("slidegate://", strategy=strategy, storage_options={"clock": wall})
    client.get("/chat")
    advance(wall, seconds=20)
    left = client.get("/chat").headers
    assert (left["X-RateLimit-Limit"], left["X-RateLimit-Remaining"]) == ("3", "1")
    assert int(left["X-RateLimit-Reset"]) == pytest.approx(GRID_S + 60, abs=1)


@is_with_sliding_windows
def test_flask_limiter_counts_with_the_sliding_window_counter(wall: ManualClock) -> None:
    _, client = flask_on("slidegate://", strategy="sliding-window-counter", storage_options={"clock": wall})
    assert statuses(client, "/chat", 4) == [200, 200, 200, 429]
    # Two of the three still weigh when a third of the next window is over.
    advance(wall, seconds=80.001)
    assert statuses(client, "/chat", 3) == [200, 200, 429]


@pytest.mark.parametrize("make", [slowapi_on, flask_on])
def test_a_misspelled_option_stops_the_application(make: Any) -> None:
    with pytest.raises(Exception, match="known: size, on_full, clock"):
        make("slidegate://?sise=2MiB")
