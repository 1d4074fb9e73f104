"""Limits of zero and of infinity, limits that are none, and what holds while a limit cannot be had."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import Depends, FastAPI, Request
from limits import parse

from slidegate import Limiter, RateLimit, RateLimitExceeded
from slidegate._core import Quota
from slidegate._rules.notation import quota_of
from slidegate.errors import ConfigurationError
from slidegate.middleware import SlowAPIMiddleware
from slidegate.testing import ManualClock
from slidegate.util import get_remote_address

MakeApp = Callable[[Limiter], FastAPI]
MakeLimiter = Callable[..., Limiter]
STRATEGIES = ["moving-window", "fixed-window", "sliding-window-counter", "gcra"]
KEY = {"X-API-Key": "k"}


@pytest.fixture(params=["memory://", "redis", "slidegate-test-faulty://", "async+slidegate-test-faulty://"])
def uri(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("server").uri if request.param == "redis" else request.param


def by_api_key(request: Request) -> str:
    return request.headers.get("x-api-key", "anonymous")


def tier(key: str) -> str:
    return "0/minute" if key == "anonymous" else "2/minute"


def answer() -> str:
    return "ok"


async def answer_async() -> str:
    return "ok"


@pytest.mark.parametrize("defaults", [[], ["100/minute"]])
@pytest.mark.parametrize("function", [answer, answer_async])
def test_fault_37_a_tier_of_zero_refuses_on_every_storage(
    uri: str, function: Any, defaults: list[str], make_app: MakeApp
) -> None:
    limiter = Limiter(by_api_key, storage_uri=uri, default_limits=defaults, key_prefix=f"{function.__name__}{defaults}")
    app = make_app(limiter)
    app.get("/")(limiter.limit(tier)(function))
    app.get("/depends", dependencies=[Depends(RateLimit(tier))])(answer_async)
    client = Client(app)
    for path in ("/", "/depends"):
        assert client.statuses(path, 3) == [429] * 3
        assert client.statuses(path, 3, headers=KEY) == [200, 200, 429]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fault_37_a_declared_limit_of_zero_refuses_with_a_warning(
    strategy: str, make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = make_limiter(strategy=strategy, headers_enabled=True)
    app = make_app(limiter)
    app.get("/")(limiter.limit("9/minute; 0/hour")(answer))
    assert [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING] == [
        f'{__name__}.answer: the limit "0 per 1 hour" refuses every request'
    ]
    response = Client(app).get("/")
    assert (response.status_code, response.json()) == (429, {"error": "Rate limit exceeded: 0 per 1 hour"})
    assert (response.headers["X-RateLimit-Limit"], response.headers["X-RateLimit-Remaining"]) == ("0", "0")
    assert response.headers["Retry-After"] == "3600"


def test_fault_37_what_zero_refuses_takes_nothing_of_the_other_limits(limiter: Limiter, make_app: MakeApp) -> None:
    limits = ["9/minute; 0/minute"]
    app = make_app(limiter)
    app.get("/")(limiter.limit(lambda: limits[0])(answer))
    assert Client(app).statuses("/", 3) == [429] * 3
    limits[0] = "9/minute"
    assert Client(app).statuses("/", 10) == [200] * 9 + [429]


def test_fault_37_zero_and_one_are_two_limits_of_one_route(limiter: Limiter, make_app: MakeApp) -> None:
    app = make_app(limiter)
    app.get("/")(limiter.limit("0/minute")(limiter.limit("1/minute")(answer)))
    assert Client(app).statuses("/", 2) == [429] * 2


@pytest.mark.parametrize("argument", ["default_limits", "application_limits"])
def test_fault_37_limits_of_zero_of_the_limiter_refuse(
    argument: str, make_limiter: MakeLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()
    app.state.limiter = make_limiter(**{argument: ["0/minute"]})
    app.add_middleware(SlowAPIMiddleware)
    app.get("/")(answer)
    assert Client(app).statuses("/", 2) == [429] * 2
    assert f'{argument}: the limit "0 per 1 minute" refuses every request' in caplog.messages


def test_fault_37_zero_refuses_while_the_storage_is_out_and_open(make_app: MakeApp) -> None:
    limiter = Limiter(get_remote_address, storage_uri="redis://127.0.0.1:1", on_error="open")
    app = make_app(limiter)
    app.get("/")(limiter.limit("0/minute")(answer))
    app.get("/other")(limiter.limit("1/minute")(answer_async))
    assert [Client(app).statuses(path, 2) for path in ("/", "/other")] == [[429] * 2, [200] * 2]


def test_fault_37_a_fallback_of_zero_refuses(make_app: MakeApp) -> None:
    limiter = Limiter(get_remote_address, storage_uri="redis://127.0.0.1:1", in_memory_fallback=["0/minute"])
    app = make_app(limiter)
    app.get("/")(limiter.limit("9/minute")(answer))
    assert Client(app).statuses("/", 2) == [429] * 2


def test_fault_37_checks_by_hand_refuse_at_zero(limiter: Limiter) -> None:
    with pytest.raises(RateLimitExceeded):
        limiter.check_sync(None, "0/minute", key="ada", scope="mail")
    assert not limiter.peek_sync(None, "0/minute", key="ada", scope="mail").allowed
    assert limiter.check_sync(None, "99999999999/minute", key="ada", scope="mail").limit == 8_388_607
    nothing = parse("0/minute")
    assert not limiter.limiter.hit(nothing, "ada", "/")
    assert not limiter.limiter.test(nothing, "ada", "/")
    assert limiter.limiter.get_window_stats(nothing, "ada", "/").remaining == 0
    limiter.limiter.clear(nothing, "ada", "/")
    huge = parse("99999999999/minute")
    assert limiter.limiter.hit(huge, "ada", "/mail:GET")
    assert limiter.limiter.get_window_stats(huge, "ada", "/mail:GET").remaining == 8_388_606
    assert limiter._storage.get("LIMITER/ada//mail:GET/8388607/1/minute") == 1
    assert limiter._storage.get("LIMITER/ada//mail:GET/99999999999/1/minute") == 0


def test_fault_37_named_limits_may_be_set_to_zero_and_back(
    make_limiter: MakeLimiter,
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("RATE_MAIL", "0/minute")
    limiter = make_limiter(env_prefix="RATE_")
    app = make_app(limiter)
    app.get("/mail")(limiter.limit("9/minute", name="mail")(answer))
    app.get("/chat", dependencies=[Depends(RateLimit("3/minute", name="chat"))])(answer_async)
    client = Client(app)
    assert client.statuses("/mail", 2) == [429] * 2
    assert caplog.messages.count('RATE_MAIL: the limit "0 per 1 minute" refuses every request') == 1
    assert client.statuses("/chat", 1) == [200]
    limiter.set_limit("chat", "0/minute")
    assert client.statuses("/chat", 2) == [429] * 2
    assert "set_limit('chat'): the limit \"0 per 1 minute\" refuses every request" in caplog.messages
    limiter.set_limit("chat", "3/minute")
    # What was used before goes on to count.
    assert client.statuses("/chat", 3) == [200, 200, 429]


def test_fault_37_zero_in_shadow_refuses_nobody(limiter: Limiter, make_app: MakeApp) -> None:
    app = make_app(limiter)
    app.get("/")(limiter.limit("0/minute", shadow=True)(answer))
    assert Client(app).statuses("/", 2) == [200] * 2


@pytest.mark.parametrize("default", ["1/minute", "100/minute"])
def test_fault_37_a_dynamic_limit_that_fails_is_never_laxer_than_the_last_that_worked(
    default: str, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    given: list[Any] = ["3/minute"]
    limiter = make_limiter(default_limits=[default])
    app = make_app(limiter)
    app.get("/")(limiter.limit(lambda: given[0])(answer))
    client = Client(app)
    assert client.statuses("/", 1) == [200]
    given[0] = "3/fortnight"
    # Both hold, so that it is the strictest of them that refuses.
    assert client.statuses("/", 3) == ([200, 429, 429] if default == "1/minute" else [200, 200, 429])


def test_fault_37_what_was_refused_stays_refused_when_its_limit_fails(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    is_down = [False]

    def asked(key: str) -> str:
        if is_down[0]:
            raise ConnectionError("tiers are out")
        return tier(key)

    limiter = make_limiter(key_func=by_api_key, default_limits=["100/minute"])
    app = make_app(limiter)
    app.get("/")(limiter.limit(asked)(answer))
    client = Client(app)
    assert (client.statuses("/", 1), client.statuses("/", 1, headers=KEY)) == ([429], [200])
    is_down[0] = True
    assert (client.statuses("/", 2), client.statuses("/", 2, headers=KEY)) == ([429, 429], [200, 429])
    # Of whom nothing is known has the default.
    assert client.statuses("/", 101, headers={"X-API-Key": "new"}) == [200] * 100 + [429]


def test_fault_37_what_else_is_declared_for_the_route_stands_in(limiter: Limiter, make_app: MakeApp) -> None:
    app = make_app(limiter)
    app.get("/")(limiter.limit("2/minute")(limiter.limit(lambda: "nonsense")(answer)))
    assert Client(app).statuses("/", 3) == [200, 200, 429]


def test_fault_37_the_other_defaults_stand_in_for_one_that_fails(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(default_limits=["2/minute", lambda: "nonsense"])
    app = make_app(limiter)
    app.add_middleware(SlowAPIMiddleware)
    app.get("/middleware")(answer_async)
    app.get("/")(limiter.limit("9/minute", override_defaults=False)(answer))
    app.get("/dynamic")(limiter.limit(lambda: "nonsense")(answer))
    for path in ("/middleware", "/", "/dynamic"):
        assert Client(app).statuses(path, 3) == [200, 200, 429]


@pytest.mark.parametrize("none", [None, "", "  "])
def test_fault_37_none_is_no_limit_and_said_once(
    none: Any, make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = make_limiter()
    app = make_app(limiter)
    app.get("/")(limiter.limit(lambda: none)(answer))
    app.get("/depends", dependencies=[Depends(RateLimit(lambda: none))])(answer_async)
    assert "which has been none for some requests" not in str(limiter.report(app))
    assert Client(app).statuses("/", 3) == [200] * 3
    assert Client(app).statuses("/depends", 3) == [200] * 3
    assert [message.partition(": ")[0].rpartition(".")[2] for message in caplog.messages] == ["answer", "answer_async"]
    assert str(limiter.report(app)).count("which has been none for some requests") == 2


def test_fault_37_none_leaves_the_other_limits_and_the_defaults(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(default_limits=["1/minute"])
    app = make_app(limiter)
    app.get("/alone")(limiter.limit(lambda: None)(answer))
    app.get("/beside")(limiter.limit("2/minute")(limiter.limit(lambda: None)(answer_async)))
    assert Client(app).statuses("/alone", 2) == [200, 429]
    assert Client(app).statuses("/beside", 3) == [200, 200, 429]


@pytest.mark.parametrize(
    "most", ["inf", "inf/minute", "inf per 2 hours", "Infinity/day", "99999999999999999999/minute"]
)
@pytest.mark.parametrize("is_dynamic", [False, True])
def test_fault_37_infinity_is_the_highest_limit(
    most: str, is_dynamic: bool, limiter: Limiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(limiter)
    app.get("/")(limiter.limit((lambda: most) if is_dynamic else most)(answer))
    assert Client(app).statuses("/", 3) == [200] * 3
    assert ("8388607 is the most there is" in caplog.text) is not is_dynamic


def test_fault_37_a_callable_may_return_the_number(limiter: Limiter, make_app: MakeApp) -> None:
    app = make_app(limiter)
    app.get("/")(limiter.limit(lambda: float("inf"))(answer))
    assert Client(app).statuses("/", 3) == [200] * 3


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("notation", ["{}/second", "{}/day"])
def test_fault_37_the_highest_limit_is_that_of_the_engine(strategy: Any, notation: str, clock: ManualClock) -> None:
    limiter = Limiter(get_remote_address, strategy=strategy, clock=clock)
    decision = limiter.check_sync(None, notation.format("inf"), key="ada", scope="mail")
    item = decision.item
    Quota(item.amount, item.get_expiry() * 1_000_000_000, strategy)
    with pytest.raises(ValueError, match=r"at most|must be from 1"):
        Quota(item.amount + 1, item.get_expiry() * 1_000_000_000, strategy)
    with pytest.raises(ConfigurationError, match="the window"):
        quota_of(parse("0/6 years"), strategy, "here")
