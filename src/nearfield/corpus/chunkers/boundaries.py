"""Candidate chunk boundaries with their costs, from section ends down to single characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypedDict

from nearfield.corpus.chunkers.token_counter import TokenOffsets
from nearfield.errors import MissingExtra

#: The cost of a split, on the same scale as that of a chunk: the square of the share that it leaves empty. At
#: ``ALWAYS`` a split is required.
ALWAYS = -1.0
SECTION, PARAGRAPH, ITEM, SENTENCE, LINE, CLAUSE, WORD, LETTER, TIED = 0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 2.0, 3.0
#: Characters that count as one token at least, so that white space or unknown characters cannot make a chunk endless.
TOKEN_CHARACTERS = 64

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_LINE = re.compile(r"\n")
_ITEM = re.compile(r"\n(?=[^\S\n]*(?:[-*+•‣◦]|\d{1,3}[.)])\s)")
#: Ends of sentences inside quotes and brackets, which the library misses.
_INNER = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])[」』”）]?|(?:\\n)+")
_CLAUSE = re.compile(r"(?<=[,;:|–—])\s+|(?<=[，、；：])")
#: Characters per call of the sentence library: its time grows with the square of a text that is not ASCII.
_CHARACTERS_PER_CALL = 4096


class Boundary(NamedTuple):
    """A position to split at: the next part starts with character ``at``."""

    at: int
    cost: float


class TextScale:
    """Weighs parts of one text in tokens, or in characters if there are far more of these."""

    def __init__(self, text: str, offsets: TokenOffsets) -> None:
        self.text = text
        self.offsets = offsets

    def __call__(self, start: int, end: int) -> float:
        """Return the weight of the part from ``start`` to ``end``."""
        return max(self.offsets.count(start, end), (end - start) / TOKEN_CHARACTERS)

    def reach(self, start: int, weight: int) -> int:
        """Return the furthest end of a part that starts at ``start`` and weighs at most ``weight``."""
        last = int(self.offsets.before(start)) + weight
        end = int(self.offsets.starts[last]) if last < len(self.offsets) else len(self.text)
        return min(end, start + weight * TOKEN_CHARACTERS, len(self.text))


def paragraphs(text: str, start: int, end: int) -> list[int]:
    """Return the starts of paragraphs, after blank lines."""
    return _ends(_BLANK_LINES, text, start, end)


def lines(text: str, start: int, end: int) -> list[int]:
    """Return the starts of lines."""
    return _ends(_LINE, text, start, end)


def items(text: str, start: int, end: int) -> list[int]:
    """Return the starts of lines that are items of a list."""
    return _ends(_ITEM, text, start, end)


def clauses(text: str, start: int, end: int) -> list[int]:
    """Return the starts of clauses, after commas and similar marks."""
    return _ends(_CLAUSE, text, start, end)


def inner_sentences(text: str, start: int, end: int) -> list[int]:
    """Return the possible starts of sentences, by punctuation alone."""
    return _ends(_INNER, text, start, end)


def _ends(pattern: re.Pattern[str], text: str, start: int, end: int) -> list[int]:
    return [match.end() for match in pattern.finditer(text, start, end) if start < match.end() < end]


def sentences(text: str, start: int, end: int, language: str = "en") -> list[int]:
    """Return the starts of sentences; ``language`` is a code such as ``de``, for its abbreviations.

    Raises:
        MissingExtra: the library is not installed.
    """
    find, starts = _sentence_library(), []
    for low, high in _parts(text, start, end):
        bounds = find(language, text[low:high])
        starts += [low + bound["start_index"] for bound in bounds if not bound["text"].isspace()]
    return [at for at in starts if start < at]


def _sentence_library() -> Callable[[str, str], list[_SentenceBounds]]:
    try:
        from sentencex import get_sentence_boundaries
    except ModuleNotFoundError as error:
        raise MissingExtra("Splitting sentences needs 'sentencex': pip install 'nearfield[corpus]'") from error
    return get_sentence_boundaries


class _SentenceBounds(TypedDict):
    start_index: int
    text: str


def _parts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the starts and ends of parts that end with a line, else before a word."""
    while start < end:
        stop = min(end, start + _CHARACTERS_PER_CALL)
        if stop < end:
            half = start + _CHARACTERS_PER_CALL // 2
            stop = max(text.rfind("\n", half, stop), text.rfind(" ", half, stop)) + 1 or stop
        yield start, stop
        start = stop


def starts_word(text: str, at: int) -> bool:
    """Return whether a word starts at ``at``. In scripts without spaces, nearly every character is a word."""
    before, after = text[at - 1], text[at]
    if after.isspace() or before.isspace():
        return not after.isspace()
    if not (_is_ideograph(before) or _is_ideograph(after)):
        return False
    return unicodedata.category(after)[0] not in "PM" and unicodedata.category(before) not in ("Ps", "Pi")


def _is_ideograph(character: str) -> bool:
    """Return whether a character is Chinese, kana or the like."""
    code = ord(character)
    return (
        0x2E80 <= code <= 0xA4CF or 0xF900 <= code <= 0xFAFF or 0xFF00 <= code <= 0xFFEF or 0x20000 <= code <= 0x3FFFF
    )


def words(scale: TextScale, start: int, end: int, weight: int, max_weight: int) -> Iterator[Boundary]:
    """Yield boundaries between words, so that the parts between them weigh about ``weight``.

    A word that weighs more stays whole up to ``max_weight``; a longer one is split between letters.
    """
    while (reach := scale.reach(start, weight)) < end:
        boundary = _word(scale, start, reach, min(end, scale.reach(start, max_weight)))
        if boundary.at >= end:
            return
        yield boundary
        start = boundary.at


def _word(scale: TextScale, start: int, reach: int, furthest: int) -> Boundary:
    """Return the last start of a word up to ``reach``, else the first up to ``furthest``, else one between letters."""
    text = scale.text
    for at in (*range(reach, start, -1), *range(reach + 1, furthest + 1)):
        if at == len(text) or starts_word(text, at):
            return Boundary(at, WORD)
    return Boundary(_letter(text, start, furthest), LETTER)


def _letter(text: str, start: int, at: int) -> int:
    """Return the last position up to ``at`` that separates no character from its accents."""
    at = max(at, start + 1)
    while at > start + 1 and unicodedata.category(text[at]) in ("Mn", "Mc", "Me", "Cf"):
        at -= 1
    return at


#: A function that finds positions in a part of a text, and the cost of a split there.
Level = tuple[Callable[[str, int, int], list[int]], float]
#: How a part that is too long is split, in prose and in lines (code, tables): the first level that helps.
PROSE: tuple[Level, ...] = ((inner_sentences, SENTENCE + 0.1), (lines, LINE), (clauses, CLAUSE))
LINES: tuple[Level, ...] = ((lines, LINE), (clauses, CLAUSE))


def refine(
    scale: TextScale, start: int, end: int, max_weight: int, levels: Sequence[Level] = PROSE
) -> Iterator[Boundary]:
    """Yield boundaries inside a part, so that the parts between them weigh at most ``max_weight``, if possible."""
    if scale(start, end) <= max_weight:
        return
    if not levels:
        yield from words(scale, start, end, max(1, max_weight // 4), max_weight)
        return
    (find, cost), *rest = levels
    places = find(scale.text, start, end)
    for low, high in zip([start, *places], [*places, end], strict=True):
        if low > start:
            yield Boundary(low, cost)
        yield from refine(scale, low, high, max_weight, rest)
