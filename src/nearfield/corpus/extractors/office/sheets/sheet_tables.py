"""Tables of a sheet: regions of filled cells, their titles and heads, and rows as lines of "column: value"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.office.sheets.sheet_heads import (
    SheetCell,
    continues_head,
    find_head,
    is_key_value,
    is_new_head,
    is_separate_head,
)

#: Rows of a region that are looked at to find its head.
_LOOK_AHEAD = 1000
#: Values of a column that are remembered to recognise a region that continues a table.
_MAX_VALUES = 1000


@dataclass
class SheetRow:
    """A row with at least one filled cell: its number from 1, its cells by column from 0, and notes on its cells."""

    number: int
    cells: dict[int, SheetCell]
    notes: list[str] = field(default_factory=list)


@dataclass
class _Table:
    """The table that rows are added to: names by column, and what was seen below them."""

    head: dict[int, str]
    is_bold: bool = False
    used: set[int] = field(default_factory=set)
    values: dict[int, set[str]] = field(default_factory=dict)
    numeric: set[int] = field(default_factory=set)
    body_bold: bool = False


class SheetWriter:
    """Adds the rows of one sheet to a document, table by table.

    ``heads`` are numbers of rows that the file itself says are heads of tables.
    """

    def __init__(self, builder: DocumentBuilder, page: int, heads: Iterable[int] = ()) -> None:
        self._builder = builder
        self._page = page
        self._heads = frozenset(heads)
        self._table: _Table | None = None
        self._above: list[SheetRow] = []

    def put(self, rows: Iterable[SheetRow]) -> None:
        """Add all rows of the sheet."""
        stream = iter(rows)
        first = next(stream, None)
        while first is not None:
            region = _Region(first, stream)
            start = list(islice(region, _LOOK_AHEAD))
            first = region.next_row
            gap = first.number - start[-1].number if first is not None and len(start) < _LOOK_AHEAD else 0
            if gap == 2 and not self._above and is_separate_head([row.cells for row in start]):
                self._above = start  # the head of the next region, if that has none
                continue
            self._put_part(start, region)
            first = region.next_row
        if self._above:
            self._put_part([], iter(()))
        self._end_table()

    def _put_part(self, start: list[SheetRow], region: Iterator[SheetRow]) -> None:
        """Add a region, after the head that is above it with an empty row between."""
        above, self._above = self._above, []
        if above and start and continues_head([row.cells for row in above], [row.cells for row in start]):
            titles = [row for row in above if len(row.cells) == 1]
            self._put_titles(titles)
            self._begin_table([row for row in above if len(row.cells) > 1])
        elif above:
            self._put_parts(above, iter(()))
        self._put_parts(start, region)

    def _put_parts(self, start: list[SheetRow], region: Iterator[SheetRow]) -> None:
        parts = _side_by_side(start) if len(start) < _LOOK_AHEAD else [start]
        for part in parts:
            self._put_region(part, region if len(parts) == 1 else iter(()))

    def _put_region(self, start: list[SheetRow], rest: Iterator[SheetRow]) -> None:
        """Add a region: lines of text, then rows under their head. A head within it begins another table."""
        while start:
            at = self._put_titles(start)
            start = start[at:]
            if not start:
                break
            start = self._put_table(start)
        for row in rest:
            self._put_row(row)

    def _put_titles(self, rows: list[SheetRow]) -> int:
        """Add the rows of one text that come before a table; return their number."""
        for at, row in enumerate(rows):
            cells = _own_cells(row)
            if len(cells) > 1 or (cells and (self._has_column(cells) or _is_group(cells, rows[at:]))):
                return at
            for cell in cells.values():
                self._builder.add(cell.text, page=self._page)
            self._put_notes(row)
        return len(rows)

    def _has_column(self, cells: dict[int, SheetCell]) -> bool:
        """Return whether a single cell is a value of the table above, such as a total."""
        (column, cell), table = next(iter(cells.items())), self._table
        return bool(table and cell.is_number and column in table.head and column in table.numeric)

    def _put_table(self, rows: list[SheetRow]) -> list[SheetRow]:
        """Add rows up to the next head within them; return the rows from that head on."""
        if is_key_value([row.cells for row in rows]):
            self._end_table()
            for row in rows:
                name, *values = (cell.text for cell in row.cells.values() if cell.covered != "left")
                self._put_lines([f"{name.rstrip(': ')}: {values[0]}" if values else name], row)
            return []
        size = self._head_size(rows)
        if size:
            self._begin_table(rows[:size])
        elif self._table and not self._continues(rows[0]):
            self._end_table()
        if not size and not self._table and len(rows) == 1 and not any(c.is_number for c in rows[0].cells.values()):
            self._builder.add(" | ".join(cell.text for cell in _own_cells(rows[0]).values()), page=self._page)
            self._put_notes(rows[0])
            return []
        for at in range(size, len(rows)):
            row = rows[at]
            below = rows[at + 1].cells if at + 1 < len(rows) else {}
            table = self._table
            if at > size and (row.number in self._heads or (
                table and is_new_head(row.cells, below, table.numeric, bold_body=table.body_bold)
            )):  # fmt: skip
                return rows[at:]
            self._put_row(row)
        return []

    def _head_size(self, rows: list[SheetRow]) -> int:
        """Return the number of rows that are the head of a region; 0 if it has none."""
        if rows[0].number in self._heads:
            return 1
        size = find_head([row.cells for row in rows])
        table = self._table
        if not size or table is None or rows[0].number in self._heads:
            return size
        cells = rows[0].cells
        if set(cells) <= set(table.head) and table.is_bold and not all(cell.bold for cell in cells.values()):
            return 0  # the heads of this sheet are bold
        repeated = any(cell.text in table.values.get(column, ()) for column, cell in cells.items())
        same = [table.head.get(column) == cell.text for column, cell in cells.items()]
        return 0 if repeated and not all(same) and set(cells) <= set(table.head) else size

    def _continues(self, row: SheetRow) -> bool:
        """Return whether a row without head may belong to the table above: it has no cells beside that table."""
        assert self._table is not None
        return bool(self._table.head) and set(row.cells) <= set(self._table.head)

    def _begin_table(self, rows: Sequence[SheetRow]) -> None:
        self._end_table()
        head: dict[int, str] = {}
        for column in sorted({column for row in rows for column in row.cells}):
            parts: list[str] = []
            for row in rows:
                cell = row.cells.get(column)
                parts += [cell.text] if cell and cell.text and cell.text not in parts else []
            head[column] = " ".join(parts)
        cells = [cell for row in rows for cell in row.cells.values()]
        self._table = _Table(head, is_bold=all(cell.bold for cell in cells))
        for row in rows:
            self._put_notes(row)

    def _end_table(self) -> None:
        """Add the names of columns that had no value: a reader sees them too."""
        table, self._table = self._table, None
        if table:
            unused = [name for column, name in table.head.items() if name and column not in table.used]
            if unused:
                self._builder.add(" | ".join(unused), page=self._page)

    def _put_row(self, row: SheetRow) -> None:
        if self._table is None:
            self._table = _Table({})
        table = self._table
        distinct = len(set(table.head.values())) == len(table.head)
        if table.head and distinct and {column: cell.text for column, cell in row.cells.items()} == table.head:
            return  # the head again, as on each printed page
        own = _own_cells(row)
        if len(own) == 1 and next(iter(own.values())).across > 1:
            self._put_lines([next(iter(own.values())).text], row)
            return
        lines = []
        for column, cell in row.cells.items():
            if not cell.text or cell.covered == "left":
                continue
            lines.append(f"{table.head.get(column) or letters(column)}: {cell.text}")
            table.used.add(column)
            if cell.is_number:
                table.numeric.add(column)
            seen = table.values.setdefault(column, set())
            if len(seen) < _MAX_VALUES:
                seen.add(cell.text)
        table.body_bold = table.body_bold or all(cell.bold for cell in own.values())
        self._put_lines(lines, row)

    def _put_lines(self, lines: list[str], row: SheetRow) -> None:
        self._builder.add("\n".join([*lines, *row.notes]), "table", page=self._page)

    def _put_notes(self, row: SheetRow) -> None:
        for note in row.notes:
            self._builder.add(note, page=self._page)


class _Region:
    """Iterates over rows without a gap; ``next_row`` is the first row after the gap."""

    def __init__(self, first: SheetRow, stream: Iterator[SheetRow]) -> None:
        self._stream = chain([first], stream)
        self._number = first.number - 1
        self._ended = False
        self.next_row: SheetRow | None = None

    def __iter__(self) -> Iterator[SheetRow]:
        return self

    def __next__(self) -> SheetRow:
        if self._ended:
            raise StopIteration
        row = next(self._stream, None)
        if row is None or row.number > self._number + 1:
            self._ended, self.next_row = True, row
            raise StopIteration
        self._number = row.number
        return row


def _is_group(cells: dict[int, SheetCell], rows: Sequence[SheetRow]) -> bool:
    """Return whether a row's single cell is above some of the names in the next row, not above all of them."""
    column = next(iter(cells))
    return len(rows) > 1 and column > min(rows[1].cells, default=column) and find_head([r.cells for r in rows]) > 1


