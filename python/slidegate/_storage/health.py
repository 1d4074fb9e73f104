"""Whether a storage can be asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a storage is asked, how long it has been so, how often it was not, and the last error, if any."""

    is_available: bool
    since_s: float
    outages: int
    last_error: str | None
