"""The first row of a table in a PDF: whether it has the names of the columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import mean

from nearfield.corpus.extractors.pdf.segments import PdfSegment

_YEAR = re.compile(r"(?:19|20)\d\d")


def has_sure_head(rows: Sequence[Sequence[Sequence[PdfSegment]]]) -> bool | None:
    """Return whether the first row names the columns: it has words above numbers, or is bold; None if it may."""
    first, rest = rows[0], rows[1:]
    if sum(1 for cell in first if cell) < max(1, len(first) - 1):
        return False
    columns = _texts_below(rows)
    numeric = [2 * sum(map(is_number, column)) > len(column) for column in columns]
    names = [cell_text(cell) for cell in first]
    if any(numeric):
        above = [name for name, number in zip(names, numeric, strict=True) if number]
        return not any(is_number(name) and not _YEAR.fullmatch(name) for name in above)
    if any(map(is_number, names)):
        return False
    letters = [segment for cell in first for segment in cell]
    others = [segment for row in rest for cell in row for segment in cell]
    return True if all(segment.bold for segment in letters) and not all(segment.bold for segment in others) else None


def has_short_head(rows: Sequence[Sequence[Sequence[PdfSegment]]]) -> bool:
    """Return whether the texts of the first row are shorter than those below."""
    columns = _texts_below(rows)
    return mean(len(cell_text(cell)) for cell in rows[0]) <= 0.75 * mean(
        len(text) for column in columns for text in column or [""]
    )


def _texts_below(rows: Sequence[Sequence[Sequence[PdfSegment]]]) -> list[list[str]]:
    """Return the texts of each column without those of the first row."""
    return [[cell_text(row[number]) for row in rows[1:] if row[number]] for number in range(len(rows[0]))]


def is_number(text: str) -> bool:
    """Return whether at least half of a text are digits."""
    return bool(text) and sum(map(str.isdigit, text)) * 2 >= sum(1 for letter in text if not letter.isspace())


def cell_text(cell: Sequence[PdfSegment]) -> str:
    """Return the lines of a cell."""
    return "\n".join(segment.text for segment in cell)


def edges(column: Sequence[Sequence[PdfSegment]]) -> tuple[float, float]:
    """Return the left and the right edge of a column."""
    segments = [segment for cell in column for segment in cell]
    left = min((segment.left for segment in segments), default=0.0)
    return left, max((segment.right for segment in segments), default=0.0)