def _own_cells(row: SheetRow) -> dict[int, SheetCell]:
    return {column: cell for column, cell in row.cells.items() if cell.text and not cell.covered}


def _side_by_side(rows: list[SheetRow]) -> list[list[SheetRow]]:
    """Split a region at empty columns into tables that are beside each other.

    Both sides need two columns, and the right one texts to name its rows: in a table with an empty column for looks,
    numbers are on the right.
    """
    groups: list[list[int]] = []
    for run in _runs(sorted({column for row in rows for column in row.cells})):
        if groups and len(groups[-1]) > 1 and _is_table(rows, run):
            groups.append(run)
        elif groups:
            groups[-1] += run
        else:
            groups.append(run)
    if len(groups) < 2 or len(rows) < 2:
        return [rows]
    parts = []
    for group in groups:
        inside = set(group)
        part = [SheetRow(row.number, {c: cell for c, cell in row.cells.items() if c in inside}) for row in rows]
        parts.append([row for row in part if row.cells])
    for row in rows:  # notes belong to the first table that has the row
        owner = next(item for part in parts for item in part if item.number == row.number)
        owner.notes += row.notes
    return parts


def _runs(columns: Sequence[int]) -> list[list[int]]:
    """Return columns in groups without gaps."""
    runs: list[list[int]] = []
    for column in columns:
        if runs and column == runs[-1][-1] + 1:
            runs[-1].append(column)
        else:
            runs.append([column])
    return runs


def _is_table(rows: list[SheetRow], columns: list[int]) -> bool:
    if len(columns) < 2:
        return False
    first = [row.cells[columns[0]] for row in rows if columns[0] in row.cells]
    body = first[1:] if len(first) > 1 else first
    return sum(not cell.is_number for cell in body) * 2 > len(body)


def letters(column: int) -> str:
    """Return the letters of a column, which counts from 0."""
    text, column = "", column + 1
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(ord("A") + rest) + text
    return text
