"""Who is limited: addresses behind proxies, headers of gateways, users, and combinations of them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any

import pytest
from conftest import Client
from fastapi import FastAPI, Request
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection

from slidegate import ConfigurationError, Limiter
from slidegate.keys import authenticated_user, combine, first_of, header, remote_address, user_or_ip

MakeLimiter = Callable[..., Limiter]
PROXIES = ["10.0.0.0/8", "2001:db8:ffff::/48"]


def request_from(peer: str | None, *headers: tuple[str, str], **scope: Any) -> HTTPConnection:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    client = None if peer is None else (peer, 50000)
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw, "client": client, **scope})


def forwarded_for(value: str, peer: str = "10.0.0.1") -> str:
    key: str = remote_address(PROXIES)(request_from(peer, ("X-Forwarded-For", value)))
    return key


def forwarded(value: str, peer: str = "10.0.0.1") -> str:
    key: str = remote_address(PROXIES, header="forwarded")(request_from(peer, ("Forwarded", value)))
    return key


def test_a29_a_trusted_peer_is_believed_and_what_a_client_made_up_is_not() -> None:
    assert forwarded_for("6.6.6.6, 192.0.2.7") == "192.0.2.7"
    assert forwarded_for("6.6.6.6, 192.0.2.7", peer="198.51.100.1") == "198.51.100.1"


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("6.6.6.6,192.0.2.7 , 10.9.9.9", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[2001:db8::5]:443", "2001:db8::/64"),
        ("2001:db8::5%eth0", "2001:db8::/64"),
        ("192.0.2.7, 2001:db8:ffff::1", "192.0.2.7"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("192.0.2.7,,", "192.0.2.7"),
        ("", "10.0.0.1"),
        ("192.0.2.7, unknown", "unknown behind 10.0.0.1"),
        ("192.0.2.7, _hidden, 10.3.3.3", "unknown behind 10.3.3.3"),
        ("192.0.2.7, 010.0.0.1", "unknown behind 10.0.0.1"),
        ("192.0.2.7, 0x0a000001", "unknown behind 10.0.0.1"),
        ("192.0.2.7, 1" + "0" * 100_000, "unknown behind 10.0.0.1"),
        ("192.0.2.7, [::1", "unknown behind 10.0.0.1"),
        ("192.0.2.7, ١٢٧.0.0.1".encode().decode("latin-1"), "unknown behind 10.0.0.1"),
        ("1.1.1.1," * 10_000 + "192.0.2.7", "192.0.2.7"),
    ],
)
def test_x_forwarded_for_is_read_from_the_right(value: str, key: str) -> None:
    assert forwarded_for(value) == key


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("for=192.0.2.7", "192.0.2.7"),
        ("For=6.6.6.6;proto=http, for=192.0.2.7;by=10.0.0.1;host=example.com", "192.0.2.7"),
        ('for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::/64"),
        ('for="192.0.2.7:_port"', "192.0.2.7"),
        ('for="\\1\\92.0.2.7"', "192.0.2.7"),
        ('for="a,b;c", for=192.0.2.7', "192.0.2.7"),
        ("for=192.0.2.7, for=10.2.2.2 ;proto=https", "192.0.2.7"),
        (" , for=192.0.2.7 ,, ", "192.0.2.7"),
        ("for=unknown", "unknown behind 10.0.0.1"),
        ("for=192.0.2.7, for=_gazonk", "unknown behind 10.0.0.1"),
        ("for=192.0.2.7, proto=https", "unknown behind 10.0.0.1"),
        # What a client began, and a proxy went on with.
        ('for="6.6.6.6, for=192.0.2.7', "192.0.2.7"),
        ('for=", for="[2001:db8::1]"', "2001:db8::/64"),
        ("for=6.6.6.6;for=192.0.2.7", "unknown behind 10.0.0.1"),
        ("for = 192.0.2.7", "unknown behind 10.0.0.1"),
        ("192.0.2.7", "unknown behind 10.0.0.1"),
        ("", "10.0.0.1"),
        ('for="' + "\\" * 100_001, "unknown behind 10.0.0.1"),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(value: str, key: str) -> None:
    assert forwarded(value) == key


def test_the_last_line_of_a_header_is_that_of_the_last_proxy() -> None:
    lines = (("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "192.0.2.7, 10.1.1.1"))
    assert remote_address(PROXIES)(request_from("10.0.0.1", *lines)) == "192.0.2.7"
    lines = (("Forwarded", 'for="6.6.6.6'), ("Forwarded", "for=192.0.2.7"))
    assert remote_address(PROXIES, header="forwarded")(request_from("10.0.0.1", *lines)) == "192.0.2.7"


def test_the_other_header_is_what_a_client_may_have_sent_and_is_not_read() -> None:
    both = (("Forwarded", "for=6.6.6.6"), ("X-Forwarded-For", "192.0.2.7"))
    assert remote_address(PROXIES)(request_from("10.0.0.1", *both)) == "192.0.2.7"
    assert remote_address(PROXIES, header="forwarded")(request_from("10.0.0.1", *both)) == "6.6.6.6"


def test_a30_a_network_of_ipv6_is_one_client_and_mapped_addresses_are_ipv4() -> None:
    key = remote_address()
    many = {key(request_from(str(IPv6Address("2001:db8:1:2::") + 7919**4 * at % 2**64))) for at in range(1000)}
    assert many == {"2001:db8:1:2::/64"}
    assert key(request_from("2001:db8:1:3::1")) == "2001:db8:1:3::/64"
    same = ("10.0.0.9", "::ffff:10.0.0.9", "::ffff:a00:9", "0:0:0:0:0:FFFF:0A00:0009")
    assert {key(request_from(address)) for address in same} == {"10.0.0.9"}
    assert remote_address(ipv6_prefix=48)(request_from("2001:db8:1:2::5")) == "2001:db8:1::/48"
    assert remote_address(ipv6_prefix=128)(request_from("2001:db8:1:2::5")) == "2001:db8:1:2::5"


def test_a30_a_thousand_addresses_of_one_network_share_a_limit(app: FastAPI, make_limiter: MakeLimiter) -> None:
    limiter = app.state.limiter = make_limiter(key_func=remote_address())
    app.get("/")(limiter.limit("10/minute")(lambda: "ok"))
    statuses = [Client(app, f"2001:db8::{at:x}").get("/").status_code for at in range(1, 1001)]
    assert statuses.count(200) == 10


def test_trusted_peers_may_be_mapped_addresses_or_sockets() -> None:
    lines = (("X-Forwarded-For", "192.0.2.7"),)
    assert remote_address("10.0.0.0/8")(request_from("::ffff:10.0.0.1", *lines)) == "192.0.2.7"
    assert remote_address("::ffff:10.0.0.0/104")(request_from("10.0.0.1", *lines)) == "192.0.2.7"
    assert remote_address("unix")(request_from(None, *lines)) == "192.0.2.7"
    assert remote_address("unix")(request_from("", *lines)) == "192.0.2.7"
    assert remote_address("unix")(request_from("10.0.0.1", *lines)) == "10.0.0.1"
    assert remote_address("10.0.0.0/8")(request_from(None, *lines)) == ""
    assert remote_address("10.0.0.0/8")(request_from("testclient", *lines)) == "peer:testclient"


@pytest.mark.parametrize("policy", ["shared", "refuse", "skip"])
def test_a31_without_an_address_the_policy_applies_with_one_warning(
    policy: str, app: FastAPI, make_limiter: MakeLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = app.state.limiter = make_limiter(key_func=remote_address(PROXIES), on_missing_key=policy)
    app.get("/")(limiter.limit("1/minute")(lambda: "ok"))
    statuses = Client(app, address=None).statuses("/", 3)
    assert statuses == {"shared": [200, 429, 429], "refuse": [429] * 3, "skip": [200] * 3}[policy]
    assert len([line for line in caplog.messages if "found no key" in line]) == 1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: remote_address(["10.0.0.1/8"]), "'10.0.0.1/8': write '10.0.0.0/8'"),
        (lambda: remote_address(["nginx"]), "'nginx': not an address or network"),
        (lambda: remote_address([None]), "None is no address or network"),  # type: ignore[list-item]
        (lambda: remote_address(header="x-real-ip"), "header='x-real-ip' is none of"),  # type: ignore[arg-type]
        (lambda: remote_address(ipv6_prefix=0), "ipv6_prefix=0 is no length of 1 to 128 bits"),
        (lambda: remote_address(request_from("192.0.2.1")), r"write key_func=remote_address\(\)"),  # type: ignore[arg-type]
        (lambda: header("X-User-ID", trusted_proxies=[]), "trusted_proxies is empty"),
        (lambda: header("", trusted_proxies="10.0.0.1"), "names no header"),
        (lambda: first_of(), "are no key functions"),
        (lambda: combine("user"), "are no key functions"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_an_error_that_says_what_would(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        make()


def test_a_header_is_believed_from_trusted_peers_only() -> None:
    key = header("X-User-ID", trusted_proxies=PROXIES, fallback=remote_address(PROXIES))
    sent = (("X-User-ID", "ada"), ("X-Forwarded-For", "192.0.2.7"))
    assert key(request_from("10.0.0.1", *sent)) == "header:x-user-id:ada"
    assert key(request_from("198.51.100.1", *sent)) == "198.51.100.1"
    assert key(request_from("10.0.0.1", *sent[1:])) == "192.0.2.7"
    # A proxy that adds to what a client sent, instead of replacing it.
    assert key(request_from("10.0.0.1", ("X-User-ID", "eve"), *sent)) == "192.0.2.7"
    assert key(request_from("10.0.0.1", ("X-User-ID", "a" * 1_000_000), sent[1])) == "192.0.2.7"
    assert header("X-User-ID", trusted_proxies=PROXIES)(request_from("198.51.100.1", *sent)) == ""
    assert header("X-User-ID", trusted_proxies="unix")(request_from("testclient", *sent)) == ""


def test_a_user_who_is_named_like_an_address_is_not_that_address() -> None:
    key = header("X-User-ID", trusted_proxies=PROXIES, fallback=remote_address(PROXIES))
    assert key(request_from("10.0.0.1", ("X-User-ID", "192.0.2.7"))) != key(request_from("192.0.2.7"))
    plain = first_of(lambda request: request.headers.get("user"), lambda request: request.headers.get("tenant"))
    assert plain(request_from("::1", ("user", "ada"))) != plain(request_from("::1", ("tenant", "ada")))
    assert plain(request_from("::1", ("user", "#1:ada"))) != plain(request_from("::1", ("tenant", "ada")))


def test_combined_keys_are_apart_for_every_combination() -> None:
    key = combine(lambda request: request.headers.get("a"), lambda request: request.headers.get("b"))
    one = key(request_from("::1", ("a", "1:x"), ("b", "y")))
    other = key(request_from("::1", ("a", "1:"), ("b", "xy")))
    assert one != other
    assert key(request_from("::1", ("a", "x"))) == ""


def test_parts_may_be_asynchronous_and_take_nothing() -> None:
    async def tenant(request: HTTPConnection) -> bytes | None:
        return request.headers.get("tenant", "").encode() or None

    either, both = first_of(tenant, lambda: 7), combine(tenant, lambda: 7)
    assert inspect.iscoroutinefunction(type(either).__call__)
    assert asyncio.run(either(request_from("::1", ("tenant", "acme")))) == "#0:acme"
    assert asyncio.run(either(request_from("::1"))) == "#1:7"
    assert asyncio.run(both(request_from("::1", ("tenant", "acme")))) == "combined:4:acme1:7"
    hidden: list[Any] = []

    def lazy(request: HTTPConnection) -> Any:
        hidden.append(tenant(request))
        return hidden[-1]

    with pytest.raises(TypeError, match="a part is asynchronous"):
        first_of(lazy)(request_from("::1"))
    with pytest.raises(TypeError, match="returned a coroutine"):
        combine(lazy)(request_from("::1"))
    for coroutine in hidden:
        coroutine.close()


class _User(BaseUser):
    is_authenticated = True
    display_name = "Ada"

    def __init__(self, identity: str) -> None:
        self._identity = identity

    @property
    def identity(self) -> str:
        return self._identity


class _Nameless(BaseUser):
    is_authenticated = True
    display_name = "Ada"


def test_a_user_is_who_starlette_has_authenticated_else_the_address() -> None:
    assert user_or_ip(request_from("192.0.2.1", user=_User("42"))) == "user:42"
    assert user_or_ip(request_from("192.0.2.1", user=SimpleUser("ada"))) == "user:ada"
    assert user_or_ip(request_from("2001:db8::1")) == "2001:db8::/64"
    assert authenticated_user(request_from("192.0.2.1", user=_User(""))) == ""
    with pytest.raises(TypeError, match="_Nameless has no identity"):
        authenticated_user(request_from("192.0.2.1", user=_Nameless()))


def test_users_of_one_address_do_not_share_and_one_user_of_many_does_not_escape(
    app: FastAPI, make_limiter: MakeLimiter
) -> None:
    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
            name = conn.headers.get("test-user")
            return (AuthCredentials(), _User(name)) if name else None

    limiter = app.state.limiter = make_limiter(key_func=user_or_ip)
    app.get("/")(limiter.limit("2/minute")(lambda: "ok"))
    app.add_middleware(AuthenticationMiddleware, backend=Backend())
    for user in map(str, range(10)):
        assert Client(app).statuses("/", 3, headers={"test-user": user}) == [200, 200, 429]
    assert [Client(app, f"192.0.2.{at}").get("/", headers={"test-user": "eve"}).status_code for at in range(4)] == [
        *(200, 200),
        *(429, 429),
    ]
    assert Client(app).statuses("/", 3) == [200, 200, 429]


def test_what_keys_are_for_people() -> None:
    assert repr(remote_address()) == "remote_address"
    assert repr(remote_address(["10.0.0.0/8", "unix"])) == "remote_address(10.0.0.0/8, unix)"
    assert repr(first_of(authenticated_user, remote_address())) == "authenticated_user or remote_address"
    team = header("X-Team", trusted_proxies="unix")
    assert repr(combine(team, remote_address())) == "header X-Team and remote_address"
