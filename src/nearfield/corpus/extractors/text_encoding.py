"""Text encoding: decode a file's bytes, with detection of the encoding."""

from __future__ import annotations

import codecs
import re

from nearfield.errors import InputError, MissingExtra

#: Encodings by byte order mark; those of four bytes first, since one of them starts with one of two bytes.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Control characters that no text has: all but tab, line ends, form feed, backspace (of overstruck print) and escape.
_CONTROLS = re.compile(r"[\x00-\x07\x0b\x0e-\x1a\x1c-\x1f]")
#: Characters and bytes of the sample that is checked; the share of control characters above which it is binary; and the
#: maximum mess (0 to 1, by charset-normalizer) of a guessed encoding.
_SAMPLE, _SHARE, _MESS = 2**16, 0.04, 0.1


def decode(data: bytes, name: str, declared: str = "") -> str:
    """Return a file's text, without byte order mark, with its own ends of lines.

    A byte order mark decides, then ``declared`` (an encoding that the file or its sender names), then UTF-8, then the
    guess of charset-normalizer.

    Raises:
        InputError: the file is binary, or no encoding is recognised with confidence.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], encoding, name)
    text = decode_as(data, declared) if declared else None
    if text is None:
        text = _utf8(data)
    if text is None:
        text = _strict(data, _guess(data, name), name)
    if _is_text(text):
        return text
    text = _strict(data, _utf16_order(data, name), name)
    if not _is_text(text):
        raise InputError(f"{name}: binary data, not text.")
    return text


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def decode_as(data: bytes, encoding: str) -> str | None:
    """Return a text in this encoding; None if there is no encoding with this name."""
    try:
        if not codecs.lookup(encoding)._is_text_encoding:  # base64, zip and the like
            return None
        return data.decode(encoding, "replace")
    except (LookupError, ValueError):
        return None


def _strict(data: bytes, encoding: str, name: str) -> str:
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
        return _utf16_order(data, name)
    guess = from_bytes(_sample(data), threshold=_MESS, enable_fallback=False).best()
    if guess is None:
        raise InputError(f"{name}: neither UTF-8 nor, with confidence, any other encoding. Convert it to UTF-8.")
    return str(guess.encoding)


def _sample(data: bytes) -> bytes:
    """Return the part around the first byte that is not ASCII, by which the encoding is recognised."""
    first = re.search(rb"[\x80-\xff]", data)
    start = max(0, (first.start() if first else 0) - _SAMPLE // 2)
    return data[start : start + _SAMPLE]


def _utf16_order(data: bytes, name: str) -> str:
    """Return the byte order of UTF-16 without a mark: for Latin letters, one half of each pair of bytes is zero."""
    part = data[:_SAMPLE]
    low, high = part[::2].count(0), part[1::2].count(0)
    half = len(part) // 2
    if high > 0.4 * half and low < 0.05 * half:
        return "utf-16-le"
    if low > 0.4 * half and high < 0.05 * half:
        return "utf-16-be"
    raise InputError(f"{name}: binary data, not text.")
