"""Texts: read one after the other from files or stdin, whatever their format, in bounded memory."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def pick(self, where: str, row: Mapping[str, Any]) -> tuple[Any, str]:
        """Return a row's id and text."""
        if self.field not in row:
            raise InputError(f"{where}: no field {self.field!r}. {nearest(self.field, map(str, row))}", param="field")
        text = row[self.field]
        if not isinstance(text, str):
            raise InputError(f"{where}: field {self.field!r} holds {type(text).__name__}, not text.", param="field")
        if self.id_field is not None and self.id_field not in row:
            raise InputError(
                f"{where}: no field {self.id_field!r}. {nearest(self.id_field, map(str, row))}", param="id_field"
            )
        return (row[self.id_field] if self.id_field is not None else None), text


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    stream = sys.stdin if path == STDIN else path.open(encoding="utf-8-sig", newline="\n")
    try:
        for number, line in enumerate(stream, 1):
            yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}). Convert it first.") from error
    finally:
        if stream is not sys.stdin:
            stream.close()


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
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: not JSON ({error}).") from error
        if isinstance(row, str):
            yield None, row
        elif isinstance(row, dict):
            yield source.pick(where, row)
        else:
            raise InputError(f"{where}: {type(row).__name__}, not an object or a text.")


def _separated(delimiter: str) -> Callable[[Path, Source], Iterator[tuple[Any, str]]]:
    def read(path: Path, source: Source) -> Iterator[tuple[Any, str]]:
        csv.field_size_limit(2**31 - 1)
        stream = sys.stdin if path == STDIN else path.open(encoding="utf-8-sig", newline="")
        try:
            reader = csv.DictReader(stream, delimiter=delimiter)
            for row in reader:
                yield source.pick(f"{path}, line {reader.line_num}", row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: {error}.") from error
        finally:
            if stream is not sys.stdin:
                stream.close()

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
    names = [name for name in (source.field, source.id_field) if name is not None]
    missing = next((name for name in names if name not in file.schema_arrow.names), None)
    if missing is not None:
        raise InputError(f"{path}: no column {missing!r}. {nearest(missing, file.schema_arrow.names)}", param="field")
    for batch in file.iter_batches(batch_size=4096, columns=names):
        for row in batch.to_pylist():
            yield source.pick(str(path), row)


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
