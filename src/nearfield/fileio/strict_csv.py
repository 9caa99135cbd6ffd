"""Records of CSV files that are read strictly: a misplaced quote is an error."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator
from typing import BinaryIO

from nearfield.fileio.csv_records import Cells


def quoted_cells(
    file: BinaryIO, delimiter: str, max_characters: int
) -> Generator[tuple[int, int, Cells | csv.Error], None, None]:
    """Yield first line, last line and cells of each row, in which quotes enclose separators and line ends."""
    csv.field_size_limit(max_characters)
    # Bytes that are not UTF-8 become lone surrogates, so that they cost their row only.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        lines = _BoundedLines(text, max_characters)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            before = reader.line_num
            lines.characters_left = max_characters
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield before + 1, reader.line_num, error
                continue
            yield before + 1, reader.line_num, cells
    finally:
        text.detach()


class _BoundedLines:
    """The lines of a text for a CSV reader; stops a row that has no end, such as one with an open quote."""

    def __init__(self, text: io.TextIOWrapper, max_characters: int) -> None:
        self._text, self._max = text, max_characters
        self.characters_left = max_characters

    def __iter__(self) -> _BoundedLines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self.characters_left + 1)
        self.characters_left -= len(line)
        if self.characters_left < 0:
            raise csv.Error(f"a row of more than {self._max:,} characters; is a quote left open")
        if not line:
            raise StopIteration
        return line
