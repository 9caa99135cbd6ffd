"""Tables of reStructuredText that are drawn with characters: grid tables and simple tables."""

from __future__ import annotations

import re
from collections.abc import Sequence


def grid_rows(lines: Sequence[str]) -> list[list[str]]:
    """Return the cells of a grid table. A cell over several columns is in the first of them."""
    borders = sorted({match.start() for line in lines if line.startswith("+") for match in re.finditer(r"\+", line)})
    rows: list[list[str]] = []
    cells: list[list[str]] = [[] for _ in borders[1:]]
    for line in lines:
        parts = _grid_parts(line, borders)
        if line.startswith("+") and all(set(part) <= set("-=+") for _, part in parts):
            _end_row(rows, cells)
            continue
        for column, part in parts:
            if re.fullmatch(r"[-=+]+", part):  # a border within a row: the cell above ends
                continue
            cells[min(column, len(cells) - 1)].append(part.strip())
    _end_row(rows, cells)
    return rows


def _grid_parts(line: str, borders: Sequence[int]) -> list[tuple[int, str]]:
    """Return the parts of a line between borders, with the numbers of their first columns."""
    parts: list[tuple[int, str]] = []
    first = 0
    for number in range(1, len(borders)):
        end = borders[number]
        if number == len(borders) - 1 or (end < len(line) and line[end] in "|+"):
            parts.append((first, line[borders[first] + 1 : end]))
            first = number
    return parts


def _end_row(rows: list[list[str]], cells: list[list[str]]) -> None:
    texts = [" ".join(filter(None, cell)) for cell in cells]
    if any(texts):
        rows.append(texts)
    for cell in cells:
        cell.clear()


def simple_rows(lines: Sequence[str]) -> list[list[str]]:
    """Return the cells of a simple table, whose columns are those of its first border."""
    starts = [match.start() for match in re.finditer(r"=+", lines[0])]
    ends = [*starts[1:], None]
    rows: list[list[str]] = []
    for line in lines:
        if re.fullmatch(r"[=\s]+|[-\s]+", line):
            continue
        if any(line[start - 1 : start].strip() for start in starts[1:]):  # a text over several columns
            rows.append([line.strip(), *[""] * (len(starts) - 1)])
            continue
        cells = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        if rows and not cells[0]:
            rows[-1] = [" ".join(filter(None, pair)) for pair in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(["" if cell == "\\" else cell for cell in cells])
    return rows
