"""The layout of a PDF page: lines in reading order, tables, and columns that the file has row by row.

The order of the file is usually the order of reading: columns are changed only where each line goes on in the next
column. A row has cells with wide gaps between them; rows with cells one below the other are a table, or columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean, median

from nearfield.corpus.extractors.pdf.segments import PdfSegment
from nearfield.corpus.extractors.pdf.table_heads import cell_text, edges, has_short_head, has_sure_head

#: Minimum number of rows of a table, and of lines of columns.
_MIN_ROWS, _MIN_LINES = 2, 3
#: Maximum characters of a cell: beside longer texts are notes in the margin.
_MAX_CELL = 500
#: Jumps upwards, and their share of the rows of a page, from which the file has no order.
_MIN_JUMPS, _MAX_JUMPS = 4, 0.3
#: Tables that are drawn by columns: the distance of rows, relative to the height of a line, and the mean characters of
#: the values of all columns but one.
_STACK_GAP, _SHORT = 4.0, 20
#: The distance between two rows of a table, and two lines of a cell, relative to the height of a line.
_ROW_GAP, _LINE_GAP = 3.2, 1.5
#: Columns of text: the minimum letters of a line, the share of the column that lines fill, the share of lines that go
#: on from the one above.
_MIN_LETTERS, _MIN_FILL, _MIN_FLOW = 9, 0.6, 0.4
_ENDS = (".", "!", "?", ":", ";", "”", '"', "。", "！", "？")

#: Dots up to a page number, and the number of a line.
_DOTS, _LEADING = re.compile(r"(?:\.\s?){4}"), re.compile(r"(\d{1,4})\b")


@dataclass(frozen=True)
class PdfLine:
    """A line of text of a page; ``has_value`` is set if it has the value of a form field."""

    text: str
    left: float
    right: float
    bottom: float
    size: float
    bold: bool = False
    math: bool = False
    upright: bool = True
    has_value: bool = False


@dataclass(frozen=True)
class PdfTable:
    """Rows of cells; ``head`` is whether the first row has the names of the columns.

    ``has_sure_head`` is whether more than the length of its texts says so. ``columns`` are their left and right edges.
    """

    rows: tuple[tuple[str, ...], ...]
    head: bool = True
    top: float = 0.0
    bottom: float = 0.0
    has_sure_head: bool = False
    columns: tuple[tuple[float, float], ...] = ()


@dataclass
class _LayoutRow:
    """A row of the page: cells side by side, each with one line or several."""

    cells: list[list[PdfSegment]] = field(default_factory=list)

    @property
    def top(self) -> float:
        return max(segment.top for cell in self.cells for segment in cell)

    @property
    def bottom(self) -> float:
        return min(segment.bottom for cell in self.cells for segment in cell)

    @property
    def height(self) -> float:
        return median(segment.size for cell in self.cells for segment in cell)


def lay_out(segments: Sequence[PdfSegment]) -> list[PdfLine | PdfTable]:
    """Return the lines and tables of a page in reading order."""
    rows = _rows(_by_rows([segment for segment in segments if segment.text]))
    items: list[PdfLine | PdfTable] = []
    for run in _runs(rows):
        items += _table_or_columns(run) if len(run) > 1 else _row_lines(run[0])
    return items


# -- tables by columns -----------------------------------------------------------------------------------------------


def _by_rows(segments: Sequence[PdfSegment]) -> list[PdfSegment]:
    """Return segments with tables row by row that the file has column by column, or without any order."""
    upright = [segment for segment in segments if segment.upright]
    if _is_scattered(upright):
        return [*_sorted_rows([upright, []]), *(segment for segment in segments if not segment.upright)]
    ordered: list[PdfSegment] = []
    band: list[list[PdfSegment]] = []
    for stack in _stacks(segments):
        if band and _is_next_column(band, stack):
            band.append(stack)
        else:
            ordered += _sorted_rows(band)
            band = [stack]
    return ordered + _sorted_rows(band)


def _is_scattered(segments: Sequence[PdfSegment]) -> bool:
    """Return whether the order of the file is none: again and again, a text is above the one before it."""
    jumps = sum(
        1
        for one, other in pairwise(segments)
        if other.bottom - one.bottom > 1.2 * max(one.size, other.size) and other.left < one.right
    )
    if jumps < _MIN_JUMPS:
        return False
    heights = sorted(segment.bottom for segment in segments)
    rows = 1 + sum(1 for one, other in pairwise(heights) if other - one > 0.4 * segments[0].size)
    return jumps >= _MAX_JUMPS * rows


def _stacks(segments: Sequence[PdfSegment]) -> Iterator[list[PdfSegment]]:
    """Yield runs of segments that are one below the other."""
    stack: list[PdfSegment] = []
    for segment in segments:
        if stack:
            gap = stack[-1].bottom - segment.bottom
            overlaps = segment.left < max(one.right for one in stack) and min(one.left for one in stack) < segment.right
            if not (segment.upright and overlaps and 0.4 * segment.size < gap <= _STACK_GAP * segment.size):
                yield stack
                stack = []
        stack.append(segment)
    if stack:
        yield stack


def _is_next_column(band: Sequence[Sequence[PdfSegment]], stack: Sequence[PdfSegment]) -> bool:
    """Return whether a stack is the next column of a table: to the right, with values at the heights of its rows."""
    if len(stack) < _MIN_LINES or min(one.left for one in stack) < max(one.right for one in band[-1]) - 1:
        return False
    heights = [one.bottom for column in band for one in column]
    beside = [one for one in stack if any(abs(one.bottom - height) < 0.4 * one.size for height in heights)]
    short = [mean(len(one.text) for one in column) <= _SHORT for column in (*band, stack)]
    return len(beside) >= max(_MIN_LINES, 0.7 * len(stack)) and sum(short) >= len(short) - 1


def _sorted_rows(band: Sequence[Sequence[PdfSegment]]) -> list[PdfSegment]:
    """Return the segments of the columns of a table row by row."""
    segments = [segment for column in band for segment in column]
    if len(band) < 2:
        return segments
    segments.sort(key=lambda segment: -segment.bottom)
    rows: list[list[PdfSegment]] = []
    for segment in segments:
        if not rows or rows[-1][0].bottom - segment.bottom > 0.4 * segment.size:
            rows.append([])
        rows[-1].append(segment)
    return [segment for row in rows for segment in sorted(row, key=lambda segment: segment.left)]


# -- rows ------------------------------------------------------------------------------------------------------------


def _rows(segments: Sequence[PdfSegment]) -> list[_LayoutRow]:
    """Group segments, in the order of the file, into rows of cells."""
    rows: list[_LayoutRow] = []
    for segment in segments:
        if not rows or not _joins(rows[-1], segment):
            rows.append(_LayoutRow([[segment]]))
        else:
            cells = rows[-1].cells
            below = _below(cells[-1], segment)
            if below:
                cells[-1].append(segment)
            else:
                cells.append([segment])
    return [part for row in rows for part in _split_row(row)]


def _joins(row: _LayoutRow, segment: PdfSegment) -> bool:
    """Return whether a segment belongs to a row: to the right of its last cell, or below it in a row with cells."""
    last = row.cells[-1]
    if not (segment.upright and last[-1].upright):
        return False
    if segment.left >= max(part.right for part in last) + 1:
        middle = segment.bottom + segment.size / 2
        return row.bottom <= middle <= row.top
    return _below(last, segment)


def _below(cell: Sequence[PdfSegment], segment: PdfSegment) -> bool:
    """Return whether a segment is the next line of a cell."""
    last = cell[-1]
    gap = last.bottom - segment.bottom
    near = 0.4 * segment.size < gap <= _LINE_GAP * max(last.size, segment.size)
    similar = abs(last.size - segment.size) <= 0.15 * last.size and last.bold == segment.bold
    overlaps = segment.left < last.right and last.left < segment.right
    return near and similar and overlaps


def _split_row(row: _LayoutRow) -> Iterator[_LayoutRow]:
    """Yield one row, or those of its lines.

    A row without a second cell is a paragraph. Cells with equally many lines at the same heights are as many rows:
    tables that are drawn column by column. If the first cell ends beside the others, its lines above them are rows
    before it, such as a paragraph before a line with a total; else the other cells are centred beside it.
    """
    if len(row.cells) == 1:
        yield from (_LayoutRow([[segment]]) for segment in row.cells[0])
        return
    first, rest = row.cells[0], row.cells[1:]
    highest = max(segment.top for cell in rest for segment in cell)
    lowest = min(segment.bottom for cell in rest for segment in cell)
    ends = lowest <= first[-1].bottom + 0.3 * first[-1].size
    before = [segment for segment in first if ends and segment.bottom >= highest - 0.3 * segment.size]
    yield from (_LayoutRow([[segment]]) for segment in before)
    cells = [cell for cell in [first[len(before) :], *rest] if cell]
    counts = {len(cell) for cell in cells}
    aligned = len(counts) == 1 and all(
        max(segment.bottom for segment in line) - min(segment.bottom for segment in line) < 0.4 * line[0].size
        for line in zip(*cells, strict=True)
    )
    if aligned and counts != {1} and (_short(cells) or _all_lines_pair(cells)):
        yield from (_LayoutRow([[segment] for segment in line]) for line in zip(*cells, strict=True))
    else:
        # The last cell may go on below the row, as a paragraph with a hanging number does.
        yield _LayoutRow(cells)


def _short(cells: Sequence[Sequence[PdfSegment]]) -> bool:
    """Return whether the lines of all cells but one are short: they are values, and not lines of a text."""
    short = [mean(len(segment.text) for segment in cell) <= 24 for cell in cells]
    return sum(short) >= len(cells) - 1


def _all_lines_pair(cells: Sequence[Sequence[PdfSegment]]) -> bool:
    """Return whether the file has the lines of all cells side by side: it draws row by row."""
    return all(len({segment.line for segment in line}) == 1 for line in zip(*cells, strict=True))


def _runs(rows: Sequence[_LayoutRow]) -> Iterator[list[_LayoutRow]]:
    """Yield runs of rows with cells one below the other; other rows alone."""
    run: list[_LayoutRow] = []
    for at, row in enumerate(rows):
        following = rows[at + 1] if at + 1 < len(rows) else None
        if run and _continues(run, row, following):
            run.append(row)
            continue
        if run:
            yield run
        run = [row]
    if run:
        yield run


def _continues(run: Sequence[_LayoutRow], row: _LayoutRow, following: _LayoutRow | None) -> bool:
    """Return whether a row goes on with the run's columns."""
    last = run[-1]
    gap = last.bottom - row.bottom
    if not 0 < gap <= _ROW_GAP * max(row.height, last.height) + (row.top - row.bottom - row.height):
        return False
    columns = _columns(run)
    if len(columns) < 2:
        return False
    if len(row.cells) > 1:
        return _fits(columns, row)
    # A row with one cell: within a column, and the next row has cells again.
    cell = row.cells[0]
    low, high = min(part.left for part in cell), max(part.right for part in cell)
    inside = [
        column
        for column in columns
        if column[0] - 3 <= low and high <= column[1] + 0.5 * (columns[-1][1] - columns[0][0])
    ]
    gaps = list(pairwise(columns))
    crosses = any(low < one[1] - 1 and high > other[0] + 1 for one, other in gaps)
    near = gap <= _LINE_GAP * max(row.height, last.height)
    return bool(inside) and not crosses and (near or (following is not None and len(following.cells) > 1))


