"""Rows of text, one below the other."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], *, is_ruled: bool = False) -> list[str]:
    """A line for each row, with its cells in columns. `is_ruled` adds a line below the first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]] if is_ruled else rows
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in ruled]
