"""One line for each refusal, without the key itself, and not more of them than somebody can read."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from .._support.escaping import escaped
from .._support.fork import ForkableLock
from ..decision import Decision


class RefusalLog:
    """Logs refusals as `name=value` pairs, which the record has as a mapping `slidegate` too.

    At most `most_per_s` lines in a second; how many were left out the next line says. Keys are told as the start of a
    keyed hash: the same for the same key, as long as the salt is. Without a `salt` every process has one of its own.
    Thread-safe.
    """

    def __init__(
        self,
        logger: logging.Logger,
        salt: str | None = None,
        *,
        most_per_s: int = 20,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._salt = (secrets.token_hex() if salt is None else salt).encode("utf-8", "surrogatepass")
        self._most_per_s = most_per_s
        self._now_s = now_s
        self._lock = ForkableLock()
        self._began_s = float("-inf")
        self._lines = 0
        self._left_out = 0

    def tell(self, decision: Decision, *, limit: str | None, route: str, is_shadow: bool) -> None:
        """A request was refused, or would have been if its limit were no shadow."""
        left_out = self._take_line()
        if left_out is None:
            return
        told: dict[str, Any] = {
            "event": "rate_limit_shadow" if is_shadow else "rate_limit_refused",
            "limit": limit or "",
            "quota": str(decision.item),
            "route": escaped(route),
            "scope": escaped(decision.scope),
            "key_hash": self.hashed(decision.key),
            "retry_after_s": decision.retry_after_s,
            "left_out": left_out,
        }
        line = " ".join(f"{name}={json.dumps(value)}" for name, value in told.items())
        self._logger.warning("%s", line, extra={"slidegate": told})

    def hashed(self, key: str) -> str:
        """What stands for a key in the log."""
        salt = hashlib.blake2b(self._salt, digest_size=32).digest()
        return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt).hexdigest()

    def _take_line(self) -> int | None:
        with self._lock:
            now_s = self._now_s()
            if not 0 <= now_s - self._began_s < 1:
                self._began_s, self._lines = now_s, 0
            if self._lines >= self._most_per_s:
                self._left_out += 1
                return None
            self._lines += 1
            left_out, self._left_out = self._left_out, 0
            return left_out
