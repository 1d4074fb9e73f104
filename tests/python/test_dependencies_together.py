"""Limits of one route that are declared in several places, or in several ways: none takes away another one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from ports import free_port

from slidegate import ConfigurationError, Decision, Limiter, RateLimit
from slidegate.middleware import SlowAPIMiddleware

MakeApp = Callable[[Limiter], FastAPI]
MakeLimiter = Callable[..., Limiter]


def nothing() -> None:
    """Between two dependencies, so that they are decided one after the other."""


@pytest.mark.parametrize("between", [[], [Depends(nothing)]], ids=["together", "one after the other"])
@pytest.mark.parametrize("is_shadow_first", [True, False])
def test_a_shadow_does_not_take_the_place_of_the_same_limit_that_is_enforced(
    between: list[Any], is_shadow_first: bool, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limits = [Depends(RateLimit("2/minute", name="trial", shadow=True)), Depends(RateLimit("2/minute", name="real"))]
    first, second = limits if is_shadow_first else reversed(limits)
    app = make_app(make_limiter())
    app.get("/", dependencies=[first, *between, second])(lambda: "ok")
    assert Client(app).statuses("/", 4) == [200, 200, 429, 429]


def test_of_the_same_limit_the_stricter_policy_about_outages_holds(make_app: MakeApp) -> None:
    limiter = Limiter(lambda: "everybody", storage_uri=f"redis://127.0.0.1:{free_port()}", on_error="open")
    app, router = make_app(limiter), APIRouter(dependencies=[Depends(RateLimit("2/minute", on_error="open"))])
    router.get("/", dependencies=[Depends(RateLimit("2/minute", on_error="closed"))])(lambda: "ok")
    app.include_router(router)
    assert Client(app).statuses("/", 2) == [503, 503]
    limiter.close()


def tokens(n: int = Query()) -> int:
    return n


def test_the_same_limit_costs_what_the_dearest_declaration_says(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    app, router = make_app(make_limiter()), APIRouter(dependencies=[Depends(RateLimit("10/hour"))])
    router.get("/", dependencies=[Depends(RateLimit("10/hour", cost=Depends(tokens), name="tokens"))])(lambda: "ok")
    app.include_router(router)
    assert Client(app).statuses("/?n=5", 3) == [200, 200, 429]
    assert Client(app, "192.0.2.2").statuses("/?n=11", 1) == [429]


def test_a_limit_that_is_off_leaves_the_defaults_in_force(
    make_limiter: MakeLimiter, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIM_X", "off")
    app = make_app(make_limiter(default_limits=["2/minute"], env_prefix="LIM_"))
    app.add_middleware(SlowAPIMiddleware)
    app.get("/", dependencies=[Depends(RateLimit("1/minute", name="x"))])(lambda: "ok")
    assert Client(app).statuses("/", 3) == [200, 200, 429]


def test_a_limit_that_is_set_to_what_it_is_hands_out_nothing(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter()
    app = make_app(limiter)
    app.get("/", dependencies=[Depends(RateLimit("3/hour", name="x"))])(lambda: "ok")
    assert Client(app).statuses("/", 4) == [200, 200, 200, 429]
    for _ in range(6):
        limiter.set_limit("x", "4/hour")
    assert Client(app).statuses("/", 3) == [200, 429, 429]
    for text in ("5/hour", "4/hour") * 4:
        limiter.set_limit("x", text)
    assert Client(app).statuses("/", 2) == [429, 429]


@pytest.mark.parametrize("is_enabled", [True, False])
def test_a_parameter_always_gets_a_decision(is_enabled: bool, make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(enabled=is_enabled)
    app = make_app(limiter)

    @app.get("/", dependencies=[Depends(RateLimit("3/minute")), Depends(nothing)])
    def index(request: Request, decision: Decision = Depends(RateLimit("3/minute"))) -> int:  # noqa: B008
        return decision.remaining

    assert [Client(app).get("/").json() for _ in range(2)] == ([2, 1] if is_enabled else [3, 3])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"shadow": "false"}, "shadow='false' is neither True nor False"),
        ({"shared": 1, "name": "x"}, "shared=1 is neither True nor False"),
        ({"override_defaults": None}, "override_defaults=None is neither True nor False"),
        ({"limiter": FastAPI()}, "is no Limiter"),
    ],
)
def test_what_cannot_be_meant_is_an_error_where_it_is_declared(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(complaint)):
        RateLimit("1/minute", **options)


def test_what_follows_is_counted_by_the_limiter_that_the_application_has_now(make_app: MakeApp) -> None:
    before, after = Limiter(lambda: "everybody"), Limiter(lambda: "everybody")
    app = make_app(before)
    limits = [Depends(RateLimit("9/minute", limiter=before)), Depends(RateLimit("1/minute"))]
    app.get("/", dependencies=limits)(lambda: "ok")
    client = Client(app)
    assert client.statuses("/", 2) == [200, 429]
    app.state.limiter = after
    assert client.statuses("/", 2) == [200, 429]
