"""Decoding: from a file's bytes to its text, in whatever encoding it was written."""

from __future__ import annotations

import codecs
import re

from nearfield.errors import InputError, MissingExtra

#: By their byte order marks; those of four bytes first, since one of them begins with one of two.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Control characters that no text has: all but tab, line ends, form feed, backspace (of overstruck print) and escape.
_CONTROLS = re.compile(r"[\x00-\x07\x0b\x0e-\x1a\x1c-\x1f]")
#: Characters, and bytes, by which a text is judged; the share of controls above which it is none; and how much mess
#: (0 to 1, by charset-normalizer) a guess of its encoding may show.
_SAMPLE, _SHARE, _MESS = 2**16, 0.04, 0.1


def decode(data: bytes, name: str, told: str = "") -> str:
    """Return a file's text, without byte order mark; lines end as they do in the file.

    A byte order mark decides, then ``told`` (an encoding that the file or its sender names), then UTF-8, then what
    charset-normalizer finds.

    Raises:
        InputError: it is binary, or in no encoding that could be told with confidence.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strictly(data[len(mark) :], encoding, name)
    text = decode_as(data, told) if told else None
    if text is None:
        text = _utf8(data)
    if text is None:
        text = _strictly(data, _guess(data, name), name)
    if _is_text(text):
        return text
    text = _strictly(data, _wide(data, name), name)
    if not _is_text(text):
        raise InputError(f"{name}: binary data, not text.")
    return text


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def decode_as(data: bytes, encoding: str) -> str | None:
    """Return a text in an encoding that was named; None where there is none of that name."""
    try:
        if not codecs.lookup(encoding)._is_text_encoding:  # base64, zip and the like
            return None
        return data.decode(encoding, "replace")
    except (LookupError, ValueError):
        return None


def _strictly(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: not {encoding.upper()} from byte {error.start} on ({error.reason}). Convert it to UTF-8."
        ) from error


def _is_text(text: str) -> bool:
    part = text[:_SAMPLE]
    return len(_CONTROLS.findall(part)) <= _SHARE * len(part)


def _guess(data: bytes, name: str) -> str:
    try:
        from charset_normalizer import from_bytes
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "Texts that are not UTF-8 need charset-normalizer: pip install 'nearfield[corpus]'"
        ) from error
    if data.count(0, 0, _SAMPLE) > _SHARE * min(len(data), _SAMPLE):
        return _wide(data, name)
    found = from_bytes(_around(data), threshold=_MESS, enable_fallback=False).best()
    if found is None:
        raise InputError(f"{name}: neither UTF-8 nor, with confidence, any other encoding. Convert it to UTF-8.")
    return str(found.encoding)


def _around(data: bytes) -> bytes:
    """Return the part around the first byte that is not ASCII: it tells the encoding."""
    first = re.search(rb"[\x80-\xff]", data)
    start = max(0, (first.start() if first else 0) - _SAMPLE // 2)
    return data[start : start + _SAMPLE]


def _wide(data: bytes, name: str) -> str:
    """Tell the order of UTF-16 without its mark: one half of its pairs of bytes is zero where letters are Latin."""
    part = data[:_SAMPLE]
    low, high = part[::2].count(0), part[1::2].count(0)
    half = len(part) // 2
    if high > 0.4 * half and low < 0.05 * half:
        return "utf-16-le"
    if low > 0.4 * half and high < 0.05 * half:
        return "utf-16-be"
    raise InputError(f"{name}: binary data, not text.")
