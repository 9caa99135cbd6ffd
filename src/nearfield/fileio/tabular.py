"""Readers of tabular files: plain text, JSON lines, CSV, TSV and Parquet, row by row in bounded memory.

A row that cannot be read is yielded with its error, which names file and line, and does not stop the rows after it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from nearfield.errors import InputError, MissingExtra, nearest
from nearfield.fileio.csv_records import FIRST_RECORD, Cells, CsvRecords, RecordStart, detect_delimiter, not_utf8
from nearfield.fileio.s3.path import Location
from nearfield.fileio.strict_csv import quoted_cells
from nearfield.repeated_values import find_repeated

#: Maximum number of bytes of one row.
MAX_ROW_BYTES = 2**28
#: Rows of a Parquet file that are in memory at once.
_PARQUET_BATCH_ROWS = 256
_BOM = b"\xef\xbb\xbf"
#: A first line by which spreadsheets state the delimiter, which may have split it.
_DELIMITER_HINT = re.compile(r"sep=.?", re.IGNORECASE)
_ALIASES = {"ndjson": "jsonl", "text": "txt", "tab": "tsv"}

#: The columns of a row by name.
ColumnValues: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        where: file and line (of Parquet: row), for messages.
        value: the columns by name, the text of a row that is nothing else, or the error if it cannot be read.
        number: the line on which the row begins (of Parquet: its number), counted from 1.
        repeated: columns that the row has several times with different values, of which the last one is in ``value``.
        start: where the row begins, for ``TableOptions.start``; not of strict CSV and TSV.
    """

    where: str
    value: ColumnValues | str | InputError
    number: int = 0
    repeated: tuple[str, ...] = ()
    start: RecordStart = FIRST_RECORD

    def get(self) -> ColumnValues | str:
        """Return the columns by name, or the text of a row that is nothing else.

        Raises:
            InputError: the row cannot be read; the message names file and line.
        """
        if isinstance(self.value, InputError):
            raise self.value
        return self.value


@dataclass(frozen=True)
class TableOptions:
    """How a file is read.

    Attributes:
        columns: columns that the table must have; of Parquet only these are read.
        header: the names of the columns of a CSV or TSV file whose first line does not name them.
        strict: refuse CSV rows with too few cells or misplaced quotes. In TSV a quote is then an ordinary character.
        encoding: the encoding of the file; None means UTF-8.
        any_delimiter: let the first line of a CSV or TSV file show another delimiter than the usual one.
        start: the row with which to begin, without reading those before it; for seekable files in UTF-8 that are not
            read strictly.
        batch_rows: rows of a Parquet file that are in memory at once.
    """

    columns: Sequence[str] | None = None
    header: Sequence[str] | None = None
    strict: bool = False
    encoding: str | None = None
    any_delimiter: bool = False
    start: RecordStart = FIRST_RECORD
    batch_rows: int = _PARQUET_BATCH_ROWS


def table_format(path: Path, name: str | None = None) -> str:
    """Return the format of a file: ``name`` if it is not None, otherwise by the file's suffix.

    Raises:
        InputError: the format is unknown.
    """
    suffix = (name or path.suffix.removeprefix(".")).lower()
    file_format = _ALIASES.get(suffix, suffix)
    if file_format not in _READERS:
        raise InputError(f"{path}: unknown format {file_format!r}. {nearest(file_format, _READERS)}", param="format")
    return file_format


