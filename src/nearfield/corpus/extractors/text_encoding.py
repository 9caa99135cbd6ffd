"""Text encoding: decode a file's bytes, with detection of the encoding."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from nearfield.corpus.document import Loss
from nearfield.corpus.extractors.encoding_detection import (
    EncodingGuess,
    escaped_encoding,
    guess_encoding,
    guess_utf16,
)
from nearfield.errors import InputError

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
#: Characters and bytes of the sample that is checked; the share of control characters above which it is binary.
_SAMPLE, _SHARE = 2**16, 0.04
#: Guesses that are not sure, of the extractor that runs.
_GUESSES: ContextVar[list[str] | None] = ContextVar("guessed encodings", default=None)


@dataclass(frozen=True)
class DecodedText:
    """A text, the encoding of its bytes, and whether that is certain."""

    text: str
    encoding: str
    sure: bool = True


@contextmanager
def recorded_guesses() -> Iterator[list[str]]:
    """Collect the encodings that ``decode`` guesses without being sure, for the losses of a document."""
    guesses: list[str] = []
    token = _GUESSES.set(guesses)
    try:
        yield guesses
    finally:
        _GUESSES.reset(token)


def guess_losses(guesses: list[str]) -> tuple[Loss, ...]:
    """Return the losses of a document for encodings that were guessed."""
    if not guesses:
        return ()
    names = ", ".join(dict.fromkeys(guesses))
    advice = "Some letters may be wrong: convert the file to UTF-8, or set the option encoding (index --encoding)."
    return (Loss(f"letters that depend on the encoding, which was guessed ({names})", advice=advice),)


def decode(data: bytes, name: str, declared: str = "") -> str:
    """Return a file's text as ``decode_text`` does; a guess that is not sure becomes a loss of the document.

    Raises:
        InputError: the file is binary, or no encoding is recognised with confidence.
    """
    decoded = decode_text(data, name, declared)
    guesses = _GUESSES.get()
    if not decoded.sure and guesses is not None:
        guesses.append(decoded.encoding)
    return decoded.text


def decode_text(data: bytes, name: str, declared: str = "") -> DecodedText:
    """Return a file's text, without byte order mark, with its own ends of lines.

    A byte order mark decides, then ``declared`` (an encoding that the file or its sender names), then escape sequences,
    UTF-8, and the encoding and language in which the text reads best.

    Raises:
        InputError: the file is binary, or no encoding is recognised with confidence.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return DecodedText(_strict(data[len(mark) :], encoding, name), encoding)
    text = decode_as(data, declared) if declared else None
    if text is not None and _is_text(text):
        return DecodedText(text, declared)
    guess = _guess(data, name)
    text = _strict(data, guess.encoding, name)
    if not _is_text(text):
        raise InputError(f"{name}: binary data, not text.")
    return DecodedText(text, guess.encoding, guess.sure)


def _guess(data: bytes, name: str) -> EncodingGuess:
    """Return the encoding of a text without byte order mark.

    Raises:
        InputError: the file is binary, or no encoding is recognised with confidence.
    """
    part = data[:_SAMPLE]
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and b"\0" not in part:
        escaped = escaped_encoding(data)
        if escaped or _is_text(text):
            return EncodingGuess(escaped or "utf-8", sure=True)
    guess = guess_utf16(data)
    if guess is not None:
        return guess
    if text is not None and _is_text(text):
        return EncodingGuess("utf-8", sure=True)
    if text is not None or part.count(0) > _SHARE * len(part):
        raise InputError(f"{name}: binary data, not text.")
    guess = guess_encoding(data)
    if guess is None:
        raise InputError(f"{name}: neither UTF-8 nor, with confidence, any other encoding. Convert it to UTF-8.")
    return guess


def decode_as(data: bytes, encoding: str) -> str | None:
    """Return a text in this encoding; None if there is no encoding with this name."""
    try:
        if not codecs.lookup(encoding)._is_text_encoding:  # base64, zip and the like
            return None
        return data.decode(encoding, "replace")
    except (LookupError, ValueError):
        return None


def require_encoding(encoding: str) -> str:
    """Return the name of an encoding that Python has.

    Raises:
        InputError: there is no such encoding.
    """
    if decode_as(b"", encoding) is None:
        raise InputError(f"There is no encoding {encoding!r}; cp1252 and koi8-r are examples.", param="encoding")
    return encoding


def to_utf8(data: bytes, encoding: str) -> bytes:
    """Return a text in an encoding as UTF-8 with a byte order mark; UTF-8 and data with a mark are unchanged."""
    if any(data.startswith(mark) for mark, _ in _MARKS):
        return data
    try:
        data.decode()
    except UnicodeDecodeError:
        text = decode_as(data, encoding)
        return data if text is None else codecs.BOM_UTF8 + text.encode("utf-8", "replace")
    return data


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
