"""What a forked child begins anew: there is nobody in it who would give back a lock that another thread held."""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet


class BegunAnew(Protocol):
    def begin_in_child(self) -> None:
        """Makes it as if nobody but the caller had used it. Called before anything else runs in a forked child."""
        ...


_ALL: WeakSet[BegunAnew] = WeakSet()


def begins_in_children(each: BegunAnew) -> None:
    """Has it begun anew in each forked child, for as long as it is there. Thread-safe."""
    _ALL.add(each)


class ForkableLock:
    """`threading.Lock` for `with`, that is free in a forked child whoever held it when the parent forked.

    What it protects is, in the child, as another thread may have left it in the middle of a change.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        begins_in_children(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *raised: object) -> None:
        self._lock.release()

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()


def _begin_all() -> None:
    for each in _ALL:
        each.begin_in_child()


os.register_at_fork(after_in_child=_begin_all)