def _columns(rows: Sequence[_LayoutRow]) -> list[tuple[float, float]]:
    """Return the left and right ends of the columns of rows."""
    spans = sorted(
        (min(part.left for part in cell), max(part.right for part in cell))
        for row in rows
        for cell in row.cells
        if len(row.cells) > 1
    )
    columns: list[tuple[float, float]] = []
    for low, high in spans:
        if columns and low < columns[-1][1]:
            columns[-1] = (columns[-1][0], max(columns[-1][1], high))
        else:
            columns.append((low, high))
    return columns


def _fits(columns: Sequence[tuple[float, float]], row: _LayoutRow) -> bool:
    """Return whether the columns stay apart with another row."""
    merged = _columns([_LayoutRow([[_span(low, high)] for low, high in columns]), row])
    return len(merged) >= max(2, min(len(columns), len(row.cells)) - 1)


def _span(low: float, high: float) -> PdfSegment:
    return PdfSegment("", low, high, 0.0, 1.0)


# -- tables and columns ----------------------------------------------------------------------------------------------


def _table_or_columns(run: Sequence[_LayoutRow]) -> Iterator[PdfLine | PdfTable]:
    columns = _columns(run)
    # A row of one cell at the end belongs to what follows, if it does not go on from a cell.
    grid = [_fill(row, columns) for row in run]
    several = [row for row in run if len(row.cells) > 1]
    if len(columns) < 2 or len(several) < _MIN_ROWS:
        for row in run:
            yield from _row_lines(row)
        return
    if _is_text(grid):
        for number in range(len(columns)):
            for cells in grid:
                yield from (_line([segment]) for segment in cells[number])
        return
    if _is_listing(grid) or len(several) < max(2, 0.5 * len(run)) or not _is_table(grid):
        for row in run:
            yield from _row_lines(row)
        return
    rows = _with_heads_above(_joined(grid))
    sure = has_sure_head(rows) if len(rows) > 1 else False
    yield PdfTable(
        tuple(tuple(cell_text(cell) for cell in cells) for cells in rows),
        has_short_head(rows) if sure is None else sure,
        has_sure_head=sure is True,
        columns=tuple(map(edges, zip(*rows, strict=True))),
        top=run[0].top,
        bottom=run[-1].bottom,
    )


