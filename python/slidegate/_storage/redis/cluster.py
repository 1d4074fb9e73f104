"""Counts in the nodes of a cluster, each of which has some of the keys."""

from __future__ import annotations

import asyncio
import binascii
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from ..._support.errors import StorageError, StorageUnavailable
from ..._support.fork import ForkableLock, begins_in_children
from ..._support.waiting import run_blocking
from ..base import Health
from .node import Part, RedisNode
from .replies import Redirected
from .script import Question, Script
from .target import Address, RedisTarget
from .waits import IN_THREAD, Waits

_SLOTS = 16384
_MOST_REDIRECTIONS = 16
_RETRY_S = 0.005
_LEAST_BETWEEN_S = 0.1
_Meaning = TypeVar("_Meaning")


def slot_of(key: bytes) -> int:
    """The slot of a key: of what stands between its first braces, if that is anything."""
    _, opened, rest = key.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return binascii.crc_hqx(tag if opened and closed and tag else key, 0) % _SLOTS


class RedisCluster:
    """Many nodes that are asked as one is.

    It asks the node that has the slot of a question's keys, as it last heard; one that says that another has it, or is
    about to get it, is believed, as it has not run the script. Whenever nodes were redirected to or did not answer, the
    next caller asks all of them how slots are divided, at most ten times a second.
    """

    def __init__(self, target: RedisTarget, script: Script, logger: logging.Logger) -> None:
        """`target` has the seeds: some addresses of nodes. Nothing is connected before the first question."""
        self.target = target
        self._script = script
        self._logger = logger
        self._lock = ForkableLock()
        self._nodes: dict[Address, RedisNode] = {}
        self._masters: list[RedisNode | None] = [None] * _SLOTS
        self._is_known = False
        self._is_stale = True
        self._asked_s = float("-inf")
        self._turn = ForkableLock()
        self._learning: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        begins_in_children(self)

    def begin_in_child(self) -> None:
        # Those tasks are of loops that ended with the fork.
        self._learning = {}

    async def evaluate(self, question: Question, meaning: Callable[[Any], _Meaning], waits: Waits) -> _Meaning:
        if self._is_due():
            await self._learn_together(waits)
        slot, is_asking = slot_of(question.keys[0]), False
        node = self._master(slot)
        for _ in range(_MOST_REDIRECTIONS):
            try:
                return await node.evaluate(question, meaning, waits, is_asking=is_asking)
            except Redirected as redirected:
                if redirected.kind == "TRYAGAIN":
                    await waits.sleep(_RETRY_S)
                node, is_asking = self._redirected(slot, node, redirected)
            except StorageError:
                self._is_stale = True
                raise
        raise StorageUnavailable(f"{self.target.name} redirects without end about slot {slot}")

    def divided(self, keys: Sequence[bytes]) -> list[Part]:
        slots = [slot_of(key) for key in keys]
        return [[at for at, each in enumerate(slots) if each == slot] for slot in dict.fromkeys(slots)]

    def health(self) -> Health:
        """Of the node that has been out of reach for longest; else of the one that has been back for the least time."""
        known = [node.health() for node in self._known_masters()]
        out = [each for each in known if not each.is_available]
        if out:
            return max(out, key=lambda each: each.since_s)
        return min(known, key=lambda each: each.since_s, default=Health(True, 0, 0, None))

    def check(self) -> None:
        for node in self._all_masters():
            node.check()

    def forget(self, is_meant: Callable[[bytes], bool]) -> int:
        return sum(node.forget(is_meant) for node in self._all_masters())

    def close(self) -> None:
        with self._lock:
            nodes, self._nodes = list(self._nodes.values()), {}
            self._masters, self._is_known, self._is_stale = [None] * _SLOTS, False, True
        for node in nodes:
            node.close()

    def _all_masters(self) -> list[RedisNode]:
        run_blocking(self._learn(IN_THREAD))
        return self._known_masters()

    def _known_masters(self) -> list[RedisNode]:
        return list(dict.fromkeys(node for node in self._masters if node is not None))

    def _master(self, slot: int) -> RedisNode:
        node = self._masters[slot]
        if node is None:
            raise StorageUnavailable(f"{self.target.name}: no node that could be asked has slot {slot}")
        return node

    def _redirected(self, slot: int, node: RedisNode, redirected: Redirected) -> tuple[RedisNode, bool]:
        self._is_stale = True
        if redirected.kind == "TRYAGAIN":
            return node, False
        host, _, port = redirected.place.rpartition(":")
        if not port.isdigit():
            raise StorageUnavailable(f"{node.target.name} redirects to nowhere")
        found = self._node((host or self._host_of(node), int(port)))
        if redirected.kind == "MOVED":
            self._masters[slot] = found
        return found, redirected.kind == "ASK"

    def _host_of(self, node: RedisNode) -> str:
        # An empty host is the one that was asked.
        return node.target.address[0] if isinstance(node.target.address, tuple) else ""

    def _node(self, address: Address) -> RedisNode:
        with self._lock:
            node = self._nodes.get(address)
            if node is None:
                node = self._nodes[address] = RedisNode(self.target.at(address), self._script, self._logger)
            return node

    # --- how slots are divided ----------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        return self._is_stale and (not self._is_known or time.monotonic() - self._asked_s >= _LEAST_BETWEEN_S)

    async def _learn_together(self, waits: Waits) -> None:
        # Once for all who wait. Of those on a loop none takes it with him when he is cancelled.
        if waits.is_blocking:
            with self._turn:
                if self._is_due():
                    await self._learn(waits)
            return
        loop = asyncio.get_running_loop()
        task = self._learning.get(loop)
        if task is None:
            task = self._learning[loop] = loop.create_task(self._learn(waits))
            task.add_done_callback(lambda done: self._learning.pop(loop, None))
        await asyncio.shield(task)

    async def _learn(self, waits: Waits) -> None:
        async def ask(node: RedisNode) -> tuple[list[RedisNode | None], set[Address]]:
            return self._division_by(node, await node.execute(waits, b"CLUSTER", b"SLOTS"))

        self._asked_s = time.monotonic()
        with self._lock:
            candidates = dict.fromkeys((*self._nodes, *self.target.seeds))
        try:
            masters, places = await waits.first_of([ask(self._node(each)) for each in candidates])
        except StorageError as error:
            # Those that are known are asked all the same: the others may be what is out of reach.
            if self._is_known:
                return
            raise StorageUnavailable(f"{self.target.name} cannot be reached: {error}") from error
        self._masters, self._is_known, self._is_stale = masters, True, False
        with self._lock:
            gone = [self._nodes.pop(each) for each in list(self._nodes) if each not in places]
        for node in gone:
            node.close()

    def _division_by(self, asked: RedisNode, answer: Any) -> tuple[list[RedisNode | None], set[Address]]:
        masters: list[RedisNode | None] = [None] * _SLOTS
        places: set[Address] = set()
        try:
            for first, last, *members in answer:
                addresses = [(each[0].decode() if each[0] else self._host_of(asked), each[1]) for each in members]
                places.update(addresses)
                masters[first : last + 1] = [self._node(addresses[0])] * (last + 1 - first)
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise StorageUnavailable(f"{asked.target.name} does not say how slots are divided") from error
        if len(masters) != _SLOTS or not any(masters):
            raise StorageUnavailable(f"{asked.target.name} is a node of a cluster that has no slots")
        return masters, places


RedisServer: TypeAlias = RedisNode | RedisCluster
