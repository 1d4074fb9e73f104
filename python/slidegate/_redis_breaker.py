"""Spares a server that is down, and whoever waits for it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from .errors import StorageError, StorageUnavailable

_FAILURES_TO_OPEN = 3
_FIRST_PROBE_S = 0.1
_LAST_PROBE_S = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a server is asked, how long it has been so, and why it is not."""

    is_available: bool
    since_s: float
    outages: int
    last_error: str | None


class CircuitBreaker:
    """Closed while a server answers.

    After three failures in a row it is open: nobody waits for the server, and a thread of its own asks it now and then,
    until it answers. Thread-safe; a fork begins with a closed one.

    `probe` returns when the server answers, and raises StorageError when it does not.
    """

    def __init__(self, name: str, probe: Callable[[], None], logger: logging.Logger) -> None:
        self._name = name
        self._probe = probe
        self._logger = logger
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._failures = 0
        self._outages = 0
        self._since_s = monotonic()
        self._last_error: str | None = None
        self._is_open = False
        self._stopped = threading.Event()

    def admit(self) -> None:
        """Raises StorageUnavailable while open."""
        if self._is_open:
            if self._pid != os.getpid():
                # Whoever probed stayed with the parent.
                self._begin()
                return
            raise StorageUnavailable(f"{self._name} is not asked until it answers again: {self._last_error}")

    def succeeded(self) -> None:
        """The server has answered."""
        if self._failures:
            self._failures = 0

    def failed(self, error: StorageError) -> None:
        """The server has not, or only that it cannot."""
        with self._lock:
            self._last_error = str(error)
            self._failures += 1
            if self._is_open or self._failures < _FAILURES_TO_OPEN or self._stopped.is_set():
                return
            self._is_open = True
            self._outages += 1
            self._since_s = monotonic()
            prober = threading.Thread(target=self._probe_until_it_answers, name="slidegate-redis-probe", daemon=True)
        self._logger.warning("%s", error)
        prober.start()

    def health(self) -> Health:
        with self._lock:
            return Health(not self._is_open, monotonic() - self._since_s, self._outages, self._last_error)

    def stop(self) -> None:
        """Ends the probing."""
        self._stopped.set()

    def _probe_until_it_answers(self) -> None:
        pause_s = _FIRST_PROBE_S
        while not self._stopped.wait(pause_s):
            try:
                self._probe()
            except StorageError as error:
                with self._lock:
                    self._last_error = str(error)
                pause_s = min(2 * pause_s, _LAST_PROBE_S)
                continue
            with self._lock:
                self._is_open = False
                self._failures = 0
                self._since_s = monotonic()
            self._logger.warning("%s answers again", self._name)
            return
