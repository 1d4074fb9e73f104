"""Spares a storage that is out of reach, and whoever waits for it."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

from .._support.errors import StorageError, StorageTimeout, StorageUnavailable
from .._support.escaping import escaped, escaped_error
from .._support.fork import ForkableLock, begins_in_children
from .._support.waiting import run_blocking
from .base import Health

_QUIET_S = 10.0


class Rhythm(NamedTuple):
    """How many failures in a row open a breaker, and when it is probed: each time after twice as many seconds."""

    failures: int
    first_s: float
    longest_s: float


OF_SERVERS = Rhythm(3, 0.1, 2)
OF_REQUESTS = Rhythm(1, 1, 32)


class CircuitBreaker:
    """Closed while a storage answers. After some failures in a row it is open: nobody asks it, but one who probes.

    With a `check` it is that of a server, which a thread of its own probes, and a fork begins with a closed one. Else
    the first request for which that `is_due` is the one to probe. Calls `on_closed` when the storage is back.

    The log gets one line when failures begin, and one when the storage answers again after it was not asked; failures
    that come and go, one in ten seconds. Thread-safe.
    """

    def __init__(
        self,
        logger: logging.Logger,
        on_closed: Callable[[], None] = lambda: None,
        *,
        name: str = "",
        check: Callable[[], object] | None = None,
    ) -> None:
        self._logger, self._on_closed, self._name, self._check = logger, on_closed, name, check
        self._rhythm = OF_REQUESTS if check is None else OF_SERVERS
        self._lock = ForkableLock()
        self._begin()
        begins_in_children(self)

    def begin_in_child(self) -> None:
        # Whoever probed stayed with the parent.
        self._due_at_s = 0.0
        if self._check is not None:
            self._begin()

    def _begin(self) -> None:
        self.is_open = False
        """Whether the storage is not asked now."""
        self.is_troubled = False
        """Whether `succeeded` is to be called."""
        self._is_told = False
        self._failures = self._outages = 0
        self._since_s = monotonic()
        self._last_error: str | None = None
        self._pause_s = self._due_at_s = self._quiet_until_s = 0.0
        self._stopped = threading.Event()

    def health(self) -> Health:
        with self._lock:
            return Health(not self.is_open, monotonic() - self._since_s, self._outages, self._last_error)

    def refusal(self) -> StorageUnavailable:
        """What is raised while it is open."""
        return StorageUnavailable(f"{self._name} is not asked until it answers again: {self._last_error}")

    def succeeded(self) -> None:
        """The storage has answered, and to the question."""
        self.is_troubled = self._is_told = False
        self._failures = 0

    def failed(self, error: Exception) -> None:
        """It has not, or only that it cannot, or nonsense. What is about one question to a server opens nothing."""
        with self._lock:
            self.is_troubled = True
            self._note(error)
            self._failures += self._check is None or isinstance(error, (StorageUnavailable, StorageTimeout))
            is_opening = not (self.is_open or self._failures < self._rhythm.failures or self._stopped.is_set())
            is_to_tell = not self._is_told and (is_opening or monotonic() >= self._quiet_until_s)
            if is_to_tell:
                self._is_told = True
                self._quiet_until_s = monotonic() + _QUIET_S
            if is_opening:
                self._outages += 1
                self._turn(is_open=True)
                self._rest(self._rhythm.first_s)
        if is_to_tell and self._check is None:
            text = "Rate limit storage unreachable - falling back to in-memory storage: %s"
            self._logger.warning(text, escaped(repr(error)))
        elif is_to_tell:
            self._logger.warning("%s", escaped(error))
        if is_opening and self._check is not None:
            threading.Thread(target=self._probe_until_it_answers, name="slidegate-redis-probe", daemon=True).start()

    def close(self) -> None:
        """The storage is to be asked again."""
        with self._lock:
            if not self.is_open:
                return
            self._turn(is_open=False)
            self._is_told, self._failures = False, 0
        if self._check is None:
            self._logger.info("Rate limit storage recovered")
        else:
            self._logger.warning("%s answers again", self._name)
        self._on_closed()

    def stop(self) -> None:
        self._stopped.set()

    def is_due(self) -> bool:
        """Whether the caller is the one to probe, now."""
        with self._lock:
            if not self.is_open or monotonic() < self._due_at_s:
                return False
            # Nobody else until it has answered, or has had time enough to.
            self._due_at_s = monotonic() + self._rhythm.longest_s
            return True

    async def probe(self, check: Callable[[], Any]) -> None:
        """Asks the storage, and waits for it if it is asynchronous. Closes when it is back."""
        try:
            answer = check()
            is_back = bool(await answer if inspect.isawaitable(answer) else answer)
        except Exception as error:
            # Whatever it is: were a thread to end by it, nobody would ever ask again.
            self._note(error)
            is_back = False
        if is_back:
            self.close()
            return
        with self._lock:
            self._rest(min(2 * self._pause_s, self._rhythm.longest_s))

    def probe_apart(self, check: Callable[[], object]) -> None:
        """The same in a thread, for which nobody waits: a storage that answers nobody may take its time."""
        asking = self.probe(check)
        threading.Thread(target=run_blocking, args=(asking,), name="slidegate storage probe", daemon=True).start()

    def _probe_until_it_answers(self) -> None:
        assert self._check is not None
        while self.is_open and not self._stopped.wait(self._pause_s):
            run_blocking(self.probe(self._check))

    def _turn(self, *, is_open: bool) -> None:
        self.is_open, self._since_s = is_open, monotonic()

    def _rest(self, pause_s: float) -> None:
        self._pause_s, self._due_at_s = pause_s, monotonic() + pause_s

    def _note(self, error: Exception) -> None:
        self._last_error = escaped(error) if isinstance(error, StorageError) else escaped_error(error)
