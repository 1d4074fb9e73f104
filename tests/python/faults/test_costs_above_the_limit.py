"""Requests that cost more than their limit ever admits: told where it is declared, and never told to come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import limits.strategies
import pytest
from conftest import Client
from fastapi import Depends, FastAPI, Request
from redis_servers import RedisServer
from websocket_clients import chatting, talk

from slidegate import Limiter, _rate_limit_exceeded_handler
from slidegate.dependencies import RateLimit
from slidegate.errors import ConfigurationError, RateLimitExceeded
from slidegate.middleware import SlowAPIMiddleware
from slidegate.util import get_remote_address

NEVER = "the request costs more than that, so that it never fits"


def limiter_of(**options: Any) -> Limiter:
    return Limiter(key_func=get_remote_address, **options)


DECLARED: dict[str, Callable[[Limiter], Any]] = {
    "a decorator": lambda limiter: limiter.limit("10/minute", cost=11)(lambda: None),
    "a shared one": lambda limiter: limiter.shared_limit("10/minute", "all", cost=11)(lambda: None),
    "a dependency": lambda limiter: RateLimit("10/minute", cost=11, limiter=limiter),
    "one of several limits": lambda limiter: limiter.limit("100/hour;10/minute", cost=11)(lambda: None),
    "a fraction": lambda limiter: limiter.limit("10/minute", cost=10.1)(lambda: None),
    "a huge one": lambda limiter: limiter.limit("10/minute", cost=10**40)(lambda: None),
    "a shadow": lambda limiter: limiter.limit("10/minute", cost=11, shadow=True)(lambda: None),
}


@pytest.mark.parametrize("case", DECLARED)
def test_fault_25_a_constant_cost_above_the_limit_is_an_error_where_it_is_declared(case: str) -> None:
    with pytest.raises(ConfigurationError, match="a cost of at most 10, or a higher limit"):
        DECLARED[case](limiter_of())


def test_fault_25_a_cost_that_is_the_whole_limit_is_none() -> None:
    app, limiter = FastAPI(), limiter_of()
    app.get("/")(limiter.limit("10/minute", cost=9.5)(lambda: "ok"))
    assert Client(app).statuses("/", 2) == [200, 429]


def test_fault_25_a_limit_that_is_configured_below_the_cost_is_an_error_where_it_is_declared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATE_UPLOAD", "3/minute")
    limiter = limiter_of(env_prefix="GATE_")
    with pytest.raises(ConfigurationError, match=r"GATE_UPLOAD.*a cost of at most 3"):
        limiter.limit("10/minute", cost=5, name="upload")(lambda: None)


def test_fault_25_a_limit_that_is_set_below_the_cost_is_an_error_and_changes_nothing() -> None:
    app, limiter = FastAPI(), limiter_of()
    app.get("/")(limiter.limit("10/minute", cost=5, name="upload")(lambda: "ok"))
    with pytest.raises(ConfigurationError, match="a cost of at most 3"):
        limiter.set_limit("upload", "3/minute")
    assert Client(app).statuses("/", 3) == [200, 200, 429]


def test_fault_25_a_limit_of_zero_refuses_whatever_it_costs() -> None:
    app, limiter = FastAPI(), limiter_of()
    app.get("/")(limiter.limit("0/minute", cost=5)(lambda: "ok"))
    assert Client(app).statuses("/", 1) == [429]


# --- what a callable says ---------------------------------------------------------------------------------------------


STORAGES = ["memory", "redis", "redis, again", "limits"]


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, server: RedisServer, tmp_path: Path) -> dict[str, Any]:
    if request.param == "memory":
        return {}
    if request.param == "limits":
        return {"storage_uri": "async+memory://"}
    return {"storage_uri": server.uri + ("" if "again" in request.param else "?deny_cache_ms=0")}


def cost_of(request: Request) -> int:
    return int(request.query_params.get("cost", 1))


STRATEGIES = ["moving-window", "fixed-window", "sliding-window-counter"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("headers", [None, ["x-ratelimit", "ietf", "openai"]])
@pytest.mark.parametrize("way", ["decorator", "dependency"])
def test_fault_25_a_request_that_never_fits_is_not_told_to_come_back(
    storage: dict[str, Any], strategy: str, headers: Any, way: str
) -> None:
    if "async" in storage.get("storage_uri", "") and strategy not in limits.strategies.STRATEGIES:
        pytest.skip("this version of limits has no sliding-window counter")
    app = FastAPI()
    limiter = limiter_of(strategy=strategy, headers=headers, key_prefix=f"{strategy}{headers}{way}{storage}", **storage)
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
    if way == "decorator":
        app.get("/")(limiter.limit("10/minute", cost=cost_of)(lambda: "ok"))
    else:
        app.get("/", dependencies=[Depends(RateLimit("10/minute", cost=cost_of))])(lambda: "ok")
    client = Client(app)
    for cost in (11, 11, 10**25):
        response = client.get(f"/?cost={cost}")
        assert (response.status_code, response.json()) == (
            429,
            {"error": f"Rate limit exceeded: 10 per 1 minute; {NEVER}"},
        )
        assert "Retry-After" not in response.headers
    assert client.get("/?cost=10").status_code == 200
    used_up = client.get("/")
    assert NEVER not in used_up.text
    assert int(used_up.headers["Retry-After"]) in range(1, 62)
    never = client.get("/?cost=11")
    assert (never.status_code, "Retry-After" in never.headers, NEVER in never.text) == (429, False, True)
    limiter.close()


def test_fault_25_problem_details_say_so_too() -> None:
    app = FastAPI()
    app.state.limiter = limiter = limiter_of()
    limiter.problem_details_enabled = True
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
    app.get("/")(limiter.limit("10/minute", cost=cost_of)(lambda: "ok"))
    response = Client(app).get("/?cost=11")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "retry_after_s" not in response.json()
    assert response.json()["detail"] == f"Rate limit exceeded: 10 per 1 minute; {NEVER}"
    assert "Retry-After" not in response.headers


def test_fault_25_a_body_without_the_handler_and_one_with_a_message_say_so_too() -> None:
    app, limiter = FastAPI(), limiter_of()
    app.get("/plain")(limiter.limit("10/minute", cost=cost_of)(lambda: "ok"))
    app.get("/own")(limiter.limit("10/minute", cost=cost_of, error_message="Too much")(lambda: "ok"))
    client = Client(app)
    assert client.get("/plain?cost=11").json() == {"detail": f"10 per 1 minute; {NEVER}"}
    assert client.get("/own?cost=11").json() == {"detail": f"Too much; {NEVER}"}


def test_fault_25_middleware_and_retry_after_on_success_do_not_bring_it_back() -> None:
    app = FastAPI()
    app.state.limiter = limiter = limiter_of(
        headers_enabled=True, retry_after_on_success=True, default_limits=["100/hour"]
    )
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
    app.add_middleware(SlowAPIMiddleware)
    app.get("/")(limiter.limit("10/minute", cost=cost_of, override_defaults=False)(lambda: "ok"))
    assert "Retry-After" not in Client(app).get("/?cost=11").headers


def test_fault_25_a_check_by_hand_says_so_in_its_decision() -> None:
    limiter = limiter_of()
    with pytest.raises(RateLimitExceeded) as raised:
        limiter.check_sync(None, "10/minute", key="ada", scope="mail", cost=11)
    assert raised.value.decision is not None
    assert raised.value.decision.retry_after_s is None
    assert not raised.value.headers
    assert limiter.peek_sync(None, "10/minute", key="ada", scope="mail", cost=11).retry_after_s is None


def test_fault_25_a_websocket_is_told_so() -> None:
    app, limiter = FastAPI(), limiter_of()
    app.state.limiter = limiter
    chatting(app, RateLimit("3/minute"))
    assert talk(app, "/chat", "a", "much") == [
        *(("accept", None), ("send", "2"), ("close", 1008)),
        ("reason", f"Rate limit exceeded: 3 per 1 minute; {NEVER}"),
    ]


def test_fault_25_a_share_that_is_too_small_for_now_is_no_limit_that_is() -> None:
    app = FastAPI()
    app.state.limiter = limiter = limiter_of(
        storage_uri="redis+unix:///no/such.sock", on_error="local", local_share=0.2
    )
    app.get("/")(limiter.limit("10/minute", cost=5)(lambda: "ok"))
    response = Client(app).get("/")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "60")
    assert NEVER not in response.text
    limiter.close()


def test_fault_25_a_limit_from_a_callable_that_is_below_the_cost_refuses() -> None:
    app, limiter = FastAPI(), limiter_of()
    app.get("/")(limiter.limit(lambda: "3/minute", cost=5)(lambda: "ok"))
    response = Client(app).get("/")
    assert (response.status_code, "Retry-After" in response.headers, NEVER in response.text) == (429, False, True)