def read_table(
    path: Location,
    file_format: str,
    columns: Sequence[str] | None = None,
    *,
    header: Sequence[str] | None = None,
    strict: bool = False,
    encoding: str | None = None,
    any_delimiter: bool = False,
    start: RecordStart = FIRST_RECORD,
) -> Iterator[TableRow]:
    """Yield the rows of a file; the options are those of ``TableOptions``.

    Raises:
        InputError: the file is not such a table, or lacks a column.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        options = TableOptions(columns, header, strict, encoding, any_delimiter, start)
        yield from read_stream(file, str(path), file_format, options=options)


def read_stream(
    file: BinaryIO,
    name: str,
    file_format: str,
    columns: Sequence[str] | None = None,
    *,
    options: TableOptions | None = None,
) -> Iterator[TableRow]:
    """Yield the rows of an open file, which messages call ``name``; raises as ``read_table``."""
    options = options or TableOptions(columns)
    if options.encoding is not None and file_format != "parquet":
        reader = codecs.getreader(options.encoding)(file, "replace")
        file = cast(BinaryIO, io.BufferedReader(_Utf8Stream(reader)))
    yield from _READERS[file_format](file, name, options)


class _Utf8Stream(io.RawIOBase):
    """A text in another encoding as bytes in UTF-8, read piece by piece."""

    def __init__(self, reader: codecs.StreamReader) -> None:
        self._reader, self._rest = reader, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = self._reader.read(2**16).encode("utf-8", "replace")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def read_header(path: Path, file_format: str) -> list[str]:
    """Return the cells of the first row of a CSV or TSV file, or the field names of the first object of JSON lines.

    Raises:
        InputError: that row cannot be read.
        OSError: the file cannot be opened.
    """
    if file_format not in _DELIMITERS:
        row = next(read_table(path, file_format), TableRow("", {})).get()
        return [] if isinstance(row, str) else [str(name) for name in row]
    with path.open("rb") as file, closing(_strict_cells(file, str(path), _DELIMITERS[file_format])) as rows:
        for _, cells in rows:
            if isinstance(cells, InputError):
                raise cells
            return list(cells)
    return []


# -- lines: plain text and JSON ------------------------------------------------------------------------------------


def _lines(
    file: BinaryIO, name: str, start: RecordStart = FIRST_RECORD
) -> Iterator[tuple[RecordStart, str, bytes | InputError]]:
    """Yield the start, the place and the bytes of each line, without the line end."""
    offset, number = start.offset, start.lines
    if offset:
        file.seek(offset)
    while line := file.readline(MAX_ROW_BYTES + 1):
        begin = RecordStart(offset, number)
        offset, number = offset + len(line), number + 1
        where = f"{name}, line {number}"
        if len(line) > MAX_ROW_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(2**20)
                offset += len(line)
            yield begin, where, InputError(f"{where}: longer than {MAX_ROW_BYTES:,} bytes.")
            continue
        yield begin, where, (line.removeprefix(_BOM) if number == 1 else line).rstrip(b"\r\n")


def _decode(where: str, line: bytes | InputError) -> str | InputError:
    if isinstance(line, InputError):
        return line
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return InputError(f"{where}: not UTF-8 ({error.reason}). Convert it first.")


def _read_text(file: BinaryIO, name: str, options: TableOptions) -> Iterator[TableRow]:
    for start, where, line in _lines(file, name, options.start):
        yield TableRow(where, _decode(where, line), start.lines + 1, (), start)


def _read_jsonl(file: BinaryIO, name: str, options: TableOptions) -> Iterator[TableRow]:
    is_first, objects = not options.start.offset, _ObjectReader()
    for start, where, line in _lines(file, name, options.start):
        if isinstance(line, InputError):
            yield TableRow(where, line, start.lines + 1, (), start)
        elif line.strip():
            if is_first and line.strip() in (b"{", b"[", b"[{"):
                raise InputError(
                    f"{name}: JSON over several lines. Each line must be a whole value: jq -c . FILE writes one line "
                    "for each object, jq -c '.[]' FILE for each object of a list."
                )
            yield _parse_json(where, start, line, objects)
        is_first = is_first and not (isinstance(line, bytes) and line.strip())


def _parse_json(where: str, start: RecordStart, line: bytes, objects: _ObjectReader) -> TableRow:
    text, number = _decode(where, line), start.lines + 1
    if isinstance(text, InputError):
        return TableRow(where, text, number, (), start)
    try:
        row = objects.parse(text)
    except (ValueError, RecursionError) as error:  # also numbers of too many digits, and lists nested without end
        return TableRow(where, InputError(f"{where}: not JSON ({error})."), number, (), start)
    if isinstance(row, (dict, str)):
        return TableRow(where, row, number, objects.repeated if isinstance(row, dict) else (), start)
    return TableRow(where, InputError(f"{where}: {type(row).__name__}, not an object or a text."), number, (), start)


class _ObjectReader:
    """Parses lines of JSON; ``repeated`` are the names that the last object has with several values."""

    def __init__(self) -> None:
        self.repeated: tuple[str, ...] = ()  # one decoder serves all lines; some writers do not escape tabs
        self.parse = json.JSONDecoder(strict=False, object_pairs_hook=self.read).decode

    def read(self, fields: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return an object, in which the last of several fields of the same name counts."""
        row = dict(fields)
        several = (name for name, value in fields if value != row[name]) if len(row) < len(fields) else ()
        self.repeated = tuple(dict.fromkeys(several))
        return row


# -- cells: CSV and TSV --------------------------------------------------------------------------------------------


def _read_delimited(delimiter: str) -> Callable[[BinaryIO, str, TableOptions], Iterator[TableRow]]:
    def read(file: BinaryIO, name: str, options: TableOptions) -> Iterator[TableRow]:
        # The cells are closed before the file is, also if a row raises.
        if options.strict:
            with closing(_strict_cells(file, name, delimiter)) as strict:
                yield from _strict_rows(strict, name, options)
        else:
            if options.start.offset and options.header is None:
                options = replace(options, header=_header(file, delimiter, options))
            with closing(_records(file, delimiter, options)) as cells:
                yield from _tolerant_rows(cells, name, options)

    return read


