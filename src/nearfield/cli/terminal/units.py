"""Numbers as people write and read them: 250k, 1.5M, 16GB."""

from __future__ import annotations

from nearfield.units import parse_amount
from nearfield.units import parse_memory as memory

__all__ = ["format_bytes", "memory", "parse_count"]

_COUNTS = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def parse_count(told: str) -> int:
    """Read a count, such as 1000000, 1_000_000, 250k, 1.5M or 2B.

    Raises:
        InputError: it is none, or below 0.
    """
    return parse_amount(told, _COUNTS, "a count such as 250000, 250k or 1.5M")


def format_bytes(size: float) -> str:
    """Write bytes for people, by powers of 1,024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
