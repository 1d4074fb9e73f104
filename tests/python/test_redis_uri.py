"""What URIs of Redis servers say, and what is said about those that are wrong."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from slidegate._storage.redis.target import RedisTarget
from slidegate._storage.redis.uri import parse_redis_uri
from slidegate.errors import ConfigurationError

RIGHT: dict[str, dict[str, Any]] = {
    "redis://": {"address": ("localhost", 6379), "password": None, "database": 0, "tls": None},
    "redis://cache": {"address": ("cache", 6379), "connect_timeout_s": 0.25, "command_timeout_s": 0.1},
    "redis://cache:7000/5": {"address": ("cache", 7000), "database": 5},
    "redis://[::1]:7000": {"address": ("::1", 7000)},
    "redis://:secret@cache": {"username": None, "password": "secret"},
    "redis://gate:p%40ss%2Fw%20rd@cache": {"username": "gate", "password": "p@ss/w rd"},
    "redis://cache?connect_timeout_ms=1000&command_timeout_ms=50&hash_keys=true": {
        "connect_timeout_s": 1.0,
        "command_timeout_s": 0.05,
        "is_hashed": True,
    },
    "redis+unix:///run/redis/redis.sock": {"address": "/run/redis/redis.sock", "database": 0},
    "redis+unix://gate:pw@/run/my%20redis.sock?database=2": {
        "address": "/run/my redis.sock",
        "username": "gate",
        "password": "pw",
        "database": 2,
    },
    "redis+cluster://:pw@one,two:7001,[::1]:7002?hash_keys=true": {
        "address": ("one", 6379),
        "seeds": (("one", 6379), ("two", 7001), ("::1", 7002)),
        "password": "pw",
        "is_hashed": True,
        "sentinels": (),
    },
    "redis+sentinel://gate:pw@one,two:5000/my%20master/3?sentinel_password=hush&command_timeout_ms=50": {
        "service": "my master",
        "username": "gate",
        "password": "pw",
        "database": 3,
        "command_timeout_s": 0.05,
        "seeds": (),
        "sentinels": (
            RedisTarget(("one", 26379), password="hush", command_timeout_s=0.05),
            RedisTarget(("two", 5000), password="hush", command_timeout_s=0.05),
        ),
    },
}

WRONG = {
    "memory://": "redis, rediss, redis+unix",
    "redis:cache": "redis, rediss, redis+unix",
    "redis://cache:port": "host or port",
    "redis://cache:99999": "host or port",
    "redis://cache/five": "database of redis:// is a whole number, not 'five'",
    "redis://cache/-1": "whole number",
    "redis://cache#1": "%23",
    "redis://gate@cache": "user without a password",
    "redis://cache?timeouts=3": "no option 'timeouts'; it has connect_timeout_ms, command_timeout_ms, deny_cache_ms",
    "redis://cache?database=3": "no option 'database'",
    "redis://cache?ca_file=/x": "needs rediss://",
    "redis://cache?connect_timeout_ms=0": "from 1 to 60000, not '0'",
    "redis://cache?connect_timeout_ms=0.25": "whole number",
    "redis://cache?connect_timeout_ms=": "whole number",
    "redis://cache?hash_keys=1": "true or false, not '1'",
    "redis://cache?hash_keys=true&hash_keys=false": "twice",
    "redis+unix://": "path of a socket",
    "redis+unix://cache/a.sock": "path of a socket",
    "redis+unix:///": "path of a socket",
    "rediss://cache?ca_file=/no/such/file": "ca_file: there is no file",
    "rediss://cache?key_file=/etc/hostname": "without cert_file",
    "rediss://cache?ca_file=/etc/hostname": "ca_file, cert_file, key_file",
    "rediss://cache?verify=no": "true or false",
    "redis+sentinel://one": "names no service; write redis+sentinel://",
    "redis+sentinel://one/service/x": "database of redis+sentinel:// is a whole number",
    "redis+sentinel://one,,two/service": "host or port",
    "redis+sentinel://one:99999/service": "host or port",
    "redis+sentinel://one/service?ca_file=/no/such/file&tls=true": "ca_file: there is no file",
    "redis+cluster://one/3": "a cluster has no databases",
    "redis+cluster://one:port": "host or port",
    "redis+cluster://::1": "host or port",
    "redis+cluster://one?sentinel_password=x": "no option 'sentinel_password'; it has connect_timeout_ms",
    "redis+cluster://gate@one": "user without a password",
}


@pytest.mark.parametrize("prefix", ["", "async+"])
@pytest.mark.parametrize("uri", RIGHT)
def test_a_uri_names(prefix: str, uri: str) -> None:
    target = parse_redis_uri(prefix + uri)
    assert {name: getattr(target, name) for name in RIGHT[uri]} == RIGHT[uri]


@pytest.mark.parametrize("uri", WRONG)
def test_a_uri_that_is_wrong_is_told_what_is_right(uri: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_redis_uri(uri)
    assert WRONG[uri] in str(raised.value)


@pytest.mark.parametrize(
    "uri",
    [
        "redis://gate:hush@cache:port",
        "redis://gate:hush@cache?no=1",
        "redis://hush@cache",
        "redis://gate:hush@cache/x",
        "redis+unix://gate:hush@cache/a",
        "redis+cluster://gate:hush@one:port",
        "redis+sentinel://gate:hush@one",
        "other://gate:hush@cache",
    ],
)
def test_errors_do_not_repeat_credentials(uri: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_redis_uri(uri)
    assert "hush" not in str(raised.value)
    assert "hush" not in repr(raised.value.__cause__)


def test_neither_name_nor_repr_of_a_target_holds_its_password() -> None:
    target = parse_redis_uri("redis://gate:hush@cache/1")
    assert "hush" not in f"{target} {target!r} {target.name}"
    assert target.name == "the Redis server at cache:6379"
    assert parse_redis_uri("redis://[::1]").name == "the Redis server at [::1]:6379"


def test_certificates_are_checked_unless_it_is_said_otherwise() -> None:
    tls = parse_redis_uri("rediss://cache").tls
    assert tls is not None
    assert tls.check_hostname
    assert tls.verify_mode is ssl.CERT_REQUIRED
    lax = parse_redis_uri("rediss://cache?verify=false").tls
    assert lax is not None
    assert lax.verify_mode is ssl.CERT_NONE


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(ConfigurationError):
        parse_redis_uri(f"rediss://cache?cert_file={key}&key_file={key}")


def test_what_programs_give_to_redis_py_about_sentinels_is_read() -> None:
    more = {"service_name": "mymaster", "sentinel_kwargs": {"password": "hush"}, "ssl": True, "password": "pw"}
    target = parse_redis_uri("redis+sentinel://one", more)
    assert (target.service, target.password, target.tls is not None) == ("mymaster", "pw", True)
    assert [each.password for each in target.sentinels] == ["hush"]
    assert "hush" not in repr(target)


def test_a_certificate_is_for_the_host_unless_it_is_said_otherwise() -> None:
    cluster = parse_redis_uri("redis+cluster://one?tls=true")
    assert cluster.at(("two", 7000)).host == "two"
    assert parse_redis_uri("redis+cluster://one?tls=true&server_name=all").at(("two", 7000)).host == "all"
    assert parse_redis_uri("rediss://one").host == "one"
