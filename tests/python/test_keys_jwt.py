"""Subjects of tokens: only those that are signed right are an identity."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from conftest import Client
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.concurrency import run_in_threadpool
from test_keys import request_from

from slidegate import ConfigurationError, Limiter
from slidegate.keys import jwt_subject, remote_address

MakeLimiter = Callable[..., Limiter]
SECRET = "a secret that is long enough for HMAC of any kind, and is not one of any use " * 2
OTHER = "another secret that is long enough, with which somebody else signs what they like " * 2
PRIVATE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = PRIVATE.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signed(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    return jwt.encode(claims, key, algorithm, headers=headers)


def bearing(token: str, scheme: str = "Bearer") -> Any:
    return request_from("192.0.2.1", ("Authorization", f"{scheme} {token}"))


def unsigned(claims: dict[str, Any], algorithm: str) -> str:
    parts = (json.dumps(each).encode() for each in ({"alg": algorithm, "typ": "JWT"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts), ""])


def nested(depth: int) -> str:
    deep = base64.urlsafe_b64encode(b'{"sub":' + b"[" * depth + b"]" * depth + b"}").rstrip(b"=").decode()
    head = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=").decode()
    key = jwt.get_algorithm_by_name("HS256")
    signature = key.sign(f"{head}.{deep}".encode(), key.prepare_key(SECRET))
    return f"{head}.{deep}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


BAD_TOKENS = {
    "of another key": lambda: signed({"sub": "ada"}, OTHER),
    "expired": lambda: signed({"sub": "ada", "exp": time.time() - 60}),
    "not yet valid": lambda: signed({"sub": "ada", "nbf": time.time() + 600}),
    "alg none": lambda: unsigned({"sub": "ada"}, "none"),
    "alg None": lambda: unsigned({"sub": "ada"}, "None"),
    "HS256 without a signature": lambda: unsigned({"sub": "ada"}, "HS256"),
    "of another algorithm": lambda: signed({"sub": "ada"}, algorithm="HS512"),
    "of an elliptic curve": lambda: signed({"sub": "ada"}, PRIVATE, "ES256"),
    "changed": lambda: signed({"sub": "ada"})[:-4] + "AAAA",
    "without a subject": lambda: signed({"name": "ada"}),
    "of an empty subject": lambda: signed({"sub": ""}),
    "of a subject that is long": lambda: signed({"sub": "a" * 1025}),
    "for an audience": lambda: signed({"sub": "ada", "aud": "others"}),
    "nested": lambda: nested(200),
    "nested deeply": lambda: nested(5000),
    "of 1 MB": lambda: signed({"sub": "ada", "more": "x" * 1_000_000}),
    "of dots": lambda: "." * 1000,
    "nothing": lambda: "",
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a32_a_token_that_is_not_right_is_never_an_identity(name: str) -> None:
    request = bearing(BAD_TOKENS[name]())
    assert jwt_subject(SECRET, ["HS256"])(request) == ""
    assert jwt_subject(SECRET, ["HS256"], fallback=remote_address())(request) == "192.0.2.1"


def test_a32_forged_tokens_do_not_escape_the_limit_of_their_address(app: FastAPI, make_limiter: MakeLimiter) -> None:
    limiter = app.state.limiter = make_limiter(key_func=jwt_subject(SECRET, ["HS256"], fallback=remote_address()))
    app.get("/")(limiter.limit("2/minute")(lambda: "ok"))

    def status(token: str, address: str = "192.0.2.1") -> int:
        return Client(app, address).get("/", headers={"Authorization": f"Bearer {token}"}).status_code

    assert [status(signed({"sub": f"user {at}"}, OTHER)) for at in range(4)] == [200, 200, 429, 429]
    assert [status(signed({"sub": "ada"}), f"192.0.2.{at}") for at in range(4)] == [200, 200, 429, 429]
    assert status(signed({"sub": "bob"})) == 200


def test_the_subject_of_a_right_token_is_the_key_wherever_it_comes_from() -> None:
    key = jwt_subject(SECRET, ["HS256", "HS512"])
    assert key(bearing(signed({"sub": "ada", "exp": time.time() + 60}))) == "token:sub:ada"
    assert key(bearing(signed({"sub": "ada"}, algorithm="HS512"), scheme="bearer")) == "token:sub:ada"
    assert key(bearing(signed({"sub": "ada"}), scheme="Basic")) == ""
    twice = (("Authorization", "Bearer " + signed({"sub": "ada"})),) * 2
    assert key(request_from("192.0.2.1", *twice)) == ""
    plain = jwt_subject(SECRET, ["HS256"], header="X-Token", scheme="", claim="uid")
    assert plain(request_from("192.0.2.1", ("X-Token", signed({"uid": 42})))) == "token:uid:42"
    assert jwt_subject(PUBLIC, ["ES256"])(bearing(signed({"sub": "ada"}, PRIVATE, "ES256"))) == "token:sub:ada"


def test_audience_issuer_and_leeway_are_what_the_token_has_to_be_right_about() -> None:
    key = jwt_subject(SECRET, ["HS256"], audience="api", issuer="https://id.example", leeway_s=120)
    right = {"sub": "ada", "aud": ["api", "web"], "iss": "https://id.example", "exp": time.time() - 60}
    assert key(bearing(signed(right))) == 'token:sub@"https://id.example":ada'
    assert key(bearing(signed({**right, "aud": "web"}))) == ""
    assert key(bearing(signed({**right, "iss": "https://evil.example"}))) == ""
    assert key(bearing(signed({**right, "exp": time.time() - 180}))) == ""


def test_keys_may_be_looked_up_by_what_the_token_says(caplog: pytest.LogCaptureFixture) -> None:
    def by_id(token: str) -> str:
        return {"1": SECRET, "2": OTHER}[jwt.get_unverified_header(token)["kid"]]

    key = jwt_subject(by_id, ["HS256"], fallback=remote_address())
    assert asyncio.run(key(bearing(signed({"sub": "ada"}, OTHER, kid="2")))) == "token:sub:ada"
    assert asyncio.run(key(bearing(signed({"sub": "ada"}, OTHER, kid="1")))) == "192.0.2.1"
    assert asyncio.run(key(bearing(signed({"sub": "ada"}, OTHER, kid="3")))) == "192.0.2.1"
    assert asyncio.run(key(bearing("no token"))) == "192.0.2.1"
    assert asyncio.run(key(request_from("192.0.2.1"))) == "192.0.2.1"
    # Nothing listens there.
    client = jwt.PyJWKClient("http://127.0.0.1:9/keys.json", timeout=1)
    assert asyncio.run(jwt_subject(client, ["ES256"])(bearing(signed({"sub": "ada"}, kid="1")))) == ""
    assert "keys to verify tokens with cannot be fetched" in caplog.text


class _Client:
    """As PyJWKClient, with its keys at hand."""

    def get_signing_key_from_jwt(self, token: str) -> jwt.PyJWK:
        point = PRIVATE.public_key().public_numbers()
        x, y = (base64.urlsafe_b64encode(each.to_bytes(32, "big")).rstrip(b"=").decode() for each in (point.x, point.y))
        return jwt.PyJWK({"kty": "EC", "crv": "P-256", "kid": "1", "x": x, "y": y})


def test_keys_may_be_those_of_a_key_set() -> None:
    key = jwt_subject(_Client(), ["ES256"])
    assert asyncio.run(key(bearing(signed({"sub": "ada"}, PRIVATE, "ES256", kid="1")))) == "token:sub:ada"
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert asyncio.run(key(bearing(signed({"sub": "ada"}, stranger, "ES256", kid="1")))) == ""


def test_an_endpoint_may_be_synchronous_although_its_key_is_looked_up(app: FastAPI, make_limiter: MakeLimiter) -> None:
    limiter = app.state.limiter = make_limiter(key_func=jwt_subject(lambda token: SECRET, ["HS256"]))

    @app.get("/")
    @limiter.limit("1/minute")
    def endpoint() -> str:
        return "ok"

    headers = {"Authorization": f"Bearer {signed({'sub': 'ada'})}"}
    assert Client(app).statuses("/", 2, headers=headers) == [200, 429]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"algorithms": []}, "none was given"),
        ({"algorithms": ["none"]}, "'none' is none that can be had"),
        ({"algorithms": ["HS256", "RS256"]}, "whoever knows a public key could sign with it"),
        ({"algorithms": ["ES256"]}, "the key cannot be one of ES256"),
        ({"key": ""}, "the key is empty|the key cannot be one of HS256"),
        ({"key": PUBLIC}, "the key cannot be one of HS256"),
    ],
)
def test_what_would_verify_nothing_is_an_error(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        jwt_subject(**{"key": SECRET, "algorithms": ["HS256"], **options})


def test_without_pyjwt_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'slidegate\[jwt\]'"):
        jwt_subject(SECRET, ["HS256"])


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\n\r\0"), max_size=200))
def test_nothing_that_can_be_sent_raises_or_is_somebody(text: str) -> None:
    assert jwt_subject(SECRET, ["HS256"])(bearing(text)) == ""


@given(st.lists(st.binary(max_size=60), min_size=3, max_size=3))
def test_no_three_parts_raise_or_are_somebody(parts: list[bytes]) -> None:
    token = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    assert jwt_subject(SECRET, ["HS256"])(bearing(token)) == ""


def test_made_up_tokens_hold_up_nobody_while_keys_cannot_be_fetched(caplog: pytest.LogCaptureFixture) -> None:
    class Silent:
        """As PyJWKClient, whose server does not answer in time."""

        def __init__(self) -> None:
            self.asked = 0
            self.has_waiting = threading.Semaphore(0)
            self.answer = threading.Event()

        def get_signing_key_from_jwt(self, token: str) -> jwt.PyJWK:
            self.asked += 1
            self.has_waiting.release()
            assert self.answer.wait(30)
            raise jwt.PyJWKClientConnectionError("no answer")

    client = Silent()
    key = jwt_subject(client, ["ES256"], fallback=remote_address())

    async def many() -> tuple[int, list[str]]:
        asked = [asyncio.ensure_future(key(bearing(signed({"sub": "eve"}, kid=str(at))))) for at in range(45)]
        await asyncio.to_thread(client.has_waiting.acquire)
        # All of the pool's own threads are there for others.
        free = await asyncio.wait_for(asyncio.gather(*(run_in_threadpool(int, at) for at in range(40))), 30)
        client.answer.set()
        return len(free), list(await asyncio.wait_for(asyncio.gather(*asked), 30))

    free, keys = asyncio.run(many())
    assert (free, set(keys)) == (40, {"192.0.2.1"})
    assert client.asked <= 4
    assert caplog.text.count("cannot be fetched") == 1
