"""Page numbers: lines at the edges of pages whose number rises by one with each page.

Digits alone do not make a page number: balances, totals, footnotes and invoice numbers are at the edges of pages too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

#: Minimum number of pages with numbers in sequence, and the maximum distance between two of them: alternate pages may
#: have another running title, and some have no number.
MIN_PAGES, _MAX_GAP = 4, 3

_NUMBER = r"(?P<number>\d{1,5}|[ivxlcdm]{1,9})(?![^\W_])"
_TOTAL = r"(?:\s*(?:/|of|von|van|de|di|du|sur|av|af|z|ze|из|od)\s*(?P<total>\d{1,5})(?![\d.,]*\d))?"
_WORD = (
    r"(?:pages?|pg\.?|pp?\.|seiten?|s\.|p[áà]ginas?|p[áà]g\.?|pagine?|pagina|страница|стр\.?|сторінка|strana|strona|"
    r"str\.?|sidan?|side|sivu|oldal|sayfa|σελίδα|صفحة)"
)
_DECORATION = r"[\s\-‐-―|·•.()\[\]{}<>~*_]*"
_ALONE = re.compile(rf"{_DECORATION}(?<![^\W_]){_NUMBER}{_TOTAL}{_DECORATION}", re.IGNORECASE)
_NAMED = re.compile(
    rf"(?<!\w){_WORD}\s*(?:(?:no|nr)\.?\s*)?:?\s*{_NUMBER}{_TOTAL}|(?:第\s*)?(?P<cjk>\d{{1,5}})\s*(?:[页頁]|ページ|쪽)",
    re.IGNORECASE,
)
#: A number beside a running title, with a separator or wide space between them. A number that follows a word directly
#: may belong to it (Invoice 7, Chapter 7), unless the words are a title or heading of the document.
_BESIDE = (
    re.compile(rf"\s*{_NUMBER}(?:\s*[|•·]\s*|\s{{2,}}|\t)(?P<title>\S.*)", re.IGNORECASE),
    re.compile(r"(?P<title>.*\S)(?:\s*[|•·]\s*|\s{2,}|\t)(?P<number>\d{1,5}|[ivxlcdm]{1,9})\s*", re.IGNORECASE),
)
_AFTER_TITLE = re.compile(r"(?P<title>.*\S) (?P<number>\d{1,5}|[ivxlcdm]{1,9})", re.IGNORECASE)
_BEFORE_TITLE = re.compile(r"(?P<number>\d{1,5}|[ivxlcdm]{1,9}) (?P<title>\S.*)", re.IGNORECASE)
#: Minimum number of words of a heading that a running title is recognised by.
_MIN_TITLE_WORDS = 2
_LETTERS = re.compile(r"[^\W\d_]+")
_ROMAN = re.compile(r"m{0,3}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})", re.IGNORECASE)
_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}


@dataclass(frozen=True)
class EdgeLine:
    """A line among the first or last ones of a page; ``start`` is its position in the document's text."""

    page: int
    start: int
    text: str


@dataclass(frozen=True)
class NumberedLines:
    """Lines of several pages with page numbers in sequence; ``title`` is what they have besides the number."""

    title: str
    lines: Sequence[EdgeLine]


def find_page_numbers(lines: Iterable[EdgeLine], headings: Iterable[str] = ()) -> list[NumberedLines]:
    """Return the lines with page numbers: on at least four pages, with numbers that rise as the pages do.

    ``headings`` are the document's title and headings, which running titles repeat.
    """
    known = {name for name in map(_words, headings) if name.count(" ") >= _MIN_TITLE_WORDS + 1}
    sequences: dict[tuple[str, int], list[EdgeLine]] = defaultdict(list)
    titles: dict[str, str] = {}
    for line in lines:
        for label, title, value in _readings(line.text, known):
            titles.setdefault(label, title)
            sequences[label, value - line.page].append(line)
    return [
        NumberedLines(titles[label], run)
        for (label, _), members in sequences.items()
        for run in _runs(sorted(members, key=lambda line: (line.page, line.start)))
    ]


def _runs(lines: Sequence[EdgeLine]) -> Iterator[list[EdgeLine]]:
    """Yield the parts of a sequence without wide gaps that are on enough pages."""
    breaks = [at for at, (one, other) in enumerate(pairwise(lines), 1) if other.page - one.page > _MAX_GAP]
    for low, high in zip([0, *breaks], [*breaks, len(lines)], strict=True):
        if len({line.page for line in lines[low:high]}) >= MIN_PAGES:
            yield list(lines[low:high])


def _readings(text: str, headings: Collection[str]) -> Iterator[tuple[str, str, int]]:
    """Yield each reading of a line as a page number: what is the same on other pages, the title in it, the number."""
    if match := _ALONE.fullmatch(text):
        yield from _reading("alone", "", match)
        return
    for match in _NAMED.finditer(text):
        yield from _reading("named", text[: match.start()] + " " + text[match.end() :], match)
    for pattern in _BESIDE:
        match = pattern.fullmatch(text)
        if match and any(map(str.isalpha, match["title"])):
            yield from _reading("beside", match["title"], match)
    for pattern in (_AFTER_TITLE, _BEFORE_TITLE):
        match = pattern.fullmatch(text)
        if match and any(heading in _words(match["title"]) for heading in headings):
            yield from _reading("title", match["title"], match)


def _words(text: str) -> str:
    """Return the words of a text, without numbers, each with a space before and after it."""
    return f" {' '.join(_LETTERS.findall(text.casefold()))} "


def _reading(kind: str, rest: str, match: re.Match[str]) -> Iterator[tuple[str, str, int]]:
    groups = match.groupdict()
    number = groups["number"] or groups.get("cjk") or ""
    value = int(number) if number.isdigit() else _roman_value(number)
    title = " ".join(rest.split())
    if value is not None:
        form = "digits" if number.isdigit() else "roman"
        yield f"{kind} {form} {groups.get('total')} {title.casefold()}", title, value


def _roman_value(number: str) -> int | None:
    """Return the value of a Roman number; None if it is none."""
    if not number or not _ROMAN.fullmatch(number):
        return None
    values = [_VALUES[letter] for letter in number.lower()]
    return sum(-value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True))
