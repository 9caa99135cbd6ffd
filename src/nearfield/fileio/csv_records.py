"""Records of CSV and TSV files, where a quote that is never closed costs its own row only."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from nearfield.errors import InputError

Cells: TypeAlias = Sequence[str]

#: The rest of a cell in quotes up to the quote that ends it; two quotes are one of the text.
_CLOSING = re.compile(r'[^"]*(?:""[^"]*)*"(?!")')
#: Rows with an open quote after which rows may no longer span lines: each one reads the rest of the file again.
_MAX_UNCLOSED = 20
#: Characters that may follow the quote that ends a cell, beside the delimiter.
_AFTER_QUOTE = re.compile(r"[ \t]*(?:\r?\n?)\Z|[ \t]*\r\Z")

#: Delimiters that the first line may show, the most usual one first.
DELIMITERS = ",;\t|"


def detect_delimiter(line: str, usual: str) -> str:
    """Return the delimiter of a table by its first line: the usual one, or another one if only that one occurs."""
    hint = line.strip().strip('"')
    if len(hint) == 5 and hint.lower().startswith("sep="):
        return hint[4]
    plain = re.sub(r'"(?:[^"]|"")*"', "", line)
    if usual in plain:
        return usual
    return max(DELIMITERS, key=plain.count) if any(sign in plain for sign in DELIMITERS) else usual


def not_utf8(where: str, cells: Cells) -> InputError | None:
    """Return the error of a row whose bytes were not UTF-8, which are read as lone surrogates; None for other rows."""
    if any("\udc80" <= letter <= "\udcff" for cell in cells if not cell.isascii() for letter in cell):
        return InputError(f"{where}: not UTF-8. Convert it first.")
    return None


class RecordStart(NamedTuple):
    """Where a record begins, as reading from there needs it: the bytes and the lines before it, and how many of the
    records before it have a quote that is never closed. Of Parquet, bytes and lines are rows."""

    offset: int = 0
    lines: int = 0
    unclosed: int = 0


FIRST_RECORD = RecordStart()


def _bytes(line: str) -> int:
    """Return the bytes of a line in UTF-8, in which lone surrogates stand for bytes that are not UTF-8."""
    return len(line) if line.isascii() else len(line.encode("utf-8", "surrogateescape"))


class OpenQuoteError(csv.Error):
    """A quote is opened in a row and not closed; ``cells`` are those of the row's first line, with its quotes."""

    def __init__(self, message: str, cells: Sequence[str]) -> None:
        super().__init__(message)
        self.cells = cells


class CsvRecords:
    """The records of a table: iterating yields first line, last line, and the cells or the error of each one.

    ``read_line`` returns the next line with its end, at most so many characters of it, and an empty string at the end.
    Reading may start in the middle of a table: ``start`` is the state before the row with which it starts.
    A row whose quote is never closed, or is followed by something else than a delimiter on a later line, is an error;
    reading goes on at the line after it. In tables with tabs the quotes of such a row are ordinary characters.
    """

    def __init__(
        self, read_line: Callable[[int], str], delimiter: str, max_characters: int, start: RecordStart = FIRST_RECORD
    ) -> None:
        self._read_line, self._delimiter, self._max = read_line, delimiter, max_characters
        self._pending: deque[str] = deque()
        #: The state before the record that was yielded last.
        self.start = start
        self._offset, self._unclosed = self.start.offset, self.start.unclosed
        #: Lines that were read and are not pending.
        self.number = self.start.lines

    def __iter__(self) -> Iterator[tuple[int, int, Sequence[str] | csv.Error]]:
        while line := self._next_line():
            first = self.number
            self.start = RecordStart(self._offset - _bytes(line), first - 1, self._unclosed)
            if len(line) > self._max:
                self._skip_line(line)
                yield first, first, self._too_long()
            elif '"' not in line:
                yield first, first, self._split([line])
            else:
                cells = self._quoted(line)
                yield first, self.number, cells

    def _quoted(self, line: str) -> Sequence[str] | csv.Error:
        """Return the cells of the row that begins with a line, or its error."""
        lines, size = [line], len(line)
        is_open, _ = self._scan(line, is_open=False)
        error: csv.Error | None = None
        while is_open and error is None:
            following = "" if self._unclosed >= _MAX_UNCLOSED else self._next_line()
            size += len(following)
            if size > self._max:
                error = self._too_long()
                lines.append(following)
            elif not following:
                error = self._open_quote(line, "a quote is opened in this row, and never closed")
            else:
                lines.append(following)
                is_open, misplaced = self._scan(following, is_open=True)
                if misplaced:
                    error = self._open_quote(line, "a quote is opened in this row, and not closed before the next one")
        if error is None:
            return self._split(lines)
        self._unclosed += 1
        self.number -= len(lines) - 1
        self._offset -= sum(map(_bytes, lines[1:]))
        self._pending.extendleft(reversed(lines[1:]))
        return line.rstrip("\r\n").split("\t") if self._delimiter == "\t" else error

    def _scan(self, line: str, *, is_open: bool) -> tuple[bool, bool]:
        """Return whether a quote is open after a line, and whether the first one closes at an odd place."""
        at, misplaced, was_open = 0, False, is_open
        while True:
            if is_open or line.startswith('"', at):
                match = _CLOSING.match(line, at if is_open else at + 1)
                if match is None:
                    return True, misplaced
                at = match.end()
                usual = line.startswith(self._delimiter, at) or _AFTER_QUOTE.match(line, at) is not None
                misplaced, was_open, is_open = misplaced or (was_open and not usual), False, False
            following = line.find(self._delimiter, at)
            if following < 0:
                return False, misplaced
            at = following + 1

    def _split(self, lines: list[str]) -> Sequence[str] | csv.Error:
        try:
            return next(csv.reader(lines, delimiter=self._delimiter), [])
        except csv.Error as error:
            return error

    def _next_line(self) -> str:
        line = self._pending.popleft() if self._pending else self._read_line(self._max + 1)
        self.number += bool(line)
        self._offset += _bytes(line)
        return line

    def _skip_line(self, line: str) -> None:
        while line and not line.endswith(("\n", "\r")):
            line = self._read_line(2**20)
            self._offset += _bytes(line)

    def _open_quote(self, line: str, message: str) -> OpenQuoteError:
        return OpenQuoteError(message, line.rstrip("\r\n").split(self._delimiter))

    def _too_long(self) -> csv.Error:
        return csv.Error(f"a row of more than {self._max:,} characters; is a quote left open")
