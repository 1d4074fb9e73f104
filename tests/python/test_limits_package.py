"""Limiters whose storage is one of the `limits` package."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from typing import Any, ClassVar

import limits.storage
import pytest
from conftest import Client
from faulty_storages import URIS, Faults, MakeApp, app_of, limiter_on

import slidegate._storage.circuit_breaker
import slidegate.limits_storage
from slidegate import ConfigurationError
from slidegate.middleware import SlowAPIMiddleware

pytestmark = pytest.mark.usefixtures("faults")


class FixedOnlyStorage(limits.storage.Storage):
    """As Memcached is: without moving windows."""

    STORAGE_SCHEME: ClassVar = ["slidegate-test-fixed"]

    def __init__(self, uri: str | None = None, **options: Any) -> None:
        super().__init__(uri)
        self.counts: dict[str, int] = {}

    base_exceptions = ConnectionError

    def incr(self, key: str, expiry: float, *args: Any, amount: int = 1, **kwargs: Any) -> int:
        self.counts[key] = self.counts.get(key, 0) + amount
        return self.counts[key]

    def get(self, key: str) -> int:
        return self.counts.get(key, 0)

    def get_expiry(self, key: str) -> float:
        return time.time() + 60

    def check(self) -> bool:
        return True

    def reset(self) -> None:
        raise NotImplementedError

    def clear(self, key: str) -> None:
        self.counts.pop(key, None)


class TellingStorage(FixedOnlyStorage):
    """Says more than it should."""

    STORAGE_SCHEME: ClassVar = ["slidegate-test-telling"]

    def __init__(self, uri: str | None = None, **options: Any) -> None:
        raise ValueError(f"cannot reach {uri}, with the password {str(uri).split(':')[2].split('@')[0]}")


@pytest.mark.parametrize("path", ["/async", "/sync"])
@pytest.mark.parametrize("strategy", [None, "moving-window", "fixed-window"])
@pytest.mark.parametrize("uri", URIS)
def test_a_limit_holds_and_headers_tell_of_it(make_app: MakeApp, uri: str, strategy: str | None, path: str) -> None:
    client = Client(app_of(make_app, limiter_on(uri, strategy=strategy, headers_enabled=True)))
    answers = [client.get(path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert answers[-1].json() == {"error": "Rate limit exceeded: 2 per 1 minute"}


@pytest.mark.parametrize("uri", URIS)
def test_the_middleware_counts_there_too(make_app: MakeApp, uri: str) -> None:
    limiter = limiter_on(uri, default_limits=["2/minute"])
    app = app_of(make_app, limiter)
    app.add_middleware(SlowAPIMiddleware)
    assert Client(app).statuses("/free", 3) == [200, 200, 429]


@pytest.mark.parametrize("uri", URIS)
def test_a_refusal_by_one_limit_takes_nothing_of_the_others(make_app: MakeApp, uri: str) -> None:
    limiter = limiter_on(uri)
    client = Client(app_of(make_app, limiter, "2/minute; 3/hour"))
    assert client.statuses("/async", 6) == [200, 200, 429, 429, 429, 429]
    (hourly,) = (each.limit for each in next(iter(limiter._route_limits.values())) if each.limit.amount == 3)
    left = limiter.limiter.get_window_stats(hourly, "192.0.2.1", "/async")
    left = asyncio.run(left) if asyncio.iscoroutine(left) else left
    assert left.remaining == 1


def test_costs_prefixes_and_options_arrive(make_app: MakeApp) -> None:
    limiter = limiter_on(URIS[0], key_prefix="app", strategy="fixed-window", storage_options={"timeout": 7})
    client = Client(app_of(make_app, limiter, "10/minute", cost=3))
    assert client.statuses("/async", 4) == [200, 200, 200, 429]
    assert limiter._storage.options == {"timeout": 7}
    assert limiter._storage.get("LIMITER/app/192.0.2.1//async/10/1/minute") > 0
    limiter.reset()
    assert client.statuses("/async", 1) == [200]


@pytest.mark.parametrize("path", ["/async", "/sync"])
@pytest.mark.parametrize("uri", URIS)
def test_errors_of_the_storage_are_errors_of_the_requests(
    make_app: MakeApp, faults: Faults, uri: str, path: str
) -> None:
    client = Client(app_of(make_app, limiter_on(uri)))
    faults.is_down = True
    assert client.statuses(path, 2) == [500, 500]
    faults.is_down = False
    assert client.statuses(path, 3) == [200, 200, 429]


@pytest.mark.parametrize("path", ["/async", "/sync"])
@pytest.mark.parametrize("uri", URIS)
def test_a38_swallowed_errors_let_requests_pass_and_are_logged(
    make_app: MakeApp, faults: Faults, uri: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(app_of(make_app, limiter_on(uri, swallow_errors=True)))
    faults.is_down = True
    assert client.statuses(path, 3) == [200] * 3
    assert caplog.messages == ["Failed to rate limit. Swallowing error"] * 3


@pytest.mark.parametrize("path", ["/async", "/sync"])
@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize(
    ("on_error", "statuses"), [("open", [200] * 3), ("closed", [503] * 3), ("local", [200, 200, 429])]
)
@pytest.mark.parametrize("is_of_limit", [True, False])
def test_a_policy_says_what_errors_of_the_storage_come_to(
    make_app: MakeApp, faults: Faults, uri: str, path: str, on_error: Any, statuses: list[int], is_of_limit: bool
) -> None:
    of_limiter, of_limit = ({}, {"on_error": on_error}) if is_of_limit else ({"on_error": on_error}, {})
    limiter = limiter_on(uri, **of_limiter)
    client = Client(app_of(make_app, limiter, **of_limit))
    faults.is_down = True
    assert client.statuses(path, 3) == statuses
    assert not limiter.health().is_available
    assert limiter.health().outages == 1
    assert str(limiter.health().last_error).startswith("ConnectionError")


@pytest.mark.parametrize("path", ["/async", "/sync"])
@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize(
    ("options", "statuses"),
    [
        ({"in_memory_fallback_enabled": True}, [200, 200, 429]),
        ({"in_memory_fallback": ["1/minute"]}, [200, 429, 429]),
    ],
)
def test_a40_limits_hold_meanwhile_and_the_storage_is_taken_up_again(
    make_app: MakeApp,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    uri: str,
    path: str,
    options: Any,
    statuses: list[int],
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(slidegate._storage.circuit_breaker, "monotonic", lambda: now_s[0])
    caplog.set_level(logging.INFO, "slidegate")
    limiter = limiter_on(uri, **options)
    client = Client(app_of(make_app, limiter))
    faults.is_down = True
    assert client.statuses(path, 3) == statuses
    assert [message for message in caplog.messages if "unreachable" in message] != []
    assert limiter.limiter is limiter._local_counter
    assert faults.checks == 0, "not yet"
    asked_after: list[float] = []
    for _ in range(64):
        now_s[0] += 1
        before = faults.checks
        client.get(path)
        wait_for_probes()
        if faults.checks > before:
            asked_after.append(now_s[0] - 1000)
    assert [int(after) for after in asked_after] == [1, 3, 7, 15, 31, 63]
    faults.is_down = False
    now_s[0] += 32
    client.get(path)
    wait_for_probes()
    assert client.statuses(path, 3) == [200, 200, 429]
    assert caplog.messages[-1].startswith(("Rate limit storage recovered", "ratelimit"))
    assert "Rate limit storage recovered" in caplog.messages


def wait_for_probes() -> None:
    for thread in threading.enumerate():
        if thread.name == "slidegate storage probe":
            thread.join(20)


def test_what_cannot_be_is_an_error_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"gcra.*fixed-window.*, moving-window"):
        limiter_on(URIS[0], strategy="gcra")
    with pytest.raises(ConfigurationError, match=r"no storage 'no-such://'.*redis://"):
        limiter_on("no-such://host")
    with pytest.raises(ConfigurationError, match=r"deduct_when.*memory://, shared://, file://, redis://"):
        limiter_on(URIS[0]).limit("1/minute", deduct_when=lambda response: True)(lambda: None)
    with pytest.raises(ConfigurationError, match="names no service"):
        limiter_on("redis+sentinel://127.0.0.1:1")


# Clients that are not installed here, and what to install for them.
@pytest.mark.parametrize(("scheme", "client"), [("mongodb", "pymongo"), ("async+mongodb", "motor")])
# The storages of MongoDB close in their destructors what they have not opened.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_that_is_not_installed_is_named(scheme: str, client: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{re.escape(scheme)}://.*; pip install {client}($|,)"):
        limiter_on(f"{scheme}://127.0.0.1:1")


@pytest.mark.parametrize("uri", ["async+memory://", "slidegate://", "async+slidegate://"])
def test_storages_of_limits_in_memory_count_too(make_app: MakeApp, uri: str) -> None:
    client = Client(app_of(make_app, limiter_on(uri)))
    assert client.statuses("/async", 3) == [200, 200, 429]
    assert client.statuses("/sync", 3) == [200, 200, 429]


@pytest.mark.parametrize(
    "uri", ["redis://user:s3cret@127.0.0.1:x", "slidegate-test-telling://user:s3cret@127.0.0.1:1/5"]
)
def test_errors_tell_no_credentials(uri: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        limiter_on(uri)
    assert uri.partition("://")[0] in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_storage_without_moving_windows_counts_in_fixed_ones(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = limiter_on("slidegate-test-fixed://")
    assert Client(app_of(make_app, limiter)).statuses("/async", 3) == [200, 200, 429]
    assert "fixed-window" in caplog.text
    limiter.reset()
    assert "does not support being reset" in caplog.text
    with pytest.raises(ConfigurationError, match="it has 'fixed-window'"):
        limiter_on("slidegate-test-fixed://", strategy="moving-window")
