"""Typed access to the rows of data set files (JSON lines, CSV, TSV); errors name file and line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.errors import InputError, nearest
from nearfield.evaluation.json_types import JsonMapping
from nearfield.fileio.tabular import read_header, read_table

SUFFIXES = (".jsonl", ".ndjson", ".tsv", ".csv", ".txt")
#: Similarity of two names (difflib's ratio) from which one is taken for a slip of the other.
MISSPELT = 0.75
#: Formats by suffix; a text file is a table whose columns are separated by tabs.
_FORMATS: Mapping[str, str] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".tsv": "tsv", ".csv": "csv", ".txt": "tsv"}


@dataclass(frozen=True)
class DatasetRow:
    """A row: its values by column, and its file and line."""

    path: Path
    number: int
    values: JsonMapping

    def error(self, problem: str) -> InputError:
        """Return an error that names file and line."""
        return InputError(f"{self.path}, line {self.number}: {problem}", param="data")

    def text(self, name: str, *, empty: bool = False) -> str:
        """Return a column's text.

        Raises:
            InputError: the column is missing, not a text, or empty although ``empty`` is False.
        """
        value = self._value(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise self.error(f"{name} is {type(value).__name__}, and should be text.")
        if not empty and not value.strip():
            raise self.error(f"{name} is empty.")
        return self._unicode(name, value)

    def texts(self, name: str) -> list[str]:
        """Return a column's texts, from a list or a single text.

        Raises:
            InputError: the column is missing, something else, or has an empty text.
        """
        value = self._value(name)
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise self.error(f"{name} should be a text or a list of texts, none of them empty.")
        return [self._unicode(name, text) for text in texts]

    def float_value(self, name: str) -> float:
        """Return a column's number.

        Raises:
            InputError: the column is missing, or not a finite number.
        """
        number = finite_number(self._value(name))
        if number is None:
            raise self.error(f"{name} should be a number, and is {str(self.values[name])[:60]!r}.")
        return number

    def int_value(self, name: str) -> int:
        """Return a column's whole number.

        Raises:
            InputError: the column is missing, or not a whole number.
        """
        number = self.float_value(name)
        if number != int(number):
            raise self.error(f"{name} should be a whole number, and is {self.values[name]!r}.")
        return int(number)

    def require(self, names: Iterable[str]) -> None:
        """Raise InputError unless the row has all these columns."""
        for name in names:
            self._value(name)

    def refuse_unknown(self, known: Sequence[str], consequence: str) -> None:
        """Raise InputError if the row has another column than the known ones; the message says what would follow."""
        for name in self.values:
            if name not in known:
                raise self.error(f"unknown name {name!r}: {consequence}. {nearest(name, known)}")

    def refuse_misspelt(self, used: Iterable[str], optional: Sequence[str]) -> None:
        """Raise InputError if an unused column is nearly called like an optional one: its values would be ignored."""
        for name in sorted({str(key) for key in self.values} - {*used}):
            close = difflib.get_close_matches(name.strip().lower(), optional, n=1, cutoff=MISSPELT)
            if close:
                raise self.error(f"unknown column {name!r}. Did you mean {close[0]!r}? Rename it, or remove it.")

    def _unicode(self, name: str, text: str) -> str:
        """Return a text; one with a lone surrogate, which JSON can name and UTF-8 cannot, raises InputError."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            place, letter = error.start, text[error.start]
            raise self.error(f"{name} is not Unicode: character {place} is a lone surrogate, {letter!r}.") from None
        return text

    def _value(self, name: str) -> Any:
        if name not in self.values:
            raise self.error(f"there is no {name!r}. {nearest(name, map(str, self.values))}")
        return self.values[name]


def finite_number(value: Any) -> float | None:
    """Return a number, also one that is written as text; None for true, false, infinities and anything else."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_rows(path: Path, header: Sequence[str] | None = None) -> list[DatasetRow]:
    """Return the rows of a file; ``header`` names the columns of a table whose first line does not.

    Raises:
        InputError: the file is missing, empty, of another format, not UTF-8, or a row is malformed.
    """
    rows = []
    for row in read_table(path, _file_format(path), header=header, strict=True):
        values = row.get()
        if isinstance(values, str):
            raise InputError(f"{row.where}: a text, not an object.", param="data")
        rows.append(DatasetRow(path, row.number, values))
    if not rows:
        raise InputError(f"{path} has no rows.", param="data")
    return rows


def unused_columns(rows: Iterable[DatasetRow], used: Iterable[str]) -> list[str]:
    """Return the names of the columns of some rows that are not among the used ones, in order, each once."""
    known = set(used)
    return list(dict.fromkeys(name for row in rows for name in map(str, row.values) if name not in known))


def read_columns(path: Path) -> list[str]:
    """Return the field names of the first object, or the cells of a table's first line.

    Raises:
        InputError: the file is missing, of another format, or its first row is malformed.
    """
    return read_header(path, _file_format(path))


def is_json(path: Path) -> bool:
    """Return whether a file holds JSON lines, by its suffix."""
    return _FORMATS.get(path.suffix.lower()) == "jsonl"


def _file_format(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        readable = nearest(suffix, SUFFIXES)
        raise InputError(f"{path}: files of {suffix or 'no suffix'} are not read. {readable}", param="data")
    if not path.is_file():
        raise InputError(f"There is no file {str(path)!r}.", param="data")
    return _FORMATS[suffix]
