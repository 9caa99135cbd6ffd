"""The layout of a recognised page: its lines in reading order, as paragraphs, headings and rows of tables.

Lines side by side are columns if their words are many, and rows of a table if they are few. Columns are read one after
the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

import msgspec

from nearfield.corpus.extractors.document_builder import markdown_table
from nearfield.corpus.extractors.ocr.engine import OcrLine

#: Width of the gap between columns, and between parts of one line, relative to the height of a line.
_COLUMN_GAP = 0.8
#: Rows from which lines side by side are columns or a table, and the usual words of a line from which it is a column.
_MIN_ROWS, _COLUMN_WORDS = 3, 3.5
#: Distance of rows, relative to the height of a line, up to which they belong to the same columns.
_MAX_DISTANCE = 4.0
#: Distance between lines relative to the usual one above which a paragraph ends; height of a heading relative to the
#: usual one, and its maximum characters.
_GAP, _LARGE, _MAX_HEADING = 1.45, 1.4, 120
_ITEM = re.compile(r"(?:[•●▪◦*–-]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s*\w")
_ENDED = (".", "!", "?", ":", "。", "！", "？", "”", '"', "»")
_BROKEN = re.compile(r"(\w{2,})-\n([a-zà-ÿ]\w*)")

Row = list[OcrLine]


class OcrParagraph(msgspec.Struct, frozen=True):
    """A piece of a page. ``level`` is that of a heading; 0 for other kinds."""

    text: str
    kind: Literal["heading", "paragraph", "table"] = "paragraph"
    level: int = 0


def paragraphs(lines: Sequence[OcrLine]) -> list[OcrParagraph]:
    """Return the paragraphs of a page in reading order."""
    if not lines:
        return []
    usual = median(line.height for line in lines for _ in range(max(1, len(line.text) // 10)))
    return [item for block in _blocks(lines) for item in _split(block, usual)]


@dataclass(frozen=True)
class _Block:
    """Rows of one column, or of a table."""

    rows: list[Row]
    is_table: bool = False


def _blocks(lines: Sequence[OcrLine]) -> Iterator[_Block]:
    """Yield the blocks of a page, or of one of its columns, in reading order."""
    rows = _rows(lines)
    at = start = 0
    while at < len(rows):
        end, middle = _columns(rows, at)
        if end - at < _MIN_ROWS or not _is_side_by_side(rows[at:end], middle):
            at += 1
            continue
        if rows[start:at]:
            yield _Block(rows[start:at])
        group = [line for row in rows[at:end] for line in row]
        left = [line for line in group if line.right <= middle]
        right = [line for line in group if line.right > middle]
        if _is_table(rows[at:end]):
            yield _Block(rows[at:end], is_table=True)
        else:
            yield from _blocks(left)
            yield from _blocks(right)
        at = start = end
    if rows[start:]:
        yield _Block(rows[start:])


def _rows(lines: Sequence[OcrLine]) -> list[Row]:
    """Return lines from top to bottom; those at the same height are one row, from left to right."""
    rows: list[Row] = []
    for line in sorted(lines, key=lambda line: line.top + line.bottom):
        centre = (line.top + line.bottom) / 2
        if rows:
            first = rows[-1][0]
            same = abs(centre - (first.top + first.bottom) / 2) < 0.5 * min(line.height, first.height)
            if same and not any(_overlap(line, other) for other in rows[-1]):
                rows[-1].append(line)
                continue
        rows.append([line])
    return [sorted(row, key=lambda line: line.left) for row in rows]


def _overlap(line: OcrLine, other: OcrLine) -> bool:
    return min(line.right, other.right) - max(line.left, other.left) > 0.5 * min(line.height, other.height)


def _columns(rows: Sequence[Row], start: int) -> tuple[int, float]:
    """Return the end of the rows that have a gap in common with the row ``start``, and the middle of the gap."""
    best = (start, 0.0)
    for before, after in pairwise(rows[start]):
        end, middle = _extent(rows, start, before.right, after.left)
        best = max(best, (end, middle))
    if len(rows[start]) == 1:  # the first lines of one column only: the gap is that of the row below
        for number in range(start + 1, min(start + 3, len(rows))):
            for before, after in pairwise(rows[number]):
                end, middle = _extent(rows, start, before.right, after.left)
                best = max(best, (end, middle)) if end > number else best
    return best


def _extent(rows: Sequence[Row], start: int, low: float, high: float) -> tuple[int, float]:
    """Return the end of the rows without text in the gap between two positions, and the middle of what is left of it.

    The gap is the part of it that all these rows leave free.
    """
    end = start
    for number in range(start, len(rows)):
        row = rows[number]
        if number > start and _distance(rows[number - 1], row) > _MAX_DISTANCE * row[0].height:
            break
        middle = (low + high) / 2
        new_low = max([low, *(line.right for line in row if (line.left + line.right) / 2 <= middle)])
        new_high = min([high, *(line.left for line in row if (line.left + line.right) / 2 > middle)])
        if new_high - new_low < _COLUMN_GAP * median(line.height for line in row):
            break
        low, high, end = new_low, new_high, number + 1
    return end, (low + high) / 2


def _distance(above: Row, below: Row) -> float:
    return min(line.top for line in below) - max(line.bottom for line in above)


def _is_side_by_side(rows: Sequence[Row], middle: float) -> bool:
    """Return whether both sides of a gap have several lines."""
    left = sum(any(line.right <= middle for line in row) for row in rows)
    right = sum(any(line.right > middle for line in row) for row in rows)
    return min(left, right) >= _MIN_ROWS - 1


def _is_table(rows: Sequence[Row]) -> bool:
    """Return whether lines side by side are rows of a table: they have few words, and most rows have several."""
    words = [len(line.text.split()) if " " in line.text else len(line.text) / 6 for row in rows for line in row]
    several = sum(len(row) > 1 for row in rows)
    return median(words) < _COLUMN_WORDS and several * 2 > len(rows)


# -- paragraphs --------------------------------------------------------------------------------------------------------


def _split(block: _Block, usual: float) -> Iterator[OcrParagraph]:
    if block.is_table:
        yield OcrParagraph(markdown_table(_cells(block.rows)), "table")
        return
    lines = [_joined(row) for row in block.rows]
    pitches = [below.top - above.top for above, below in pairwise(lines) if below.top > above.top]
    near = [pitch for pitch in pitches if pitch < 2.5 * usual]
    pitch = median(near) if near else 1.5 * usual
    right = max(line.right for line in lines)
    group = [lines[0]]
    for line in lines[1:]:
        if _is_break(group[-1], line, pitch, right):
            yield _paragraph(group, usual)
            group = []
        group.append(line)
    yield _paragraph(group, usual)


def _joined(row: Row) -> OcrLine:
    """Return the parts of one line as a line."""
    if len(row) == 1:
        return row[0]
    text = " ".join(line.text for line in row)
    top, bottom = min(line.top for line in row), max(line.bottom for line in row)
    return OcrLine(text, min(line.score for line in row), row[0].left, top, row[-1].right, bottom)


def _is_break(above: OcrLine, line: OcrLine, pitch: float, right: float) -> bool:
    """Return whether a paragraph ends between two lines: ``right`` is the right edge of the column."""
    if max(above.height, line.height) > 1.3 * min(above.height, line.height) and _is_short(above, line):
        return True
    if line.top - above.top > _GAP * pitch or _ITEM.match(line.text):
        return True
    ended = above.text.endswith(_ENDED)
    is_indented = line.left - above.left > 0.8 * line.height
    return ended and (is_indented or right - above.right > 6 * above.height)


def _is_short(above: OcrLine, line: OcrLine) -> bool:
    """Return whether one of two lines may be a heading. The height of a box depends on its letters too."""
    return min(len(above.text), len(line.text)) <= _MAX_HEADING // 2


def _paragraph(group: Sequence[OcrLine], usual: float) -> OcrParagraph:
    text = _BROKEN.sub(r"\1\2\n", "\n".join(line.text for line in group)).strip()
    height = median(line.height for line in group)
    if height >= _LARGE * usual and len(text) <= _MAX_HEADING and any(map(str.isalpha, text)):
        return OcrParagraph(text.replace("\n", " "), "heading", 1 if height >= 1.8 * usual else 2)
    return OcrParagraph(text)


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of a table. Cells that overlap horizontally are in the same column."""
    spans: list[tuple[float, float]] = []
    for left, right in sorted((line.left, line.right) for row in rows for line in row):
        if spans and left < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], right))
        else:
            spans.append((left, right))
    table = []
    for row in rows:
        cells = [""] * len(spans)
        for line in row:
            column = next(number for number, (left, right) in enumerate(spans) if left <= line.left <= right)
            cells[column] = f"{cells[column]} {line.text}".strip()
        table.append(cells)
    return table
