"""Vault chat: every endpoint and tier has its limit, behind nginx too."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import ports
import pytest
import redis_servers
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from examples.programs import EXAMPLES, PATIENCE_S, SECRET, Program, bearing, browser, example, nginx, token

MESSAGE = {"message": "where are the keys?"}
FOUR_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with example("vault_chat", tmp_path, JWT_SECRET=SECRET) as running:
        yield running


@pytest.fixture
def front(program: Program, tmp_path: Path) -> Iterator[Program]:
    with nginx(EXAMPLES / "vault_chat/nginx.conf", program, tmp_path) as running:
        yield running


def chats(program: Program, count: int, **options: str) -> list[int]:
    return [program.post("/agent/chat", MESSAGE, **options).status for _ in range(count)]


def test_eleven_calls_of_curl_are_ten_answers_and_one_refusal(program: Program) -> None:
    command = ["curl", "-s", "-i", "-X", "POST", "-H", "Content-Type: application/json", "-d", '{"message":"hi"}']
    replies = [
        subprocess.run(
            [*command, f"{program.url}/agent/chat"], capture_output=True, text=True, timeout=PATIENCE_S, check=True
        ).stdout
        for _ in range(11)
    ]
    assert [reply.split()[1] for reply in replies] == ["200"] * 10 + ["429"]
    head, _, body = replies[-1].partition("\n\n")
    assert body == '{"error":"Rate limit exceeded: 10 per 1 minute"}'
    names = [line.partition(":")[0].lower() for line in head.splitlines()]
    assert [names.count(name) for name in FOUR_HEADERS] == [1, 1, 1, 1]
    assert "POST /agent/chat refused: 10 per 1 minute" in program.log


@pytest.mark.parametrize(
    ("method", "path", "amount"),
    [("GET", "/health", 100), ("POST", "/agent/calendar", 20), ("GET", "/audit/logs", 30)],
)
def test_every_endpoint_has_its_own_limit(method: str, path: str, amount: int, program: Program) -> None:
    ask = program.post if method == "POST" else program.get
    assert [ask(path).status for _ in range(amount + 1)] == [200] * amount + [429]


def test_fault_30_the_calendar_is_posted_to(program: Program) -> None:
    assert program.post("/agent/calendar").status == 200
    assert program.get("/agent/calendar").status == 405


def test_tiers_are_those_of_verified_tokens(program: Program) -> None:
    assert chats(program, 101, **bearing(sub="ann", tier="pro")) == [200] * 100 + [429]
    assert chats(program, 11, **bearing(sub="bob", tier="free")) == [200] * 10 + [429]
    made_up = token(sub="eve", tier="pro")[:-4] + "AAAA"
    assert chats(program, 11, Authorization=f"Bearer {made_up}") == [200] * 10 + [429], "by address, as anybody"
    assert chats(program, 1, Authorization=f"Bearer {made_up[:-4]}BBBB") == [429], "and not by what it says"
    assert chats(program, 1, **bearing(sub="bob", tier="gold")) == [429], "an unknown tier is the free one"


def test_users_are_told_apart_wherever_they_are(program: Program) -> None:
    ann = bearing(sub="ann")
    assert [program.post("/agent/calendar", source=f"127.0.0.{at}", **ann).status for at in range(1, 22)][-1] == 429
    assert program.post("/agent/calendar", **bearing(sub="bob")).status == 200


def test_a_redis_counts_for_two_hosts(tmp_path: Path) -> None:
    directory = tmp_path / "redis"
    directory.mkdir()
    with redis_servers.running(directory, port=ports.free_port()) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        one, two = tmp_path / "one", tmp_path / "two"
        one.mkdir()
        two.mkdir()
        options = {"JWT_SECRET": SECRET, "REDIS_URL": url}
        with example("vault_chat", one, **options) as first, example("vault_chat", two, **options) as second:
            assert chats(first, 6) + chats(second, 5) == [200] * 10 + [429]


def test_behind_nginx_clients_are_told_apart_and_cannot_pretend(front: Program) -> None:
    assert chats(front, 11, source="127.0.0.5") == [200] * 10 + [429]
    assert chats(front, 1, source="127.0.0.5", X_Forwarded_For="198.51.100.7") == [429]
    assert chats(front, 1, source="127.0.0.6") == [200]


def test_nginx_cuts_bursts_off_by_itself(front: Program) -> None:
    async def burst() -> list[int]:
        ask = [asyncio.to_thread(front.get, "/health", source="127.0.0.5") for _ in range(120)]
        return [answer.status for answer in await asyncio.gather(*ask)]

    found = asyncio.run(burst())
    assert found.count(200) < 100
    assert found.count(429) == 120 - found.count(200)


def test_the_page_tells_how_long_to_wait(front: Program) -> None:
    with browser() as chrome:
        chrome.get(front.url)
        until = WebDriverWait(chrome, PATIENCE_S)

        def say(text: str) -> None:
            field = chrome.find_element(By.ID, "message")
            field.clear()
            field.send_keys(text)
            chrome.find_element(By.TAG_NAME, "button").click()

        for at in range(10):
            say(f"question {at}")
            until.until(lambda _: len(chrome.find_elements(By.CLASS_NAME, "theirs")) == at + 1)  # noqa: B023
        say("one more")
        until.until(lambda _: "Too many messages: wait" in chrome.find_element(By.ID, "waiting").text)
        assert 1 <= int(chrome.find_element(By.ID, "waiting").text.split()[-2]) <= 60
        assert not chrome.find_element(By.TAG_NAME, "button").is_enabled()
        assert len(chrome.find_elements(By.CLASS_NAME, "theirs")) == 10
        assert chrome.find_element(By.ID, "message").get_attribute("value") == "one more", "nothing is lost"
