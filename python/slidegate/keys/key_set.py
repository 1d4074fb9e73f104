"""The keys that tokens are verified with, as a server of keys has them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from .._support.escaping import escaped_error
from .._support.fork import ForkableLock, begins_in_children

LEAST_BETWEEN_FETCHES_S = 10.0
_GRACE_S = 30.0


class KeySet:
    """The keys of a `jwt.PyJWKClient`, by their names ("kid"), all of which one fetch brings.

    Whatever names tokens make up, the server is asked at most once in ten seconds, and by one thread. Keys are fetched
    again after the client's own `lifespan`. Until that fetch has come to its end, and for half a minute at most, those
    that are known go on to be right. Thread-safe.
    """

    def __init__(self, client: Any, now_s: Callable[[], float] = monotonic) -> None:
        self._client = client
        self._now_s = now_s
        self._lifespan_s = getattr(getattr(client, "jwk_set_cache", None), "lifespan", LEAST_BETWEEN_FETCHES_S)
        self._lock = ForkableLock()
        self._by_name: dict[str, Any] = {}
        self._fetched_at_s = float("-inf")
        self._may_fetch_at_s = float("-inf")
        self._is_fetching = False
        begins_in_children(self)

    def begin_in_child(self) -> None:
        # Whoever fetches them stayed with the parent.
        self._is_fetching = False

    def known(self, name: str) -> Any:
        """The key of this name; None when there is none, or it was fetched too long ago. Asks nobody."""
        is_fresh = self._now_s() < self._fetched_at_s + self._lifespan_s + _GRACE_S
        return self._by_name.get(name) if is_fresh else None

    def is_to_be_fetched(self, known: Any) -> bool:
        """Whether to call `fetched` for a name of which this is known."""
        now_s = self._now_s()
        if now_s < self._may_fetch_at_s:
            return False
        return known is None or (now_s >= self._fetched_at_s + self._lifespan_s and not self._is_fetching)

    def fetched(self, name: str) -> Any:
        """The key of this name, after the server was asked, if it may be. Blocks, while others fetch too."""
        with self._lock:
            if self._now_s() >= self._may_fetch_at_s:
                self._is_fetching = True
                try:
                    self._fetch()
                finally:
                    self._is_fetching = False
                    self._may_fetch_at_s = self._now_s() + LEAST_BETWEEN_FETCHES_S
        return self.known(name)

    def _fetch(self) -> None:
        try:
            self._by_name = {each.key_id: each for each in self._client.get_signing_keys(refresh=True)}
            self._fetched_at_s = self._now_s()
        except Exception as error:
            # Whatever the server has sent is no reason to fail a request.
            logging.getLogger("slidegate").warning(
                "keys to verify tokens with cannot be fetched, and are not for %d s: %s",
                LEAST_BETWEEN_FETCHES_S,
                escaped_error(error),
            )
