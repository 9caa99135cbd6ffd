"""Lines: files of rows (TSV, CSV, JSON lines), read strictly: each row knows its file and line, for clear errors."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.errors import InputError, nearest

SUFFIXES = (".jsonl", ".ndjson", ".tsv", ".csv", ".txt")
_DELIMITERS = {".tsv": "\t", ".txt": "\t", ".csv": ","}


@dataclass(frozen=True)
class DatasetRow:
    """A row, by the names of its columns, and where it stands."""

    path: Path
    number: int
    values: Mapping[str, Any]

    def wrong(self, problem: str) -> InputError:
        """Return an error that says where."""
        return InputError(f"{self.path}, line {self.number}: {problem}", param="data")

    def text(self, name: str, *, empty: bool = False) -> str:
        """Return a column's text.

        Raises:
            InputError: there is none, it is no text, or it is empty and may not be.
        """
        value = self._value(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise self.wrong(f"{name} is {type(value).__name__}, and should be text.")
        if not empty and not value.strip():
            raise self.wrong(f"{name} is empty.")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a column's texts: a list of them, or one.

        Raises:
            InputError: it is something else, or one is empty.
        """
        value = self._value(name)
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(each, str) and each.strip() for each in found):
            raise self.wrong(f"{name} should be a text or a list of texts, none of them empty.")
        return list(found)

    def number_of(self, name: str) -> float:
        """Return a column's number.

        Raises:
            InputError: it is none, or not finite.
        """
        value = self._value(name)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise self.wrong(f"{name} should be a number, and is {value!r}.")
        return number

    def whole(self, name: str) -> int:
        """Return a column's whole number.

        Raises:
            InputError: it is none.
        """
        number = self.number_of(name)
        if number != int(number):
            raise self.wrong(f"{name} should be a whole number, and is {self.values[name]!r}.")
        return int(number)

    def _value(self, name: str) -> Any:
        if name not in self.values:
            raise self.wrong(f"there is no {name!r}. {nearest(name, map(str, self.values))}")
        return self.values[name]


def read(path: Path, names: Sequence[str] | None = None) -> list[DatasetRow]:
    """Return the rows of a file: JSON lines, or a table whose first line names its columns.

    ``names`` are those of a table without such a line. Empty lines are passed over. TSV is read as it stands (a quote
    is a quote), CSV with quotes around what holds commas or line breaks.

    Raises:
        InputError: the file is missing, empty, of another kind, not UTF-8, or a row is malformed; with file and line.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise InputError(
            f"{path}: files of {kind or 'no suffix'} are not read. {nearest(kind, SUFFIXES)}", param="data"
        )
    text = _text(path)
    rows = list(_objects(path, text) if kind in (".jsonl", ".ndjson") else _table(path, text, names))
    if not rows:
        raise InputError(f"{path} has no rows.", param="data")
    return rows


def head(path: Path) -> list[str]:
    """Return the first row's columns: the names of a JSON line's fields, or what stands in a table's first line."""
    if is_json(path):
        return [str(name) for name in next(iter(_objects(path, _text(path))), DatasetRow(path, 1, {})).values]
    return next((cells for _, cells in _cells(path, _text(path))), [])


def is_json(path: Path) -> bool:
    """Return whether a file's name says that it holds JSON lines."""
    return path.suffix.lower() in (".jsonl", ".ndjson")


def _text(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise InputError(
            f"{path}: files of {kind or 'no suffix'} are not read. {nearest(kind, SUFFIXES)}", param="data"
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is not there.", param="data") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8 (byte {error.start}).", param="data") from None


def _objects(path: Path, text: str) -> Iterator[DatasetRow]:
    # Not splitlines: JSON may hold line separators that are none of a file's.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error}).", param="data") from None
        if not isinstance(value, dict):
            raise InputError(f"{path}, line {number}: an object is expected, and this is {type(value).__name__}.")
        yield DatasetRow(path, number, value)


def _table(path: Path, text: str, names: Sequence[str] | None) -> Iterator[DatasetRow]:
    for number, cells in _cells(path, text):
        if names is None:
            names = [cell.strip() for cell in cells]
            continue
        if len(cells) != len(names):
            told = ", ".join(names)
            raise InputError(
                f"{path}, line {number}: {len(cells)} columns, where there should be {len(names)} ({told}).",
                param="data",
            )
        yield DatasetRow(path, number, dict(zip(names, cells, strict=True)))


def _cells(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield a table's rows with the number of the line on which each begins."""
    delimiter = _DELIMITERS[path.suffix.lower()]
    if delimiter == "\t":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, line.rstrip("\r").split("\t")
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    started = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield started, cells
            started = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {started}: {error}.", param="data") from None
