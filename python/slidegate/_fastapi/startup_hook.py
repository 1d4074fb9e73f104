"""Has applications checked when they start, by what `slidegate._startup` registers here."""

from __future__ import annotations

from collections.abc import Callable

_registered: list[Callable[[], None]] = []


def register(watch: Callable[[], None]) -> None:
    """Has this called by `watch_start_up`."""
    _registered.append(watch)


def watch_start_up() -> None:
    """Has applications checked when they start, from now on. To call it again does nothing, but for those of FastAPI
    where that was imported meanwhile.
    """
    for watch in _registered:
        watch()
