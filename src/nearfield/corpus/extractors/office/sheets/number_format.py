"""Number formats of spreadsheets: the text that a cell shows for its value, such as "12.5%" or "1,234.50 €"."""

from __future__ import annotations

import datetime
import math
import re
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import NamedTuple

#: The formats that files name by their numbers only.
BUILT_IN = {
    0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00", 12: "# ?/?",
    13: "# ??/??", 14: "yyyy-mm-dd", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM",
    20: "h:mm", 21: "h:mm:ss", 22: "yyyy-mm-dd h:mm", 37: "#,##0;-#,##0", 38: "#,##0;-#,##0", 39: "#,##0.00;-#,##0.00",
    40: "#,##0.00;-#,##0.00", 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0", 48: "0.0E+0", 49: "@",
}  # fmt: skip
BUILT_IN |= dict.fromkeys((27, 28, 29, 30, 31, 34, 35, 36, *range(50, 59)), "yyyy-mm-dd")
BUILT_IN |= {5: '"$"#,##0', 6: '"$"#,##0', 7: '"$"#,##0.00', 8: '"$"#,##0.00', 41: "#,##0", 42: '"$"#,##0'}
BUILT_IN |= {43: "#,##0.00", 44: '"$"#,##0.00', 32: "h:mm", 33: "h:mm:ss"}

_SECTION = re.compile(r'(?:[^;"\\]|"[^"]*"|\\.)*')
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_.|\*.|\[\$(?P<currency>[^\]-]*)(?:-[^\]]*)?\]|\[(?P<elapsed>h+|m+|s+)\]'
    r"|\[(?P<condition>(?:[<>=]=?|<>)-?[\d.]+)\]|\[[^\]]*\]|(?P<half>AM/PM|A/P)|(?P<general>General)"
    r"|(?P<exponent>E[+-])|(?P<digits>[0#?](?:[0#?,.]*[0#?])?,*|\.[0#?]+)|(?P<date>y+|m+|d+|h+|s+|e+|b+|g+)"
    r"|(?P<text>@)|(?P<fraction>/)|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_CONDITION = re.compile(r"([<>=]=?|<>)(-?[\d.]+)")
#: The greatest value that a spreadsheet shows as a date: 9999-12-31, with the later of the two epochs.
_MAX_DATE = 2_957_003


class _Format(NamedTuple):
    tokens: tuple[tuple[str, str], ...]
    condition: tuple[str, float] | None
    is_date: bool


def format_value(value: float, code: str, *, date1904: bool = False) -> str:
    """Return what a cell with this format code shows for a number; dates are written as in ISO 8601."""
    if not math.isfinite(value):
        return str(value)
    section, value, signed = _section(value, _parse(code))
    if section is None:
        return general(value)
    if section.is_date:
        return _date(value, section, date1904=date1904)
    return _number(value, section, signed=signed)


def is_date(code: str) -> bool:
    """Return whether a format code shows dates or times."""
    sections = _parse(code)
    return bool(sections) and sections[0].is_date


def general(value: float) -> str:
    """Return a number in a cell without a format."""
    return f"{value:.15g}"


@lru_cache(maxsize=1000)
def _parse(code: str) -> tuple[_Format, ...]:
    if code.lower() in ("", "general", "@"):
        return ()
    texts, rest = [], code
    while True:
        match = _SECTION.match(rest)
        text = match[0] if match else ""
        texts.append(text)
        if len(rest) <= len(text):
            break
        rest = rest[len(text) + 1 :]
    return tuple(_parse_section(text) for text in texts[:4])


def _parse_section(text: str) -> _Format:
    tokens: list[tuple[str, str]] = []
    condition = None
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind is None:
            continue
        if kind == "condition":
            parts = _CONDITION.fullmatch(match[kind])
            condition = (parts[1], float(parts[2])) if parts and _is_number(parts[2]) else None
        elif kind in ("quoted", "escaped", "currency", "other"):
            tokens.append(("literal", match[kind]))
        else:
            tokens.append((kind, match[kind]))
    kinds = {kind for kind, _ in tokens}
    dates = [part.lower() for kind, part in tokens if kind == "date"]
    is_date = "elapsed" in kinds or "half" in kinds or any(part[0] in "ymdhs" for part in dates)
    return _Format(tuple(tokens), condition, is_date and "general" not in kinds)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _section(value: float, sections: tuple[_Format, ...]) -> tuple[_Format | None, float, bool]:
    """Return the section for a value, the value to show in it, and whether a minus sign comes before it."""
    if not sections:
        return None, value, False
    if any(section.condition for section in sections):
        for section in sections[:3]:
            if section.condition is None or _holds(value, *section.condition):
                return section, abs(value) if len(sections) > 1 else value, value < 0 and section is sections[0]
        return None, value, False
    if value < 0 and len(sections) > 1:
        return sections[1], -value, False
    if value == 0 and len(sections) > 2:
        return sections[2], value, False
    return sections[0], value if sections[0].is_date else abs(value), value < 0


def _holds(value: float, sign: str, limit: float) -> bool:
    results = {"<": value < limit, ">": value > limit, "=": value == limit, "<=": value <= limit, ">=": value >= limit}
    return results.get(sign, value != limit)


