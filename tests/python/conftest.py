"""Applications to limit, clients to call them, and a clock that only tests move."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from faulty_storages import FAULTS, Faults
from hypothesis import settings
from redis_servers import RedisServer, running
from starlette.types import ASGIApp, Message

from slidegate import Limiter, RateLimitExceeded, _rate_limit_exceeded_handler
from slidegate.testing import ManualClock
from slidegate.util import get_remote_address

# How long an example takes says something about the machine, and nothing about what is tested.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


class Client:
    """Calls an application in this process, from one address. What the application raises comes back as a 500."""

    def __init__(self, app: ASGIApp, address: str | None = "192.0.2.1") -> None:
        self.app = app
        self.address = address

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self.send(method, path, **options))

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        client = (self.address, 50000) if self.address is not None else None
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=client)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.request(method, path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def statuses(self, path: str, count: int, **options: Any) -> list[int]:
        return [self.get(path, **options).status_code for _ in range(count)]


def talk_to(app: ASGIApp, path: str, address: str = "192.0.2.1") -> list[Message]:
    """What an application sends to a WebSocket that says nothing."""
    scope = {
        "type": "websocket",
        "path": path,
        "headers": [],
        "query_string": b"",
        "client": (address, 1),
        "extensions": {"websocket.http.response": {}},
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return sent


def _is_streamed() -> bool:
    app = FastAPI()

    @app.get("/", response_model=None)
    def numbers() -> Iterator[int]:
        yield from (1, 2)

    return Client(app).get("/").text.split() == ["1", "2"]


# The environment with the oldest versions has the package as it was built, and nothing to build or to check types with.
needs_mypy = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed here")
needs_build_tools = pytest.mark.skipif(
    importlib.util.find_spec("scikit_build_core") is None, reason="what builds the package is not installed here"
)
HAS_STREAMS = _is_streamed()
"""Whether FastAPI sends what an endpoint yields as it comes; older ones make a list of it."""


@pytest.fixture(scope="session", autouse=True)
def _heeds_ctrl_c() -> None:
    # What a shell starts with `&` ignores it, and so would what is started here.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RATELIMIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def server(_redis: RedisServer) -> RedisServer:
    """A Redis that is as new in each file. Tests that stop it start it again; those that set it have their own."""
    _redis.call_all([(b"FLUSHALL",), (b"SCRIPT", b"FLUSH"), (b"CONFIG", b"RESETSTAT")])
    return _redis


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000_000)


@pytest.fixture
def make_limiter(clock: ManualClock) -> Callable[..., Limiter]:
    def make(**options: Any) -> Limiter:
        return Limiter(**{"key_func": get_remote_address, "clock": clock, **options})

    return make


@pytest.fixture
def limiter(make_limiter: Callable[..., Limiter]) -> Limiter:
    return make_limiter()


@pytest.fixture
def make_app() -> Callable[[Limiter], FastAPI]:
    def make(limiter: Limiter) -> FastAPI:
        app = FastAPI()
        app.state.limiter = limiter
        app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
        return app

    return make


@pytest.fixture
def app(limiter: Limiter, make_app: Callable[[Limiter], FastAPI]) -> FastAPI:
    return make_app(limiter)


@pytest.fixture
def client(app: FastAPI) -> Client:
    return Client(app)


@pytest.fixture
def faults() -> Iterator[Faults]:
    FAULTS.begin()
    yield FAULTS
    FAULTS.end()
