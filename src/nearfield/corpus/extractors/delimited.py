"""Extractor for tables as files of text (CSV, TSV, JSON lines): each row with the names of its columns."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from nearfield.fileio.csv_records import DELIMITERS, CsvRecords, OpenQuoteError, detect_delimiter
from nearfield.fileio.tabular import MAX_ROW_BYTES

_NOT_SPACE = re.compile(r"\S")
_NUMBER = re.compile(r"[\s\d.,:;%€$£+/()-]+")
#: Characters and lines that show the delimiter.
_SAMPLE, _SAMPLE_LINES = 2**16, 50
#: Rows whose first lines an error names.
_MAX_NAMED = 5

Cells = list[tuple[str, str]]


class DelimitedExtractor(Extractor):
    """Tables with a delimiter. A folder's source splits large ones."""

    suffixes: Mapping[str, str] = MappingProxyType(
        {".csv": "text/csv", ".tsv": "text/tab-separated-values", ".tab": "text/tab-separated-values"}
    )

    def parse(self, data: bytes, name: str) -> Document:
        """Return a block for each row, in which each cell follows the name of its column."""
        text = decode(data, name)
        usual = "," if name.lower().endswith(".csv") else "\t"
        delimiter, is_wide = _delimiter(text, usual)
        builder = _RowBuilder(name)
        csv.field_size_limit(MAX_ROW_BYTES)
        lines = io.StringIO(text, newline="")
        header: list[str] | None = None
        for first, _, cells in CsvRecords(lines.readline, delimiter, MAX_ROW_BYTES):
            if isinstance(cells, csv.Error):
                builder.fail(first)
                cells = cells.cells if isinstance(cells, OpenQuoteError) else ()
            if not any(cell.strip() for cell in cells):
                continue
            if header is None and _is_hint(cells):
                builder.names += count_words("".join(cells))
                continue
            if header is None and is_wide and sum(bool(cell.strip()) for cell in cells) == 1:
                builder.add("".join(cells).strip())  # a title before the table
                continue
            if header is None:
                header = column_names(cells)
                if not is_header(cells):
                    header = [f"column {number}" for number in range(1, len(cells) + 1)]
                    builder.add_row(list(zip(header, cells, strict=True)))
                else:
                    builder.names += count_words(" ".join(cells))
            else:
                names = [*header, *(f"column {number}" for number in range(len(header) + 1, len(cells) + 1))]
                builder.add_row(list(zip(names, cells, strict=False)))
        if header is not None and not builder.rows:
            builder.add_names(header)
        return builder.table(text)


class JsonLinesExtractor(Extractor):
    """JSON lines: one object, list or text in each line."""

    suffixes: Mapping[str, str] = MappingProxyType({".jsonl": "application/jsonl", ".ndjson": "application/x-ndjson"})

    def parse(self, data: bytes, name: str) -> Document:
        """Return a block for each line, in which each value follows the names of its fields."""
        text = decode(data, name)
        values, failed = _line_values(text)
        if failed or len(values) == 1:
            joined = _joined_values(text)
            values, failed = (values, failed) if joined is None else (joined, [])
        if failed and not values:
            raise InputError(
                f"{name}: no line of it is JSON. Each line should have one value; if it is JSON in another form, "
                "change its name to .json."
            )
        builder = _RowBuilder(name)
        for value in values:
            builder.add_row(list(_flat("", value)))
        for line in failed:
            builder.fail(line)
        return builder.table(None)


class _Fields(list[tuple[str, Any]]):
    """The fields of an object in order; names may repeat."""


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_Fields, parse_float=str, parse_int=str)


def _line_values(text: str) -> tuple[list[Any], list[int]]:
    """Return the values of lines, and the numbers of lines that are no JSON."""
    values, failed = [], []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            values += [_DECODER.decode(line)] if line.strip() else []
        except (ValueError, RecursionError):
            failed.append(number)
    return values, failed


def _joined_values(text: str) -> list[Any] | None:
    """Return the values of a text that may have several lines each, or are in one list; None if it is no JSON."""
    values, at = [], 0
    while match := _NOT_SPACE.search(text, at):
        try:
            value, at = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            return None
        values.append(value)
    return values[0] if len(values) == 1 and _is_table(values[0]) else values


