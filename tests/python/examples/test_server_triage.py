"""Server triage: a limit for every address, and one for every user, on a Redis that may go away."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import ports
import pytest
import redis_servers
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from examples.programs import PATIENCE_S, SECRET, Answer, Program, bearing, browser, example, token

ANN, BOB = (str(UUID(int=at)) for at in (1, 2))
API_KEY = "key of Ann"
API_KEYS = json.dumps({hashlib.sha256(API_KEY.encode()).hexdigest(): {"id": ANN, "role": "operator"}})
INCIDENT = {"logs": "web-3: disk full"}
PATH = "/api/ai/triage"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[redis_servers.RedisServer]:
    directory = tmp_path / "redis"
    directory.mkdir()
    with redis_servers.running(directory, port=ports.free_port()) as running:
        yield running


def variables_for(server: redis_servers.RedisServer, **more: object) -> dict[str, object]:
    url = f"redis://127.0.0.1:{server.port}/0"
    small = {"LLM_RATE_LIMIT_REQUESTS": 2, "LLM_RATE_LIMIT_WINDOW": 60}
    return {"JWT_SECRET": SECRET, "API_KEYS": API_KEYS, "REDIS_URL": url, **small, **more}


def ask(program: Program, user: str, role: str = "operator", source: str = "127.0.0.1") -> Answer:
    return program.post(PATH, INCIDENT, source=source, **bearing(sub=user, role=role))


def test_the_third_request_of_a_user_is_refused_by_token_and_by_key(
    server: redis_servers.RedisServer, tmp_path: Path
) -> None:
    with example("server_triage", tmp_path, **variables_for(server)) as program:
        by_token = ask(program, ANN)
        by_key = program.post(PATH, INCIDENT, X_API_Key=API_KEY)
        assert (by_token.status, by_key.status) == (200, 200)
        for answer in (ask(program, ANN), program.post(PATH, INCIDENT, X_API_Key=API_KEY)):
            assert answer.status == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert server.call(b"DBSIZE") > 0, "it was Redis that counted"


def test_ten_users_behind_one_address_have_ten_limits_and_one_user_has_one_on_many(
    server: redis_servers.RedisServer, tmp_path: Path
) -> None:
    with example("server_triage", tmp_path, **variables_for(server)) as program:
        users = [str(UUID(int=at)) for at in range(1, 11)]
        for _ in range(2):
            assert [ask(program, user, source="127.0.0.2").status for user in users] == [200] * 10
        assert [ask(program, ANN, source=f"127.0.0.{at}").status for at in range(3, 8)] == [429] * 5


def test_who_may_not_ask_is_not_counted(server: redis_servers.RedisServer, tmp_path: Path) -> None:
    with example("server_triage", tmp_path, **variables_for(server)) as program:
        assert [ask(program, ANN, role="readonly").status for _ in range(5)] == [403] * 5
        assert program.post(PATH, INCIDENT).status == 401
        assert program.post(PATH, INCIDENT, X_API_Key="guessed").status == 401
        forged = token(sub=ANN, role="operator")[:-4] + "AAAA"
        assert program.post(PATH, INCIDENT, Authorization=f"Bearer {forged}").status == 401
        assert [ask(program, ANN).status for _ in range(3)] == [200, 200, 429]


def test_the_limit_of_an_address_holds_for_everything_and_by_itself(
    server: redis_servers.RedisServer, tmp_path: Path
) -> None:
    with example("server_triage", tmp_path, **variables_for(server, ADDRESS_RATE_LIMIT="4/minute")) as program:
        own = [ask(program, user, source="127.0.0.2").status for user in (ANN, ANN, BOB)]
        page = program.get("/", source="127.0.0.2").status
        assert [*own, page] == [200] * 4
        assert program.get("/", source="127.0.0.2").status == 429
        assert ask(program, BOB, source="127.0.0.2").status == 429
        assert ask(program, BOB, source="127.0.0.3").status == 200, "what the address was refused was not taken"


def test_without_redis_everybody_is_let_through(server: redis_servers.RedisServer, tmp_path: Path) -> None:
    with example("server_triage", tmp_path, **variables_for(server)) as program:
        assert [ask(program, ANN).status for _ in range(3)] == [200, 200, 429]
        server.stop()
        assert [ask(program, BOB).status for _ in range(4)] == [200] * 4
        server.start()
        until = WebDriverWait(program, PATIENCE_S, poll_frequency=0.2)
        assert until.until(lambda program: ask(program, ANN).status == 429), "and is limited again when it is back"


def test_the_page_tells_people_when_to_come_back_and_who_may(server: redis_servers.RedisServer, tmp_path: Path) -> None:
    variables = variables_for(server, LLM_RATE_LIMIT_REQUESTS=1, LLM_RATE_LIMIT_WINDOW=754)
    with example("server_triage", tmp_path, **variables) as program, browser() as chrome:
        chrome.get(program.url)

        def asked_with(credential: str) -> None:
            field = chrome.find_element(By.ID, "token")
            field.clear()
            field.send_keys(credential)
            chrome.find_element(By.TAG_NAME, "button").click()

        def told(pattern: str) -> re.Match[str]:
            def found(_: object) -> re.Match[str] | None:
                return re.search(pattern, chrome.find_element(By.ID, "answer").text)

            return WebDriverWait(chrome, PATIENCE_S).until(found)  # type: ignore[no-any-return]

        asked_with(token(sub=BOB, role="readonly"))
        told("may read reports, but not ask for new ones")
        asked_with("nonsense")
        told("not valid any more")
        asked_with(token(sub=ANN, role="operator"))
        told("Restart what the first line names: web-3")
        asked_with(token(sub=ANN, role="operator"))
        first = told(r"Try again in (\d+) minutes (\d+) seconds")
        assert 700 < int(first[1]) * 60 + int(first[2]) <= 754
        assert not chrome.find_element(By.TAG_NAME, "button").is_enabled()
        assert told(rf"Try again in 12 minutes (?!{first[2]} )\d+ second"), "it counts down"
