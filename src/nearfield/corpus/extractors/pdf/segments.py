"""The letters of a PDF page as segments: runs of text on one line, with their positions and fonts."""

from __future__ import annotations

import ctypes
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from nearfield.corpus.word_count import count_words

#: PDFium's character for a hyphen at the end of a line, with which it joins the lines.
HYPHEN = "\x02"
#: The gap between two letters, relative to the size of the font, at which a segment ends.
_GAP = 1.0
#: The gap behind a bullet or number of a list item, relative to the size of the font, that does not end a segment.
_MARKER_GAP = 4.0
_MARKER = re.compile(r"[•‣▪◦●○■□–—*·-]|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]|§+|\d{1,2}(?:\.\d{1,2}){1,3}\.?")
#: Names of bold fonts, also of TeX's, and of fonts of mathematical signs.
_BOLD = re.compile(
    r"bold|black|heavy|demi|semibd|[-,_]b[di]?$|-medi|^(?:[A-Z]{6}\+)?(?:cmb|cmssbx|sfbx|ecbx|lmbx)", re.I
)
_MATH = re.compile(r"^(?:[A-Z]{6}\+)?(?:cm(?:mi|sy|ex|bsy)|ms[ab]m|lmmath|lmmi|lmsy|lmex|rm?txmi|eu[fsr]m)|math", re.I)
_FORCE_BOLD = 1 << 18
#: TeX's codes for ligatures, which fonts without a map of characters have: in its older and its newer encoding.
_LIGATURES = {
    **dict(zip("\x0b\x0c\x0e\x0f", ("ff", "fi", "ffi", "ffl"), strict=True)),
    **dict(zip("\x1b\x1c\x1d\x1e\x1f", ("ff", "fi", "fl", "ffi", "ffl"), strict=True)),
    **dict(
        zip("\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06", ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True)
    ),
}
#: Bullets of symbol fonts.
_SYMBOLS = dict.fromkeys("\uf0b7\uf0a7\uf0a8\uf06e\uf076\uf0d8\uf0fc", "•")
#: Accents that TeX prints as signs before their letters.
_ACCENTS = dict(zip("¨´ˆˇ˘˚", "\u0308\u0301\u0302\u030c\u0306\u030a", strict=True))
_ACCENT = re.compile(f"([{''.join(_ACCENTS)}])([A-Za-z])")
#: Letters of scripts without spaces, and a space between two of them.
_UNSPACED = re.compile("[\u3001-\u30ff\u3400-\u9fff\uff01-\uff60]")
_SPACED = re.compile(f"(?<={_UNSPACED.pattern})[ \u3000]+(?={_UNSPACED.pattern})")
_REPLACED = {**_LIGATURES, **_SYMBOLS}


@dataclass(frozen=True)
class PdfSegment:
    """A run of text without a wide gap. Positions are in points, from the left and from below.

    ``size`` is that of the font. ``line`` counts PDFium's lines of the page. ``upright`` is false for text in another
    direction than most of the page; its positions are along its own direction. ``is_value`` is set
    for the value of a form field.
    """

    text: str
    left: float
    right: float
    bottom: float
    size: float
    line: int = 0
    bold: bool = False
    math: bool = False
    upright: bool = True
    is_value: bool = False

    @property
    def top(self) -> float:
        """The position of the top of its letters."""
        return self.bottom + self.size


@dataclass(frozen=True)
class PageSegments:
    """The segments of a page in the order of the file.

    ``letters`` is the number of letters, ``unmapped`` that of letters without a character, ``doubtful`` that of letters
    whose characters are a guess, ``overprinted`` the number of words that are printed twice at the same place.
    """

    segments: tuple[PdfSegment, ...]
    letters: int
    unmapped: int
    doubtful: int = 0
    overprinted: int = 0


