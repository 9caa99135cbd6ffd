"""Numbers as people write and read them: 250k, 1.5M, 16GB."""

from __future__ import annotations

from nearfield.errors import InputError

_COUNTS = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_BYTES = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def count(told: str) -> int:
    """Read a count, such as 1000000, 1_000_000, 250k, 1.5M or 2B.

    Raises:
        InputError: it is none, or below 0.
    """
    return _read(told, _COUNTS, "a count such as 250000, 250k or 1.5M")


def memory(told: str) -> int:
    """Read an amount of memory, such as 512M, 16GB or 16GiB; k, M, G and T are powers of 1,024 here.

    Raises:
        InputError: it is none, or below 0.
    """
    short = told.strip().lower().removesuffix("ib").removesuffix("b")
    return _read(short, _BYTES, "an amount such as 512M or 16GB", told)


def bytes_of(size: float) -> str:
    """Write bytes for people, by powers of 1,024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def _read(told: str, scales: dict[str, float] | dict[str, int], form: str, whole: str | None = None) -> int:
    text = told.strip().lower().replace(",", "").replace("_", "")
    scale = scales.get(text[-1:], 1)
    try:
        found = float(text[:-1] if text[-1:] in scales else text) * scale
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e18:
        raise InputError(f"{whole or told!r} is not {form}.")
    return round(found)
