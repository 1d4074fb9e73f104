"""A process that is busy takes no server for silent, and a silent server is found out all the same."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis_topologies
import uvloop
from redis_proxy import FaultyProxy
from redis_servers import running
from redis_tls import make_certificates, serve

from slidegate._core import Quota
from slidegate._storage.redis.storage import RedisPolicy, RedisStorage
from slidegate._storage.redis.uri import parse_redis_uri
from slidegate.errors import StorageTimeout, StorageUnavailable

RULES = ((Quota(1_000_000, 60_000_000_000), "busy"),)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
LIMIT_MS = 60
LIMITS = f"connect_timeout_ms={LIMIT_MS}&command_timeout_ms={LIMIT_MS}"
BUSY_S = 1.5 * LIMIT_MS / 1000


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """URIs of all kinds of servers, each of which wants a password or has more than one step before it is ready."""
    plain = tmp_path_factory.mktemp("plain")
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    directory = tmp_path_factory.mktemp("tls")
    secured, port = serve(certificates, directory, "no")
    try:
        with (
            running(plain) as server,
            redis_topologies.sentinels(tmp_path_factory.mktemp("sentinels")) as watched,
            redis_topologies.cluster(tmp_path_factory.mktemp("cluster")) as cluster,
        ):
            for each in (server, secured):
                each.call(b"ACL", b"SETUSER", b"gate", b"on", b">pw", b"~*", b"+@all")
            server.call(b"CONFIG", b"SET", b"bind", b"127.0.0.1")
            proxy = FaultyProxy(server.path)
            yield {
                "unix": f"redis+unix://gate:pw@{server.path}?database=2&{LIMITS}",
                "tcp": f"redis://gate:pw@127.0.0.1:{proxy.port}/2?{LIMITS}",
                "name": f"redis://gate:pw@localhost:{proxy.port}/2?{LIMITS}",
                "tls": f"rediss://gate:pw@127.0.0.1:{port}/2?ca_file={certificates}/ca.pem&server_name=gate.test&{LIMITS}",
                "sentinel": f"{watched.uri}?{LIMITS}",
                "cluster": f"{cluster.uri}?{LIMITS}",
            }
            proxy.stop()
    finally:
        secured.stop()


KINDS = ["unix", "tcp", "name", "tls", "sentinel", "cluster"]


@contextmanager
def policy_of(uri: str) -> Iterator[RedisPolicy]:
    storage = RedisStorage(parse_redis_uri(uri))
    try:
        yield storage.policy(RULES)
    finally:
        storage.close()


def run(kind: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    loop = LOOPS[kind]()
    try:
        return loop.run_until_complete(work())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def while_busy(work: Coroutine[Any, Any, Any], seconds: float, turns: range) -> Any:
    """Awaits the work on a loop that computes that long in some of its turns, and nothing in others."""
    task = asyncio.ensure_future(work)
    for turn in range(turns.stop):
        await asyncio.sleep(0)
        if task.done():
            break
        if turn in turns:
            time.sleep(seconds)
    return await task


@contextmanager
def interpreter_held(seconds: float) -> Iterator[None]:
    """Another thread holds the interpreter for that long, again and again."""
    stopped = threading.Event()
    sleep_with_it = ctypes.PyDLL(None).usleep

    def hold() -> None:
        while not stopped.is_set():
            sleep_with_it(int(seconds * 1e6))
            time.sleep(0.0001)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
def test_fault_34_a_loop_that_is_busy_in_each_turn_while_it_connects_is_no_outage(
    places: dict[str, str], kind: str, loop: str
) -> None:
    async def work() -> Any:
        with policy_of(places[kind]) as policy:
            return await while_busy(policy.hit_async("key"), BUSY_S, range(60))

    assert run(loop, work)[0]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["tcp", "tls"])
@pytest.mark.parametrize("turn", range(6))
def test_fault_34_a_loop_that_is_busy_once_while_it_connects_is_no_outage(
    places: dict[str, str], kind: str, loop: str, turn: int
) -> None:
    async def work() -> Any:
        with policy_of(places[kind]) as policy:
            return await while_busy(policy.hit_async("key"), BUSY_S, range(turn, turn + 1))

    assert run(loop, work)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_fault_34_a_thread_that_does_not_get_the_interpreter_while_it_connects_is_no_outage(
    places: dict[str, str], kind: str
) -> None:
    with policy_of(places[kind]) as policy, interpreter_held(BUSY_S):
        assert policy.hit("key")[0]


def test_fault_34_a_thread_that_does_not_get_the_interpreter_hears_its_answers(places: dict[str, str]) -> None:
    with policy_of(places["tcp"]) as policy:
        assert policy.hit("key")[0]
        with interpreter_held(BUSY_S):
            assert all(policy.hit("key")[0] for _ in range(5))


@pytest.mark.parametrize("loop", LOOPS)
def test_fault_34_a_loop_that_was_too_busy_to_send_has_not_waited_for_the_answer(
    places: dict[str, str], loop: str
) -> None:
    # The server may take its time for so many, which are more than a socket takes at once.
    limit_s, count = 0.5, 5000

    async def work() -> Any:
        uri = places["unix"].replace(LIMITS, f"command_timeout_ms={limit_s * 1000:.0f}&connect_timeout_ms=5000")
        with policy_of(uri) as policy:
            await policy.hit_async("key")
            many = asyncio.gather(*(policy.hit_async(f"{i:060}") for i in range(count)))
            return await while_busy(_all(many), 1.2 * limit_s, range(1, 3))

    assert all(answer[0] for answer in run(loop, work))


async def _all(many: asyncio.Future[list[Any]]) -> list[Any]:
    return await many


SCHEMES = {
    "redis": "redis://:pw@127.0.0.1:{}?",
    "rediss": "rediss://127.0.0.1:{}?",
    "sentinel": "redis+sentinel://127.0.0.1:{}/mymaster?",
    "cluster": "redis+cluster://:pw@127.0.0.1:{}?",
}


class Silent:
    """A server that takes connections, and says what `says` gives; b"" for nothing at all."""

    def __init__(self, says: Callable[[], bytes]) -> None:
        self._says = says
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._stopped = threading.Event()
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def uri(self, scheme: str) -> str:
        return SCHEMES[scheme].format(self.port) + "connect_timeout_ms=20&command_timeout_ms=20"

    def _serve(self) -> None:
        self._listener.settimeout(0.001)
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                self._taken.append(self._listener.accept()[0])
            for each in self._taken:
                with suppress(OSError):
                    each.send(self._says())

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        for each in [self._listener, *self._taken]:
            each.close()


SILENCE = {"nothing": lambda: b"", "a byte now and then": lambda: b"x"}


@pytest.fixture(params=SILENCE)
def silent(request: pytest.FixtureRequest) -> Iterator[Silent]:
    server = Silent(SILENCE[request.param])
    yield server
    server.stop()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("busy_s", [0, 0.004])
def test_fault_34_a_server_that_really_does_not_answer_is_an_outage_on_a_loop(
    silent: Silent, scheme: str, loop: str, busy_s: float
) -> None:
    async def work() -> None:
        with policy_of(silent.uri(scheme)) as policy, pytest.raises((StorageTimeout, StorageUnavailable)):
            await while_busy(policy.hit_async("key"), busy_s, range(5000))

    run(loop, work)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("is_busy", [False, True])
def test_fault_34_a_server_that_really_does_not_answer_is_an_outage_for_a_thread(
    silent: Silent, scheme: str, is_busy: bool
) -> None:
    busy_s = 0.004 if is_busy else 0
    with policy_of(silent.uri(scheme)) as policy, interpreter_held(busy_s):  # noqa: SIM117
        with pytest.raises((StorageTimeout, StorageUnavailable)):
            policy.hit("key")


def test_an_answer_without_end_is_an_error(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        proxy = FaultyProxy(server.path)
        proxy.fault = lambda data: b"*2147483647\r\n" + b":1\r\n" * 10_000
        uri = f"redis://127.0.0.1:{proxy.port}?{LIMITS}"
        with policy_of(uri) as policy, pytest.raises((StorageTimeout, StorageUnavailable)):
            policy.hit("key")
        proxy.stop()


@pytest.mark.parametrize("kind", [*LOOPS, "thread"])
def test_fault_34_a_unix_socket_whose_queue_is_full_is_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "full.sock"
    with running(tmp_path) as server, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        before = []
        while True:
            each = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            before.append(each)
            if each.connect_ex(str(path)):
                break

        def serve_later() -> None:
            time.sleep(0.02)
            for each in before:
                each.close()
            taken = [listener.accept()[0] for _ in range(len(before) - 1)]
            client = listener.accept()[0]
            with socket.socket(socket.AF_UNIX) as behind, client:
                behind.connect(server.path)
                with suppress(OSError):
                    while data := client.recv(65536):
                        behind.sendall(data)
                        client.sendall(behind.recv(65536))
            for each in taken:
                each.close()

        thread = threading.Thread(target=serve_later)
        thread.start()
        try:
            with policy_of(f"redis+unix://{path}?connect_timeout_ms=5000&command_timeout_ms=5000") as policy:
                if kind == "thread":
                    assert policy.hit("key")[0]
                else:

                    async def work() -> Any:
                        answer = await policy.hit_async("key")
                        policy._server.close()
                        return answer

                    assert run(kind, work)[0]
        finally:
            thread.join()


@pytest.mark.parametrize("kind", ["asyncio", "thread"])
def test_a_host_one_of_whose_addresses_leads_nowhere_is_reached_by_another(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def both(host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
        # To which no TCP connection can lead: the system says "Network is unreachable" at once.
        nowhere = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("255.255.255.255", port))
        found = resolve("127.0.0.1", port, *arguments, **more)
        return [nowhere, *found] if host == "two.test" else resolve(host, port, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with running(tmp_path) as server:
        proxy = FaultyProxy(server.path)
        try:
            with policy_of(f"redis://two.test:{proxy.port}") as policy:
                assert (policy.hit("key") if kind == "thread" else run(kind, lambda: _hit(policy)))[0]
        finally:
            proxy.stop()


async def _hit(policy: RedisPolicy) -> Any:
    return await policy.hit_async("key")
