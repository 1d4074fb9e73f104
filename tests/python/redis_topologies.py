"""Sentinels with their masters, and clusters, of real servers on the loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ports import free_ports

from slidegate._core import RedisReader, RedisReplyError, redis_command

PATIENCE_S = 60.0
SERVICE = "mymaster"
SLOTS = 16384


class Node:
    """A redis-server on a TCP port, started with options of its configuration."""

    def __init__(self, directory: Path, port: int, options: dict[str, str], *, is_sentinel: bool = False) -> None:
        self.port = port
        self.directory = directory
        self._is_sentinel = is_sentinel
        directory.mkdir()
        settings = {"port": str(port), "bind": "127.0.0.1", "dir": str(directory), **options}
        if not is_sentinel:
            settings |= {"save": '""', "appendonly": "no"}
        (directory / "redis.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is not installed: run .ci/setup tests"
        command = [program, "redis.conf", *(["--sentinel"] if self._is_sentinel else [])]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log)
        until(lambda: self.answers(b"PING") == b"PONG")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def answers(self, *arguments: bytes) -> Any:
        """The answer; None from a server that is not there. An error is a value."""
        try:
            return self.call(*arguments)
        except OSError:
            return None

    def call(self, *arguments: bytes) -> Any:
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(redis_command(*arguments))
            reader = RedisReader()
            while True:
                data = connection.recv(65536)
                if not data:
                    raise ConnectionError("the server has closed the connection")
                for reply in reader.feed(data):
                    return reply

    def info(self, section: str) -> dict[str, str]:
        lines = self.call(b"INFO", section.encode()).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


class Sentinels:
    """Three sentinels, a master, and two replicas of it."""

    def __init__(self, servers: list[Node], sentinels: list[Node]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @property
    def uri(self) -> str:
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{places}/{SERVICE}"

    @property
    def master(self) -> Node:
        """As the sentinels have it."""
        answer = self.sentinels[0].call(b"SENTINEL", b"get-master-addr-by-name", SERVICE.encode())
        return next(each for each in self.servers if each.port == int(answer[1]))

    def settle(self) -> None:
        """Returns when both of the others follow the master."""

        def is_followed() -> bool:
            replication = self.master.info("replication")
            followers = [replication.get(f"slave{at}", "") for at in range(2)]
            return all("state=online" in each for each in followers)

        until(is_followed)

    def fail_over(self) -> None:
        """Has the sentinels promote a replica, as an operator would. Returns when they have agreed to."""
        until(lambda: self.sentinels[0].call(b"SENTINEL", b"FAILOVER", SERVICE.encode()) == b"OK")


class Cluster:
    """Three masters with a replica each."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def uri(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.nodes[:2])

    def master_of(self, slot: int) -> Node:
        """As a node that is there has it."""
        for node in self.nodes:
            answer = node.answers(b"CLUSTER", b"SLOTS")
            for first, last, master, *_ in answer or ():
                if first <= slot <= last:
                    return next(each for each in self.nodes if each.port == master[1])
        raise AssertionError(f"nobody has slot {slot}")

    def begin_to_move(self, slot: int, to: Node) -> Node:
        """Has a slot on its way to another master. Returns the one that it comes from."""
        source = self.master_of(slot)
        name = b"%d" % slot
        assert to.call(b"CLUSTER", b"SETSLOT", name, b"IMPORTING", source.call(b"CLUSTER", b"MYID")) == b"OK"
        assert source.call(b"CLUSTER", b"SETSLOT", name, b"MIGRATING", to.call(b"CLUSTER", b"MYID")) == b"OK"
        return source

    def move_keys(self, slot: int, source: Node, to: Node, most: int = 1000) -> int:
        """Moves some of the keys; returns how many."""
        keys = source.call(b"CLUSTER", b"GETKEYSINSLOT", b"%d" % slot, b"%d" % most)
        if keys:
            moved = source.call(b"MIGRATE", b"127.0.0.1", b"%d" % to.port, b"", b"0", b"5000", b"KEYS", *keys)
            assert moved in (b"OK", b"NOKEY"), moved
        return len(keys)

    def end_move(self, slot: int, source: Node, to: Node) -> None:
        owner = to.call(b"CLUSTER", b"MYID")
        for node in (to, source):
            assert node.call(b"CLUSTER", b"SETSLOT", b"%d" % slot, b"NODE", owner) == b"OK"


