"""Applications behind uvicorn with uvloop and httptools, under wrk. Run as a program, serves one until it is ended."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple

import slowapi
import slowapi.util
import uvicorn
from dependencies import empty
from endpoints import LIMIT, TWO_LIMITS, Endpoint, app_of
from fastapi import Depends, FastAPI, Request
from figures import Figure, Rounds

import slidegate
import slidegate.middleware
import slidegate.util

IS_POSSIBLE = shutil.which("wrk") is not None
_CONNECTIONS = 32
_WARM_UP_S = 1
_TURN_S = 2
_PATIENCE_S = 10
# Of the time under load. A server that other programs keep off the processors is slow for reasons of theirs.
_LEAST_SHARE_TO_JUDGE = 0.9
_SECTION = f"uvicorn with uvloop and httptools under wrk, {_CONNECTIONS} connections; a request"


def _answer() -> Endpoint:
    """An endpoint as most are: what it returns becomes JSON."""

    async def ping(request: Request) -> dict[str, str]:
        return {"answer": "pong"}

    return ping


def _app(decorator: Any = None, limiter: Any = None, **options: Any) -> FastAPI:
    # Without a model of the response, which FastAPI would make of the annotation.
    return app_of(decorator, limiter, _answer, response_model=None, **options)


def _depending_on(dependency: Any) -> FastAPI:
    return _app(limiter=_limiter(), dependencies=[Depends(dependency)])


def _decorated(limits: str, package: Any = slidegate, **options: Any) -> FastAPI:
    limiter = _limiter(package, **options)
    return _app(limiter.limit(limits), limiter)


def _behind_middleware(**options: Any) -> FastAPI:
    app = _app(limiter=_limiter(default_limits=[LIMIT], **options))
    app.add_middleware(slidegate.middleware.SlowAPIMiddleware)
    return app


def _limiter(package: Any = slidegate, **options: Any) -> Any:
    return package.Limiter(key_func=package.util.get_remote_address, **options)


_APPS: Mapping[str, Callable[[], FastAPI]] = {
    "bare": _app,
    "an empty dependency": lambda: _depending_on(empty),
    "RateLimit": lambda: _depending_on(slidegate.RateLimit(LIMIT)),
    "decorator": lambda: _decorated(LIMIT),
    "decorator, two limits, headers": lambda: _decorated(TWO_LIMITS, headers_enabled=True),
    "middleware, headers": lambda: _behind_middleware(headers_enabled=True),
    "slowapi's decorator": lambda: _decorated(LIMIT, slowapi),
}
# name, what it is compared with, that in short, how much of its throughput there is to be
_FIGURES = (
    ("bare", None, "", None),
    ("an empty dependency", "bare", "bare", None),
    ("RateLimit", "an empty dependency", "empty", 0.97),
    ("RateLimit", "bare", "bare", None),
    ("decorator", "bare", "bare", 0.96),
    ("decorator, two limits, headers", "bare", "bare", 0.94),
    ("middleware, headers", "bare", "bare", 0.94),
    ("slowapi's decorator", "bare", "bare", None),
)


class _Server(NamedTuple):
    url: str
    process: subprocess.Popen[str]

    def processor_ns(self) -> int:
        """How long it has run so far."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0])


def measure(rounds: int) -> list[Figure]:
    elapsed_us: dict[str, list[float]] = {name: [] for name in _APPS}
    processor_us: dict[str, list[float]] = {name: [] for name in _APPS}
    shares: list[float] = []
    with ExitStack() as stack:
        servers = {name: stack.enter_context(_serving(name)) for name in _APPS}
        for name, server in servers.items():
            _prove(name, server)
            _load(_WARM_UP_S, server)
        order, shuffled = list(servers), Random(0)
        for _ in range(rounds):
            shuffled.shuffle(order)
            for name in order:
                before = servers[name].processor_ns()
                requests, seconds = _load(_TURN_S, servers[name])
                elapsed_us[name].append(seconds * 1e6 / requests)
                on_processor_s = (servers[name].processor_ns() - before) / 1e9
                processor_us[name].append(on_processor_s * 1e6 / requests)
                shares.append(on_processor_s / seconds)
    share = median(shares)
    is_judged = share >= _LEAST_SHARE_TO_JUDGE
    about = f"servers had a processor {share:.0%} of the time{'' if is_judged else ', too little to judge by'}"
    return [
        *_figures(f"{_SECTION} takes; {about}", Rounds(elapsed_us), has_targets=is_judged),
        *_figures(f"{_SECTION} takes of the server's processor", Rounds(processor_us), has_targets=False),
    ]


def _figures(section: str, measured: Rounds, has_targets: bool) -> Iterator[Figure]:
    for name, peer, short, share in _FIGURES:
        typical, aims = measured.typical(name), dict[str, Any]()
        if peer is not None:
            aims = {"peer_name": short, "peer": typical * measured.ratio(peer, to=name)}
        if has_targets:
            aims["times_better"] = share
        yield Figure(section, name, "us", typical, measured.least(name), **aims)


def _load(seconds: int, server: _Server) -> tuple[int, float]:
    """How many requests it answered, and in how many seconds."""
    times = ["--duration", str(seconds), "--timeout", str(_PATIENCE_S)]
    command = ["wrk", "--threads", "1", "--connections", str(_CONNECTIONS), *times, server.url]
    said = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"wrk says {said!r}")
    return int(found[1]), float(found[2])


def _prove(name: str, server: _Server) -> None:
    with urllib.request.urlopen(server.url, timeout=_PATIENCE_S) as answer:
        if ("x-ratelimit-remaining" in answer.headers) != name.endswith("headers"):
            raise RuntimeError(f"{name}: unexpected headers {answer.headers.items()}")


@contextmanager
def _serving(name: str) -> Iterator[_Server]:
    command = [sys.executable, str(Path(__file__).resolve()), name]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the server of {name} has ended")
        yield _Server(f"http://127.0.0.1:{port}/ping", process)
    finally:
        process.terminate()
        process.wait()


def _serve(name: str) -> None:
    config = uvicorn.Config(_APPS[name](), loop="uvloop", http="httptools", log_level="warning", access_log=False)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    _serve(sys.argv[1])
