"""URIs and options that programs share with redis-py."""

from __future__ import annotations

import inspect
import logging
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import redis
import redis.asyncio
import redis.cluster
from redis_servers import RedisServer, running
from redis_tls import make_certificates, serve

from slidegate import Limiter
from slidegate._core import Quota
from slidegate._storage.redis.storage import RedisStorage
from slidegate._storage.redis.target import RedisTarget
from slidegate._storage.redis.uri import parse_redis_uri
from slidegate.errors import ConfigurationError, StorageUnavailable
from slidegate.util import get_remote_address

RULES = ((Quota(1_000_000, 60_000_000_000), "options"),)
LOGGER = logging.getLogger("slidegate")
PLACES = ["uri", "options"]


def target_of(uri: str, options: dict[str, Any], place: str) -> RedisTarget:
    if place == "uri":
        return parse_redis_uri(f"{uri}?{urlencode(options)}", {}, LOGGER)
    return parse_redis_uri(uri, options, LOGGER)


HONOURED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "times": (
        "redis://one",
        {"socket_timeout": 1.5, "socket_connect_timeout": 2},
        {"command_timeout_s": 1.5, "connect_timeout_s": 2},
    ),
    "a long time": ("redis://one", {"socket_timeout": 300}, {"command_timeout_s": 60}),
    "a database": ("redis://one", {"db": 3}, {"database": 3}),
    "the same database twice": ("redis://one/3", {"db": 3}, {"database": 3}),
    "a database of a socket": ("unix:///run/a.sock", {"db": 3}, {"database": 3, "address": "/run/a.sock"}),
    "a database of sentinels": ("redis+sentinel://one/name", {"db": 3}, {"database": 3}),
    "who": ("redis://one", {"username": "gate", "password": "p w"}, {"username": "gate", "password": "p w"}),
    "no TLS": ("redis://one", {"ssl": False}, {"tls": None}),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", HONOURED)
