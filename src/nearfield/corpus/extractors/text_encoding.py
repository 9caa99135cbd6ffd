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
from nearfield.corpus.extractors.languages import MULTIBYTE
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
#: A character of UTF-8 that is not ASCII, and runs of UTF-8 or of one other byte.
_SEQUENCE = rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
_RUNS = re.compile(rb"((?:[\x00-\x7f]|" + _SEQUENCE + rb")+)|[\x80-\xff]")
_SEQUENCES = re.compile(_SEQUENCE)
#: Bytes that are not ASCII.
_HIGH = bytes(range(128, 256))
#: Characters of UTF-8 in a line that are no accident of another encoding; those in lines that are one by one only if
#: these lines have a share of the text; those for each other byte of a text. Lines of three characters of GBK are valid
#: UTF-8 once in 400.
_SURE_SEQUENCES, _MIN_SEQUENCES, _MIN_SHARE, _SEQUENCES_PER_BYTE = 6, 3, 0.2, 4


@dataclass(frozen=True)
class DecodedText:
    """A text, the encoding of its bytes, whether that is certain, and the number of characters that are damaged."""

    text: str
    encoding: str
    sure: bool = True
    damaged: int = 0


#: Texts with guessed encodings or damaged characters, of the extractor that runs.
_DOUBTS: ContextVar[list[DecodedText] | None] = ContextVar("doubtful texts", default=None)


@contextmanager
def recorded_doubts() -> Iterator[list[DecodedText]]:
    """Collect the texts that ``decode`` reads without being sure of each character, for the losses of a document."""
    doubts: list[DecodedText] = []
    token = _DOUBTS.set(doubts)
    try:
        yield doubts
    finally:
        _DOUBTS.reset(token)


def decoding_losses(doubts: list[DecodedText]) -> tuple[Loss, ...]:
    """Return the losses of a document for the texts that ``recorded_doubts`` collects."""
    losses = guess_losses([text.encoding for text in doubts if not text.sure])
    count = sum(text.damaged for text in doubts)
    if not count:
        return losses
    reason = f"{count:,} damaged character{'s' if count > 1 else ''}, shown as \ufffd"
    return (*losses, Loss(reason, advice="Export or download the file again."))


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
    return _recorded(decode_text(data, name, declared))


def decode_anyway(data: bytes, name: str, declared: str = "") -> str:
    """Return a text as ``decode`` does; one whose encoding is not recognised is read as Windows-1252, and declared.

    Raises:
        InputError: it is binary.
    """
    try:
        return decode(data, name, declared)
    except InputError:
        text = data.decode("cp1252", "replace")
        if not _is_text(text):
            raise
        return _recorded(DecodedText(text, "cp1252", sure=False))


def _recorded(decoded: DecodedText) -> str:
    doubts = _DOUBTS.get()
    if doubts is not None and (not decoded.sure or decoded.damaged):
        doubts.append(decoded)
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
    decoded = (_as_declared(data, declared) if declared else None) or _partly_utf8(data)
    if decoded is not None:
        return decoded
    guess = _guess(data, name)
    text = _strict(data, guess.encoding, name)
    if not _is_text(text):
        raise InputError(f"{name}: binary data, not text.")
    return DecodedText(text, guess.encoding, guess.sure)


def _as_declared(data: bytes, declared: str) -> DecodedText | None:
    """Return a text in the encoding that is declared; None if there is no such encoding, or if it is no text."""
    text = decode_as(data, declared)
    if text is None or not _is_text(text):
        return None
    if "\ufffd" not in text or _is_valid(data, declared):
        return DecodedText(text, declared)
    guess = guess_encoding(data)
    if _is_valid(data, "utf-8") or _partly_utf8(data) or (guess is not None and guess.sure):
        return None
    return DecodedText(text, declared, damaged=text.count("\ufffd"))


def _partly_utf8(data: bytes) -> DecodedText | None:
    """Return a text that is UTF-8 but for its cut end, or for some lines or letters; None if it is something else."""
    if _is_valid(data, "utf-8"):
        return None
    rest = _cut_character(data)
    if rest and _has_utf8(data[:-rest]):
        return DecodedText(data[:-rest].decode() + "\ufffd", "utf-8", damaged=1)
    if not _has_utf8(data[: 2**20]):
        return None
    lines = data.split(b"\n")
    guess = guess_encoding(b"\n".join(line for line in lines if not _is_valid(line, "utf-8")))
    other = guess.encoding if guess is not None else "cp1252"
    text = "\n".join(_mixed_line(line, other) for line in lines)
    return DecodedText(text, f"UTF-8 mixed with {other}", sure=False) if _is_text(text) else None


def _cut_character(data: bytes) -> int:
    """Return the number of bytes of a character that is cut off at the end; 0 if the text is no UTF-8 before it."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return 0
    return len(decoder.getstate()[0])


def _has_utf8(data: bytes) -> bool:
    """Return whether data has so many characters of UTF-8 that they are no accident of another encoding."""
    lines = [line for line in data.split(b"\n") if not line.isascii() and _is_valid(line, "utf-8")]
    counts = [len(_SEQUENCES.findall(line)) for line in lines]
    if max(counts, default=0) >= _SURE_SEQUENCES:
        return True
    size = sum(
        len(line) - _ascii_count(line) for line, count in zip(lines, counts, strict=True) if count >= _MIN_SEQUENCES
    )
    if size and size >= _MIN_SHARE * (len(data) - _ascii_count(data)):
        return True
    others = sum(not match[1] for match in _RUNS.finditer(data))
    return len(_SEQUENCES.findall(data)) >= max(_MIN_SEQUENCES, others * _SEQUENCES_PER_BYTE)


def _ascii_count(data: bytes) -> int:
    return len(data.translate(None, _HIGH))


def _mixed_line(line: bytes, other: str) -> str:
    """Return a line in UTF-8 or in the ``other`` encoding, or one that has letters of both."""
    if _is_valid(line, "utf-8"):
        return line.decode()
    is_whole = other in MULTIBYTE and _is_valid(line, other)  # its bytes may look like UTF-8
    if is_whole or not _SEQUENCES.search(line):
        return line.decode(other, "replace")
    runs = _RUNS.finditer(line)
    return "".join(run[0].decode("utf-8" if run[1] else other, "replace") for run in runs)


def _is_valid(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return False
    return True


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
