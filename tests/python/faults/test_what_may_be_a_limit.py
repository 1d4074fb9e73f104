"""What people write for a limit, and variables that are none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import limits
import pytest
from conftest import Client
from fastapi import Depends, FastAPI

from slidegate import Limiter, RateLimit
from slidegate.errors import ConfigurationError
from slidegate.util import get_remote_address


def refused_at_start(limiter: Limiter, limit: RateLimit) -> str:
    """Why the application does not start."""

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        assert message["type"] == "lifespan.startup.failed"

    async def start() -> str:
        with pytest.raises(ConfigurationError) as raised:
            await started(limiter, limit).app({"type": "lifespan"}, receive, send)
        return str(raised.value)

    return asyncio.run(start())


def started(limiter: Limiter, limit: RateLimit) -> Client:
    app = FastAPI()
    app.state.limiter = limiter
    app.get("/", dependencies=[Depends(limit)])(lambda: "ok")
    return Client(app)


def test_fault_27_a_name_without_a_prefix_is_told_that_the_prefix_is_missing() -> None:
    told = refused_at_start(Limiter(get_remote_address), RateLimit(name="login"))
    assert 'Limiter(env_prefix="APP_") and set APP_LOGIN="10/minute"' in told


def test_fault_27_a_name_that_neither_settings_nor_variables_have_is_told_what_to_set() -> None:
    limit = RateLimit(name="login")
    assert 'set GATE_LOGIN="10/minute"' in refused_at_start(Limiter(get_remote_address, env_prefix="GATE_"), limit)
    with_settings = Limiter(get_remote_address, settings={"chat": "1/minute"})
    assert 'set settings.login="10/minute"' in refused_at_start(with_settings, limit)


@pytest.mark.parametrize(
    "variables",
    [{"APP_PORT": "8000"}, {"APP_MODE": "production"}, {"APP_URL": "https://user:hush@host"}, {"APP_X": "1/century"}],
)
def test_fault_27_a_variable_of_the_prefix_that_is_no_limits_is_a_warning(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("APP_LOGIN", "1/minute")
    with caplog.at_level(logging.WARNING, "slidegate"):
        client = started(Limiter(get_remote_address, env_prefix="APP_"), RateLimit("5/minute", name="login"))
        assert client.statuses("/", 2) == [200, 429]
    (told,) = (each for each in caplog.messages if "no limit is named by" in each)
    assert next(iter(variables)) in told
    assert "hush" not in caplog.text


def test_fault_27_a_variable_of_a_limit_that_is_wrong_is_an_error_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APP_LOGIN", "8000")
    limiter = Limiter(get_remote_address, env_prefix="APP_")
    with pytest.raises(ConfigurationError, match="APP_LOGIN: cannot read the limit '8000'"):
        limiter.limit("5/minute", name="login")(lambda: "ok")
    told = refused_at_start(limiter, RateLimit("5/minute", name="login"))
    assert told.startswith("APP_LOGIN: cannot read the limit '8000'")


PLACES: dict[str, Callable[[FastAPI, Limiter, Any], Any]] = {
    "a decorator": lambda app, limiter, what: app.get("/")(limiter.limit(what)(lambda: "ok")),
    "a shared one": lambda app, limiter, what: app.get("/")(limiter.shared_limit(what, "all")(lambda: "ok")),
    "a dependency": lambda app, limiter, what: app.get("/", dependencies=[Depends(RateLimit(what))])(lambda: "ok"),
    "a callable": lambda app, limiter, what: app.get("/")(limiter.limit(lambda: what)(lambda: "ok")),
}


@pytest.mark.parametrize("place", PLACES)
def test_fault_27_a_limit_of_the_limits_package_is_one(place: str) -> None:
    app = FastAPI()
    app.state.limiter = limiter = Limiter(get_remote_address)
    PLACES[place](app, limiter, limits.parse("2/minute"))
    assert Client(app).statuses("/", 3) == [200, 200, 429]


def test_fault_27_a_default_limit_of_the_limits_package_is_one() -> None:
    app, limiter = FastAPI(), Limiter(get_remote_address, default_limits=[limits.parse("2/minute")])  # type: ignore[list-item]
    app.get("/")(limiter.limit("9/minute", override_defaults=False)(lambda: "ok"))
    assert Client(app).statuses("/", 3) == [200, 200, 429]


def test_fault_27_a_dependency_tells_the_limit_that_it_was_given() -> None:
    assert repr(RateLimit(limits.parse("5/minute"))) == "RateLimit('5 per 1 minute')"


@pytest.mark.parametrize("place", ["a decorator", "a shared one"])
def test_fault_27_no_limit_is_unlimited_as_in_slowapi(place: str) -> None:
    app = FastAPI()
    app.state.limiter = limiter = Limiter(get_remote_address)
    PLACES[place](app, limiter, None)
    assert Client(app).statuses("/", 20) == [200] * 20


def test_fault_27_no_limit_leaves_the_defaults_and_other_limits_in_force() -> None:
    app = FastAPI()
    limiter = Limiter(get_remote_address, default_limits=["2/minute"])
    app.get("/defaults")(limiter.limit(None)(lambda: "ok"))  # type: ignore[arg-type]
    app.get("/other")(limiter.limit("1/minute")(limiter.limit(None)(lambda: "ok")))  # type: ignore[arg-type]
    assert Client(app).statuses("/defaults", 3) == [200, 200, 429]
    assert Client(app).statuses("/other", 2) == [200, 429]


@pytest.mark.parametrize("wrong", [lambda: RateLimit(None), lambda: Limiter(get_remote_address, default_limits=[None])])
def test_no_limit_where_there_has_to_be_one_is_an_error(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        wrong()
