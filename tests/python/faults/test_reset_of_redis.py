"""`slidegate reset` of limits that Redis counts: there, or it says where."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis_topologies
from conftest import Client
from fastapi import FastAPI
from redis_servers import RedisServer

from slidegate import Limiter
from slidegate._core import Limiter as Engine
from slidegate._core import Quota, Segment
from slidegate.cli import main
from slidegate.util import get_remote_address

MINUTE_NS = 60_000_000_000


@pytest.fixture(autouse=True)
def _empty(server: RedisServer) -> None:
    server.call(b"FLUSHALL")
    server.call(b"SET", b"somebody's", b"1")


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    (Path(Segment.shared_directory) / f"{Segment.shared_prefix}{name}").unlink(missing_ok=True)


def client_on(uri: str, **options: Any) -> Client:
    # Another process is asked to forget: what is remembered of refusals here would be told for a second more.
    limiter = Limiter(get_remote_address, storage_uri=uri, storage_options={"deny_cache_ms": 0}, **options)
    app = FastAPI()
    app.get("/chat")(limiter.limit("1/minute")(lambda: "ok"))
    app.get("/mail")(limiter.limit("1/minute")(lambda: "ok"))
    app.get("/post")(limiter.shared_limit("1/minute", scope="post")(lambda: "ok"))
    return Client(app)


PATHS = ["/chat", "/mail", "/post"]


def statuses(client: Client) -> list[int]:
    return [client.get(path).status_code for path in PATHS]


def test_fault_29_reset_of_a_redis_forgets_there_all_of_ours_and_nothing_else(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    client = client_on(server.uri)
    assert [statuses(client), statuses(client)] == [[200] * 3, [429] * 3]
    assert main(["reset", server.uri]) == 0
    assert capsys.readouterr().out.startswith("forgot all hits in the Redis server at ")
    assert statuses(client) == [200] * 3
    assert server.call(b"GET", b"somebody's") == b"1"


CASES: dict[str, tuple[list[str], list[int]]] = {
    "a key everywhere": (["192.0.2.1"], [200, 200, 200]),
    "a key on a path": (["192.0.2.1", "--path", "/chat"], [200, 429, 200]),
}


@pytest.mark.parametrize("case", CASES)
def test_fault_29_reset_of_a_key_in_a_redis_forgets_it_there(server: RedisServer, case: str) -> None:
    arguments, after = CASES[case]
    client = client_on(server.uri)
    statuses(client)
    assert main(["reset", server.uri, *arguments]) == 0
    assert statuses(client) == after


@pytest.mark.parametrize("key", ["92.0.2.1", "1", "192.0.2.*", "192.0.2.10", ""])
def test_fault_29_reset_of_another_key_forgets_nobody(
    server: RedisServer, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = client_on(server.uri)
    statuses(client)
    assert main(["reset", server.uri, key]) == 1
    assert "has counted nothing for" in capsys.readouterr().err
    assert statuses(client) == [429] * 3


def test_fault_29_reset_finds_digests_on_the_path_that_is_named(server: RedisServer) -> None:
    client = client_on(f"{server.uri}?hash_keys=true")
    statuses(client)
    assert main(["reset", f"{server.uri}?hash_keys=true", "192.0.2.1", "--path", "/mail"]) == 0
    assert statuses(client) == [429, 200, 200]


def test_fault_29_reset_of_a_cluster_forgets_in_all_of_its_nodes(tmp_path: Path) -> None:
    with redis_topologies.cluster(tmp_path) as cluster:
        client = client_on(cluster.uri)
        statuses(client)
        assert main(["reset", cluster.uri, "192.0.2.1"]) == 0
        assert statuses(client) == [200] * 3


@pytest.mark.parametrize("command", [["inspect", "redis://one", "key"], ["top", "redis://one"], ["rm", "redis://one"]])
def test_fault_29_what_cannot_look_into_a_redis_says_what_can(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    assert "`slidegate reset` takes its URI" in capsys.readouterr().err


def test_fault_29_reset_of_a_redis_that_is_down_cannot_be_done(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["reset", "redis://:hush@127.0.0.1:1"]) == 2
    told = capsys.readouterr().err
    assert "cannot be reached" in told
    assert "hush" not in told
    assert caplog.messages == [], "it is said once"


@pytest.fixture
def beside(name: str) -> Callable[[bool], None]:
    """Memory of a server whose limiter counts elsewhere: it is told what was decided there."""

    def make(has_own: bool) -> None:
        engine = Engine(segment=Segment.shared(name, size=1 << 20))
        engine.policy([(Quota(10, MINUTE_NS), "elsewhere", "chat")]).tally(True, 0)
        if has_own:
            engine.policy([(Quota(5, MINUTE_NS), "here")]).hit("ada")
        engine.policy([(Quota(7, MINUTE_NS), "never")])

    return make


@pytest.mark.parametrize("arguments", [[], ["ada"], ["nobody"]])
def test_fault_29_reset_of_memory_beside_a_redis_says_where_the_counts_are(
    beside: Callable[[bool], None], name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    beside(True)
    assert main(["reset", name, *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "only tells of 10 per minute, moving-window: they are counted by what the storage_uri" in told.err
    assert "slidegate reset redis://" in told.err


def test_fault_29_reset_of_memory_that_counts_itself_does_what_it_says(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine(segment=Segment.shared(name, size=1 << 20))
    policy = engine.policy([(Quota(1, MINUTE_NS), "here")])
    assert policy.hit("ada")[0]
    assert main(["reset", name]) == 0
    assert policy.hit("ada")[0]
    assert main(["reset", name, "ada"]) == 0
    assert policy.hit("ada")[0]
    assert [main(["reset", name]), main(["reset", name])] == [0, 0]
    assert (
        capsys.readouterr().out
        == "forgot all hits, of 1 limit\nforgot the hits of 'ada', of 1 limit\n" + "forgot all hits, of 1 limit\n" * 2
    )
