"""The letters of a PDF page as segments: runs of text on one line, with their positions and fonts."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

#: PDFium's character for a hyphen at the end of a line, with which it joins the lines.
HYPHEN = "\x02"
#: The gap between two letters, relative to the size of the font, at which a segment ends.
_GAP = 1.0
#: The gap behind a bullet or number of a list item, relative to the size of the font, that does not end a segment.
_MARKER_GAP = 4.0
_MARKER = re.compile(r"[•‣▪◦●○■□–—*·-]|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]|§+|\d{1,2}(?:\.\d{1,2}){1,3}\.?")
#: Names of bold fonts, also of TeX's, and of fonts of mathematical signs.
_BOLD = re.compile(r"bold|black|heavy|demi|semibd|[-,_]b[di]?$|-medi|^(?:[A-Z]{6}\+)?(?:cmb|cmssbx|sfbx|ecbx|lmbx)", re.I)
_MATH = re.compile(r"^(?:[A-Z]{6}\+)?(?:cm(?:mi|sy|ex|bsy)|ms[ab]m|lmmath|lmmi|lmsy|lmex|rm?txmi|eu[fsr]m)|math", re.I)
_FORCE_BOLD = 1 << 18
#: TeX's codes for ligatures, which fonts without a map of characters have: in its older and its newer encoding.
_LIGATURES = {
    **dict(zip("\x0b\x0c\x0e\x0f", ("ff", "fi", "ffi", "ffl"), strict=True)),
    **dict(zip("\x1b\x1c\x1d\x1e\x1f", ("ff", "fi", "fl", "ffi", "ffl"), strict=True)),
    **dict(zip("\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06", ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True)),
}
#: Bullets of symbol fonts.
_SYMBOLS = dict.fromkeys("\uf0b7\uf0a7\uf0a8\uf06e\uf076\uf0d8\uf0fc", "•")
_REPLACED = {**_LIGATURES, **_SYMBOLS}


@dataclass(frozen=True)
class PdfSegment:
    """A run of text without a wide gap. Positions are in points, from the left and from below.

    ``size`` is that of the font. ``line`` counts PDFium's lines of the page. ``upright`` is false for text in another
    direction than the page's.
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

    @property
    def top(self) -> float:
        """The position of the top of its letters."""
        return self.bottom + self.size


@dataclass(frozen=True)
class PageSegments:
    """The segments of a page in the order of the file, and how many letters have no character."""

    segments: tuple[PdfSegment, ...]
    letters: int
    unmapped: int


def read_segments(text: Any) -> PageSegments:
    """Read the segments of a page letter by letter: only then is the position of each letter known."""
    reader = _LetterReader(text)
    segments = [segment for number, line in enumerate(reader.lines()) for segment in reader.split(line, number)]
    return PageSegments(tuple(_turned(segments, reader.angles)), reader.letters, reader.unmapped)


@dataclass(frozen=True)
class _Letter:
    """A letter: its index on the page, what is written for it, and its box (left, right, bottom)."""

    at: int
    text: str
    box: tuple[float, float, float] | None


class _LetterReader:
    """Reads the letters of one page by PDFium's C functions: the Python wrappers take several times as long."""

    def __init__(self, text: Any) -> None:
        from pypdfium2 import raw

        self._raw, self._text = raw, text
        self._box, self._matrix, self._flags = raw.FS_RECTF(), raw.FS_MATRIX(), ctypes.c_int()
        self._name = ctypes.create_string_buffer(128)
        self.letters = self.unmapped = 0
        #: The directions of lines: quarter turns to the left, by the line's number.
        self.angles: dict[int, int] = {}

    def lines(self) -> Iterator[list[_Letter]]:
        """Yield the lines, as PDFium separates them; also where it joins a word that was broken."""
        line: list[_Letter] = []
        for at in range(self._text.count_chars()):
            letter = self._letter(at)
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

    def _letter(self, at: int) -> _Letter:
        raw = self._raw
        code = raw.FPDFText_GetUnicode(self._text, at)
        text = chr(code) if code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else "\ufffd"
        if code in (10, 13, 32, 0xA0):
            # Real codes of these numbers are ligatures; PDFium's line ends are generated.
            return _Letter(at, text, None)
        text = _REPLACED.get(text, text) if text != "\0" else ""
        self.letters += 1
        if raw.FPDFText_HasUnicodeMapError(self._text, at) == 1 or text in ("", "\ufffd") or "\ue000" <= text < "\uf900":
            self.unmapped += text != HYPHEN
        raw.FPDFText_GetLooseCharBox(self._text, at, self._box)
        return _Letter(at, text, (self._box.left, self._box.right, self._box.bottom))

    def split(self, line: Sequence[_Letter], number: int) -> Iterator[PdfSegment]:
        """Yield the segments of a line: it ends at wide gaps, unless a bullet or number of a list is before the gap."""
        boxed = [letter for letter in line if letter.box and letter.text]
        if not boxed:
            return
        angle = self._raw.FPDFText_GetCharAngle(self._text, boxed[0].at)
        self.angles[number] = round(angle / (math.pi / 2)) % 4 if angle >= 0 else 0
        size, part, last = self._size(boxed[0].at), list[_Letter](), None
        for letter in line:
            if letter.box and letter.text:
                if last and last.box and self.angles[number] == 0 and self._is_gap(part, last.box, letter.box, size):
                    yield self._segment(part, number)
                    part, size = [], self._size(letter.at)
                last = letter
            part.append(letter)
        yield self._segment(part, number)

    @staticmethod
    def _is_gap(
        part: Sequence[_Letter], last: tuple[float, float, float], box: tuple[float, float, float], size: float
    ) -> bool:
        gap = box[0] - last[1]
        if gap <= _GAP * size:
            return False
        return gap > _MARKER_GAP * size or not _MARKER.fullmatch("".join(letter.text for letter in part).strip())

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
        boxes = [letter.box for letter in boxed if letter.box]
        samples = [boxed[0].at, boxed[len(boxed) // 2].at, boxed[-1].at]
        fonts = [self._font(at) for at in samples]
        return PdfSegment(
            "".join(letter.text for letter in part).strip(" \xa0"),
            min(box[0] for box in boxes),
            max(box[1] for box in boxes),
            median(box[2] for box in boxes),
            median(map(self._size, samples)),
            number,
            all(bold for bold, _ in fonts),
            any(math_font for _, math_font in fonts),
        )


def _turned(segments: Sequence[PdfSegment], angles: dict[int, int]) -> Iterator[PdfSegment]:
    """Yield the segments with positions as if most of the text was upright; text in other directions is marked."""
    counts = [0, 0, 0, 0]
    for segment in segments:
        counts[angles.get(segment.line, 0)] += len(segment.text)
    usual = counts.index(max(counts))
    for segment in segments:
        upright = angles.get(segment.line, 0) == usual
        if not upright or usual == 0:
            yield replace(segment, upright=upright)
        else:
            yield _rotated(segment, usual)


def _rotated(segment: PdfSegment, turns: int) -> PdfSegment:
    """Return a segment with positions after turning the page, so that its text runs from left to right."""
    left, right, bottom = segment.left, segment.right, segment.bottom
    place: dict[int, Callable[[], tuple[float, float, float]]] = {
        1: lambda: (bottom, bottom + segment.size * len(segment.text) / 2, -right),
        2: lambda: (-right, -left, -bottom),
        3: lambda: (-bottom, -bottom + segment.size * len(segment.text) / 2, left),
    }
    left, right, bottom = place[turns]()
    return replace(segment, left=left, right=right, bottom=bottom)
