"""What a decorator, or a check that the endpoint makes itself, adds to an endpoint of FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import slowapi
import slowapi.util
from fastapi import FastAPI, Request, Response
from figures import Figure, Rounds
from in_process import take_turns

import slidegate
import slidegate.util

LIMIT = "1000000/minute"
TWO_LIMITS = f"{LIMIT}; 8000000/day"
_SECTION = "FastAPI in process; limits that nothing reaches, by address"
Endpoint: TypeAlias = Callable[..., Any]
_Decorator: TypeAlias = Callable[[Endpoint], Endpoint]


def _tier(key: str) -> str:
    return LIMIT


def _cost(request: Request) -> int:
    return 1


@dataclass(frozen=True)
class _Case:
    """A decorator that both have, and what ours is to come to."""

    name: str = ""
    limit: Any = LIMIT
    options: dict[str, Any] = field(default_factory=dict)
    headers: bool = False
    times_better: float | None = None

    def decorated_by(self, package: Any) -> FastAPI:
        limiter = package.Limiter(key_func=package.util.get_remote_address, headers_enabled=self.headers)
        return app_of(limiter.limit(self.limit, **self.options), limiter)


_CASES = (
    _Case(times_better=12),
    _Case(", headers", headers=True),
    _Case(", two limits, headers", TWO_LIMITS, headers=True, times_better=10),
    _Case(", tier callable", _tier, times_better=3),
    _Case(", cost callable", options={"cost": _cost}, times_better=3),
)
_CHECK_TIMES_BETTER = 2


def measure(rounds: int) -> list[Figure]:
    apps = {"plain": app_of(), "slidegate, await check()": _checking()}
    for case in _CASES:
        apps[f"slidegate{case.name}"] = case.decorated_by(slidegate)
        apps[f"slowapi{case.name}"] = case.decorated_by(slowapi)
    return _figures(take_turns(apps, "/ping", rounds))


def pong() -> Endpoint:
    """An endpoint that does as little as one can: all that is added shows."""

    async def ping(request: Request) -> Response:
        return Response("pong")

    return ping


def app_of(
    decorator: _Decorator | None = None, limiter: Any = None, make: Callable[[], Endpoint] = pong, **options: Any
) -> FastAPI:
    """An application with what `make` makes as its one endpoint, so decorated; the options are those of its route."""
    app = FastAPI()
    app.state.limiter = limiter
    app.get("/ping", **options)(decorator(make()) if decorator else make())
    return app


def _checking() -> FastAPI:
    limiter = slidegate.Limiter(key_func=slidegate.util.get_remote_address)

    async def ping(request: Request) -> Response:
        await limiter.check(request, LIMIT)
        return Response("pong")

    return app_of(limiter=limiter, make=lambda: ping)


def _figures(measured: Rounds) -> list[Figure]:
    def adds(name: str, peer: str | None = None, **aims: Any) -> Figure:
        if peer is not None:
            aims |= {"peer_name": "slowapi", "peer": measured.added(peer, to="plain")}
        return measured.figure_of_added(_SECTION, name, to="plain", **aims)

    figures = [Figure(_SECTION, "endpoint without a limit", "us", measured.typical("plain"), measured.least("plain"))]
    for case in _CASES:
        ours, theirs = f"slidegate{case.name}", f"slowapi{case.name}"
        figures += [adds(ours, theirs, times_better=case.times_better), adds(theirs)]
    return [*figures, adds("slidegate, await check()", "slowapi", times_better=_CHECK_TIMES_BETTER)]