def _fill(row: _LayoutRow, columns: Sequence[tuple[float, float]]) -> list[list[PdfSegment]]:
    """Return the lines of a row by column."""
    cells: list[list[PdfSegment]] = [[] for _ in columns]
    for cell in row.cells:
        for segment in cell:
            middle = (segment.left + segment.right) / 2
            distance = [max(low - middle, middle - high, 0) for low, high in columns]
            cells[distance.index(min(distance))].append(segment)
    return cells


def _is_text(grid: Sequence[Sequence[Sequence[PdfSegment]]]) -> bool:
    """Return whether columns are flowing text whose lines go on below, and not in the next column."""
    return all(_flows([segment for cell in column for segment in cell]) for column in zip(*grid, strict=True))


def _flows(lines: Sequence[PdfSegment]) -> bool:
    if len(lines) < _MIN_LINES or mean(sum(map(str.isalpha, line.text)) for line in lines) < _MIN_LETTERS:
        return False
    width = max(line.right for line in lines) - min(line.left for line in lines)
    full = [line for line in lines if line.right - line.left >= _MIN_FILL * width]
    if len(full) < 0.6 * len(lines):
        return False
    flowing = [_goes_on(above.text, below.text) for above, below in pairwise(lines)]
    return sum(flowing) >= _MIN_FLOW * len(flowing)