def _is_table(value: Any) -> bool:
    """Return whether a value is a list of objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, _Fields) for item in value)


class _RowBuilder(DocumentBuilder):
    """A table's document, built row by row."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, self._failed = name, list[int]()
        self._words = 0
        self.rows = 0
        #: Words of the lines that are no rows: the names, and a hint at the delimiter.
        self.names = 0

    def add_row(self, cells: Cells) -> None:
        """Add a row; blank cells are left out."""
        self.rows += 1
        shown = [(name, value.strip()) for name, value in cells if value.strip()]
        self._words += sum(count_words(name) for name, _ in shown)
        self.add("\n".join(f"{name}: {value}" if name else value for name, value in shown), "table")

    def add_names(self, names: Sequence[str]) -> None:
        """Add the names of a table without rows."""
        self.add(", ".join(names), "table")
        self._words += count_words(" ".join(names))

    def fail(self, line: int) -> None:
        """Record a row that cannot be read."""
        self._failed.append(line)

    def table(self, text: str | None) -> Document:
        """Return the document; ``text`` is the file's, whose words all are seen by a reader."""
        if self._failed:
            if not len(self):
                raise InputError(f"{self._name}: not a table that its name says, or damaged: no row can be read.")
            plural = "s" if len(self._failed) > 1 else ""
            named = ", ".join(map(str, self._failed[:_MAX_NAMED]))
            more = ", ..." if len(self._failed) > _MAX_NAMED else ""
            reason = (
                f"the cells of {len(self._failed)} row{plural} (damaged, or with an open quote; line {named}{more})"
            )
            self.losses.append(Loss(reason, advice="Correct these lines in the file."))
        if text is not None:
            self.visible_words = count_words(text) - self.names + self._words
        return self.document("table", _title(self._name))


def _delimiter(text: str, usual: str) -> tuple[str, bool]:
    """Return the delimiter, by the first line that has one, and whether several lines have it."""
    lines = [line for line in text[:_SAMPLE].splitlines() if line.strip()][:_SAMPLE_LINES]
    first = next((line for line in lines if any(sign in line for sign in DELIMITERS)), "")
    first = lines[0] if lines and _is_hint([lines[0].strip().strip('"')]) else first
    delimiter = detect_delimiter(first, usual)
    return delimiter, sum(delimiter in line for line in lines) > 1


def column_names(cells: Sequence[str]) -> list[str]:
    """Return the names of columns by the cells of a header."""
    return [" ".join(cell.split()) or f"column {number}" for number, cell in enumerate(cells, 1)]


def is_header(cells: Sequence[str]) -> bool:
    """Return whether the first row of a table has names, and not values."""
    texts = [cell.strip() for cell in cells if cell.strip()]
    numbers = sum(_NUMBER.fullmatch(text) is not None for text in texts)
    is_year = [re.fullmatch(r"(?:19|20)\d\d", text) is not None for text in texts]
    if numbers and not (sum(is_year) == numbers and numbers < len(texts)):
        return False
    return len(set(texts)) > 0 and not any(len(text) > 100 or "\n" in text for text in texts)


def _is_hint(cells: Sequence[str]) -> bool:
    return re.fullmatch(r"sep=.?", "".join(cells), re.IGNORECASE) is not None


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the values of a JSON value with the names of their fields."""
    if isinstance(value, _Fields):
        for field, inner in value:
            yield from _flat(f"{name}.{field}" if name else str(field), inner)
    elif isinstance(value, list):
        if any(isinstance(inner, (dict, list)) for inner in value):
            for inner in value:
                yield from _flat(name, inner)
        else:
            yield name, ", ".join(_scalar(inner) for inner in value)
    else:
        yield name, _scalar(value)


def _scalar(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _title(name: str) -> str:
    stem = PurePosixPath(name.partition("!/")[0] if name.rpartition("!/")[2].startswith("rows ") else name).stem
    return " ".join(stem.replace("_", " ").split())