def read_segments(text: Any) -> PageSegments:
    """Read the segments of a page letter by letter: only then is the position of each letter known."""
    reader = _LetterReader(text)
    segments = [segment for number, line in enumerate(reader.lines()) for segment in reader.split(line, number)]
    unique = list(_without_overprint(_turned(segments, reader.angles)))
    return PageSegments(
        tuple(unique), reader.letters, reader.unmapped, reader.doubtful, _words(segments) - _words(unique)
    )


def _clean(text: str) -> str:
    """Return a text with accents on their letters, and Chinese or Japanese without spaces between wide letters."""
    text = _ACCENT.sub(_composed, text)
    letters = len(_UNSPACED.findall(text))
    if letters > 1 and len(_SPACED.findall(text)) >= 0.6 * (letters - 1):
        return _SPACED.sub("", text)
    return text


def _composed(match: re.Match[str]) -> str:
    """Return a letter with its accent; unchanged if there is no such letter."""
    letter = unicodedata.normalize("NFC", match[2] + _ACCENTS[match[1]])
    return letter if len(letter) == 1 else match[0]


def _words(segments: Sequence[PdfSegment]) -> int:
    return sum(count_words(segment.text) for segment in segments)


@dataclass(frozen=True)
class _Letter:
    """A letter: its index on the page, what is written for it, and its box (left, right, bottom, top)."""

    at: int
    text: str
    box: tuple[float, float, float, float] | None