def _goes_on(above: str, below: str) -> bool:
    """Return whether a line goes on with the sentence of the line above."""
    first = next((letter for letter in below if letter.isalpha()), "")
    if first.islower() and not above.endswith((".", "!", "?")):
        return True
    return bool(first) and first.lower() == first.upper() and not above.endswith(_ENDS)


def _is_listing(grid: Sequence[Sequence[Sequence[PdfSegment]]]) -> bool:
    """Return whether rows are labels with values, or lines of text with their numbers, or with dots and a page."""
    texts = [segment.text for cells in grid for cell in cells for segment in cell]
    if 2 * sum(1 for cells in grid if cells[0] and cells[0][-1].text.endswith(":")) > len(grid):
        return True
    if 4 * sum(1 for text in texts if _DOTS.search(text)) >= len(grid):
        return True
    numbers = [int(match[1]) for cells in grid if cells[0] and (match := _LEADING.match(cells[0][0].text))]
    steps = [other - one for one, other in pairwise(numbers)]
    return len(grid[0]) == 2 and len(numbers) >= max(2, 0.7 * len(grid)) and steps.count(1) >= 0.7 * len(steps)


def _is_table(grid: Sequence[Sequence[Sequence[PdfSegment]]]) -> bool:
    """Return whether rows are a table: there are enough of them, and most cells have a text."""
    filled = [sum(1 for cell in cells if cell) for cells in grid]
    widest = max(sum(len(segment.text) for segment in cell) for cells in grid for cell in cells)
    return widest <= _MAX_CELL and len(grid) >= 3 and sum(filled) >= 0.55 * len(grid[0]) * len(grid)


