"""What limits that are counted in a Redis server on the loopback add to an endpoint of FastAPI."""

from __future__ import annotations

from time import perf_counter_ns, process_time_ns
from typing import Any

import redis_server
import slowapi
import slowapi.util
from dependencies import depending_on, empty
from endpoints import LIMIT, app_of
from figures import Figure, Rounds
from in_process import take_turns

import slidegate
import slidegate.util

_AT_ONCE = 100
_SECTION = "FastAPI in process, counted in Redis on the loopback"
_SLOWAPI = "slowapi's decorator"
_EMPTY = "an empty dependency"


def measure(rounds_alone: int, rounds_at_once: int) -> list[Figure]:
    with redis_server.running() as port:
        uri = f"redis://127.0.0.1:{port}"
        ours, theirs = (
            package.Limiter(key_func=package.util.get_remote_address, storage_uri=uri)
            for package in (slidegate, slowapi)
        )
        apps = {
            "plain": app_of(),
            "slidegate's decorator": app_of(ours.limit(LIMIT), ours),
            _EMPTY: depending_on(empty),
            "RateLimit": depending_on(slidegate.RateLimit(LIMIT), storage_uri=uri),
            _SLOWAPI: app_of(theirs.limit(LIMIT), theirs),
        }
        figures = []
        for how, rounds, at_once, clock in (
            ("one request at a time", rounds_alone, 1, perf_counter_ns),
            (f"{_AT_ONCE} at once", rounds_at_once, _AT_ONCE, perf_counter_ns),
            (f"{_AT_ONCE} at once, without what is waited for", rounds_at_once, _AT_ONCE, process_time_ns),
        ):
            figures += _figures(f"{_SECTION}; {how}", take_turns(apps, "/ping", rounds, at_once, clock))
        return figures


def _figures(section: str, measured: Rounds) -> list[Figure]:
    def adds(name: str, to: str = "plain", **aims: Any) -> Figure:
        return measured.figure_of_added(section, name, to=to, **aims)

    theirs: dict[str, Any] = {"peer_name": "slowapi", "peer": measured.added(_SLOWAPI, to="plain")}
    return [
        Figure(section, "endpoint without a limit", "us", measured.typical("plain"), measured.least("plain")),
        adds("slidegate's decorator", **theirs),
        adds("RateLimit", to=_EMPTY, **theirs),
        adds(_SLOWAPI),
    ]
