"""The letters of a PDF page as segments: runs of text on one line, with their positions and fonts."""

from __future__ import annotations

import ctypes
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
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
#: Small letters with accents in the code of Windows that PDFium reads as the Macintosh's: inside a word they are wrong.
_MACINTOSH = re.compile("(?<=[A-Za-z])[‰ˆ¸‡‚ÈËÁÍÓÔÌÒ](?=[a-z])")
#: The end of a Latin word before an Arabic or Hebrew one: PDFium loses the space when it turns the line round.
_TURN = re.compile("(?<=[A-Za-z])(?=[\u05d0-\u05ea\u0620-\u064a])")
#: Letters of scripts without spaces, and a space between two of them.
_UNSPACED = re.compile("[\u3001-\u30ff\u3400-\u9fff\uff01-\uff60]")
_SPACED = re.compile(f"(?<={_UNSPACED.pattern})[ \u3000]+(?={_UNSPACED.pattern})")
_REPLACED = {**_LIGATURES, **_SYMBOLS}
#: The first letter of a ligature with lam, as PDFium turns it round: the glyph has both letters, lam comes first.
_ALEFS = frozenset("\u0627\u0622\u0623\u0625\u0671")
_LAM = "\u0644"
#: Arabic and Hebrew letters, and the share of steps to the right from which their word is in the order of the eye.
_RIGHT_TO_LEFT = re.compile("[\u0591-\u05f4\u0620-\u065f\u066e-\u06d3\u06d5-\u06ef\u06fa-\u06ff\u0750-\u077f]")
_MIN_RISING = 0.7
#: Relative to the height of letters: the shift of the baseline above which a line ends; the shift and the gap up to
#: which letters are on one line though PDFium separates them; the distance up to which a letter is printed twice; the
#: gap up to which a slanted line goes on, and that from which it has a space.
_MAX_SHIFT, _NEAR_SHIFT, _NEAR_GAP, _TWICE, _MAX_GAP, _WORD_GAP = 0.7, 0.55, 0.12, 0.08, 0.7, 0.15
#: Relative to the size of the font: the least gap between two letters that is a space, and how much wider it is than
#: the line's other gaps.
_MIN_SPACE, _WIDER = 0.08, 0.13
#: The height of a letter relative to the size of its font above which the font has another unit than points.
_MAX_HEIGHT = 2.5
#: Points below which a letter has no size.
_NO_SIZE = 0.1


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
    whose characters are a guess, ``surplus`` the number of words that PDFium counts too much: those that are printed
    twice at the same place, and the parts of slanted and curved words.
    """

    segments: tuple[PdfSegment, ...]
    letters: int
    unmapped: int
    doubtful: int = 0
    surplus: int = 0


def read_segments(text: Any) -> PageSegments:
    """Read the segments of a page letter by letter: only then is the position of each letter known."""
    reader = _LetterReader(text)
    segments = [segment for number, line in enumerate(reader.lines()) for segment in reader.split(line, number)]
    unique = list(_without_overprint(_turned(segments, reader.angles)))
    surplus = _words(segments) - _words(unique) + reader.broken
    return PageSegments(tuple(unique), reader.letters, reader.unmapped, reader.doubtful, surplus)


def clean_text(text: str) -> str:
    """Return a text with accents on their letters, and Chinese or Japanese without spaces between wide letters."""
    text = _ACCENT.sub(_composed, text)
    text = _TURN.sub(" ", text)
    text = _MACINTOSH.sub(lambda match: match[0].encode("mac_roman").decode("cp1252"), text)
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
class PdfLetter:
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
        self.letters = self.unmapped = self.doubtful = self.broken = self._half = 0
        #: The directions of lines: quarter turns to the left, by the line's number.
        self.angles: dict[int, int] = {}

    def lines(self) -> Iterator[list[PdfLetter]]:
        """Yield the lines: PDFium's, also where it joins a word that was broken, without its faults.

        It breaks slanted and curved lines between letters, and joins turned lines that are side by side.
        """
        line: list[PdfLetter] = []
        last: PdfLetter | None = None
        end: PdfLetter | None = None
        for letter in filter(None, map(self._letter, range(self._text.count_chars()))):
            if letter.text in ("\r", "\n"):
                end = end or letter
                continue
            gap = self._gap(last, letter, end)
            if gap is None:
                if line:
                    yield line
                line, last = [], None
            elif end and last and line[-1] is last and gap > _WORD_GAP:
                line.append(PdfLetter(letter.at, " ", None))
            elif end and last and line[-1] is last:
                self.broken += count_words(last.text[-1:] + letter.text[:1]) == 1
            end = letter if letter.text == HYPHEN else None
            _append(line, last, letter)
            if letter.box and letter.text:
                last = letter
        if line:
            yield line

    def _gap(self, last: PdfLetter | None, letter: PdfLetter, end: PdfLetter | None) -> float | None:
        """Return the gap between two letters, relative to their height; None if a line ends between them.

        ``end`` is where PDFium ends a line. The gap is only known there.
        """
        if last is None or letter.box is None or last.text == HYPHEN:
            return None if end else 0.0
        one, other = _box(last), letter.box
        if end is None and abs(one[2] - other[2]) <= _MAX_SHIFT * (one[3] - one[2]):  # of a level line, or of one word
            return 0.0
        turns = self._turns(last.at)
        (_, right, above), (left, _, below) = _along(one, turns), _along(other, turns)
        height = max(_height(last, turns), _height(letter, turns))
        if end is None:
            is_column = abs(one[0] + one[1] - other[0] - other[1]) < 0.5 * height and 0 < above - below < 1.3 * height
            return 0.0 if abs(above - below) <= _MAX_SHIFT * height or (is_column and not turns) else None
        if self._is_slanted(last.at):
            return self._slanted_gap(last, letter, end)
        return 0.0 if abs(left - right) <= _NEAR_GAP * height and abs(above - below) <= _NEAR_SHIFT * height else None

    def _is_slanted(self, at: int) -> bool:
        """Return whether a letter is turned, but not by quarters."""
        self._raw.FPDFText_GetMatrix(self._text, at, self._matrix)
        cosine, sine = self._matrix.a, self._matrix.b
        return min(abs(cosine), abs(sine)) > 0.02 * math.hypot(cosine, sine)

    def _slanted_gap(self, last: PdfLetter, letter: PdfLetter, end: PdfLetter) -> float | None:
        """Return the gap between two letters of a slanted line; None if the line ends."""
        size = self._size(last.at)
        self._raw.FPDFText_GetMatrix(self._text, last.at, self._matrix)
        cosine, sine = self._matrix.a, self._matrix.b
        length = math.hypot(cosine, sine)
        (x, y), (next_x, next_y), (end_x, _) = map(self._origin, (last.at, letter.at, end.at))
        along = ((next_x - x) * cosine + (next_y - y) * sine) / length
        across = ((next_y - y) * cosine - (next_x - x) * sine) / length
        # PDFium's line end is at the right of the last letter, as if the line were level.
        gap = (along - (end_x - x)) / size
        return max(gap, 0.0) if abs(gap) <= _MAX_GAP and abs(across) <= 0.1 * size else None

    def _origin(self, at: int) -> tuple[float, float]:
        x, y = ctypes.c_double(), ctypes.c_double()
        self._raw.FPDFText_GetCharOrigin(self._text, at, x, y)
        return x.value, y.value

    def _turns(self, at: int) -> int:
        """Return the direction of a letter in quarter turns to the left."""
        angle = self._raw.FPDFText_GetCharAngle(self._text, at)
        return -round(angle / (math.pi / 2)) % 4 if angle >= 0 else 0

    def _letter(self, at: int) -> PdfLetter | None:
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
            return PdfLetter(at, text, None)
        text = _REPLACED.get(text, text)
        if text == HYPHEN and raw.FPDFText_IsHyphen(self._text, at) != 1:
            text = " "
        if text == "\0":
            text = ""
        elif text < " " and text != HYPHEN:
            text = " "
        self.letters += 1
        missing = text in ("", " ", "\ufffd") or "\ue000" <= text < "\uf900"
        doubtful = not missing and raw.FPDFText_HasUnicodeMapError(self._text, at) == 1
        if (missing or doubtful) and not self._font(at)[1]:  # TeX's parentheses have no characters
            self.unmapped += missing
            self.doubtful += doubtful
        raw.FPDFText_GetLooseCharBox(self._text, at, self._box)
        if doubtful and max(self._box.right - self._box.left, self._box.top - self._box.bottom) < _NO_SIZE:
            return PdfLetter(at, "", None)  # a second character of a glyph that has one
        return PdfLetter(at, text, (self._box.left, self._box.right, self._box.bottom, self._box.top))

    def split(self, line: Sequence[PdfLetter], number: int) -> Iterator[PdfSegment]:
        """Yield the segments of a line: it ends at wide gaps, unless a bullet or number of a list is before the gap."""
        boxed = [letter for letter in line if letter.box and letter.text]
        if not boxed:
            return
        turns = self.angles[number] = self._turns(boxed[0].at)
        size, part, end = self._size(boxed[0].at), list[PdfLetter](), math.inf
        for letter in line if turns else _with_spaces(in_logical_order(line), size):
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
        size = abs(float(size)) or 1.0
        # Fonts that are drawn by the file (type 3) may have another unit than a point.
        self._raw.FPDFText_GetLooseCharBox(self._text, at, self._box)
        height = min(self._box.top - self._box.bottom, self._box.right - self._box.left)
        return 0.8 * height if height > _MAX_HEIGHT * size else size

    def _font(self, at: int) -> tuple[bool, bool]:
        """Return whether a letter's font is bold, and whether it is one of mathematical signs."""
        length = self._raw.FPDFText_GetFontInfo(self._text, at, self._name, len(self._name), self._flags)
        name = self._name.value.decode("latin-1") if length else ""
        return bool(_BOLD.search(name)) or bool(self._flags.value & _FORCE_BOLD and length), bool(_MATH.search(name))

    def _segment(self, part: Sequence[PdfLetter], number: int) -> PdfSegment:
        boxed = [letter for letter in part if letter.box and letter.text]
        boxes = [_along(letter.box, self.angles[number]) for letter in boxed if letter.box]
        samples = [boxed[0].at, boxed[len(boxed) // 2].at, boxed[-1].at]
        fonts = [self._font(at) for at in samples]
        return PdfSegment(
            clean_text("".join(letter.text for letter in part).strip(" \xa0")),
            min(box[0] for box in boxes),
            max(box[1] for box in boxes),
            median(box[2] for box in boxes),
            median(map(self._size, samples)),
            number,
            all(bold for bold, _ in fonts),
            any(math_font for _, math_font in fonts),
        )


def _box(letter: PdfLetter) -> tuple[float, float, float, float]:
    return letter.box or (0.0, 0.0, 0.0, 0.0)


def _height(letter: PdfLetter, turns: int) -> float:
    """Return the height of a letter across the direction of its text."""
    left, right, bottom, top = _box(letter)
    return right - left if turns % 2 else top - bottom


def _append(line: list[PdfLetter], last: PdfLetter | None, letter: PdfLetter) -> None:
    """Append a letter to a line, unless it is printed twice; the letters of a ligature in their logical order."""
    if last is None or letter.box is None:
        line.append(letter)
    elif letter.text == _LAM and last.text in _ALEFS and last.box == letter.box:
        line.insert(line.index(last), letter)
    elif not _is_twice(last, letter):
        line.append(letter)


def in_logical_order(line: Sequence[PdfLetter]) -> Sequence[PdfLetter]:
    """Return the letters of a level line; those of Arabic and Hebrew words that go from left to right are reversed."""
    if not any(_RIGHT_TO_LEFT.match(letter.text) for letter in line):
        return line
    ordered: list[PdfLetter] = []
    for is_word, group in groupby(line, key=lambda letter: bool(letter.box and _RIGHT_TO_LEFT.match(letter.text))):
        word = list(group)
        steps = [other.box[0] - one.box[0] for one, other in pairwise(word) if one.box and other.box]
        rising, falling = sum(step > 0 for step in steps), sum(step < 0 for step in steps)
        if is_word and rising > _MIN_RISING * (rising + falling):
            glyphs = [list(letters) for _, letters in groupby(word, key=lambda letter: letter.box)]
            word = [letter for letters in reversed(glyphs) for letter in letters]
        ordered += word
    return ordered


def _with_spaces(line: Sequence[PdfLetter], size: float) -> Sequence[PdfLetter]:
    """Return the letters of a level line with the spaces that PDFium misses: gaps much wider than the line's others."""
    pairs = list(enumerate(pairwise(line), 1))
    gaps = {at: other.box[0] - one.box[1] for at, (one, other) in pairs if one.box and other.box}
    if not gaps or max(gaps.values()) <= _MIN_SPACE * size:
        return line
    least = max(_MIN_SPACE * size, median(gaps.values()) + _WIDER * size)
    wide = {at for at, gap in gaps.items() if gap > least and _are_letters(line[at - 1], line[at])}
    return [part for at, letter in enumerate(line) for part in (*_space(at in wide, letter), letter)]


def _are_letters(one: PdfLetter, other: PdfLetter) -> bool:
    return one.text[-1:].isalpha() and other.text[:1].isalpha() and not _UNSPACED.search(one.text + other.text)


def _space(is_missing: bool, letter: PdfLetter) -> tuple[PdfLetter, ...]:
    return (PdfLetter(letter.at, " ", None),) if is_missing else ()


def _is_twice(last: PdfLetter, letter: PdfLetter) -> bool:
    """Return whether a letter is printed again, a bit larger or beside. Equal boxes are those of one glyph."""
    if last.text != letter.text or last.box == letter.box:
        return False
    one, other = _box(last), _box(letter)
    near = _TWICE * min(one[3] - one[2], other[3] - other[2])
    return all(abs(one[at] + one[at + 1] - other[at] - other[at + 1]) < 2 * near for at in (0, 2))


def _along(box: tuple[float, float, float, float], turns: int) -> tuple[float, float, float]:
    """Return the left and right ends of a letter, and its bottom, along the direction of its text."""
    left, right, bottom, top = box
    return ((left, right, bottom), (bottom, top, -right), (-right, -left, -top), (-top, -bottom, left))[turns]


def _ends_at_gap(part: Sequence[PdfLetter], gap: float, size: float) -> bool:
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
