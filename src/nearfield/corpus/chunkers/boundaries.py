"""Seams: where a text may be cut, and how well, from ends of sections down to letters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from nearfield.corpus.chunkers.token_counter import TokenOffsets
from nearfield.errors import MissingExtra

#: What a cut costs: as much as a chunk that is that far from full, squared. ``ALWAYS`` is always cut at.
ALWAYS = -1.0
SECTION, PARAGRAPH, ITEM, SENTENCE, LINE, CLAUSE, WORD, LETTER, TIED = 0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 2.0, 3.0
#: Characters that count as a token at least, so that no run of white space or unknown signs makes a chunk endless.
TOKEN_CHARACTERS = 64

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_LINE = re.compile(r"\n")
_ITEM = re.compile(r"\n(?=[^\S\n]*(?:[-*+•‣◦]|\d{1,3}[.)])\s)")
#: Ends of sentences inside quotes and brackets, where the library sees none.
_INNER = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])[」』”）]?|(?:\\n)+")
_CLAUSE = re.compile(r"(?<=[,;:|–—])\s+|(?<=[，、；：])")
#: Characters given to the sentence library at once: its time grows with the square of a text that is not ASCII.
_SENTENCES_AT_ONCE = 4096


class Boundary(NamedTuple):
    """A place to cut: what follows begins at character ``at``."""

    at: int
    cost: float


class TextScale:
    """Weighs parts of one text: its tokens, or its characters where these are far more."""

    def __init__(self, text: str, measured: TokenOffsets) -> None:
        self.text = text
        self.measured = measured

    def __call__(self, start: int, end: int) -> float:
        """Return what the part from ``start`` up to ``end`` weighs."""
        return max(self.measured.count(start, end), (end - start) / TOKEN_CHARACTERS)

    def reach(self, start: int, room: int) -> int:
        """Return the furthest end of a part that begins at ``start`` and weighs at most ``room``."""
        last = int(self.measured.before(start)) + room
        end = int(self.measured.starts[last]) if last < len(self.measured) else len(self.text)
        return min(end, start + room * TOKEN_CHARACTERS, len(self.text))


def paragraphs(text: str, start: int, end: int) -> list[int]:
    """Return where paragraphs begin, after blank lines."""
    return _ends(_BLANK_LINES, text, start, end)


def lines(text: str, start: int, end: int) -> list[int]:
    """Return where lines begin."""
    return _ends(_LINE, text, start, end)


def items(text: str, start: int, end: int) -> list[int]:
    """Return where lines begin that are items of a list."""
    return _ends(_ITEM, text, start, end)


def clauses(text: str, start: int, end: int) -> list[int]:
    """Return where parts of sentences begin, after commas and their kin."""
    return _ends(_CLAUSE, text, start, end)


def inner_sentences(text: str, start: int, end: int) -> list[int]:
    """Return where sentences may begin by their marks alone."""
    return _ends(_INNER, text, start, end)


def _ends(pattern: re.Pattern[str], text: str, start: int, end: int) -> list[int]:
    return [match.end() for match in pattern.finditer(text, start, end) if start < match.end() < end]


def sentences(text: str, start: int, end: int, language: str = "en") -> list[int]:
    """Return where sentences begin; ``language`` is a code such as ``de``, and tells abbreviations.

    Raises:
        MissingExtra: the library is not installed.
    """
    find, found = _library(), []
    for low, high in _pieces(text, start, end):
        bounds = find(language, text[low:high])
        found += [low + bound["start_index"] for bound in bounds if not bound["text"].isspace()]
    return [at for at in found if start < at]


def _library() -> Callable[[str, str], list[dict[str, Any]]]:
    try:
        from sentencex import get_sentence_boundaries
    except ModuleNotFoundError as error:
        raise MissingExtra("Cutting at sentences needs 'sentencex': pip install 'nearfield[corpus]'") from error
    return get_sentence_boundaries


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut at ends of lines, else before a word."""
    while start < end:
        stop = min(end, start + _SENTENCES_AT_ONCE)
        if stop < end:
            least = start + _SENTENCES_AT_ONCE // 2
            stop = max(text.rfind("\n", least, stop), text.rfind(" ", least, stop)) + 1 or stop
        yield start, stop
        start = stop


def border(text: str, at: int) -> bool:
    """Tell whether a word begins at ``at``. In scripts without spaces, nearly every character is a word."""
    before, after = text[at - 1], text[at]
    if after.isspace() or before.isspace():
        return not after.isspace()
    if not (_wide(before) or _wide(after)):
        return False
    return unicodedata.category(after)[0] not in "PM" and unicodedata.category(before) not in ("Ps", "Pi")


def _wide(character: str) -> bool:
    """Tell Chinese characters and kana."""
    code = ord(character)
    return (
        0x2E80 <= code <= 0xA4CF or 0xF900 <= code <= 0xFAFF or 0xFF00 <= code <= 0xFFEF or 0x20000 <= code <= 0x3FFFF
    )


def words(scale: TextScale, start: int, end: int, room: int, most: int) -> Iterator[Boundary]:
    """Yield seams between words, so that what lies between weighs about ``room``.

    A word that weighs more than ``room`` stays whole up to ``most``; a longer one is cut between letters.
    """
    while (reach := scale.reach(start, room)) < end:
        seam = _word(scale, start, reach, min(end, scale.reach(start, most)))
        if seam.at >= end:
            return
        yield seam
        start = seam.at


def _word(scale: TextScale, start: int, reach: int, furthest: int) -> Boundary:
    """Return the last border up to ``reach``, else the first one up to ``furthest``, else a place between letters."""
    text = scale.text
    for at in (*range(reach, start, -1), *range(reach + 1, furthest + 1)):
        if at == len(text) or border(text, at):
            return Boundary(at, WORD)
    return Boundary(_letter(text, start, furthest), LETTER)


def _letter(text: str, start: int, at: int) -> int:
    """Return the last place up to ``at`` that parts no character from its accents."""
    at = max(at, start + 1)
    while at > start + 1 and unicodedata.category(text[at]) in ("Mn", "Mc", "Me", "Cf"):
        at -= 1
    return at


#: A way to find places in a part of a text, and what a cut there costs.
Level = tuple[Callable[[str, int, int], list[int]], float]
#: How prose and lines (code, tables) are cut where a part is too long: the first that helps.
PROSE: tuple[Level, ...] = ((inner_sentences, SENTENCE + 0.1), (lines, LINE), (clauses, CLAUSE))
LINES: tuple[Level, ...] = ((lines, LINE), (clauses, CLAUSE))


def refine(scale: TextScale, start: int, end: int, most: int, levels: Sequence[Level] = PROSE) -> Iterator[Boundary]:
    """Yield seams inside a part, so that nothing between them weighs more than ``most``, or as little as can be."""
    if scale(start, end) <= most:
        return
    if not levels:
        yield from words(scale, start, end, max(1, most // 4), most)
        return
    (find, cost), *rest = levels
    places = find(scale.text, start, end)
    for low, high in zip([start, *places], [*places, end], strict=True):
        if low > start:
            yield Boundary(low, cost)
        yield from refine(scale, low, high, most, rest)
