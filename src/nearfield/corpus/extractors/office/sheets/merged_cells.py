"""Merged cells of a sheet: their text holds for all columns and rows that they cover."""

from __future__ import annotations

from typing import Literal

from nearfield.corpus.extractors.office.sheets.sheet_heads import SheetCell

#: Columns and rows that a merged cell is spread over.
_MAX_ACROSS, _MAX_DOWN = 200, 10_000


class MergedCells:
    """The merged areas of a sheet; columns count from 0, rows from 1."""

    def __init__(self) -> None:
        self._areas: dict[tuple[int, int], int] = {}
        self._rows: dict[int, list[tuple[int, int, int, int]]] = {}
        self._texts: dict[tuple[int, int], SheetCell] = {}

    def add(self, left: int, top: int, right: int, bottom: int) -> None:
        """Add an area with its last column and row."""
        right = min(right, left + _MAX_ACROSS)
        self._areas[left, top] = right - left + 1
        for number in range(top, min(bottom, top + _MAX_DOWN) + 1):
            self._rows.setdefault(number, []).append((left, top, right, bottom))

    def across(self, column: int, row: int) -> int:
        """Return the number of columns that a cell covers."""
        return self._areas.get((column, row), 1)

    def spread(self, number: int, cells: dict[int, SheetCell]) -> dict[int, SheetCell]:
        """Return the cells of a row with those that merged cells cover. Rows come in order."""
        for left, top, right, bottom in self._rows.get(number, ()):
            if number == top and left in cells and bottom > top:
                self._texts[left, top] = cells[left]
            origin = cells.get(left) if number == top else self._texts.get((left, top))
            if origin is None:
                continue
            for column in range(left, right + 1):
                if column not in cells:
                    covered: Literal["left", "up"] = "left" if column > left else "up"
                    across = origin.across if covered == "up" else 1
                    cells[column] = SheetCell(origin.text, origin.kind, origin.bold, covered, across)
        return dict(sorted(cells.items()))
