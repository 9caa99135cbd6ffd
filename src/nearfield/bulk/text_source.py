"""Texts: read one after the other from files or stdin, whatever their format, in bounded memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.errors import InputError, nearest
from nearfield.fileio import tabular as tables
from nearfield.fileio.tabular import TableRow

STDIN = Path("-")


@dataclass(frozen=True)
class TextSource:
    """Where texts come from. ``form`` is txt, jsonl, csv, tsv or parquet; None goes by each file's name."""

    paths: tuple[Path, ...]
    form: str | None = None
    field: str = "text"
    id_field: str | None = None

    def __post_init__(self) -> None:
        for path in self.paths:
            form = self.form_of(path)
            if path != STDIN and not path.is_file():
                raise InputError(f"There is no file {path}.", param="inputs")
            if self.id_field is not None and form == "txt":
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
            yield from map(self._picked, self._read(path))

    def count(self) -> int | None:
        """Return how many texts there are, having read each of them once; None for stdin.

        Next to encoding it costs nothing, and a bad line shows before hours of work, not after them.
        """
        return sum(1 for _ in self.rows()) if self.resumable else None

    def form_of(self, path: Path) -> str:
        """Return the format in which a path is read.

        Raises:
            InputError: it is none of ours.
        """
        form = self.form or ("txt" if path == STDIN else path.suffix.removeprefix(".").lower() or "txt")
        form = {"ndjson": "jsonl", "text": "txt", "md": "txt"}.get(form, form)
        if form not in tables.FORMATS:
            raise InputError(
                f"{path}: unknown format {form!r}; name one with --format. {nearest(form, tables.FORMATS)}"
            )
        return form

    def _read(self, path: Path) -> Iterator[TableRow]:
        form = self.form_of(path)
        if path == STDIN:
            return tables.read_stream(sys.stdin.buffer, "stdin", form, self.columns)
        return tables.read_table(path, form, self.columns)

    def _picked(self, row: TableRow) -> tuple[Any, str]:
        held = row.get()
        if not isinstance(held, str):
            return self.pick(row.where, held)
        if self.id_field is not None:
            raise InputError(f"{row.where}: str, not an object.")
        tables.check_unicode(row.where, "text", held)
        return None, held

    @property
    def columns(self) -> list[str]:
        """The fields that are read."""
        return [name for name in (self.field, self.id_field) if name is not None]

    def pick(self, where: str, row: Mapping[str, Any]) -> tuple[Any, str]:
        """Return a row's id and text."""
        if self.field not in row:
            raise InputError(f"{where}: no field {self.field!r}. {nearest(self.field, map(str, row))}", param="field")
        text = row[self.field]
        if not isinstance(text, str):
            held = "nothing" if text is None else f"{type(text).__name__}, not text"
            raise InputError(f"{where}: field {self.field!r} holds {held}.", param="field")
        tables.check_unicode(where, self.field, text)
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
        tables.check_unicode(where, self.id_field, str(key))
        return str(key)
