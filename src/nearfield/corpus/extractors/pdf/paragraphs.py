"""Paragraphs and headings of a PDF, by the positions and fonts of lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from nearfield.corpus.extractors.pdf.layout import PdfLine, PdfTable
from nearfield.corpus.extractors.pdf.segments import HYPHEN

_BROKEN = re.compile(rf"(\w+(?:-\w+)*)(?:[{HYPHEN}\ufffe\u00ad]|-(?=\n))\n?(\w+)")
_WORD = re.compile(r"\w+(?:-\w+)*")
#: The distance between lines, relative to the usual one, above which a paragraph ends; the same within large text,
#: relative to its size; the size of letters, relative to the usual one, from which a line is a heading; the maximum
#: characters of a heading, and of one that is bold only.
_GAP, _LARGE_GAP, _LARGE, _MAX_HEADING, _MAX_BOLD = 1.35, 1.6, 1.15, 200, 120
#: Characters above which a text with many digits is a row of values.
_MAX_VALUES = 30
#: The distance between lines, relative to the size of letters, where no lines are near each other.
_USUAL_GAP = 1.2
#: The share of letters in bold lines above which bold lines are no headings.
_MAX_BOLD_SHARE = 0.4
#: The size, relative to the usual one, from which also a sentence is a heading; a sentence; a date alone.
_TITLE, _SENTENCES = 1.4, re.compile(r"[.;]\s+\w.{20}|.{60}[.;]$", re.DOTALL)
_DATE = re.compile(r"[\d\s.,/-]*(?:[^\W\d]{3,10})?[\d\s.,/-]*\b(?:19|20)\d\d[\d\s.,/-]*")
#: Dots between an entry of a table of contents and its page.
_DOTS = re.compile(r"\s*(?:\.\s?){5,}")
_ENDS = (".", "!", "?", ":", "”", '"')
_CAPTION = re.compile(
    r"(?:fig(?:ure|\.)?|table|tab\.|abb(?:ildung|\.)?|tabelle|tableau|figura|tabla)\s*\d", re.IGNORECASE
)
_SIGNS = re.compile(r"[=<>≤≥≠≈∑∏∫√∞±×÷→←↔⇒⇔∈∉⊂⊆∪∩∀∃∂∇^]|\b(?:sin|cos|log|exp|lim|max|min|det|ln)\b")
_LETTERS = re.compile(r"[^\W\d_]{3,}|[\u2e80-\u9fff\uac00-\ud7af]{2,}")
#: A name of a person, such as Ada M. Lovelace, possibly with marks of footnotes; and what separates names.
_NAME = re.compile(
    r"(?:[^\W\d_a-z][\w'’.-]*\s+){1,3}(?:(?:de|du|des|del|della|da|dos|van|von|der|den|ter|zu|di|la|le|af|al|bin|ibn)\s+)*[^\W\d_a-z][\w'’-]+[\s\d*∗†‡§,]*"
)
_SEPARATOR = re.compile(r"\s*(?:[,;·&]|\band\b|\bund\b|\bet\b|\by\b|\s{2,}|\n)+\s*")


@dataclass(frozen=True)
class TextStyle:
    """The usual size of letters in a document, and whether they are usually bold."""

    size: float
    bold: bool


Paragraph = tuple[PdfLine, ...]


def usual_style(lines: Sequence[PdfLine]) -> TextStyle:
    """Return the style of most letters."""
    styles = Counter[tuple[float, bool]]()
    for line in lines:
        styles[round(line.size * 2) / 2, line.bold] += len(line.text)
    sizes = Counter[float]()
    for (size, _), count in styles.items():
        sizes[size] += count
    size = max(sizes, key=lambda size: sizes[size], default=1.0)
    return TextStyle(size, 2 * styles[size, True] > sizes[size])


def paragraphs(items: Sequence[PdfLine | PdfTable], style: TextStyle) -> Iterator[Paragraph | PdfTable]:
    """Yield the paragraphs and tables of a page.

    A paragraph ends at a wide gap, at another size or weight of letters, and at an indentation after a sentence's end.
    """
    lines: list[PdfLine] = []
    for item in items:
        if isinstance(item, PdfTable):
            yield from _split(lines, style)
            lines = []
            yield item
        else:
            lines.append(item)
    yield from _split(lines, style)


def _split(lines: Sequence[PdfLine], style: TextStyle) -> Iterator[Paragraph]:
    gaps = [above.bottom - below.bottom for above, below in pairwise(lines)]
    near = [gap for line, gap in zip(lines, gaps, strict=False) if 0 < gap <= 2.3 * line.size]
    usual = median(near) if near else _USUAL_GAP * style.size
    group = list(lines[:1])
    margin = max((line.right for line in lines), default=0.0)
    for line, gap in zip(lines[1:], gaps, strict=True):
        alone = line.bold and not style.bold and _is_complete(group[-1], line, gap, margin)
        if alone or _is_break(group, line, gap, usual, style):
            yield tuple(group)
            group = []
        group.append(line)
    if group:
        yield tuple(group)


def _is_break(group: Sequence[PdfLine], line: PdfLine, gap: float, usual: float, style: TextStyle) -> bool:
    """Return whether a paragraph ends between two lines."""
    above = group[-1]
    if abs(above.size - line.size) > 0.12 * max(above.size, line.size) or above.upright != line.upright:
        return True
    ended = above.text.endswith(_ENDS)
    if all(part.bold for part in group) and not line.bold and not style.bold:
        # A heading in bold. A bold beginning of a paragraph fills its line.
        return above.right < line.right - 2 * line.size or gap > 1.15 * usual or (len(group) == 1 and ended)
    if line.bold and not above.bold and not style.bold and (ended or gap > 1.15 * usual):
        return True
    if gap <= 0:  # the next column, or on the same line
        return ended
    if line.size >= _LARGE * style.size:
        return gap > max(_LARGE_GAP * line.size, _GAP * usual)
    return gap > _GAP * usual or (ended and line.left - above.left > 0.7 * line.size)


def _is_complete(above: PdfLine, line: PdfLine, gap: float, margin: float) -> bool:
    """Return whether a bold line does not go on with the bold line above: there was space for its first word."""
    if not above.bold or line.size >= _TITLE * min(above.size, line.size):
        return False
    word = line.text.split(" ")[0]
    width = (line.right - line.left) * (len(word) + 1) / max(1, len(line.text))
    aligned = abs(above.left - line.left) < 0.5 * line.size
    return gap > _LARGE_GAP * line.size or (aligned and above.right + width < 0.95 * margin)


# -- headings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeadingRules:
    """Recognises headings, and gives their levels by size and weight."""

    style: TextStyle
    styles: tuple[tuple[int, bool], ...]
    bold: bool

    @classmethod
    def from_parts(cls, parts: Sequence[Paragraph | PdfTable], style: TextStyle) -> HeadingRules:
        """Return the rules of a document: bold lines are headings unless it has too many of them."""
        groups = [part for part in parts if not isinstance(part, PdfTable)]
        plain = cls(style, (), bold=True)
        bold = [group for group in groups if plain._is_bold_heading(group)]
        rules = cls(style, (), bold=_letters(bold) <= _MAX_BOLD_SHARE * _letters(parts))
        styles = {_style(group) for group in groups if rules.is_heading(group)}
        return cls(style, tuple(sorted(styles, reverse=True)), rules.bold)

    def is_heading(self, group: Paragraph) -> bool:
        """Return whether a paragraph is a heading: large, or short and bold; and neither a formula nor a caption."""
        text = " ".join(line.text for line in group)
        if (
            _is_formula(text, group)
            or len(text) > _MAX_HEADING
            or not group[0].upright
            or any(line.has_value for line in group)
        ):
            return False
        large = all(line.size >= _LARGE * self.style.size for line in group)
        if large and group[0].size < _TITLE * self.style.size and not group[0].bold:
            large = not (_SENTENCES.search(text) or text.count(": ") > 1)
        return large or (self.bold and self._is_bold_heading(group))

    def level(self, group: Paragraph) -> int:
        """Return the level of a heading."""
        return self.styles.index(_style(group)) + 1

    def _is_bold_heading(self, group: Paragraph) -> bool:
        text = " ".join(line.text for line in group)
        if self.style.bold or not all(line.bold for line in group) or len(group) > 2 or len(text) > _MAX_BOLD:
            return False
        fits = all(line.size >= 0.94 * self.style.size for line in group)
        wide = "  " in text.strip()
        return fits and not wide and not text.endswith((".", ",", ";", ":")) and not _CAPTION.match(text)


def _letters(parts: Sequence[Paragraph | PdfTable]) -> int:
    """Return the number of letters of paragraphs and tables."""
    cells = sum(len(cell) for part in parts if isinstance(part, PdfTable) for row in part.rows for cell in row)
    return cells + sum(len(line.text) for part in parts if not isinstance(part, PdfTable) for line in part)


def _style(group: Paragraph) -> tuple[int, bool]:
    return round(group[0].size), group[0].bold


def _is_formula(text: str, group: Paragraph) -> bool:
    """Return whether a text is a formula, a row of values, or has no word: then it is no heading."""
    words = _LETTERS.findall(text)
    if not words:
        return True
    signs = len(_SIGNS.findall(text))
    letters = sum(map(len, words))
    solid = sum(1 for letter in text if not letter.isspace())
    if solid > _MAX_VALUES and sum(map(str.isdigit, text)) > 0.2 * solid:
        return True
    return (signs > 0 or any(line.math for line in group)) and letters < 0.6 * solid


def author_paragraphs(groups: Sequence[Paragraph], rules: HeadingRules, author: str) -> set[int]:
    """Return the indexes of the paragraphs below the title, on the first page, that are names or addresses."""
    headings = [at for at, group in enumerate(groups) if rules.is_heading(group)]
    if not headings:
        return set()
    title, last = headings[0], 0
    for at in range(title + 1, min(title + 9, len(groups))):
        if at not in headings or _style(groups[at]) >= _style(groups[title]):
            break
        text = "\n".join(line.text for line in groups[at])
        last = at if _are_names(text, author) or _DATE.fullmatch(text) else last
    return set(range(title + 1, last + 1))


def _are_names(text: str, author: str) -> bool:
    if "@" in text:
        return True
    if author and author.casefold() in " ".join(text.split()).casefold():
        return True
    parts = [part for part in _SEPARATOR.split(text) if part and not part.strip("*∗†‡§ ").isdigit()]
    parts = [part for part in parts if not _DATE.fullmatch(part)]
    names = [part for part in parts if _NAME.fullmatch(part)]
    return len(names) >= 2 and len(names) >= 0.7 * len(parts)


# -- text ------------------------------------------------------------------------------------------------------------


def count_forms(groups: Sequence[Paragraph]) -> Counter[str]:
    """Return how often each word is in a document, with its hyphens."""
    return Counter(word for group in groups for line in group for word in _WORD.findall(line.text))


def join_lines(lines: Sequence[str], words: Counter[str]) -> str:
    """Return the text of lines, with words joined that were broken at the end of a line."""
    text = _BROKEN.sub(lambda match: _join_word(match, words), "\n".join(lines))
    return _DOTS.sub(" … ", re.sub(rf"[{HYPHEN}\ufffe\u00ad]", "-", text))


def _join_word(match: re.Match[str], words: Counter[str]) -> str:
    """Join a word that was broken at the end of a line; with its hyphen if the text has it so elsewhere."""
    left, right = match[1], match[2]
    whole, compound = words[left + right], words[f"{left}-{right}"]
    if whole != compound:
        return left + right if whole > compound else f"{left}-{right}"
    plain = "-" not in left and left[-1].isalpha() and right[0].islower()
    return left + right if plain else f"{left}-{right}"