def test_fault_19_what_has_a_meaning_here_is_honoured_in_uri_and_options(
    case: str, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    uri, options, right = HONOURED[case]
    target = target_of(uri, options, place)
    assert {name: getattr(target, name) for name in right} == right
    assert not caplog.records


NEEDLESS_VALUES: dict[str, Any] = {
    "health_check_interval": 30,
    "protocol": 3,
    "decode_responses": True,
    "max_connections": 20,
    "retry_on_timeout": "yes",
    "socket_keepalive": 1,
    "client_name": "shop",
    "encoding": "utf-8",
    "timeout": 20,
    "socket_read_size": 65536,
}


@pytest.mark.parametrize("place", PLACES)
def test_fault_19_what_means_nothing_here_is_one_line_in_the_log(place: str, caplog: pytest.LogCaptureFixture) -> None:
    target_of("redis://one", NEEDLESS_VALUES, place)
    (line,) = caplog.messages
    assert line.startswith("storage_uri: " if place == "uri" else "storage_options: ")
    assert all(repr(name) in line for name in NEEDLESS_VALUES)


# Where and whom to connect to is what the URI says.
OF_THE_URI = {"host", "port", "path", "url", "unix_socket_path", "startup_nodes", "address_remap"}
OF_PROCESSES = {"himport_registry", "maintenance_state", "maintenance_notification_hash", "sentinels"}
CALLS = [
    redis.Redis,
    redis.asyncio.Redis,
    redis.cluster.RedisCluster,
    redis.ConnectionPool,
    redis.BlockingConnectionPool,
    redis.SSLConnection,
]


def test_fault_19_every_option_that_redis_py_has_is_known() -> None:
    signatures = [inspect.signature(each.__init__).parameters for each in CALLS]
    names = {name for each in signatures for name in each if each[name].kind is not inspect.Parameter.VAR_KEYWORD}
    names.remove("self")
    unknown = []
    for name in sorted(names - OF_THE_URI - OF_PROCESSES):
        try:
            parse_redis_uri("rediss://one", {name: "1"})
        except ConfigurationError as error:
            if "has no option" in str(error):
                unknown.append(name)
    assert unknown == []


@pytest.mark.parametrize("name", sorted(redis.connection.URL_QUERY_ARGUMENT_PARSERS))
def test_fault_19_every_option_that_redis_py_reads_in_a_url_is_known(name: str) -> None:
    right = {"db": "0", "protocol": "2", "ssl_min_version": "771"}.get(name, "1")
    parse_redis_uri(f"rediss://one?{name}={'' if 'flags' in name else right}")


NONSENSE: dict[str, tuple[str, dict[str, Any], str]] = {
    "no number of seconds": ("redis://one", {"socket_timeout": "soon"}, "no number of seconds above 0"),
    "no time": ("redis://one", {"socket_timeout": 0}, "no number of seconds above 0"),
    "not a number": ("redis://one", {"socket_timeout": "nan"}, "no number of seconds above 0"),
    "for ever": ("redis://one", {"socket_connect_timeout": float("inf")}, "no number of seconds above 0"),
    "a protocol": ("redis://one", {"protocol": 4}, "protocol is 2 or 3"),
    "an interval": ("redis://one", {"health_check_interval": "often"}, "health_check_interval is a number"),
    "a truth": ("redis://one", {"decode_responses": "maybe"}, "decode_responses is true or false"),
    "a database": ("redis://one", {"db": "five"}, "whole number"),
    "two databases": ("redis://one/1", {"db": 2}, "name one"),
    "a database of a cluster": ("redis+cluster://one", {"db": 2}, "a cluster has no databases"),
    "certificates": ("rediss://one", {"ssl_cert_reqs": "sometimes"}, "none, optional or required"),
    "names": ("rediss://one", {"ssl_check_hostname": "maybe"}, "true or false"),
    "versions": ("rediss://one", {"ssl_min_version": 5}, "771 (TLSv1_2), 772 (TLSv1_3)"),
    "ciphers": ("rediss://one", {"ssl_ciphers": "ROT13"}, "ssl_ciphers"),
    "flags": ("rediss://one", {"ssl_include_verify_flags": "NICE"}, "VERIFY_X509_STRICT"),
    "data": ("rediss://one", {"ssl_ca_data": "no certificate"}, "ssl_ca_data"),
    "a directory": ("rediss://one", {"ssl_ca_path": "/no/such"}, "there is no directory"),
    "TLS without TLS": ("redis://one", {"ssl_ca_certs": "/x"}, "needs rediss://"),
    "TLS by an option": ("redis://one", {"ssl": True}, "write rediss://"),
    "no TLS by an option": ("rediss://one", {"ssl": False}, "write redis://"),
    "revocation": ("rediss://one", {"ssl_validate_ocsp": True}, "nothing here asks whether"),
    "other credentials": ("redis://one", {"credential_provider": "mine"}, "give username and password"),
    "a name that there is not": ("redis://one", {"socket_timout": 3}, "no option 'socket_timout'"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", NONSENSE)
def test_fault_19_nonsense_is_an_error_that_names_what_is_right(case: str, place: str) -> None:
    uri, options, right = NONSENSE[case]
    with pytest.raises(ConfigurationError) as raised:
        target_of(uri, options, place)
    assert right in str(raised.value)


def test_fault_19_an_option_that_both_name_differently_is_an_error() -> None:
    assert parse_redis_uri("redis://one?socket_timeout=2", {"socket_timeout": 2}).command_timeout_s == 2
    with pytest.raises(ConfigurationError, match="option 'socket_timeout' is given twice"):
        parse_redis_uri("redis://one?socket_timeout=2", {"socket_timeout": 3})


@pytest.mark.parametrize(
    "written",
    ["valkey://one:1/2", "valkeys://one", "valkey+unix:///a", "valkey+sentinel://one/s", "valkey+cluster://one"],
)
@pytest.mark.parametrize("prefix", ["", "async+"])
def test_fault_19_valkey_is_redis_by_another_name(written: str, prefix: str) -> None:
    meant = parse_redis_uri(written.replace("valkeys", "rediss").replace("valkey", "redis"))
    target = parse_redis_uri(prefix + written)
    assert (target.address, target.seeds, target.service, target.database) == (
        meant.address,
        meant.seeds,
        meant.service,
        meant.database,
    )
    assert (target.tls is None) == (meant.tls is None)
    limiter = Limiter(key_func=get_remote_address, storage_uri=prefix + written)
    assert (
        type(limiter._storage).__name__
        == type(Limiter(key_func=get_remote_address, storage_uri="redis://one")._storage).__name__
    )
    limiter.close()


MEANT = {
    "localhost:6379": "did you mean redis://localhost:6379?",
    "localhost": "did you mean redis://localhost?",
    "cache.internal:6379/2": "did you mean redis://cache.internal:6379/2?",
    "[::1]:6379": "did you mean redis://[::1]:6379?",
    ":hush@cache:6379": "did you mean redis://user:password@cache:6379?",
    "redis:/gate:hush@cache": "did you mean redis://user:password@host:port?",
    "redis": "did you mean redis://?",
    "memory:": "did you mean memory://?",
    "what is this": "it begins with one of memory://",
}


@pytest.mark.parametrize("written", MEANT)
def test_fault_19_what_has_no_scheme_is_told_which_one(written: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Limiter(key_func=get_remote_address, storage_uri=written)
    assert MEANT[written] in str(raised.value)
    assert "hush" not in str(raised.value)


# --- TLS, with real servers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_certificates(tmp_path_factory.mktemp("certificates"))
    locked = ["ec", "-in", "client.key", "-out", "locked.key", "-aes128", "-passout", "pass:open sesame"]
    subprocess.run(["openssl", *locked], cwd=directory, check=True, capture_output=True)
    hashed = subprocess.run(
        ["openssl", "x509", "-in", "ca.pem", "-noout", "-hash"],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (directory / "authorities").mkdir()
    (directory / "authorities" / f"{hashed}.0").write_text((directory / "ca.pem").read_text())
    return directory


@pytest.fixture(scope="module")
def shared(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, int]]:
    server, port = serve(certificates, tmp_path_factory.mktemp("tls"), "no")
    yield server, port
    server.stop()


def count(uri: str, options: dict[str, Any], place: str) -> bool:
    storage = RedisStorage(target_of(uri, {**options, "socket_connect_timeout": 5}, place))
    try:
        return bool(storage.policy(RULES).hit("key")[0])
    finally:
        storage.close()


def believed(certificates: Path) -> dict[str, dict[str, Any]]:
    """Options of redis-py for a server whose certificate is for another name than 127.0.0.1."""
    any_name = {"ssl_check_hostname": False}
    return {
        "a file of authorities": {"ssl_ca_certs": f"{certificates}/ca.pem", **any_name},
        "a directory of authorities": {"ssl_ca_path": f"{certificates}/authorities", **any_name},
        "authorities themselves": {"ssl_ca_data": (certificates / "ca.pem").read_text(), **any_name},
        "nobody": {"ssl_cert_reqs": "none"},
        "nobody, and names": {"ssl_cert_reqs": "none", "ssl_check_hostname": True},
        "some ciphers": {"ssl_cert_reqs": "none", "ssl_ciphers": "ECDHE+AESGCM"},
        "a version": {"ssl_cert_reqs": "none", "ssl_min_version": int(ssl.TLSVersion.TLSv1_3)},
    }


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "case",
    [
        *("a file of authorities", "a directory of authorities", "authorities themselves"),
        *("nobody", "nobody, and names", "some ciphers", "a version"),
    ],
)
def test_fault_19_certificates_are_checked_as_redis_py_is_told(
    certificates: Path, shared: tuple[RedisServer, int], place: str, case: str
) -> None:
    assert count(f"rediss://127.0.0.1:{shared[1]}", believed(certificates)[case], place)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", ["optional", "required", "another name"])
def test_fault_19_certificates_that_are_not_to_be_believed_are_not(
    certificates: Path, shared: tuple[RedisServer, int], place: str, case: str
) -> None:
    options: dict[str, Any] = {"ssl_cert_reqs": case, "ssl_check_hostname": False}
    if case == "another name":
        options = {"ssl_ca_certs": f"{certificates}/ca.pem", "ssl_check_hostname": "true"}
    with pytest.raises(StorageUnavailable, match="certificate verify failed"):
        count(f"rediss://127.0.0.1:{shared[1]}", options, place)


def test_fault_19_objects_are_taken_as_well_as_texts(certificates: Path, shared: tuple[RedisServer, int]) -> None:
    options = {
        "ssl_ca_data": ssl.PEM_cert_to_DER_cert((certificates / "ca.pem").read_text()),
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        "ssl_check_hostname": False,
        "ssl_exclude_verify_flags": [ssl.VerifyFlags.VERIFY_X509_STRICT],
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }
    assert count(f"rediss://127.0.0.1:{shared[1]}", options, "options")


def test_fault_19_a_version_that_the_server_does_not_have_is_not_spoken(certificates: Path, tmp_path: Path) -> None:
    server, port = serve(certificates, tmp_path, "no", "--tls-protocols", "TLSv1.2")
    try:
        uri, lax = f"rediss://127.0.0.1:{port}", {"ssl_cert_reqs": "none"}
        assert count(uri, lax, "uri")
        with pytest.raises(StorageUnavailable):
            count(uri, {**lax, "ssl_min_version": 772}, "uri")
    finally:
        server.stop()


@pytest.mark.parametrize("place", PLACES)
def test_fault_19_a_key_with_a_passphrase_is_opened_by_it(certificates: Path, tmp_path: Path, place: str) -> None:
    server, port = serve(certificates, tmp_path, "yes")
    try:
        options = {
            "ssl_cert_reqs": "none",
            "ssl_certfile": f"{certificates}/client.pem",
            "ssl_keyfile": f"{certificates}/locked.key",
        }
        uri = f"rediss://127.0.0.1:{port}"
        assert count(uri, {**options, "ssl_password": "open sesame"}, place)
        with pytest.raises(ConfigurationError) as raised:
            count(uri, {**options, "ssl_password": "hush"}, place)
        assert "hush" not in str(raised.value)
        with pytest.raises(ConfigurationError, match="ssl_password"):
            count(uri, options, place)
    finally:
        server.stop()


def test_fault_19_one_url_serves_redis_py_and_a_limiter(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.call(b"ACL", b"SETUSER", b"gate", b"on", b">p w", b"~*", b"&*", b"+@all")
        more = "socket_timeout=5&health_check_interval=30&decode_responses=true&protocol=2&db=1"
        url = f"unix://gate:{quote('p w')}@{server.path}?{more}"
        client = redis.Redis.from_url(url)
        assert client.ping()
        client.close()
        limiter = Limiter(key_func=get_remote_address, storage_uri=url)
        assert limiter._storage.check()
        limiter.close()
