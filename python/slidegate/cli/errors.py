"""How commands end."""

from __future__ import annotations

FAILED = 1
UNUSABLE = 2


class Unusable(Exception):
    """What was asked for cannot be had; the message says what would be right."""
