"""Rows: tables and lists read one row after the other, in bounded memory; a bad row does not stop the rest."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nearfield.errors import InputError, MissingExtra, nearest

#: Bytes that a row may have.
LONGEST = 2**28
#: Rows of a Parquet file that are held at once.
_AT_ONCE = 256
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class TableRow:
    """One row and where it stands (file and line, for people). ``value`` is an error where it cannot be read."""

    where: str
    value: Mapping[str, Any] | str | InputError

    def get(self) -> Mapping[str, Any] | str:
        """Return the columns by name, or the text of a row that is nothing else.

        Raises:
            InputError: it cannot be read; the message names file and line.
        """
        if isinstance(self.value, InputError):
            raise self.value
        return self.value


def form_of(path: Path, form: str | None = None) -> str:
    """Return a file's format: the one that is named, or by its name.

    Raises:
        InputError: it is none of ours.
    """
    form = (form or path.suffix.removeprefix(".")).lower()
    form = {"ndjson": "jsonl", "text": "txt", "tab": "tsv"}.get(form, form)
    if form not in _READERS:
        raise InputError(f"{path}: unknown format {form!r}. {nearest(form, _READERS)}", param="format")
    return form


def read(path: Path, form: str, columns: Sequence[str] | None = None) -> Iterator[TableRow]:
    """Yield a file's rows; of a Parquet file only ``columns``, where they are named.

    Raises:
        InputError: the file is no such table, or lacks a column.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        yield from stream(file, str(path), form, columns)


def stream(file: BinaryIO, name: str, form: str, columns: Sequence[str] | None = None) -> Iterator[TableRow]:
    """Yield the rows of an open file; raises as ``read``."""
    yield from _READERS[form](file, name, columns)


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[str, bytes | InputError]]:
    """Yield lines with their places, without what ends them."""
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        where = f"{name}, line {number}"
        if len(line) > LONGEST:
            while line and not line.endswith(b"\n"):
                line = file.readline(2**20)
            yield where, InputError(f"{where}: longer than {LONGEST:,} bytes.")
            continue
        yield where, (line.removeprefix(_BOM) if number == 1 else line).rstrip(b"\r\n")


def _decoded(where: str, line: bytes) -> str | InputError:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return InputError(f"{where}: not UTF-8 ({error.reason}). Convert it first.")


def _txt(file: BinaryIO, name: str, _: Sequence[str] | None) -> Iterator[TableRow]:
    for where, line in _lines(file, name):
        yield TableRow(where, line if isinstance(line, InputError) else _decoded(where, line))


def _jsonl(file: BinaryIO, name: str, _: Sequence[str] | None) -> Iterator[TableRow]:
    for where, line in _lines(file, name):
        if isinstance(line, InputError):
            yield TableRow(where, line)
        elif line.strip():
            yield TableRow(where, _parsed(where, line))


def _parsed(where: str, line: bytes) -> Mapping[str, Any] | str | InputError:
    text = _decoded(where, line)
    if isinstance(text, InputError):
        return text
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of too many digits, and lists without end
        return InputError(f"{where}: not JSON ({error}).")
    if isinstance(row, (dict, str)):
        return row
    return InputError(f"{where}: {type(row).__name__}, not an object or a text.")


def _separated(delimiter: str) -> Callable[[BinaryIO, str, Sequence[str] | None], Iterator[TableRow]]:
    def rows(file: BinaryIO, name: str, columns: Sequence[str] | None) -> Iterator[TableRow]:
        csv.field_size_limit(LONGEST)
        # What is not UTF-8 becomes lone surrogates, so that it costs its row only.
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            lines = _Lines(text)
            reader = csv.reader(lines, delimiter=delimiter)
            head, error = _next(reader, lines)
            if error is not None:
                raise InputError(f"{name}: the first line names no columns ({error}).")
            if head is None:
                return
            check_columns(name, head, columns)
            yield from _table(reader, lines, name, head)
        finally:
            text.detach()

    return rows


def _table(reader: Any, lines: _Lines, name: str, head: Sequence[str]) -> Iterator[TableRow]:
    while True:
        before = reader.line_num
        cells, error = _next(reader, lines)
        where = f"{name}, line {reader.line_num}"
        if error is not None:
            yield TableRow(where, InputError(f"{name}, after line {before}: {error}."))
        elif cells is None:
            return
        elif len(cells) > len(head):
            told = f"{where}: {len(cells)} cells for {len(head)} columns; put cells that hold the separator in quotes."
            yield TableRow(where, InputError(told))
        elif cells:
            yield TableRow(where, _named(f"{name}, after line {before}", head, cells))


def _named(after: str, head: Sequence[str], cells: Sequence[str]) -> Mapping[str, Any] | InputError:
    if any(any("\udc80" <= letter <= "\udcff" for letter in cell) for cell in cells if not cell.isascii()):
        return InputError(f"{after}: not UTF-8. Convert it first.")
    return dict(zip(head, [*cells, *[None] * (len(head) - len(cells))], strict=True))


class _Lines:
    """Gives lines to the reader of CSV, and stops a row without end, as one with an open quote is."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.room = LONGEST

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self.room + 1)
        self.room -= len(line)
        if self.room < 0:
            raise csv.Error(f"a row of more than {LONGEST:,} characters; is a quote left open")
        if not line:
            raise StopIteration
        return line


def _next(reader: Any, lines: _Lines) -> tuple[list[str] | None, Exception | None]:
    """Return the next row, or what is wrong with it; neither at the end."""
    lines.room = LONGEST
    try:
        return next(reader), None
    except StopIteration:
        return None, None
    except csv.Error as error:
        return None, error


def _parquet(file: BinaryIO, name: str, columns: Sequence[str] | None) -> Iterator[TableRow]:
    parquet = require_parquet()
    from pyarrow import ArrowException

    if not file.seekable():
        raise InputError(f"Parquet cannot be read from {name}: give a file.")
    try:
        table = parquet.ParquetFile(file)
        check_columns(name, table.schema_arrow.names, columns)
        batches = table.iter_batches(batch_size=_AT_ONCE, columns=None if columns is None else list(columns))
        for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
            yield TableRow(f"{name}, row {number}", row)
    except (ArrowException, OSError) as error:
        raise InputError(f"{name}: cannot be read as Parquet ({error}).") from error


def require_parquet() -> Any:
    """Import pyarrow's Parquet module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("Parquet files need pyarrow: pip install 'nearfield[parquet]'") from error
    return pyarrow.parquet


def check_columns(name: str, known: Sequence[str], wanted: Iterable[str] | None) -> None:
    """Refuse a table that lacks a column, even one without rows.

    Raises:
        InputError: it does.
    """
    missing = next((column for column in wanted or () if column not in known), None)
    if missing is not None:
        raise InputError(f"{name}: no column {missing!r}. {nearest(missing, known)}", param="field")


def check_unicode(where: str, column: str, text: str) -> None:
    """Refuse what JSON can escape but no text can hold; the tokenizer would, hours later and without the line.

    Raises:
        InputError: there is a lone surrogate in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: field {column!r} is not Unicode: character {error.start} is a lone surrogate, "
            f"{text[error.start]!r}.",
            param="field",
        ) from error


_READERS: dict[str, Callable[[BinaryIO, str, Sequence[str] | None], Iterator[TableRow]]] = {
    "txt": _txt,
    "jsonl": _jsonl,
    "csv": _separated(","),
    "tsv": _separated("\t"),
    "parquet": _parquet,
}
#: The formats that are read.
FORMS = tuple(_READERS)
