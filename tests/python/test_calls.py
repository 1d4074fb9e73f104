"""How many functions of the package a request enters, and in which files. Run as a program, it prints both.

Python calls are most of what a limit costs here, and unlike times they are the same on every machine.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from fastapi import Depends, FastAPI, Request, Response
from redis_servers import RedisServer, running
from starlette.types import ASGIApp, Message

import slidegate
from slidegate import Limiter, RateLimit
from slidegate.middleware import SlowAPIMiddleware
from slidegate.util import get_remote_address

DECORATOR = 4
MIDDLEWARE = 8
DEPENDENCY = 20
DECORATOR_ON_REDIS = 40


class Bound(NamedTuple):
    """How many functions a request may enter, and how many it is meant to. A change that comes nearer lowers `now`."""

    now: int
    target: int | None = None


BOUNDS = {
    "decorator": Bound(DECORATOR, DECORATOR),
    "decorator, headers": Bound(10),
    "decorator, two limits, headers": Bound(10),
    "decorator, tier callable": Bound(20),
    "decorator, cost callable": Bound(16),
    "middleware": Bound(5, MIDDLEWARE),
    "middleware, headers": Bound(MIDDLEWARE, MIDDLEWARE),
    "RateLimit": Bound(18, DEPENDENCY),
    "RateLimit, key=Depends": Bound(18, DEPENDENCY),
    "check()": Bound(11),
    "decorator, Redis": Bound(32, DECORATOR_ON_REDIS),
    "RateLimit, Redis": Bound(46),
}

LIMIT = "1000000/minute"
TWO_LIMITS = f"{LIMIT}; 8000000/day"
WARM_UP = 20
REQUESTS = 5
PACKAGE = Path(slidegate.__file__).parent

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Entered:
    """The functions of the package that a request has entered, in the order of their calls, as "file:function"."""

    functions: Sequence[str]

    @property
    def visits(self) -> list[str]:
        """Their files, each as often as the request comes to it from another one."""
        return [file for file, _ in groupby(function.partition(":")[0] for function in self.functions)]

    @property
    def files(self) -> list[str]:
        """Their files, each once, in the order in which the request comes to them first."""
        return list(dict.fromkeys(self.visits))

    def __str__(self) -> str:
        return f"{len(self.functions)} functions in {len(self.files)} files: {', '.join(self.functions)}"


class Watch:
    """Sees what is called in this thread while it is entered: a coroutine once, however often it is gone on with."""

    def __init__(self) -> None:
        # Frames are kept, so that no later one gets the id of an earlier one.
        self._frames: dict[int, FrameType] = {}

    def __enter__(self) -> Watch:
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    @property
    def entered(self) -> Entered:
        return Entered([f"{_file_of(frame)}:{frame.f_code.co_name}" for frame in self._frames.values()])

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_globals.get("__name__", "").partition(".")[0] == slidegate.__name__:
            self._frames.setdefault(id(frame), frame)


def _file_of(frame: FrameType) -> str:
    # By its module, as what a dataclass defines is in no file.
    return str(Path(frame.f_globals["__file__"]).relative_to(PACKAGE))


def app_of(limiter: Limiter, decorator: Decorator | None = None, dependencies: Sequence[Any] = ()) -> FastAPI:
    app = FastAPI()
    app.state.limiter = limiter

    async def ping(request: Request) -> Response:
        return Response("pong")

    app.get("/ping", dependencies=dependencies)(decorator(ping) if decorator else ping)
    return app


def decorated(limit: Any = LIMIT, cost: Any = 1, **options: Any) -> FastAPI:
    limiter = Limiter(get_remote_address, **options)
    return app_of(limiter, limiter.limit(limit, cost=cost))


def behind_middleware(**options: Any) -> FastAPI:
    app = app_of(Limiter(get_remote_address, default_limits=[LIMIT], **options))
    app.add_middleware(SlowAPIMiddleware)
    return app


def depending(key: Any = None, **options: Any) -> FastAPI:
    return app_of(Limiter(get_remote_address, **options), dependencies=[Depends(RateLimit(LIMIT, key=key))])


def checked_by_hand() -> FastAPI:
    limiter = Limiter(get_remote_address)

    async def check(request: Request) -> None:
        await limiter.check(request, LIMIT)

    return app_of(limiter, dependencies=[Depends(check)])


def tier(key: str) -> str:
    return LIMIT


def cost(request: Request) -> int:
    return 1


async def user(request: Request) -> str:
    return "ada"


def cases_of(server: RedisServer) -> Mapping[str, Callable[[], ASGIApp]]:
    """What makes the application of each case."""
    return {
        "decorator": decorated,
        "decorator, headers": lambda: decorated(headers_enabled=True),
        "decorator, two limits, headers": lambda: decorated(TWO_LIMITS, headers_enabled=True),
        "decorator, tier callable": lambda: decorated(tier),
        "decorator, cost callable": lambda: decorated(cost=cost),
        "middleware": behind_middleware,
        "middleware, headers": lambda: behind_middleware(headers_enabled=True),
        "RateLimit": depending,
        "RateLimit, key=Depends": lambda: depending(Depends(user)),
        "check()": checked_by_hand,
        "decorator, Redis": lambda: decorated(storage_uri=server.uri),
        "RateLimit, Redis": lambda: depending(storage_uri=server.uri),
    }


def entered_by_a_request(app: ASGIApp) -> Entered:
    """By a warm one: the shortest of several, as what a timer or a late answer calls is not what each request takes."""
    return min(asyncio.run(_entered(app)), key=lambda entered: len(entered.functions))


async def _entered(app: ASGIApp) -> list[Entered]:
    for _ in range(WARM_UP):
        assert await _status_of(app) == 200
    found = []
    for _ in range(REQUESTS):
        with Watch() as watch:
            await _status_of(app)
        found.append(watch.entered)
    return found


async def _status_of(app: ASGIApp) -> int:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/ping",
        "raw_path": b"/ping",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"test")],
        "client": ("192.0.2.1", 50000),
        "server": ("test", 80),
        "state": {},
    }
    await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize("case", BOUNDS)
def test_a_request_enters_few_functions(server: RedisServer, case: str) -> None:
    entered = entered_by_a_request(cases_of(server)[case]())
    assert len(entered.functions) <= BOUNDS[case].now, str(entered)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as server:
        for case, make_app in cases_of(server).items():
            entered, bound = entered_by_a_request(make_app()), BOUNDS[case]
            target = "" if bound.target is None else f", target {bound.target}"
            print(f"{case}: {len(entered.functions)} functions, bound {bound.now}{target}")
            print(f"    {len(entered.files)} files, {len(entered.visits)} visits: {' > '.join(entered.visits)}")


if __name__ == "__main__":
    main()