class _LetterReader:
    """Reads the letters of one page by PDFium's C functions: the Python wrappers take several times as long."""

    def __init__(self, text: Any) -> None:
        from pypdfium2 import raw

        self._raw, self._text = raw, text
        self._box, self._matrix, self._flags = raw.FS_RECTF(), raw.FS_MATRIX(), ctypes.c_int()
        self._name = ctypes.create_string_buffer(128)
        self.letters = self.unmapped = self.doubtful = self._half = 0
        #: The directions of lines: quarter turns to the left, by the line's number.
        self.angles: dict[int, int] = {}

    def lines(self) -> Iterator[list[_Letter]]:
        """Yield the lines, as PDFium separates them; also where it joins a word that was broken."""
        line: list[_Letter] = []
        for at in range(self._text.count_chars()):
            letter = self._letter(at)
            if letter is None:
                continue
            if letter.text in ("\r", "\n"):
                if line:
                    yield line
                line = []
                continue
            line.append(letter)
            if letter.text == HYPHEN:
                yield line
                line = []
        if line:
            yield line

    def _letter(self, at: int) -> _Letter | None:
        """Return a letter; None for the first half of one that UTF-16 has in two halves."""
        raw = self._raw
        code = raw.FPDFText_GetUnicode(self._text, at)
        if 0xDC00 <= code < 0xE000 and self._half:
            code = 0x10000 + ((self._half - 0xD800) << 10) + (code - 0xDC00)
        elif 0xD800 <= code < 0xDC00:
            following = raw.FPDFText_GetUnicode(self._text, at + 1)
            if 0xDC00 <= following < 0xE000:
                self._half = code
                return None
        self._half = 0
        text = chr(code) if code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else "\ufffd"
        if code in (10, 13, 32, 0xA0):
            # Real codes of these numbers are ligatures; PDFium's line ends are generated.
            return _Letter(at, text, None)
        text = _REPLACED.get(text, text)
        if text == "\0":
            text = ""
        elif text < " " and text != HYPHEN:
            text = " "
        self.letters += 1
        missing = text in ("", " ", "\ufffd") or "\ue000" <= text < "\uf900"
        doubtful = not missing and raw.FPDFText_HasUnicodeMapError(self._text, at) == 1
        if (missing or doubtful) and text != HYPHEN and not self._font(at)[1]:  # TeX's parentheses have no characters
            self.unmapped += missing
            self.doubtful += doubtful
        raw.FPDFText_GetLooseCharBox(self._text, at, self._box)
        return _Letter(at, text, (self._box.left, self._box.right, self._box.bottom, self._box.top))

    def split(self, line: Sequence[_Letter], number: int) -> Iterator[PdfSegment]:
        """Yield the segments of a line: it ends at wide gaps, unless a bullet or number of a list is before the gap."""
        boxed = [letter for letter in line if letter.box and letter.text]
        if not boxed:
            return
        angle = self._raw.FPDFText_GetCharAngle(self._text, boxed[0].at)
        turns = self.angles[number] = -round(angle / (math.pi / 2)) % 4 if angle >= 0 else 0
        size, part, end = self._size(boxed[0].at), list[_Letter](), math.inf
        for letter in line:
            if letter.box and letter.text:
                left, right, _ = _along(letter.box, turns)
                if left - end > _GAP * size and _ends_at_gap(part, left - end, size):
                    yield self._segment(part, number)
                    part, size = [], self._size(letter.at)
                end = right
            part.append(letter)
        yield self._segment(part, number)

    def _size(self, at: int) -> float:
        """Return the size of a letter's font as it is drawn."""
        size = self._raw.FPDFText_GetFontSize(self._text, at)
        if self._raw.FPDFText_GetMatrix(self._text, at, self._matrix):
            size *= math.hypot(self._matrix.c, self._matrix.d)
        return abs(float(size)) or 1.0

    def _font(self, at: int) -> tuple[bool, bool]:
        """Return whether a letter's font is bold, and whether it is one of mathematical signs."""
        length = self._raw.FPDFText_GetFontInfo(self._text, at, self._name, len(self._name), self._flags)
        name = self._name.value.decode("latin-1") if length else ""
        return bool(_BOLD.search(name)) or bool(self._flags.value & _FORCE_BOLD and length), bool(_MATH.search(name))

    def _segment(self, part: Sequence[_Letter], number: int) -> PdfSegment:
        boxed = [letter for letter in part if letter.box and letter.text]
        boxes = [_along(letter.box, self.angles[number]) for letter in boxed if letter.box]
        samples = [boxed[0].at, boxed[len(boxed) // 2].at, boxed[-1].at]
        fonts = [self._font(at) for at in samples]
        return PdfSegment(
            _clean("".join(letter.text for letter in part).strip(" \xa0")),
            min(box[0] for box in boxes),
            max(box[1] for box in boxes),
            median(box[2] for box in boxes),
            median(map(self._size, samples)),
            number,
            all(bold for bold, _ in fonts),
            any(math_font for _, math_font in fonts),
        )


def _along(box: tuple[float, float, float, float], turns: int) -> tuple[float, float, float]:
    """Return the left and right ends of a letter, and its bottom, along the direction of its text."""
    left, right, bottom, top = box
    return ((left, right, bottom), (bottom, top, -right), (-right, -left, -top), (-top, -bottom, left))[turns]


def _ends_at_gap(part: Sequence[_Letter], gap: float, size: float) -> bool:
    """Return whether a segment ends at a wide gap: not behind a bullet or the number of a list item."""
    return gap > _MARKER_GAP * size or not _MARKER.fullmatch("".join(letter.text for letter in part).strip())


def _turned(segments: Sequence[PdfSegment], angles: dict[int, int]) -> Iterator[PdfSegment]:
    """Yield the segments; text in another direction than most of the page is marked."""
    counts = [0, 0, 0, 0]
    for segment in segments:
        counts[angles.get(segment.line, 0)] += len(segment.text)
    usual = counts.index(max(counts))
    for segment in segments:
        yield replace(segment, upright=angles.get(segment.line, 0) == usual)


def _without_overprint(segments: Iterable[PdfSegment]) -> Iterator[PdfSegment]:
    """Yield the segments without those that are printed again at the same place, to look bold or to have a shadow."""
    seen: dict[str, list[PdfSegment]] = defaultdict(list)
    for segment in segments:
        near = 0.15 * segment.size
        if not any(
            abs(one.left - segment.left) < near and abs(one.bottom - segment.bottom) < near
            for one in seen[segment.text]
        ):
            seen[segment.text].append(segment)
            yield segment
