"""Numbers with units: 250k, 1.5M, 16GB."""

from __future__ import annotations

from nearfield.units import parse_amount, parse_memory

__all__ = ["format_bytes", "parse_count", "parse_memory"]

_COUNTS = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def parse_count(text: str) -> int:
    """Parse a count, such as 1000000, 1_000_000, 250k, 1.5M or 2B.

    Raises:
        InputError: the text is not a count, or below 0.
    """
    return parse_amount(text, _COUNTS, "a count such as 250000, 250k or 1.5M")


def format_bytes(size: float) -> str:
    """Format a number of bytes by powers of 1,024, such as 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
