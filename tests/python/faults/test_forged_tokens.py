"""Tokens that somebody made up: they are none, and hold up nobody."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from conftest import Client
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI
from test_keys import request_from

from slidegate import Limiter
from slidegate.keys import jwt_subject, remote_address
from slidegate.keys.key_set import LEAST_BETWEEN_FETCHES_S, KeySet

MakeLimiter = Callable[..., Limiter]
PRIVATE = ec.generate_private_key(ec.SECP256R1())
SECRET = "a secret that is long enough to sign with, and is of no other use"
NESTED = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode() + ".e30.AA"


def jwk(name: str) -> dict[str, str]:
    point = PRIVATE.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(each.to_bytes(32, "big")).rstrip(b"=").decode() for each in (point.x, point.y))
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": name, "x": x, "y": y}


class Server(jwt.PyJWKClient):
    """A client whose server is a list of names, and is asked for every name that it does not know, as of old."""

    def __init__(self, *names: str) -> None:
        super().__init__("http://127.0.0.1:9/keys.json")
        self.cooldown_duration = 0
        self.names = list(names)
        self.fetches = 0
        self.is_open = threading.Event()
        self.is_open.set()
        self.error: Exception | None = None

    def fetch_data(self) -> Any:
        self.fetches += 1
        assert self.is_open.wait(30)
        if self.error is not None:
            raise self.error
        return {"keys": [jwk(name) for name in self.names]}


class Seconds:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def signed(subject: str, name: str) -> str:
    return jwt.encode({"sub": subject}, PRIVATE, "ES256", headers={"kid": name})


def bearing(token: str) -> Any:
    return request_from("192.0.2.1", ("Authorization", f"Bearer {token}"))


@pytest.mark.parametrize("key", ["secret", "server", "function"])
def test_fault_10_a_token_that_makes_a_verifier_fail_is_counted_by_its_address(
    key: str, app: FastAPI, make_limiter: MakeLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(token: str) -> str:
        raise RecursionError("maximum recursion depth exceeded\r\n\x1b[2J")

    keys: dict[str, tuple[Any, str]] = {
        "secret": (SECRET, "HS256"),
        "server": (Server("1"), "ES256"),
        "function": (fails, "HS256"),
    }
    by_subject = jwt_subject(keys[key][0], [keys[key][1]], fallback=remote_address())
    limiter = app.state.limiter = make_limiter(key_func=by_subject)
    app.get("/")(limiter.limit("2/hour")(lambda: "ok"))
    assert Client(app).statuses("/", 4, headers={"Authorization": f"Bearer {NESTED}"}) == [200, 200, 429, 429]
    lines = [line for line in caplog.messages if "looking up the key of a token failed" in line]
    assert len(lines) == (key == "function")
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), TypeError("x"), OSError("gone")])
def test_fault_10_whatever_a_function_raises_the_token_is_none(error: Exception) -> None:
    def fails(token: str) -> str:
        raise error

    assert asyncio.run(jwt_subject(fails, ["HS256"])(bearing("a.b.c"))) == ""


def test_fault_10_forged_names_of_keys_fetch_once_and_right_tokens_are_right_meanwhile() -> None:
    server = Server("1", "2")
    key = jwt_subject(server, ["ES256"], fallback=remote_address())

    async def all_keys() -> list[str]:
        honest = [key(bearing(signed("ada", name))) for name in ("1", "2")]
        forged = [key(bearing(signed("eve", f"forged {at}"))) for at in range(200)]
        return await asyncio.gather(*forged[:100], *honest, *forged[100:])

    for _ in range(2):
        found = asyncio.run(all_keys())
        assert found[100:102] == ["token:sub:ada"] * 2
        assert set(found[:100] + found[102:]) == {"192.0.2.1"}
    assert server.fetches == 1


def test_fault_10_while_keys_are_fetched_for_forged_names_known_ones_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = Seconds()
    monkeypatch.setattr(KeySet.__init__, "__defaults__", (seconds,))
    server = Server("1")
    key = jwt_subject(server, ["ES256"], fallback=remote_address())

    async def meanwhile() -> None:
        assert await key(bearing(signed("ada", "1"))) == "token:sub:ada"
        seconds.now += LEAST_BETWEEN_FETCHES_S
        server.is_open.clear()
        forged = [asyncio.ensure_future(key(bearing(signed("eve", f"forged {at}")))) for at in range(500)]
        await asyncio.sleep(0)
        # More than may wait are none at once; the server has not answered yet.
        assert await asyncio.wait_for(key(bearing(signed("ada", "1"))), 30) == "token:sub:ada"
        done, _ = await asyncio.wait(forged, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert {each.result() for each in done} == {"192.0.2.1"}
        server.is_open.set()
        assert set(await asyncio.wait_for(asyncio.gather(*forged), 30)) == {"192.0.2.1"}

    asyncio.run(meanwhile())
    assert server.fetches == 2


def test_fault_10_a_new_key_is_found_after_the_least_time_between_fetches() -> None:
    seconds, server = Seconds(), Server("1")
    keys = KeySet(server, seconds)
    assert keys.fetched("1").key_id == "1"
    server.names.append("2")
    assert keys.known("2") is None
    assert not keys.is_to_be_fetched(None)
    assert keys.fetched("2") is None
    seconds.now += LEAST_BETWEEN_FETCHES_S
    assert keys.is_to_be_fetched(None)
    assert not keys.is_to_be_fetched(keys.known("1"))
    assert keys.fetched("2").key_id == "2"
    assert server.fetches == 2


def test_fault_10_keys_that_are_taken_back_are_wrong_after_their_lifespan() -> None:
    seconds, server = Seconds(), Server("1")
    keys = KeySet(server, seconds)
    key = keys.fetched("1")
    server.names = ["2"]
    seconds.now += 299
    assert not keys.is_to_be_fetched(key)
    seconds.now += 1
    assert keys.is_to_be_fetched(key)
    assert keys.fetched("1") is None
    # Nor do they stay right for ever while the server is out of reach.
    server.error = jwt.PyJWKClientConnectionError("gone")
    seconds.now += 300
    assert keys.fetched("2").key_id == "2"
    seconds.now += 31
    assert keys.known("2") is None
    assert keys.fetched("2") is None


def test_fault_10_a_client_that_finds_keys_in_its_own_way_is_asked_for_each_token() -> None:
    class ByIssuer(Server):
        asked = 0

        def get_signing_key(self, kid: str) -> jwt.PyJWK:
            self.asked += 1
            return super().get_signing_key("1")

    client = ByIssuer("1")
    key = jwt_subject(client, ["ES256"])
    assert [asyncio.run(key(bearing(signed("ada", name)))) for name in "ab"] == ["token:sub:ada"] * 2
    assert client.asked == 2


def test_fault_10_of_lookups_that_take_long_only_so_many_wait() -> None:
    answers, has_begun = threading.Event(), threading.Semaphore(0)
    asked: list[str] = []

    def slowly(token: str) -> str:
        asked.append(token)
        has_begun.release()
        assert answers.wait(30)
        return SECRET

    key = jwt_subject(slowly, ["HS256"], fallback=remote_address())
    token = jwt.encode({"sub": "ada"}, SECRET, "HS256")

    async def many() -> list[str]:
        waiting = [asyncio.ensure_future(key(bearing(token))) for _ in range(400)]
        await asyncio.to_thread(has_begun.acquire)
        done, _ = await asyncio.wait(waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert {each.result() for each in done} == {"192.0.2.1"}
        answers.set()
        return list(await asyncio.wait_for(asyncio.gather(*waiting), 30))

    found = asyncio.run(many())
    assert found.count("token:sub:ada") == len(asked) == 256
