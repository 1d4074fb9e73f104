"""Keys of one kind are never keys of another, whatever is sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps

import jwt
import pytest
from conftest import Client
from fastapi import FastAPI
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser, UnauthenticatedUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from test_keys import request_from

from slidegate import Limiter
from slidegate.keys import authenticated_user, combine, first_of, header, jwt_subject, remote_address, user_or_ip

MakeLimiter = Callable[..., Limiter]
PROXIES = ["10.0.0.0/8"]
SECRETS = ["of the first issuer, which nobody else knows", "of the second issuer, which nobody else knows"]


def bearing(secret: str, **claims: object) -> HTTPConnection:
    token = jwt.encode({"sub": "alice", **claims}, secret, "HS256")
    return request_from("192.0.2.1", ("Authorization", f"Bearer {token}"))


def test_fault_03_nobody_is_locked_out_by_an_address_that_is_called_like_a_user(
    app: FastAPI, make_limiter: MakeLimiter
) -> None:
    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
            return (AuthCredentials(), SimpleUser("alice")) if conn.headers.get("authorization") else None

    limiter = app.state.limiter = make_limiter(key_func=user_or_ip)
    app.get("/")(limiter.limit("3/hour")(lambda: "ok"))
    app.add_middleware(AuthenticationMiddleware, backend=Backend())
    # What uvicorn makes of X-Forwarded-For when it trusts everybody.
    assert Client(app, "user:alice").statuses("/", 4) == [200, 200, 200, 429]
    assert Client(app).statuses("/", 4, headers={"Authorization": "hers"}) == [200, 200, 200, 429]


@pytest.mark.parametrize("peer", ["user:alice", "192.0.2.7 ", "unknown behind 10.0.0.1", "#0:192.0.2.7", "testclient"])
def test_fault_03_a_peer_that_is_no_address_is_of_a_kind_of_its_own(peer: str) -> None:
    expected = "192.0.2.7" if peer == "192.0.2.7 " else f"peer:{peer}"
    assert remote_address()(request_from(peer)) == expected
    assert user_or_ip(request_from(peer)) == expected


def test_fault_03_the_same_name_is_somebody_else_for_each_kind_of_key() -> None:
    alice = request_from("10.0.0.1", ("User", "alice"), user=SimpleUser("alice"))
    token = bearing(SECRETS[0], user="alice")
    keys = [
        authenticated_user(alice),
        header("User", trusted_proxies=PROXIES)(alice),
        header("X-User", trusted_proxies=PROXIES)(request_from("10.0.0.1", ("X-User", "alice"))),
        jwt_subject(SECRETS[0], ["HS256"], claim="user")(token),
        jwt_subject(SECRETS[0], ["HS256"])(token),
        remote_address()(request_from("alice")),
        remote_address()(request_from("user:alice")),
        first_of(lambda: "user:alice")(alice),
        combine(authenticated_user)(alice),
    ]
    assert keys[:2] == ["user:alice", "header:user:alice"]
    assert len(set(keys)) == len(keys)


def test_fault_03_subjects_of_different_issuers_are_different_people() -> None:
    one, other = (jwt_subject(secret, ["HS256"]) for secret in SECRETS)
    either = first_of(one, other, remote_address())
    keys = [either(bearing(secret)) for secret in SECRETS]
    assert keys == ["token:sub:alice", "#1:token:sub:alice"]
    # One set of keys may serve several issuers, whose subjects are their own.
    names = [one(bearing(SECRETS[0], iss=issuer)) for issuer in ("https://a.example", "https://b.example")]
    assert names == ['token:sub@"https://a.example":alice', 'token:sub@"https://b.example":alice']
    made_up = one(bearing(SECRETS[0], sub='alice", "x', iss='a":alice'))
    assert made_up == 'token:sub@"a\\":alice":alice", "x'
    by_url = jwt_subject(SECRETS[0], ["HS256"], claim="https://a.example/id")
    assert by_url(bearing(SECRETS[0], **{"https://a.example/id": "7"})) == 'token:"https://a.example/id":7'


def test_fault_03_what_is_unknown_behind_a_proxy_does_not_use_up_the_limit_of_the_proxy() -> None:
    for name, values in (
        (
            "forwarded",
            ['"', "for=unknown", "for=_hidden", 'for="_hidden:80"', "proto=https", "for=1.2.3.4;for=5.6.7.8"],
        ),
        ("x-forwarded-for", ["unknown", "_hidden", "user:alice", "unknown behind 10.0.0.1"]),
    ):
        read = remote_address(PROXIES, header=name)  # type: ignore[arg-type]
        assert {read(request_from("10.0.0.1", (name, value))) for value in values} == {"unknown behind 10.0.0.1"}
        assert read(request_from("10.0.0.1")) == "10.0.0.1"
    # on_missing_key does not decide about somebody whom the proxy hides.
    by_socket = remote_address("unix")
    assert by_socket(request_from(None, ("X-Forwarded-For", "unknown"))) == "unknown behind unix"
    assert by_socket(request_from(None)) == ""


def test_fault_03_nat64_counts_by_the_ipv4_address_within_and_is_not_trusted_as_it() -> None:
    read = remote_address(PROXIES)
    assert read(request_from("64:ff9b::c000:207")) == read(request_from("192.0.2.7")) == "192.0.2.7"
    assert read(request_from("10.0.0.1", ("X-Forwarded-For", "64:ff9b::192.0.2.7"))) == "192.0.2.7"
    assert read(request_from("64:ff9b::10.0.0.1", ("X-Forwarded-For", "6.6.6.6"))) == "10.0.0.1"
    assert read(request_from("64:ff9b:1::1")) == "64:ff9b:1::/64"


def test_fault_03_ports_and_zones_make_nobody_else() -> None:
    read = remote_address(PROXIES, header="forwarded")
    assert {
        read(request_from("10.0.0.1", ("Forwarded", value)))
        for value in ("for=192.0.2.7", 'for="192.0.2.7:80"', 'for="192.0.2.7:_x"', 'For="[::ffff:192.0.2.7]:4711"')
    } == {"192.0.2.7"}
    zones = ("fe80::1%eth0", "fe80::1%user:alice", "fe80::1")
    assert {remote_address()(request_from(zone)) for zone in zones} == {"fe80::/64"}


def test_fault_03_positions_are_apart_however_functions_are_put_together() -> None:
    def sent(name: str) -> Callable[[HTTPConnection], str | None]:
        return lambda request: request.headers.get(name)

    inner = first_of(sent("a"), sent("b"))
    nested = first_of(inner, sent("c"), sent("d"))
    by_partial = first_of(partial(inner), sent("c"))
    for composed, names in ((nested, "abcd"), (by_partial, "abc")):
        keys = {composed(request_from("::1", (name, "ada"))) for name in names}
        assert len(keys) == len(names)
        # None can be written by a client into a key of another position.
        forged = {composed(request_from("::1", (name, key))) for name in names for key in keys}
        assert keys.isdisjoint(forged)
    groups = first_of(combine(sent("a"), sent("b")), combine(sent("c"), sent("d")))
    pairs = [request_from("::1", (one, "x"), (other, "y")) for one, other in ("ab", "cd")]
    assert groups(pairs[0]) != groups(pairs[1])


def test_fault_03_combined_keys_are_no_addresses() -> None:
    written = combine(lambda request: request.headers.get("a"))
    made_up = written(request_from("::1", ("a", "1:2:3:4:5:6:7")))
    assert made_up != remote_address(ipv6_prefix=128)(request_from("13:1:2:3:4:5:6:7"))
    assert made_up == "combined:13:1:2:3:4:5:6:7"


def test_fault_03_what_wraps_a_function_of_ours_is_not_taken_for_it() -> None:
    @wraps(authenticated_user)
    def mine(request: HTTPConnection) -> str | None:
        return request.headers.get("user")

    either = first_of(authenticated_user, mine)
    assert either(request_from("::1", user=SimpleUser("alice"))) == "user:alice"
    assert either(request_from("::1", ("user", "user:alice"))) == "#1:user:alice"


def test_fault_03_users_are_nobody_or_of_a_kind_of_their_own_or_an_error() -> None:
    class Unconfirmed(SimpleUser):
        @property
        def is_authenticated(self) -> bool:
            return False

    class WithObject(SimpleUser):
        identity = object()  # type: ignore[assignment]

        def __init__(self) -> None:
            self.username = self.identity  # type: ignore[assignment]

    assert user_or_ip(request_from("192.0.2.1", user=UnauthenticatedUser())) == "192.0.2.1"
    assert user_or_ip(request_from("192.0.2.1", user=Unconfirmed("192.0.2.7"))) == "192.0.2.1"
    assert user_or_ip(request_from("192.0.2.1", user=SimpleUser("192.0.2.7"))) == "user:192.0.2.7"
    # Another text with every request would be another client with every request.
    with pytest.raises(TypeError, match="a key is a str, bytes or a number"):
        authenticated_user(request_from("192.0.2.1", user=WithObject()))
    with pytest.raises(TypeError, match="dict has no identity"):
        authenticated_user(request_from("192.0.2.1", user={"name": "alice"}))
