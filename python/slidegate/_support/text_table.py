"""Rows of text, one below the other."""

from __future__ import annotations

from collections.abc import Sequence

from .escaping import escaped

_MOST_CHARACTERS = 1000


def aligned(rows: Sequence[Sequence[str]], *, is_ruled: bool = False) -> list[str]:
    """A line for each row, harmless to a terminal, with its cells in columns. `is_ruled` adds one below the first."""
    rows = [[escaped(cell, _MOST_CHARACTERS) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]] if is_ruled else rows
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in ruled]
