"""Limits by name: from the environment and settings, changed while requests come in, and in shadow."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Client
from fastapi import Depends, FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_settings import BaseSettings, SettingsConfigDict

from slidegate import ConfigurationError, Limiter, RateLimit
from slidegate.middleware import SlowAPIMiddleware
from slidegate.testing import ManualClock, advance
from slidegate.util import get_remote_address

MakeLimiter = Callable[..., Limiter]
MakeApp = Callable[[Limiter], FastAPI]


def make_client(limiter: Limiter, make_app: MakeApp, limit: RateLimit) -> Client:
    app = make_app(limiter)
    app.get("/", dependencies=[Depends(limit)])(lambda: "ok")
    return Client(app)


def passed(client: Client, count: int, path: str = "/") -> int:
    return client.statuses(path, count).count(200)


def test_a_limit_that_is_changed_while_its_check_is_made_is_the_changed_one(
    make_limiter: MakeLimiter, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter, changes = make_limiter(), list[str]()
    defaults = limiter.planner.defaults

    def defaults_while_another_thread_changes_a_limit() -> Any:
        while changes:
            limiter.set_limit("chat", changes.pop())
        return defaults()

    monkeypatch.setattr(limiter.planner, "defaults", defaults_while_another_thread_changes_a_limit)
    client = make_client(limiter, make_app, RateLimit("9/hour", name="chat"))
    # The application starts, which looks at its limits.
    assert client.statuses("/other", 1) == [404]
    changes.append("2/hour")
    assert passed(client, 9) == 2
    assert not changes


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 2),
        ({"LLM_RATE_COVER_LETTER": "3/hour"}, 3),
        ({"LLM_RATE_COVER_LETTER": ""}, 2),
        ({"LLM_RATE_COVER_LETTER": "off"}, 9),
        ({"LLM_RATE_COVER_LETTER": "shadow"}, 9),
        ({"LLM_RATE_COVER_LETTER": "3/hour", "LLM_RATE_COVER_LETTER_MODE": "off"}, 9),
        ({"LLM_RATE_COVER_LETTER": "3/hour", "LLM_RATE_COVER_LETTER_MODE": "enforce"}, 3),
        ({"LLM_RATE_ENABLED": "false"}, 9),
        ({"LLM_RATE_ENABLED": "true"}, 2),
    ],
)
@pytest.mark.parametrize("is_decorated", [False, True])
def test_the_environment_has_a_say_about_limits_by_their_names(
    is_decorated: bool,
    variables: dict[str, str],
    expected: int,
    make_limiter: MakeLimiter,
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    limiter = make_limiter(env_prefix="LLM_RATE_")
    if is_decorated:
        app = make_app(limiter)
        app.get("/")(limiter.limit("2/hour", name="cover-letter")(lambda: "ok"))
        client = Client(app)
    else:
        client = make_client(limiter, make_app, RateLimit("2/hour", name="cover-letter"))
    assert passed(client, 9) == expected


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"LLM_RATE_CHAT": "20/hourr"}, "LLM_RATE_CHAT: cannot read the limit '20/hourr'; write for example"),
        ({"LLM_RATE_CHAT": "1/6 years"}, 'LLM_RATE_CHAT: the limit "1 per 6 year" cannot be counted'),
        ({"LLM_RATE_CHAT_MODE": "of"}, "LLM_RATE_CHAT_MODE='of' is none of enforce, shadow, off"),
        ({"LLM_RATE_ENABLED": "yep"}, "LLM_RATE_ENABLED='yep' is none of true, false"),
    ],
)
def test_a_wrong_variable_is_an_error_that_names_it_where_its_limit_is_declared(
    variables: dict[str, str], told: str, make_limiter: MakeLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=told):
        make_limiter(env_prefix="LLM_RATE_").limit("2/hour", name="chat")(lambda: "ok")


def test_a_file_that_is_named_holds_them_too(
    tmp_path: Path, make_limiter: MakeLimiter, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env").write_text("LLM_RATE_CHAT=3/hour\nLLM_RATE_MAIL=3/hour\n")
    monkeypatch.setenv("LLM_RATE_MAIL", "1/hour")
    limiter = make_limiter(env_prefix="LLM_RATE_", config_filename=str(tmp_path / "env"))
    assert passed(make_client(limiter, make_app, RateLimit(name="chat")), 5) == 3
    assert passed(make_client(limiter, make_app, RateLimit(name="mail", scope="mail")), 5) == 1


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LLM_RATE_")

    chat: str = "3/hour"
    chat_mode: str | None = None
    is_demo: bool = False


@dataclass
class _Plain:
    chat: str | None = "3/hour"
    chat_mode: str | None = None


@pytest.mark.parametrize("made", [_Settings, _Plain, lambda: {"chat": "3/hour"}])
def test_a_settings_object_has_a_say_too(made: Callable[[], Any], make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter(settings=made())
    assert passed(make_client(limiter, make_app, RateLimit("9/hour", name="chat")), 5) == 3
    assert passed(make_client(limiter, make_app, RateLimit("4/hour", name="mail", scope="mail")), 5) == 4


def test_settings_of_pydantic_read_the_environment(
    make_limiter: MakeLimiter, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_RATE_CHAT", "1/hour")
    monkeypatch.setenv("LLM_RATE_IS_DEMO", "true")
    assert passed(make_client(make_limiter(settings=_Settings()), make_app, RateLimit("9/hour", name="chat")), 5) == 1
    limiter = make_limiter(settings=_Settings(), enabled=not _Settings().is_demo)
    assert passed(make_client(limiter, make_app, RateLimit("9/hour", name="chat")), 5) == 5


def refusal_at_start(app: FastAPI) -> str:
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def start() -> None:
        with pytest.raises(ConfigurationError):
            await app({"type": "lifespan"}, receive, send)

    asyncio.run(start())
    assert sent[0]["type"] == "lifespan.startup.failed"
    message: str = sent[0]["message"]
    return message


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: _Settings(chat="1/hourr"), "LLM_RATE_CHAT (_Settings.chat): cannot read the limit '1/hourr'"),
        (lambda: _Settings(chat_mode="on"), "LLM_RATE_CHAT_MODE (_Settings.chat_mode)='on' is none of enforce"),
        (lambda: {"chat": 5}, "settings.chat: 5 is not a limit"),
        (lambda: _Plain("1 per never"), "_Plain.chat: cannot read the limit '1 per never'"),
    ],
)
def test_a_wrong_setting_keeps_the_application_from_starting(
    made: Callable[[], Any], told: str, make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    app = make_app(make_limiter(settings=made()))
    app.get("/", dependencies=[Depends(RateLimit("9/hour", name="chat"))])(lambda: "ok")
    assert told in refusal_at_start(app)
    limiter = make_limiter(settings=made())
    with pytest.raises(ConfigurationError):
        limiter.limit("9/hour", name="chat")(lambda: "ok")


def test_a_limit_that_nobody_configured_keeps_the_application_from_starting(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    app = make_app(make_limiter(env_prefix="LLM_RATE_"))
    app.get("/", dependencies=[Depends(RateLimit(name="cover-letter"))])(lambda: "ok")
    told = refusal_at_start(app)
    assert told == (
        "RateLimit(name='cover-letter'): settings have no limit of that name; set LLM_RATE_COVER_LETTER=\"10/minute\""
    )


def test_variables_that_name_no_limit_are_told_at_start(
    make_limiter: MakeLimiter, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLM_RATE_COVER_LETER", "20/hour")
    client = make_client(make_limiter(env_prefix="LLM_RATE_"), make_app, RateLimit("2/hour", name="cover-letter"))
    client.get("/")
    assert caplog.messages == ["no limit is named by LLM_RATE_COVER_LETER; there are: cover-letter"]


@pytest.mark.parametrize("name", ["", "a b", "ENABLED", "chat-mode", "ü", "1st"])
def test_names_that_cannot_be_are_an_error(name: str, make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter()
    with pytest.raises(ConfigurationError, match="name="):
        limiter.limit("9/hour", name=name)(lambda: "ok")


def test_a_limit_is_raised_without_a_restart_and_what_was_used_counts(
    make_limiter: MakeLimiter, make_app: MakeApp, clock: ManualClock
) -> None:
    limiter = make_limiter(headers="x-ratelimit")
    client = make_client(limiter, make_app, RateLimit("4/minute", name="chat"))
    assert passed(client, 2) == 2
    advance(clock, seconds=30)
    assert passed(client, 5) == 2
    limiter.set_limit("chat", "6/minute")
    assert [client.get("/").headers["X-RateLimit-Remaining"] for _ in range(2)] == ["1", "0"]
    refused = client.get("/")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
    advance(clock, seconds=30)
    assert passed(client, 9) == 2
    advance(clock, seconds=30)
    assert passed(client, 9) == 4 - 2 + 2


def test_a_limit_is_lowered_and_what_was_used_leaves_when_it_would_have(
    make_limiter: MakeLimiter, make_app: MakeApp, clock: ManualClock
) -> None:
    limiter = make_limiter()
    client = make_client(limiter, make_app, RateLimit("10/minute", name="chat"))
    for _ in range(3):
        assert passed(client, 3) == 3
        advance(clock, seconds=15)
    limiter.set_limit("chat", "4/minute")
    refused = client.get("/")
    # Nine are in the window, three of which leave in 15 s, and three 15 s later: then there is room for one.
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
    advance(clock, seconds=29)
    assert passed(client, 1) == 0
    advance(clock, seconds=1)
    assert passed(client, 9) == 1


def test_another_window_goes_on_with_what_was_used_of_a_single_limit(
    make_limiter: MakeLimiter, make_app: MakeApp, clock: ManualClock
) -> None:
    limiter = make_limiter()
    client = make_client(limiter, make_app, RateLimit("4/minute", name="chat"))
    assert passed(client, 3) == 3
    limiter.set_limit("chat", "5/hour")
    assert passed(client, 9) == 2
    advance(clock, seconds=60)
    assert passed(client, 9) == 3


def test_several_limits_take_over_from_those_of_the_same_window(
    make_limiter: MakeLimiter, make_app: MakeApp, clock: ManualClock
) -> None:
    limiter = make_limiter()
    client = make_client(limiter, make_app, RateLimit("3/minute; 5/hour", name="chat"))
    assert passed(client, 9) == 3
    limiter.set_limit("chat", "4/hour; 9/minute; 20/day")
    assert passed(client, 9) == 1
    advance(clock, seconds=3600)
    assert passed(client, 9) == 4


def test_a_limit_that_is_changed_back_knows_all_that_was_used(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter()
    client = make_client(limiter, make_app, RateLimit("4/minute", name="chat"))
    assert passed(client, 2) == 2
    limiter.set_limit("chat", "5/minute")
    assert passed(client, 1) == 1
    limiter.set_limit("chat", "4/minute")
    assert passed(client, 9) == 1
    limiter.set_limit("chat", "6/minute")
    assert passed(client, 9) == 2


def test_decorators_and_middleware_go_by_what_is_set(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter()
    app = make_app(limiter)
    app.add_middleware(SlowAPIMiddleware)
    app.get("/")(limiter.limit("2/minute", name="chat")(lambda: "ok"))
    client = Client(app)
    assert passed(client, 3) == 2
    limiter.set_limit("chat", "3/minute")
    assert passed(client, 3) == 1
    limiter.set_limit("chat", mode="off")
    assert passed(client, 3) == 3
    limiter.set_limit("chat", mode="enforce")
    assert passed(client, 3) == 0


def test_what_is_set_wrongly_is_an_error_and_changes_nothing(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter()
    client = make_client(limiter, make_app, RateLimit("2/minute", name="chat"))
    assert passed(client, 1) == 1
    with pytest.raises(ConfigurationError, match=r"set_limit\('chat'\): cannot read the limit '3/minuet'"):
        limiter.set_limit("chat", "3/minuet")
    with pytest.raises(ConfigurationError, match=r"set_limit\('chad'\): no limit of that name was declared; .*: chat"):
        limiter.set_limit("chad", "3/minute")
    with pytest.raises(ConfigurationError, match=r"set_limit\('chat'\) mode='on' is none of"):
        limiter.set_limit("chat", mode="on")  # type: ignore[arg-type]
    assert passed(client, 3) == 1


def test_a_limit_in_shadow_counts_and_logs_and_lets_pass(
    make_limiter: MakeLimiter, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = make_limiter(headers="x-ratelimit")
    app = make_app(limiter)
    limits = [RateLimit("2/minute", name="new", shadow=True), RateLimit("4/minute")]
    app.get("/", dependencies=[Depends(limit) for limit in limits])(lambda: "ok")
    client = Client(app)
    with caplog.at_level(logging.WARNING, "slidegate.refusals"):
        responses = [client.get("/") for _ in range(5)]
    assert [response.status_code for response in responses] == [200] * 4 + [429]
    assert {response.headers["X-RateLimit-Limit"] for response in responses} == {"4"}
    told = [record.__dict__["slidegate"] for record in caplog.records]
    assert [(each["event"], each["limit"]) for each in told] == [
        *[("rate_limit_shadow", "new")] * 2,
        ("rate_limit_refused", ""),
    ]
    limiter.set_limit("new", mode="enforce")
    assert client.get("/").status_code == 429


def test_a_shadow_that_has_room_does_not_count_what_another_limit_refuses(
    make_limiter: MakeLimiter, make_app: MakeApp
) -> None:
    limiter = make_limiter()
    app = make_app(limiter)
    shadow = RateLimit("9/minute", name="new", shadow=True, scope="new")
    app.get("/", dependencies=[Depends(shadow), Depends(RateLimit("2/minute"))])(lambda: "ok")
    assert Client(app).statuses("/", 4) == [200, 200, 429, 429]
    assert limiter.peek_sync(None, "9/minute", key="192.0.2.1", scope="new").remaining == 7


def test_decorators_may_be_in_shadow(make_limiter: MakeLimiter, make_app: MakeApp) -> None:
    limiter = make_limiter()
    app = make_app(limiter)
    app.get("/")(limiter.limit("1/minute", shadow=True)(lambda: "ok"))
    assert Client(app).statuses("/", 3) == [200] * 3


def test_limits_that_change_while_threads_count_never_let_more_than_the_greater_pass() -> None:
    limiter = Limiter(key_func=get_remote_address, storage_uri="memory://")
    limiter.limit("100/hour", name="chat")(lambda: "ok")
    limit = RateLimit("100/hour", name="chat", scope="all", key=lambda: "all")
    app = FastAPI()
    app.state.limiter = limiter
    app.get("/", dependencies=[Depends(limit)])(lambda: "ok")
    counts: list[int] = []

    def count() -> None:
        counts.append(passed(Client(app), 60))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for amount in (150, 90, 120, 150):
        limiter.set_limit("chat", f"{amount}/hour")
    for thread in threads:
        thread.join()
    assert 100 <= sum(counts) <= 150


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from([None, None, "3/minute", "5/minute", "8/minute"])), max_size=30
    )
)
def test_no_window_holds_more_than_the_limit_of_its_end(steps: list[tuple[int, str | None]]) -> None:
    clock = ManualClock(10**9)
    limiter = Limiter(key_func=get_remote_address, clock=clock)
    app = FastAPI()
    app.state.limiter = limiter
    app.get("/", dependencies=[Depends(RateLimit("5/minute", name="chat"))])(lambda: "ok")
    client, amount, at_s = Client(app), 5, 0
    admitted: list[int] = []
    client.get("/")
    admitted.append(0)
    for wait_s, changed in steps:
        if changed is not None:
            limiter.set_limit("chat", changed)
            amount = int(changed[0])
        at_s += wait_s
        advance(clock, seconds=wait_s)
        within = sum(each > at_s - 60 for each in admitted)
        is_admitted = client.get("/").status_code == 200
        assert is_admitted == (within < amount)
        if is_admitted:
            admitted.append(at_s)