def _joined(grid: Sequence[Sequence[Sequence[PdfSegment]]]) -> list[list[list[PdfSegment]]]:
    """Return the rows of a table; a line without a first cell, close below a row, goes on with its cells."""
    rows: list[list[list[PdfSegment]]] = []
    pitch = _pitch(grid)
    for cells in grid:
        parts = [segment for cell in cells for segment in cell]
        if rows and not cells[0] and parts:
            above = [segment for cell in rows[-1] for segment in cell]
            gap = min(segment.bottom for segment in above) - max(segment.bottom for segment in parts)
            same = all(not cell or column for cell, column in zip(cells, rows[-1], strict=True))
            if same and gap <= _LINE_GAP * parts[0].size and gap < 0.85 * pitch:
                for cell, column in zip(cells, rows[-1], strict=True):
                    column += cell
                continue
        rows.append([list(cell) for cell in cells])
    return rows


def _with_heads_above(rows: list[list[list[PdfSegment]]]) -> list[list[list[PdfSegment]]]:
    """Return rows with the names of columns above their values, from which they are shifted to a side."""
    width, first = len(rows[0]), rows[0]
    for number in range(width - 1):
        for head, values in ((number, number + 1), (number + 1, number)):
            if first[head] and not first[values] and not any(row[head] for row in rows[1:]):
                first[values], first[head] = first[head], []
    used = [number for number in range(width) if any(row[number] for row in rows)]
    return [[row[number] for number in used] for row in rows]


def _pitch(grid: Sequence[Sequence[Sequence[PdfSegment]]]) -> float:
    """Return the usual distance between rows that have a first cell."""
    heights = [cells[0][0].bottom for cells in grid if cells[0]]
    gaps = [one - other for one, other in pairwise(heights) if one > other]
    return median(gaps) if gaps else 0.0


# -- lines -----------------------------------------------------------------------------------------------------------


def _row_lines(row: _LayoutRow) -> Iterator[PdfLine]:
    """Yield the lines of a row that is no table: cells one after the other; labels on the first line of their text."""
    heads = [cell[0] for cell in row.cells]
    labels = [head for cell, head in zip(row.cells[:-1], heads, strict=False) if len(cell) == 1]
    level = max(head.bottom for head in heads) - min(head.bottom for head in heads) < 0.4 * heads[0].size
    if len(labels) == len(heads) - 1 and (level or len(row.cells[-1]) == 1):
        yield _line(heads)
        yield from (_line([segment]) for segment in row.cells[-1][1:])
        return
    for cell in row.cells:
        yield from (_line([segment]) for segment in cell)


def _line(parts: Sequence[PdfSegment]) -> PdfLine:
    text = parts[0].text
    for one, other in pairwise(parts):
        wide = other.left - one.right > 1.5 * one.size
        text += ("  " if wide else " ") + other.text
    widest = max(parts, key=lambda part: len(part.text))
    return PdfLine(
        text,
        parts[0].left,
        max(part.right for part in parts),
        widest.bottom,
        widest.size,
        all(part.bold for part in parts if any(map(str.isalnum, part.text))),
        any(part.math for part in parts),
        parts[0].upright,
        any(part.is_value for part in parts),
    )
