"""Heads of tables on sheets: which rows have the names of the columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

#: Maximum characters of a column's name, and maximum rows of a head.
_MAX_NAME = 100
_MAX_HEAD = 4
#: Maximum rows of a sheet's list of facts, such as "Customer | Example Ltd".
_MAX_FACTS = 60
#: Rows below a head that are looked at.
_BODY = 50
_NUMBER = re.compile(r"[-+(]?\s*[€$£¥]?\s*\d[\d.,' \u00a0\u202f]*\s*[%€$£¥]?\)?")

Cells = Mapping[int, "SheetCell"]


@dataclass(frozen=True)
class SheetCell:
    """A cell: its text as shown, whether it is a number or a date, and whether it is bold.

    ``covered`` is where the cell that covers it begins, if it is part of a merged cell: left of it, or above it in the
    same column. ``across`` is the number of columns that it covers.
    """

    text: str
    kind: Literal["text", "number", "date", "formula"] = "text"
    bold: bool = False
    covered: Literal["", "left", "up"] = ""
    across: int = 1

    @property
    def is_number(self) -> bool:
        """Whether it is a value, not a name; a number that is stored as text is a value too."""
        return self.kind != "text" or _NUMBER.fullmatch(self.text.strip()) is not None

    @property
    def is_year(self) -> bool:
        """Whether it may be a year."""
        text = self.text.strip()
        return len(text) == 4 and text.isdigit() and 1800 <= int(text) <= 2200


def find_head(rows: Sequence[Cells]) -> int:
    """Return the number of rows at the start of a region that are its head; 0 if it has none."""
    if len(rows) < 2:
        return 0
    size = _group_rows(rows)
    if size:
        return size
    return int(_is_head(rows[0], rows[1 : 1 + _BODY]))


def _group_rows(rows: Sequence[Cells]) -> int:
    """Return the number of rows of a head that has groups of columns above their names; 0 if it has no groups."""
    size = 0
    while size < min(len(rows) - 1, _MAX_HEAD - 1) and _is_group_row(rows[size], rows[size + 1]):
        size += 1
    if size and len(rows) > size + 1 and _is_head(rows[size], rows[size + 1 : size + 1 + _BODY]):
        return size + 1
    return 0


def _is_group_row(row: Cells, below: Cells) -> bool:
    """Return whether a row has merged cells above two or more names each."""
    wide = [column for column, cell in row.items() if cell.across > 1 and not cell.covered]
    if not wide or len(below) < 2:
        return False
    for column in wide:
        under = [below.get(at) for at in range(column, column + row[column].across)]
        if sum(cell is not None and _may_be_name(cell) for cell in under) < 2:
            return False
    return all(_may_be_name(cell) for cell in row.values())


def _may_be_name(cell: SheetCell) -> bool:
    if len(cell.text) > _MAX_NAME:
        return False
    return not cell.is_number or cell.is_year or cell.kind == "date"


def _is_head(row: Cells, body: Sequence[Cells]) -> bool:
    """Return whether a row has names: texts; years, dates or numbers in a row only if the values below differ."""
    if len(row) < 2 or any(len(cell.text) > _MAX_NAME or cell.kind == "formula" for cell in row.values()):
        return False
    if len({cell.text for cell in row.values()}) == 1:
        return False
    bold = all(cell.bold for cell in row.values()) and not all(cell.bold for cell in body[0].values())
    numbers = {column: cell for column, cell in row.items() if cell.is_number}
    if not numbers or bold:
        return True
    if all(cell.is_year for cell in numbers.values()):
        return any(not cell.is_year for column in numbers for cell in _below(body, column))
    if all(cell.kind == "date" for cell in numbers.values()):
        return any(cell.kind != "date" for column in numbers for cell in _below(body, column))
    return _is_count(list(numbers.values())) and not _is_count([body[0][c] for c in numbers if c in body[0]])


def _below(body: Sequence[Cells], column: int) -> list[SheetCell]:
    return [cells[column] for cells in body if column in cells]


def _is_count(cells: Sequence[SheetCell]) -> bool:
    """Return whether cells count 1, 2, 3, as months and quarters do."""
    return len(cells) > 2 and [cell.text for cell in cells] == [str(number) for number in range(1, len(cells) + 1)]


def is_separate_head(rows: Sequence[Cells]) -> bool:
    """Return whether a region may be the head of the next one, as in reports with an empty row below the names.

    Its rows are names; of several rows, each has columns that the others leave empty.
    """
    if len(rows) >= _MAX_HEAD or max(map(len, rows), default=0) < 2:
        return False
    if not all(_may_be_name(cell) for cells in rows for cell in cells.values()):
        return False
    return all(2 * len(set(above) & set(below)) <= min(len(above), len(below)) for above, below in pairwise(rows))


def continues_head(head: Sequence[Cells], rows: Sequence[Cells]) -> bool:
    """Return whether a region has no head, and numbers in columns that the region above names."""
    columns = {column for cells in head for column in cells}
    numbers = {column for cells in rows[:_BODY] for column, cell in cells.items() if cell.is_number}
    if not numbers or find_head(rows) or not numbers <= columns:
        return False
    return all(not cell.is_year for cells in rows[:1] for cell in cells.values())


def is_key_value(rows: Sequence[Cells]) -> bool:
    """Return whether rows are names and values side by side, as on a form: "Customer: | Example Ltd"."""
    columns = sorted({column for cells in rows for column in cells})
    if len(columns) != 2 or not 1 < len(rows) <= _MAX_FACTS:
        return False
    names = _below(rows, columns[0])
    values = _below(rows, columns[1])
    if len(names) < len(rows) or any(cell.is_number for cell in names):
        return False
    if sum(cell.text.rstrip().endswith(":") for cell in names) * 2 > len(names):
        return True
    return all(cell.bold for cell in names) and not any(cell.bold for cell in values)


def is_new_head(row: Cells, below: Cells, numeric: set[int], *, bold_body: bool) -> bool:
    """Return whether a row within a table is the head of another one.

    ``numeric`` are the columns that had numbers. A row of texts where numbers were is a head if it is bold, or if it
    has two of them, with numbers below.
    """
    if len(row) < 2 or not below or any(cell.is_number or cell.covered for cell in row.values()):
        return False
    texts = [cell.text for cell in row.values()]
    if len(set(texts)) < len(texts) or any(len(text) > _MAX_NAME or not any(map(str.isalpha, text)) for text in texts):
        return False
    changed = [column for column in row if column in numeric]
    values = [column for column, cell in below.items() if cell.is_number]
    if all(cell.bold for cell in row.values()) and not all(cell.bold for cell in below.values()) and not bold_body:
        return bool(changed) or len(row) > 1
    return len(changed) > 1 and changed == [column for column in sorted(numeric) if column in row] and len(values) > 1
