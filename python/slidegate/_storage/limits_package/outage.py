"""When a storage is out of reach, and when to ask for it again."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from ..._support.callables import run_blocking
from ..._support.escaping import escaped, escaped_error
from ..._support.fork import ForkableLock, begins_in_children
from ..base import Health

_LONGEST_REST_S = 32


class Outage:
    """Whether a storage is out of reach, and when to ask again: after 1, 2, 4, ... seconds. Thread-safe.

    Calls `on_end` when it is back.
    """

    def __init__(self, logger: logging.Logger, on_end: Callable[[], None] = lambda: None) -> None:
        self.is_on = False
        self._logger = logger
        self._on_end = on_end
        self._lock = ForkableLock()
        self._rest_s = 1
        self._asks_at_s = 0.0
        self._outages = 0
        self._since_s = monotonic()
        self._last_error: str | None = None
        begins_in_children(self)

    def begin_in_child(self) -> None:
        # Whoever is asking it stayed with the parent.
        self._asks_at_s = 0.0

    def health(self) -> Health:
        with self._lock:
            return Health(not self.is_on, monotonic() - self._since_s, self._outages, self._last_error)

    def begin(self, error: Exception) -> None:
        """The storage was not to be reached."""
        with self._lock:
            is_new, self.is_on = not self.is_on, True
            self._last_error = escaped_error(error)
            if is_new:
                self._outages += 1
                self._since_s = monotonic()
                self._rest_s = 1
                self._asks_at_s = monotonic() + 1
        if is_new:
            self._logger.warning(
                "Rate limit storage unreachable - falling back to in-memory storage: %s", escaped(repr(error))
            )

    def is_to_be_probed(self) -> bool:
        """Whether the caller is the one to ask, now."""
        with self._lock:
            if not self.is_on or monotonic() < self._asks_at_s:
                return False
            # Nobody else until it has answered, or has had time enough to.
            self._asks_at_s = monotonic() + _LONGEST_REST_S
            return True

    async def probe(self, check: Callable[[], Any]) -> None:
        """Asks the storage, and waits for it if it is asynchronous. Ends when it is back."""
        try:
            answer = check()
            is_back = bool(await answer if inspect.isawaitable(answer) else answer)
        except Exception:
            is_back = False
        if is_back:
            self.end()
            return
        with self._lock:
            self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)
            self._asks_at_s = monotonic() + self._rest_s

    def probe_apart(self, check: Callable[[], object]) -> None:
        """The same in a thread, for which nobody waits: a storage that answers nobody may take its time."""
        asking = self.probe(check)
        threading.Thread(target=run_blocking, args=(asking,), name="slidegate storage probe", daemon=True).start()

    def end(self) -> None:
        """The storage is to be asked again."""
        with self._lock:
            was_on, self.is_on = self.is_on, False
            if was_on:
                self._since_s = monotonic()
        if was_on:
            self._logger.info("Rate limit storage recovered")
            self._on_end()
