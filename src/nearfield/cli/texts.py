"""Texts: read one after the other from files or stdin, whatever their format, in bounded memory."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from nearfield.errors import InputError, MissingExtra, nearest

STDIN = Path("-")


@dataclass(frozen=True)
class Source:
    """Where texts come from. ``form`` is txt, jsonl, csv, tsv or parquet; None goes by each file's name."""

    paths: tuple[Path, ...]
    form: str | None = None
    field: str = "text"
    id_field: str | None = None

    def __post_init__(self) -> None:
        for path in self.paths:
            self._reader(path)
            if path != STDIN and not path.is_file():
                raise InputError(f"There is no file {path}.", param="inputs")
            if self.id_field is not None and self._reader(path) is _txt:
                raise InputError(f"{path}: plain text holds no ids. Leave --id-field out.", param="id_field")

    @property
    def resumable(self) -> bool:
        """Whether it can be read again from the start."""
        return STDIN not in self.paths

    def identity(self) -> list[Any]:
        """Return what tells this source from another, or from itself after a change."""
        stats = [
            (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.paths if path != STDIN
        ]
        return [stats, self.form, self.field, self.id_field]

    def rows(self) -> Iterator[tuple[Any, str]]:
        """Yield (id or None, text) for each text.

        Raises:
            InputError: a line cannot be read; the message names file and line.
        """
        for path in self.paths:
            yield from self._reader(path)(path, self)

    def count(self) -> int | None:
        """Return how many texts there are, having read each of them once; None for stdin.

        Next to encoding it costs nothing, and a bad line shows before hours of work, not after them.
        """
        return sum(1 for _ in self.rows()) if self.resumable else None

    def _reader(self, path: Path) -> Callable[[Path, Source], Iterator[tuple[Any, str]]]:
        form = self.form or ("txt" if path == STDIN else path.suffix.removeprefix(".").lower() or "txt")
        form = {"ndjson": "jsonl", "text": "txt", "md": "txt"}.get(form, form)
        if form not in _READERS:
            raise InputError(f"{path}: unknown format {form!r}; name one with --format. {nearest(form, _READERS)}")
        return _READERS[form]

    @property
    def columns(self) -> list[str]:
        """The fields that are read."""
        return [name for name in (self.field, self.id_field) if name is not None]

    def check_columns(self, path: Path, known: Sequence[str]) -> None:
        """Refuse a table that lacks a field, even one without rows."""
        missing = next((name for name in self.columns if name not in known), None)
        if missing is not None:
            raise InputError(f"{path}: no column {missing!r}. {nearest(missing, known)}", param="field")

    def pick(self, where: str, row: Mapping[str, Any]) -> tuple[Any, str]:
        """Return a row's id and text."""
        if self.field not in row:
            raise InputError(f"{where}: no field {self.field!r}. {nearest(self.field, map(str, row))}", param="field")
        text = row[self.field]
        if not isinstance(text, str):
            held = "nothing" if text is None else f"{type(text).__name__}, not text"
            raise InputError(f"{where}: field {self.field!r} holds {held}.", param="field")
        _check_unicode(where, self.field, text)
        return self._id(where, row), text

    def _id(self, where: str, row: Mapping[str, Any]) -> str | int | float | None:
        """Return a row's id as every output can hold it: a number of 64 bits, or a text."""
        if self.id_field is None:
            return None
        if self.id_field not in row:
            told = nearest(self.id_field, map(str, row))
            raise InputError(f"{where}: no field {self.id_field!r}. {told}", param="id_field")
        key = row[self.id_field]
        if key is None or isinstance(key, (list, dict)):
            held = "nothing" if key is None else type(key).__name__
            raise InputError(f"{where}: field {self.id_field!r} holds {held}, which is no id.", param="id_field")
        if isinstance(key, bytes):
            return key.hex()
        if isinstance(key, float) or (isinstance(key, int) and -(2**63) <= key < 2**63):
            return key
        _check_unicode(where, self.id_field, str(key))
        return str(key)


def _check_unicode(where: str, field: str, text: str) -> None:
    """Refuse what JSON can escape but no text can hold; the tokenizer would, hours later and without the line."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: field {field!r} is not Unicode: character {error.start} is a lone surrogate, "
            f"{text[error.start]!r}.",
            param="field",
        ) from error


@contextmanager
def _opened(path: Path, newline: str) -> Iterator[TextIO]:
    """Open a file or stdin, both as UTF-8 whatever the locale, with or without byte order mark."""
    if path != STDIN:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
        return
    stream = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline=newline)
    try:
        yield stream
    finally:
        stream.detach()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with _opened(path, "\n") as stream:
            for number, line in enumerate(stream, 1):
                yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, after line {number}: not UTF-8 ({error.reason}). Convert it first.") from error


def _txt(path: Path, _: Source) -> Iterator[tuple[Any, str]]:
    for _number, line in _lines(path):
        yield None, line


def _jsonl(path: Path, source: Source) -> Iterator[tuple[Any, str]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # also numbers of too many digits, and lists without end
            raise InputError(f"{where}: not JSON ({error}).") from error
        if isinstance(row, str) and source.id_field is None:
            _check_unicode(where, "text", row)
            yield None, row
        elif isinstance(row, dict):
            yield source.pick(where, row)
        else:
            wanted = "an object or a text" if source.id_field is None else "an object"
            raise InputError(f"{where}: {type(row).__name__}, not {wanted}.")


def _separated(delimiter: str) -> Callable[[Path, Source], Iterator[tuple[Any, str]]]:
    def read(path: Path, source: Source) -> Iterator[tuple[Any, str]]:
        csv.field_size_limit(2**31 - 1)
        line = 0
        try:
            with _opened(path, "") as stream:
                reader = csv.DictReader(stream, delimiter=delimiter)
                source.check_columns(path, reader.fieldnames or source.columns)
                for row in reader:
                    line = reader.line_num
                    yield source.pick(f"{path}, line {line}", row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}, after line {line}: {error}.") from error

    return read


def _parquet(path: Path, source: Source) -> Iterator[tuple[Any, str]]:
    if path == STDIN:
        raise InputError("Parquet cannot be read from stdin: give a file.")
    parquet = require_parquet()
    from pyarrow import ArrowException

    try:
        yield from _columns(parquet.ParquetFile(path), path, source)
    except ArrowException as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error}).") from error


def _columns(file: Any, path: Path, source: Source) -> Iterator[tuple[Any, str]]:
    source.check_columns(path, file.schema_arrow.names)
    batches = file.iter_batches(batch_size=4096, columns=source.columns)
    for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
        yield source.pick(f"{path}, row {number}", row)


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


_READERS: dict[str, Callable[[Path, Source], Iterator[tuple[Any, str]]]] = {
    "txt": _txt,
    "jsonl": _jsonl,
    "csv": _separated(","),
    "tsv": _separated("\t"),
    "parquet": _parquet,
}
