"""Threads apart from those that synchronous endpoints share."""

from __future__ import annotations

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar


class ThreadsOfLoops:
    """So many on each event loop, for what may take long, and would else use up those of all endpoints. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_loop: RunVar[CapacityLimiter] = RunVar(f"threads of a slidegate part, {id(self)}")

    def own(self) -> CapacityLimiter:
        """Those of the running event loop: the `limiter` for `anyio.to_thread.run_sync`."""
        try:
            return self._by_loop.get()
        except LookupError:
            threads = CapacityLimiter(self._most)
            self._by_loop.set(threads)
            return threads
