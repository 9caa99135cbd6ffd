"""Parsers for amounts with a unit: ``16GB`` of memory, a size of ``8GiB``."""

from __future__ import annotations

from collections.abc import Mapping

from nearfield.errors import InputError

_PREFIXES = "kmgtpe"
_BINARY = {prefix: 1024 ** (power + 1) for power, prefix in enumerate(_PREFIXES)}
_SIZES = {
    "b": 1,
    **{prefix + "ib": factor for prefix, factor in _BINARY.items()},
    **{prefix + end: 1000 ** (power + 1) for power, prefix in enumerate(_PREFIXES) for end in ("", "b")},
}
#: Amounts of this many or more are refused: they are no sizes of memory, and do not fit 64 bits.
_LIMIT = 1e18


def parse_memory(text: str) -> int:
    """Parse an amount of memory, such as 512M, 16GB or 16GiB; k, M, G and T are powers of 1,024 here.

    Raises:
        InputError: the text is not an amount, or below 0.
    """
    short = text.strip().lower().removesuffix("ib").removesuffix("b")
    return parse_amount(short, _BINARY, "an amount such as 512M or 16GB", text)


def parse_size(text: str) -> int:
    """Parse a number of bytes, such as 512MB, 8GiB or 0: kB, MB and GB are powers of 1,000, KiB and MiB of 1,024.

    Raises:
        InputError: the text is not a size, or below 0.
    """
    form = "a size such as 512MB, 8GiB or 0"
    if "," in text:  # 1,5GiB would be read as 15GiB
        raise InputError(f"{text!r} is not {form}.")
    return parse_amount(text, _SIZES, form)


def format_size(size: int) -> str:
    """Format a number of bytes for ``parse_size``, exactly: 268435456 as 256MiB, 1000 as 1000."""
    for prefix, factor in reversed(_BINARY.items()):
        if size and size % factor == 0:
            return f"{size // factor}{prefix.upper()}iB"
    return str(size)


def parse_amount(text: str, scales: Mapping[str, float], form: str, original: str | None = None) -> int:
    """Parse a number that may end in one of the units, and multiply it by the unit's scale.

    Raises:
        InputError: names ``original`` (or the text) and ``form``, the form that is expected.
    """
    digits = text.strip().lower().replace(",", "").replace("_", "")
    number = digits.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = digits[len(number) :]
    try:
        amount = float(number) * scales[unit] if unit else float(number)
    except (KeyError, ValueError):
        amount = -1.0
    if not 0 <= amount < _LIMIT:
        raise InputError(f"{original or text!r} is not {form}.")
    return round(amount)
