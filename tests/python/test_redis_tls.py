"""rediss:// against a server with a certificate of a test's own authority."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from ports import free_port
from redis_servers import RedisServer
from redis_tls import make_certificates, serve

from slidegate._core import Quota
from slidegate._storage.redis.storage import RedisStorage
from slidegate._storage.redis.uri import parse_redis_uri
from slidegate.errors import StorageTimeout, StorageUnavailable

RULES = ((Quota(1_000_000, 60_000_000_000), "tls"),)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def shared(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, int]]:
    server, port = serve(certificates, tmp_path_factory.mktemp("tls"), "no")
    yield server, port
    server.stop()


@pytest.fixture
def port(shared: tuple[RedisServer, int]) -> int:
    """Of a server that has counted nothing yet."""
    server, port = shared
    server.call(b"FLUSHALL")
    return port


Hit = Callable[[str], Any]


@pytest.fixture(params=["asyncio", "uvloop", "thread"])
def hits(request: pytest.FixtureRequest) -> Iterator[Hit]:
    """Counts 20 times at once, or one after the other, and returns what remained."""
    makers: dict[str, Callable[[], Any]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    kind: str = request.param
    loop = makers[kind]() if kind in makers else None
    storages: list[RedisStorage] = []

    def hit(uri: str) -> list[int]:
        storages.append(RedisStorage(parse_redis_uri(uri)))
        policy = storages[-1].policy(RULES)
        if loop is None:
            return [policy.hit("key")[2] for _ in range(20)]

        async def many() -> list[int]:
            return [answer[2] for answer in await asyncio.gather(*(policy.hit_async("key") for _ in range(20)))]

        remaining: list[int] = loop.run_until_complete(many())
        return remaining

    yield hit
    for storage in storages:
        storage.close()
    if loop is not None:
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


EXPECTED = list(range(999_999, 999_979, -1))


def test_a_certificate_is_believed_when_its_authority_is(hits: Hit, certificates: Path, port: int) -> None:
    uri = f"rediss://127.0.0.1:{port}?ca_file={certificates}/ca.pem&server_name=gate.test&connect_timeout_ms=5000"
    assert hits(uri) == EXPECTED


def test_nobody_is_believed_without_their_authority(hits: Hit, port: int) -> None:
    with pytest.raises(StorageUnavailable, match="certificate verify failed"):
        hits(f"rediss://127.0.0.1:{port}?server_name=gate.test&connect_timeout_ms=5000")


def test_a_certificate_for_another_name_is_not_believed(hits: Hit, certificates: Path, port: int) -> None:
    with pytest.raises(StorageUnavailable, match="certificate verify failed"):
        hits(f"rediss://localhost:{port}?ca_file={certificates}/ca.pem&connect_timeout_ms=5000")


def test_anybody_is_believed_when_it_is_asked_for(hits: Hit, port: int) -> None:
    assert hits(f"rediss://127.0.0.1:{port}?verify=false&connect_timeout_ms=5000") == EXPECTED


def test_a_client_shows_its_certificate(hits: Hit, certificates: Path, tmp_path: Path) -> None:
    server, port = serve(certificates, tmp_path, "yes")
    try:
        uri = f"rediss://127.0.0.1:{port}?ca_file={certificates}/ca.pem&server_name=gate.test&connect_timeout_ms=5000"
        assert hits(f"{uri}&cert_file={certificates}/client.pem&key_file={certificates}/client.key") == EXPECTED
        with pytest.raises(StorageUnavailable):
            hits(uri)
    finally:
        server.stop()


def test_a_server_without_tls_is_an_error(hits: Hit, tmp_path: Path) -> None:
    port = free_port()
    server = RedisServer(tmp_path, port=port)
    try:
        with pytest.raises((StorageUnavailable, StorageTimeout)):
            hits(f"rediss://127.0.0.1:{port}?verify=false")
    finally:
        server.stop()
