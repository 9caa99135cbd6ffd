"""Amounts with a unit, parsed and printed: ``8GiB`` of memory, ``1.5M`` texts.

One rule for bytes, everywhere: k, M, G and T, with or without B, are powers of 1,000, and Ki, Mi, Gi and Ti of 1,024
(IEC 80000-13). Reports print powers of 1,000, as disks, downloads and hosted machines are sold. An amount beside a
limit is printed in the units of that limit: a limit of 8GiB in GiB, one of 8GB in GB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nearfield.errors import InputError
from nearfield.message_text import count_of

_PREFIXES = "kmgtpe"
_BINARY = {prefix: 1024 ** (power + 1) for power, prefix in enumerate(_PREFIXES)}
_DECIMAL = {prefix: 1000 ** (power + 1) for power, prefix in enumerate(_PREFIXES)}
_SIZES = {
    "b": 1,
    **{prefix + end: factor for prefix, factor in _BINARY.items() for end in ("i", "ib")},
    **{prefix + end: factor for prefix, factor in _DECIMAL.items() for end in ("", "b")},
}
_COUNTS = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
#: Units of printed bytes and of printed counts, the smallest first.
_DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_COUNT_UNITS = ("", "thousand", "million", "billion", "trillion")
#: A limit that is a whole number of these was written in powers of 1,024.
_MEBIBYTE = 2**20
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
#: Amounts of this many or more are refused: they are no sizes of memory, and do not fit 64 bits.
_LIMIT = 1e18
#: Digits with commas between groups of three; 1,5 would otherwise be read as 15.
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")


def parse_size(text: str) -> int:
    """Parse a number of bytes, such as 512MB, 8GiB or 0: kB, MB and GB are powers of 1,000, KiB and MiB of 1,024.

    Raises:
        InputError: the text is not a size, or below 0.
    """
    form = "a size such as 512MB, 8GiB or 0"
    if "," in text:  # 1,5GiB would be read as 15GiB
        raise InputError(f"{text!r} is not {form}.")
    return parse_amount(text, _SIZES, form)


def parse_count(text: str) -> int:
    """Parse a count, such as 1000000, 1_000_000, 250k, 1.5M or 2B.

    Raises:
        InputError: the text is not a count, or below 0.
    """
    return parse_amount(text, _COUNTS, "a count such as 250000, 250k or 1.5M")


def parse_duration(text: str) -> float:
    """Parse a time with its unit, such as 90s, 30m, 24h or 2d; return seconds.

    Raises:
        InputError: the text is no such time, or has no unit.
    """
    form = "a time such as 90s, 30m, 24h or 2d"
    if not text.strip()[-1:].isalpha():
        raise InputError(f"{text!r} is not {form}.")
    return float(parse_amount(text, _SECONDS, form))


def format_size(size: int) -> str:
    """Format a number of bytes for ``parse_size``, exactly: 268435456 as 256MiB, 8000000000 as 8GB, 1001 as 1001.

    Of the forms that are exact the one with the fewest digits is returned, of equal ones the binary one.
    """
    forms = [
        f"{size // factor}{prefix.upper()}{end}"
        for factors, end in ((_BINARY, "iB"), (_DECIMAL, "B"))
        for prefix, factor in factors.items()
        if size and size % factor == 0
    ]
    return min([*forms, str(size)], key=lambda form: len(form.rstrip("KMGTPEiB")))


def format_bytes(size: float, limit: int | None = None) -> str:
    """Format a number of bytes for people, with three digits or more: 1.54 GB, 96 kB.

    Args:
        size: Bytes.
        limit: The limit that is printed beside it. If it is a whole number of MiB, units are powers of 1,024 (GiB).
    """
    binary = limit is not None and limit > 0 and limit % _MEBIBYTE == 0
    return _scaled(size, 1024 if binary else 1000, _BINARY_UNITS if binary else _DECIMAL_UNITS)


def format_count(count: float) -> str:
    """Format a count for people: 5 billion, 1.5 million; below a million with all digits (250,000)."""
    return f"{count:,.0f}" if abs(count) < 999_999.5 else _scaled(count, 1000, _COUNT_UNITS)


def format_amount(value: float) -> str:
    """Format a number for people: from 100 on with all digits (4,800), below with four of them (0.1256)."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def format_time(seconds: float) -> str:
    """Format a time for people, in one unit: 35 minutes, 7 hours, 3 days; below a minute in seconds."""
    for unit, size, enough in (("day", 86_400, 2 * 86_400), ("hour", 3600, 2 * 3600), ("minute", 60, 60)):
        if seconds >= enough - 0.5:
            return count_of(round(seconds / size), unit)
    return f"{seconds:.2g} seconds" if seconds < 9.5 else count_of(round(seconds), "second")


def format_clock(seconds: float) -> str:
    """Format a time in a recording for people: 0:12, 1:02:03; the part of a second is left out."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    step = 0
    while abs(value) >= base - 0.5 and step < len(units) - 1:
        value, step = value / base, step + 1
    digits = 0 if step == 0 else 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    number = f"{value:,.{digits}f}"
    return f"{number.rstrip('0').rstrip('.') if digits else number} {units[step]}".rstrip()


def parse_amount(text: str, scales: Mapping[str, float], form: str) -> int:
    """Parse a number that may end in one of the units, and multiply it by the unit's scale.

    Raises:
        InputError: names the text and ``form``, the form that is expected.
    """
    digits = text.strip().lower().replace("_", "")
    number = digits.rstrip("abcdefghijklmnopqrstuvwxyz").strip()
    unit = digits[len(digits.rstrip("abcdefghijklmnopqrstuvwxyz")) :]
    if _GROUPED.fullmatch(number):
        number = number.replace(",", "")
    try:
        amount = float(number) * scales[unit] if unit else float(number)
    except (KeyError, ValueError):
        amount = -1.0
    if not 0 <= amount < _LIMIT:
        raise InputError(f"{text!r} is not {form}.")
    return round(amount)
