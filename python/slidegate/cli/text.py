"""What commands print of memory that limiters count in."""

from __future__ import annotations

from .._support.escaping import escaped
from ..inspection import Inspection, KeyRow


def cells_of(row: KeyRow) -> tuple[str, ...]:
    """A key, its limit, where that counts, and how much of it is used."""
    used = f"{row.used} of {row.amount}" + (", refused" if row.is_used_up else "")
    return escaped(row.key), row.limit, escaped(row.scope) or "?", used


def memory_text(inspection: Inspection) -> str:
    """How full the memory is, and what has gone wrong, in a line."""
    stats = inspection.stats
    errors = ", ".join(f"{count:,} {kind}" for kind, count in inspection.errors().items() if count)
    return (
        f"{size_text(stats.bytes)} of {size_text(stats.capacity_bytes)} in use, {stats.evictions:,} keys evicted,"
        f" {stats.full:,} not taken in, {f'errors: {errors}' if errors else 'no errors'}"
    )


def size_text(size: int) -> str:
    """Bytes in words."""
    return f"{size / 2**20:.3g} MiB" if size >= 2**20 else f"{size / 2**10:.3g} KiB"