def _header(file: BinaryIO, delimiter: str, options: TableOptions) -> Cells:
    """Return the names of the columns of a file that was read before: those of its first row that is not blank."""
    with closing(_records(file, delimiter, replace(options, start=FIRST_RECORD))) as rows:
        names = (cells for _, _, cells in rows if isinstance(cells, csv.Error) or any(cell.strip() for cell in cells))
        first = next(names, [])
    return [] if isinstance(first, csv.Error) else _distinct_names(first)


def _tolerant_rows(
    lines: Iterator[tuple[RecordStart, int, Cells | csv.Error]], name: str, options: TableOptions
) -> Iterator[TableRow]:
    """Yield rows by the names of the header; cells that a row lacks are None, and a row with too many is an error."""
    header: Cells | None = options.header
    for start, last, cells in lines:
        first = start.lines + 1
        if header is None and not isinstance(cells, csv.Error) and not any(cell.strip() for cell in cells):
            continue
        if header is None:
            if isinstance(cells, csv.Error):
                raise InputError(f"{name}: the first line names no columns ({cells}).")
            header = _distinct_names(cells)
            check_columns(name, header, options.columns)
            check_columns(name, [*header, *(cell for cell in cells if cells.count(cell) > 1)], options.columns)
            continue
        where = f"{name}, line {last}"
        if isinstance(cells, csv.Error):
            yield TableRow(where, InputError(f"{name}, after line {first - 1}: {cells}."), first, (), start)
        elif len(cells) > len(header):
            problem = f"{len(cells)} cells for {len(header)} columns; put cells that hold the separator in quotes."
            yield TableRow(where, InputError(f"{where}: {problem}"), first, (), start)
        elif cells:
            yield TableRow(where, _by_name(f"{name}, after line {first - 1}", header, cells), first, (), start)


def _distinct_names(cells: Cells) -> Cells:
    """Return the names of columns; of several columns with the same name all but the first one get a number."""
    names: dict[str, None] = {}
    for number, cell in enumerate(cells, 1):
        name, count = cell or f"column {number}", 1
        while name in names:
            count += 1
            name = f"{cell or f'column {number}'} {count}"
        names[name] = None
    return list(names)


def _records(
    file: BinaryIO, delimiter: str, options: TableOptions
) -> Generator[tuple[RecordStart, int, Cells | csv.Error], None, None]:
    """Yield start, last line and cells of each row; a quote that is left open costs its row only."""
    csv.field_size_limit(MAX_ROW_BYTES)
    origin = options.start if options.start.offset else RecordStart(_skip_bom(file))
    if options.start.offset:
        file.seek(origin.offset)
    # Bytes that are not UTF-8 become lone surrogates, so that they cost their row only.
    encoding = "utf-8" if file.seekable() else "utf-8-sig"
    text = io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape", newline="")
    try:
        start = _first_lines(text) if options.any_delimiter else deque[str]()
        delimiter = detect_delimiter(start[-1], delimiter) if start else delimiter

        def read_line(size: int) -> str:
            return start.popleft() if start else text.readline(size)

        records = CsvRecords(read_line, delimiter, MAX_ROW_BYTES, origin)
        for first, last, cells in records:
            is_hint = first == 1 and not isinstance(cells, csv.Error) and _DELIMITER_HINT.fullmatch("".join(cells))
            if not (options.any_delimiter and is_hint):
                yield records.start, last, cells
    finally:
        text.detach()


def _skip_bom(file: BinaryIO) -> int:
    """Skip the byte order mark of a file that can be read twice, and return its bytes; otherwise 0."""
    if not file.seekable():
        return 0
    start = file.tell()
    size = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
    file.seek(start + size)
    return size


def _first_lines(text: io.TextIOWrapper) -> deque[str]:
    """Return the lines up to the first one that is not blank."""
    lines: deque[str] = deque()
    while line := text.readline(MAX_ROW_BYTES + 1):
        lines.append(line)
        if line.strip():
            break
    return lines


def _strict_rows(
    lines: Iterator[tuple[int, Cells | InputError]], name: str, options: TableOptions
) -> Iterator[TableRow]:
    """Yield rows that have exactly one cell for each column."""
    header: Cells | None = options.header
    for number, cells in lines:
        where = f"{name}, line {number}"
        if isinstance(cells, InputError):
            yield TableRow(where, cells, number)
        elif header is None:
            header = [cell.strip() for cell in cells]
            check_columns(name, header, [*(options.columns or ()), *filter(None, header)])
        elif len(cells) != len(header):
            expected = f"{len(header)} ({', '.join(header)})"
            problem = InputError(f"{where}: {len(cells)} columns, where there should be {expected}.")
            yield TableRow(where, problem, number)
        else:
            yield TableRow(where, _by_name(where, header, cells), number)