def _number(value: float, section: _Format, *, signed: bool) -> str:
    tokens = section.tokens
    patterns = [at for at, (kind, _) in enumerate(tokens) if kind in ("digits", "general")]
    if not patterns:
        return "".join(part for kind, part in tokens if kind == "literal").strip()
    value *= 100 ** sum(part.count("%") for kind, part in tokens if kind == "literal" and part == "%")
    if any(kind == "fraction" for kind, _ in tokens):
        return ("-" if signed else "") + _fraction(value, tokens)
    exponent = next((at for at, (kind, _) in enumerate(tokens) if kind == "exponent"), None)
    used = [at for at in patterns if exponent is None or at < exponent]
    pattern = "".join(tokens[at][1] for at in used)
    is_general = tokens[patterns[0]][0] == "general"
    shown = general(value) if is_general else _digits(value, pattern, exponent is not None)
    pieces = _distributed(shown, [tokens[at][1] for at in used])
    texts = dict(zip(used, pieces, strict=True))
    text = "".join(texts.get(at, "") if kind != "literal" else part for at, (kind, part) in enumerate(tokens))
    negative = signed and re.search(r"[1-9]", shown)
    return ("-" if negative else "") + " ".join(text.split())


def _distributed(shown: str, patterns: list[str]) -> list[str]:
    """Return a number's digits for each part of its pattern, as in 000-00-0000: the last parts are filled first."""
    pieces = []
    for pattern in reversed(patterns[1:]):
        size = min(len(pattern), len(shown))
        pieces.append(shown[len(shown) - size :])
        shown = shown[: len(shown) - size]
    return [shown, *reversed(pieces)]


def _digits(value: float, pattern: str, scientific: bool) -> str:
    whole, _, decimals = pattern.partition(".")
    scale = len(pattern) - len(pattern.rstrip(","))
    decimals = decimals.rstrip(",")
    grouped = "," in whole.rstrip(",")
    value /= 1000**scale
    places = sum(letter in "0#?" for letter in decimals)
    if scientific:
        text, _, power = f"{value:.{places}E}".partition("E")
        return f"{text}E{int(power):+03d}"
    rounded = (
        Decimal(repr(value)).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP) if value < 1e15 else value
    )
    text = f"{rounded:{',' if grouped else ''}.{places}f}"
    least = sum(letter in "0?" for letter in decimals)
    if places > least:  # digits that are shown only if they are not zero
        head, _, tail = text.partition(".")
        tail = tail[:least] + tail[least:].rstrip("0")
        text = f"{head}.{tail}" if tail else head
    if "0" not in pattern and not text.strip("0."):
        return ""
    head, dot, tail = text.partition(".")
    return head.rjust(whole.count("0"), "0") + dot + tail


def _fraction(value: float, tokens: tuple[tuple[str, str], ...]) -> str:
    from fractions import Fraction

    slash = next(at for at, (kind, _) in enumerate(tokens) if kind == "fraction")
    below = next((part for kind, part in tokens[slash:] if kind in ("digits", "literal") and part.strip()), "?")
    limit = int(below) if below.isdigit() and int(below) else 10 ** min(len(below), 4) - 1
    whole, rest = divmod(value, 1)
    fraction = Fraction(rest).limit_denominator(max(limit, 1))
    if fraction == 1:
        whole, fraction = whole + 1, Fraction(0)
    if not fraction:
        return f"{whole:.0f}"
    mixed = sum(kind == "digits" for kind, _ in tokens[:slash]) > 1
    if not mixed:
        fraction += int(whole)
    return f"{whole:.0f} {fraction}" if mixed and whole else str(fraction)


def _date(value: float, section: _Format, *, date1904: bool) -> str:
    """Return a date, a time or both, as the format's parts ask for."""
    if abs(value) > _MAX_DATE:
        return general(value)
    letters = "".join(part[0].lower() for kind, part in section.tokens if kind in ("date", "elapsed"))
    elapsed = any(kind == "elapsed" for kind, _ in section.tokens)
    seconds = round(value * 86_400)
    with_seconds = "s" in letters
    if elapsed:
        hours, rest = divmod(abs(seconds), 3600)
        text = f"{hours}:{rest // 60:02d}" + (f":{rest % 60:02d}" if with_seconds else "")
        return "-" + text if seconds < 0 else text
    has_day = any(letter in letters for letter in "yd") or (
        "m" in letters and "h" not in letters and "s" not in letters
    )
    if value < 0:
        return general(value)
    moment = _moment(seconds, date1904=date1904)
    time = moment.strftime("%H:%M:%S" if with_seconds else "%H:%M")
    if not has_day:
        return time
    if set(letters) == {"d"} and any(kind == "date" and len(part) > 2 for kind, part in section.tokens):
        return moment.strftime("%A")
    day = _day(moment, letters)
    # Programs write dates without a time in formats with one: midnight is left out.
    return f"{day} {time}" if ("h" in letters or with_seconds) and moment.time() != datetime.time() else day


def _day(moment: datetime.datetime, letters: str) -> str:
    if "y" not in letters:
        return moment.strftime("%m-%d") if "d" in letters else moment.strftime("%B")
    if "m" not in letters:
        return moment.strftime("%Y-%m-%d") if "d" in letters else moment.strftime("%Y")
    return moment.date().isoformat() if "d" in letters else f"{moment.year:04d}-{moment.month:02d}"


def _moment(seconds: int, *, date1904: bool) -> datetime.datetime:
    """Return the time for seconds since the epoch of the workbook; day 60 of 1900 does not exist."""
    if date1904:
        return datetime.datetime(1904, 1, 1) + datetime.timedelta(seconds=seconds)
    first = datetime.datetime(1899, 12, 31 if seconds < 60 * 86_400 else 30)
    return first + datetime.timedelta(seconds=seconds)