@contextmanager
def sentinels(directory: Path) -> Iterator[Sentinels]:
    directory.mkdir(exist_ok=True)
    ports = free_ports(6)
    first = ports[0]
    servers = [Node(directory / f"server-{at}", port, {}) for at, port in enumerate(ports[:3])]
    watched = {
        "sentinel monitor": f"{SERVICE} 127.0.0.1 {first} 2",
        "sentinel down-after-milliseconds": f"{SERVICE} 500",
        "sentinel failover-timeout": f"{SERVICE} 2000",
    }
    guards = [Node(directory / f"sentinel-{at}", port, watched, is_sentinel=True) for at, port in enumerate(ports[3:])]
    with ExitStack() as stack:
        for node in servers:
            stack.callback(node.kill)
            node.start()
        for replica in servers[1:]:
            assert replica.call(b"REPLICAOF", b"127.0.0.1", b"%d" % first) == b"OK"
        for replica in servers[1:]:
            until(lambda replica=replica: replica.info("replication").get("master_link_status") == "up")
        for node in guards:
            stack.callback(node.kill)
            node.start()

        def is_known() -> bool:
            for each in guards:
                fields = each.call(b"SENTINEL", b"MASTER", SERVICE.encode())
                state = dict(zip(fields[::2], fields[1::2], strict=True))
                if (state[b"num-slaves"], state[b"num-other-sentinels"]) != (b"2", b"2"):
                    return False
            return True

        until(is_known)
        yield Sentinels(servers, guards)


@contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    options = {
        "cluster-enabled": "yes",
        "cluster-node-timeout": "1000",
        "cluster-replica-validity-factor": "0",
        "cluster-require-full-coverage": "no",
    }
    nodes = [Node(directory / f"node-{at}", port, options) for at, port in enumerate(free_ports(6))]
    masters, replicas = nodes[:3], nodes[3:]
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.kill)
            node.start()
        for at, node in enumerate(masters):
            first, last = at * SLOTS // 3, (at + 1) * SLOTS // 3 - 1
            assert node.call(b"CLUSTER", b"ADDSLOTSRANGE", b"%d" % first, b"%d" % last) == b"OK"
            assert node.call(b"CLUSTER", b"SET-CONFIG-EPOCH", b"%d" % (at + 1)) == b"OK"
        for node in nodes[1:]:
            assert node.call(b"CLUSTER", b"MEET", b"127.0.0.1", b"%d" % nodes[0].port) == b"OK"
        until(lambda: all(len(node.call(b"CLUSTER", b"NODES").splitlines()) == 6 for node in nodes))
        for master, replica in zip(masters, replicas, strict=True):
            name = master.call(b"CLUSTER", b"MYID")
            until(lambda replica=replica, name=name: replica.call(b"CLUSTER", b"REPLICATE", name) == b"OK")

        def is_whole() -> bool:
            if any(b"cluster_state:ok" not in node.call(b"CLUSTER", b"INFO") for node in nodes):
                return False
            linked = [replica.info("replication").get("master_link_status") == "up" for replica in replicas]
            slots = [node.call(b"CLUSTER", b"SLOTS") for node in nodes]
            return all(linked) and all(len(each) == 3 and all(len(part) == 4 for part in each) for each in slots)

        until(is_whole)
        yield Cluster(nodes)


def until(condition: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            if (held := condition()) and not isinstance(held, RedisReplyError):
                return
        except (OSError, AssertionError):
            pass
        assert time.monotonic() < deadline_s, condition
        time.sleep(0.02)
