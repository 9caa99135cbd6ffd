"""Tables of text documents: merged cells, titles over the whole width, and heads of several rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

#: Rows that the head of a table may have.
_MAX_HEAD = 4
#: Edges of cells that differ by fewer twips are the same column.
_TOLERANCE = 40


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the number of its columns, whether it continues the cell above, and whether it is in a head."""

    text: str
    span: int = 1
    continues: bool = False
    is_head: bool = False


def table_parts(rows: Iterable[Sequence[Cell]]) -> tuple[list[str], list[list[str]]]:
    """Return the titles above a table, and its rows with one text for each column.

    A cell over several columns is in the first of them; one over several rows is in all of them. Rows of a head become
    one row.
    """
    table = [list(row) for row in rows if row]
    width = max((sum(cell.span for cell in row) for row in table), default=0)
    titles = []
    while len(table) > 1 and width > 1 and len(table[0]) == 1 and table[0][0].span >= width:
        text = table.pop(0)[0].text
        titles += [text] if text.strip() else []
    size = _head_size(table)
    head = _joined_head([_filled(row) for row in table[:size]]) if size > 1 else []
    grid: list[list[str]] = [head] if size > 1 else []
    above: list[str] = head
    for row in table[size if size > 1 else 0 :]:
        above = _texts(row, above)
        grid.append(above)
    return titles, grid


def _head_size(table: Sequence[Sequence[Cell]]) -> int:
    """Return the number of rows that are the head: those that the file marks, or those that merged cells join."""
    marked = 0
    while marked < min(len(table), _MAX_HEAD) and any(cell.is_head for cell in table[marked]):
        marked += 1
    if marked > 1:
        return marked
    if len(table) < 3:
        return 1
    size = 1
    while size < min(len(table) - 1, _MAX_HEAD) and _is_joined(table[size - 1], table[size]):
        size += 1
    return size


def _is_joined(row: Sequence[Cell], below: Sequence[Cell]) -> bool:
    """Return whether a row of the head has a cell over several columns, with a name for each of them below."""
    if not any(cell.span > 1 and cell.text.strip() for cell in row):
        return False
    names = _spread(below)
    place = 0
    for cell in row:
        under = names[place : place + cell.span]
        place += cell.span
        if cell.span > 1 and not all(part.text.strip() and not _is_number(part.text) for part in under):
            return False
        if cell.span == 1 and under and under[0].text.strip() and not under[0].continues and cell.text.strip():
            return False
    return True


def _is_number(text: str) -> bool:
    return bool(text.strip()) and not any(map(str.isalpha, text)) and not _is_year(text)


def _is_year(text: str) -> bool:
    return text.strip().isdigit() and 1800 <= int(text) <= 2200 and len(text.strip()) == 4


def _spread(row: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in row for _ in range(cell.span)]


def _filled(row: Sequence[Cell]) -> list[str]:
    return ["" if cell.continues else cell.text for cell in _spread(row)]


def _texts(row: Sequence[Cell], above: Sequence[str]) -> list[str]:
    """Return a row's texts by column; a cell that continues the one above has its text."""
    texts: list[str] = []
    for cell in row:
        continued = cell.continues and not cell.text.strip() and len(texts) < len(above)
        texts.append(above[len(texts)] if continued else cell.text)
        texts += [""] * (cell.span - 1)
    return texts


def _joined_head(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one name for each column of a head of several rows."""
    width = max(map(len, rows), default=0)
    names = []
    for at in range(width):
        parts: list[str] = []
        for row in rows:
            text = " ".join(row[at].split()) if at < len(row) else ""
            parts += [text] if text and text not in parts else []
        names.append(" ".join(parts))
    return names


def edge_cells(rows: Sequence[tuple[list[str], tuple[int, ...], tuple[str, ...]]]) -> Iterator[list[Cell]]:
    """Yield the cells of rows that have texts, right edges in twips, and marks of merged cells.

    The edges of all rows are the columns. A mark is "clmrg" for a cell that continues the one on its left, "clvmrg" for
    one that continues the one above.
    """
    columns: list[int] = []
    for edge in sorted({edge for _, edges, _ in rows for edge in edges}):
        if not columns or edge - columns[-1] > _TOLERANCE:
            columns.append(edge)
    for texts, edges, merged in rows:
        cells: list[Cell] = []
        place = 0
        for at, text in enumerate(texts):
            end = sum(edge <= edges[at] + _TOLERANCE for edge in columns) if at < len(edges) else place + 1
            mark = merged[at] if at < len(merged) else ""
            span = max(end - place, 1)
            if mark == "clmrg" and cells:
                cells[-1] = Cell(cells[-1].text, cells[-1].span + span, cells[-1].continues)
            else:
                cells.append(Cell(text, span, continues=mark == "clvmrg"))
            place += span
        yield cells
