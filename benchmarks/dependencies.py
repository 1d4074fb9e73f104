"""What a `Depends(RateLimit)` adds to an endpoint of FastAPI, over dependencies that do nothing."""

from __future__ import annotations

from typing import Any

import slowapi
import slowapi.util
from endpoints import LIMIT, app_of
from fastapi import Depends, FastAPI, Request
from figures import Figure, Rounds
from in_process import take_turns
from starlette.requests import HTTPConnection

import slidegate
import slidegate.util

_SECTION = "Dependencies of FastAPI in process; one limit that nothing reaches, by address"
_EMPTY = "an empty dependency"
_TWO_EMPTY = "two empty dependencies, one of the other"


async def empty(connection: HTTPConnection) -> None:
    pass


async def _user(request: Request) -> str:
    return "ada"


async def _empty_of_a_user(connection: HTTPConnection, user: str = Depends(_user)) -> None:
    pass


def measure(rounds: int) -> list[Figure]:
    their_limiter = slowapi.Limiter(key_func=slowapi.util.get_remote_address)
    return _figures(
        take_turns(
            {
                "plain": app_of(),
                _EMPTY: depending_on(empty),
                "RateLimit": depending_on(slidegate.RateLimit(LIMIT)),
                _TWO_EMPTY: depending_on(_empty_of_a_user),
                "RateLimit, key=Depends": depending_on(slidegate.RateLimit(LIMIT, key=Depends(_user))),
                "slowapi's decorator": app_of(their_limiter.limit(LIMIT), their_limiter),
            },
            "/ping",
            rounds,
        )
    )


def depending_on(dependency: Any, **options: Any) -> FastAPI:
    """An application whose one endpoint has this dependency; the options are those of its limiter."""
    limiter = slidegate.Limiter(key_func=slidegate.util.get_remote_address, **options)
    return app_of(limiter=limiter, dependencies=[Depends(dependency)])


def _figures(measured: Rounds) -> list[Figure]:
    def adds(name: str, to: str, **aims: Any) -> Figure:
        return measured.figure_of_added(_SECTION, name, to=to, **aims)

    theirs: dict[str, Any] = {"peer_name": "slowapi", "peer": measured.added("slowapi's decorator", to="plain")}
    return [
        # What FastAPI needs for itself to solve a dependency: no limit that is one adds less to an endpoint.
        Figure(_SECTION, "endpoint without dependencies", "us", measured.typical("plain"), measured.least("plain")),
        adds(_EMPTY, to="plain"),
        adds(_TWO_EMPTY, to="plain"),
        adds("RateLimit", to=_EMPTY, times_better=3, **theirs),
        adds("RateLimit, key=Depends", to=_TWO_EMPTY, times_better=2, **theirs),
        adds("slowapi's decorator", to="plain"),
    ]
