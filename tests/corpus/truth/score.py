"""Compare an extracted document with the truth of a file: words, order, headings, cells of tables."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from nearfield.corpus.document import Document
from tests.corpus.truth.model import TableRows, TruthFile

_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\\w+")
_RULE = re.compile(r"[|\s:-]+")
#: The name of a column, and a value.
_Pair = tuple[str, str]
#: The pairs of one row of a table.
_Row = list[_Pair]


@dataclass(frozen=True)
class TruthScore:
    """Shares from 0 to 1; None where a file has no such content.

    ``words`` is the share of the words that were extracted, ``order`` the share of these that are in order (longest
    common subsequence). ``headings`` is the F1 of the headings' texts. ``cells`` is the share of cells that are in a
    row with their neighbours, under the right names. ``present`` are texts that should be absent.
    """

    words: float
    order: float
    headings: float | None
    cells: float | None
    present: tuple[str, ...] = ()

    @property
    def lowest(self) -> float:
        """The lowest of the shares; 0 if a text is present that should be absent."""
        shares = [share for share in (self.words, self.order, self.headings, self.cells) if share is not None]
        return 0.0 if self.present else min(shares)


def score_document(document: Document, truth: TruthFile) -> TruthScore:
    """Return the scores of a document."""
    heads = [document.text[block.start : block.end] for block in document.blocks if block.kind == "heading"]
    rows = [row for table in extracted_tables(document) for row in table]
    return _score(document.text, document.title, heads, rows, truth)


def score_markdown(text: str, truth: TruthFile) -> TruthScore:
    """Return the scores of a text in Markdown, as other libraries return it."""
    heads = [match[1].strip("*_ ") for match in re.finditer(r"^#{1,6} +(.+?)[ #]*$", text, re.M)]
    rows = [row for table in _tables_of_lines(text.splitlines()) for row in table]
    return _score(text, "", heads, rows, truth)


def _score(text: str, title: str, heads: Sequence[str], rows: Sequence[_Row], truth: TruthFile) -> TruthScore:
    expected, extracted = words(" ".join(truth.pieces)), words(text)
    counts = Counter(expected)
    kept = sum((counts & (Counter(extracted) | Counter(words(title)))).values())
    in_order = longest_common_subsequence(expected, extracted)
    in_text = sum((counts & Counter(extracted)).values())
    folded = " ".join(text.split()).casefold()
    present = tuple(part for part in truth.absent if " ".join(part.split()).casefold() in folded)
    return TruthScore(
        kept / len(expected),
        in_order / in_text if in_text else 0.0,
        _heading_score(truth.headings, heads) if truth.headings else None,
        _cell_score(truth.tables, rows) if truth.tables else None,
        present,
    )


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; a character of Chinese, Japanese or Korean is a word."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def longest_common_subsequence(first: Sequence[str], second: Iterable[str]) -> int:
    """Return its length, by the bit-parallel method of Hyyrö (2004)."""
    places: dict[str, int] = {}
    for at, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << at
    full = (1 << len(first)) - 1
    state = full
    for word in second:
        matched = state & places.get(word, 0)
        state = ((state + matched) | (state - matched)) & full
    return len(first) - state.bit_count()


def _heading_score(expected: Sequence[str], extracted: Sequence[str]) -> float:
    wanted = Counter(" ".join(words(text)) for text in expected)
    matched = sum((wanted & Counter(" ".join(words(text)) for text in extracted)).values())
    return 2 * matched / (len(expected) + len(extracted))


def _cell_score(tables: Sequence[TableRows], rows: Sequence[_Row]) -> float:
    cells = matched = 0
    for table in tables:
        for row in table[1:]:
            pairs = [(name, cell) for name, cell in zip(table[0], row, strict=True) if cell]
            cells += len(pairs)
            matched += max((_common(pairs, other) for other in rows), default=0)
    return matched / cells


def _common(pairs: _Row, row: _Row) -> int:
    """Return how many pairs of a row another one has; the name of its column may have further words."""
    others = [(set(words(name)), " ".join(words(cell))) for name, cell in row]
    count = 0
    for name, cell in pairs:
        column, value = set(words(name)), " ".join(words(cell))
        count += any(column <= other and value == text for other, text in others)
    return count


def extracted_tables(document: Document) -> Iterator[list[_Row]]:
    """Yield the tables of a document as rows of (column, value): of Markdown, or of lines of "column: value"."""
    tables = [document.text[block.start : block.end] for block in document.blocks if block.kind == "table"]
    for table in tables:
        if table.lstrip().startswith("|"):
            yield from _tables_of_lines(table.splitlines())
        else:
            yield [_named_row(part) for part in re.split(r"\n\s*\n", table)]


def _named_row(text: str) -> _Row:
    pairs = []
    for line in text.splitlines():
        name, _, value = line.rpartition(": ") if line.count(": ") == 1 else line.partition(": ")
        pairs.append((name, value))
    return pairs


def _tables_of_lines(lines: Iterable[str]) -> Iterator[list[_Row]]:
    table: list[list[str]] = []
    for line in [*lines, ""]:
        if line.lstrip().startswith("|"):
            if not _RULE.fullmatch(line):
                table.append(_cells(line))
        elif table:
            yield [list(zip(table[0], row, strict=False)) for row in table[1:]]
            table = []


def _cells(line: str) -> list[str]:
    return [
        cell.replace("\\|", "|").strip().strip("*") for cell in re.split(r"(?<!\\)\|", line.strip()[1:].rstrip("|"))
    ]


def mean_score(scores: Sequence[TruthScore]) -> TruthScore:
    """Return the mean of each share over the files that have it."""

    def mean(shares: Iterable[float | None]) -> float | None:
        known = [share for share in shares if share is not None]
        return fmean(known) if known else None

    return TruthScore(
        fmean(score.words for score in scores),
        fmean(score.order for score in scores),
        mean(score.headings for score in scores),
        mean(score.cells for score in scores),
        tuple(text for score in scores for text in score.present),
    )