def _by_name(where: str, header: Cells, cells: Cells) -> ColumnValues | InputError:
    return not_utf8(where, cells) or dict(zip(header, [*cells, *[None] * (len(header) - len(cells))], strict=True))


def _strict_cells(file: BinaryIO, name: str, delimiter: str) -> Generator[tuple[int, Cells | InputError], None, None]:
    """Yield first line and cells of each row that is not blank; only CSV knows quotes."""
    if delimiter == "\t":
        for start, where, line in _lines(file, name):
            text = _decode(where, line)
            if isinstance(text, InputError):
                yield start.lines + 1, text
            elif text.strip():
                yield start.lines + 1, text.split(delimiter)
        return
    with closing(quoted_cells(file, delimiter, MAX_ROW_BYTES)) as rows:
        for first, _, cells in rows:
            if isinstance(cells, csv.Error):
                yield first, InputError(f"{name}, line {first}: {cells}.")
            elif any(cell.strip() for cell in cells):
                yield first, not_utf8(f"{name}, line {first}", cells) or cells


# -- Parquet -------------------------------------------------------------------------------------------------------


def _read_parquet(file: BinaryIO, name: str, options: TableOptions) -> Iterator[TableRow]:
    parquet = require_parquet()
    from pyarrow import ArrowException

    if not file.seekable():
        raise InputError(f"Parquet cannot be read from {name}: give a file.")
    try:
        table = parquet.ParquetFile(file)
        check_columns(name, table.schema_arrow.names, options.columns)
        first = options.start.offset
        rows = (row for batch in _batches_from(table, first, options) for row in batch.to_pylist())
        for before, row in enumerate(rows, first):
            yield TableRow(f"{name}, row {before + 1}", row, before + 1, (), RecordStart(before, before))
    except (ArrowException, OSError) as error:
        raise InputError(f"{name}: cannot be read as Parquet ({error}).") from error


def _batches_from(table: Any, first: int, options: TableOptions) -> Iterator[Any]:
    """Yield batches of the rows from one on: row groups before it are not read, and rows before it not converted."""
    groups, skipped = table.metadata.num_row_groups, 0
    group = 0
    while group < groups and skipped + table.metadata.row_group(group).num_rows <= first:
        skipped += table.metadata.row_group(group).num_rows
        group += 1
    to_skip = first - skipped
    columns = None if options.columns is None else list(options.columns)
    batches = table.iter_batches(options.batch_rows, row_groups=range(group, groups), columns=columns)
    for batch in batches if group < groups else ():
        if to_skip < batch.num_rows:
            yield batch.slice(to_skip)
        to_skip = max(0, to_skip - batch.num_rows)


def require_parquet() -> Any:
    """Import pyarrow's Parquet module.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("Parquet files need pyarrow: pip install 'nearfield[parquet]'") from error
    return pyarrow.parquet


# -- checks --------------------------------------------------------------------------------------------------------


def check_columns(name: str, known: Sequence[str], required: Iterable[str] | None) -> None:
    """Raise InputError if a table lacks a required column, even if it has no rows, or has it twice."""
    needed = list(required or ())
    missing = next((column for column in needed if column not in known), None)
    if missing is not None:
        raise InputError(f"{name}: no column {missing!r}. {nearest(missing, known)}", param="field")
    repeated = find_repeated(column for column in known if column in needed)
    if repeated is not None:
        raise InputError(f"{name}: several columns are called {repeated!r}: rename all but one.", param="field")


def check_unicode(where: str, column: str, text: str) -> None:
    """Raise InputError if a text holds a lone surrogate, which JSON can escape but UTF-8 cannot encode.

    Without this check the tokenizer would fail much later, and without naming the line.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: field {column!r} is not Unicode: character {error.start} is a lone surrogate, "
            f"{text[error.start]!r}.",
            param="field",
        ) from error


_DELIMITERS = {"csv": ",", "tsv": "\t"}
_READERS: dict[str, Callable[[BinaryIO, str, TableOptions], Iterator[TableRow]]] = {
    "txt": _read_text,
    "jsonl": _read_jsonl,
    **{name: _read_delimited(delimiter) for name, delimiter in _DELIMITERS.items()},
    "parquet": _read_parquet,
}
#: The formats that can be read.
FORMATS = tuple(_READERS)
