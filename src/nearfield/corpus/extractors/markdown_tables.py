"""Wide tables in Markdown: a row that fits into no chunk becomes lines with the names of its columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from nearfield.corpus.extractors.text_markup import TextMarkup

#: A table is wide from these numbers of columns and of characters in a row on.
_COLUMNS, _ROW = 10, 400
_CELL = re.compile(r"(?:[^|\\]|\\.)+")
_LINE = re.compile(r"[^\r\n]+")

#: Start and end of a cell.
Place = tuple[int, int]


def name_cells(markup: TextMarkup, start: int, end: int, plain: Callable[[str], str]) -> None:
    """Put the names of columns before the cells of a table if it is wide.

    Chunks would have parts of rows without the names otherwise. ``plain`` takes the markup out of a name. The head is
    left out, since each of its names is in a row; names of empty columns stay in it.
    """
    lines = [match.span() for match in _LINE.finditer(markup.text, start, end)]
    rows = [_cells(markup.text, *line) for line in lines[2:]]
    if len(lines) < 3 or not _is_wide(rows):
        return
    head = [plain(markup.text[first:last]) for first, last in _cells(markup.text, *lines[0])]
    named = {number for row in rows for number, (first, last) in enumerate(row) if first < last}
    if all(number in named for number, name in enumerate(head) if name):
        markup.replace(lines[0][0], lines[1][1])
    for (first, last), row in zip(lines[2:], rows, strict=True):
        _name_row(markup, first, last, row, head)


def _cells(text: str, start: int, end: int) -> list[Place]:
    """Return the places of the cells of a row, without the white space around them."""
    places = []
    line = text[start:end].rstrip()
    inner = len(line) - len(line.lstrip())
    if line[inner : inner + 1] == "|":
        inner += 1
    while inner < len(line):
        match = _CELL.match(line, inner)
        stop = match.end() if match else inner
        cell = line[inner:stop]
        first = start + inner + len(cell) - len(cell.lstrip())
        places.append((first, max(first, start + inner + len(cell.rstrip()))))
        inner = stop + 1
    return places


def _is_wide(rows: Sequence[Sequence[Place]]) -> bool:
    return any(len(row) >= _COLUMNS and sum(last - first + 3 for first, last in row) > _ROW for row in rows)


def _name_row(markup: TextMarkup, start: int, end: int, row: Sequence[Place], head: Sequence[str]) -> None:
    """Replace what is between the cells of a row by line ends and names."""
    before, mark = start - 1, "\n\n"  # the end of the line before belongs to it: the first cell may begin the line
    for number, (first, last) in enumerate(row):
        if first < last:
            name = head[number] if number < len(head) and head[number] else f"column {number + 1}"
            markup.replace(before, first, f"{mark}{name}: ")
            before, mark = last, "\n"
    markup.replace(before, end)
