"""Spares a server that is down, and whoever waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from ..._support.errors import StorageError, StorageTimeout, StorageUnavailable
from ..._support.escaping import escaped
from ..._support.fork import ForkableLock, begins_in_children
from ..base import Health

_FAILURES_TO_OPEN = 3
_FIRST_PROBE_S = 0.1
_LAST_PROBE_S = 2.0
_QUIET_S = 10.0


class CircuitBreaker:
    """Closed while a server answers.

    After three failures in a row it is open: nobody waits for the server, and a thread of its own asks it now and then,
    until it answers. Thread-safe; a fork begins with a closed one. The log gets one line when failures begin, and one
    when the server answers again after it was not asked; failures that come and go, one in ten seconds.

    `probe` returns when the server answers, and raises StorageError when it does not.
    """

    def __init__(self, name: str, probe: Callable[[], None], logger: logging.Logger) -> None:
        self._name = name
        self._probe = probe
        self._logger = logger
        self._lock = ForkableLock()
        self.begin_in_child()
        begins_in_children(self)

    def begin_in_child(self) -> None:
        # Whoever probed stayed with the parent.
        self._failures = 0
        self._outages = 0
        self._since_s = monotonic()
        self._last_error: str | None = None
        self.is_open = False
        """Whether the server is not asked now."""
        self.is_troubled = False
        """Whether `succeeded` is to be called."""
        self._is_told = False
        self._quiet_until_s = 0.0
        self._stopped = threading.Event()

    def refusal(self) -> StorageUnavailable:
        """What is raised while it is open."""
        return StorageUnavailable(f"{self._name} is not asked until it answers again: {self._last_error}")

    def succeeded(self) -> None:
        """The server has answered, and to the question."""
        self.is_troubled = False
        self._failures = 0
        self._is_told = False

    def failed(self, error: StorageError) -> None:
        """The server has not, or only that it cannot, or nonsense. What is about one question only opens nothing."""
        with self._lock:
            self.is_troubled = True
            self._last_error = escaped(error)
            self._failures += isinstance(error, (StorageUnavailable, StorageTimeout))
            is_opening = not (self.is_open or self._failures < _FAILURES_TO_OPEN or self._stopped.is_set())
            is_to_tell = not self._is_told and (is_opening or monotonic() >= self._quiet_until_s)
            if is_to_tell:
                self._is_told = True
                self._quiet_until_s = monotonic() + _QUIET_S
            if is_opening:
                self.is_open = True
                self._outages += 1
                self._since_s = monotonic()
        if is_to_tell:
            self._logger.warning("%s", escaped(error))
        if is_opening:
            threading.Thread(target=self._probe_until_it_answers, name="slidegate-redis-probe", daemon=True).start()

    def health(self) -> Health:
        with self._lock:
            return Health(not self.is_open, monotonic() - self._since_s, self._outages, self._last_error)

    def stop(self) -> None:
        """Ends the probing."""
        self._stopped.set()

    def _probe_until_it_answers(self) -> None:
        pause_s = _FIRST_PROBE_S
        while not self._stopped.wait(pause_s):
            try:
                self._probe()
            except Exception as error:
                # Whatever it is: were this thread to end, nobody would ever ask again.
                with self._lock:
                    self._last_error = escaped(error)
                pause_s = min(2 * pause_s, _LAST_PROBE_S)
                continue
            with self._lock:
                self.is_open = False
                self._is_told = False
                self._failures = 0
                self._since_s = monotonic()
            self._logger.warning("%s answers again", self._name)
            return
