"""Documents from the rows of a JSONL, CSV, TSV or Parquet file."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import math
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nearfield.corpus.document import Document, Loss, SourceItem
from nearfield.corpus.extractors.text_encoding import guess_losses, require_encoding
from nearfield.corpus.sources import Source
from nearfield.corpus.sources.table_encoding import guess_table_encoding
from nearfield.errors import InputError, nearest
from nearfield.fileio import tabular
from nearfield.fileio.tabular import TableRow
from nearfield.stores.filters import Value

_REPEATED = "Give each value of a line another name."


@dataclass(frozen=True)
class ColumnMapping:
    """The columns of a table. ``meta`` maps names of fields to the columns of their values.

    ``blank_is_none`` says that a blank cell has no value, as in CSV. ``losses`` are those of each document that has
    characters beyond ASCII.
    """

    text: str = "text"
    title: str | None = None
    id: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    blank_is_none: bool = False
    losses: tuple[Loss, ...] = ()

    def names(self) -> list[str]:
        """Return the distinct names of all columns."""
        return list(dict.fromkeys([*filter(None, (self.text, self.title, self.id)), *self.meta.values()]))

    def to_options(self) -> dict[str, object]:
        """Return them as options of a source."""
        return {"text": self.text, "title": self.title, "id": self.id, "meta": dict(self.meta)}

    def document(self, row: TableRow) -> Document:
        """Return the document of a row.

        Raises:
            InputError: the row cannot be read, or has no text; the message names file, line and column.
        """
        cells = row.get()
        if isinstance(cells, str):
            cells = {self.text: cells}
        text = self._text(row.where, cells, self.text)
        if not text.strip():
            raise InputError(f"{row.where}: there is no text in {self.text!r}.")
        title = self._text(row.where, cells, self.title) if self.title and cells.get(self.title) is not None else ""
        meta = {name: _value(row.where, column, cells.get(column)) for name, column in self.meta.items()}
        values = {name: value for name, value in meta.items() if value is not None and not self._is_blank(value)}
        losses = () if text.isascii() else self.losses
        return Document(text, title=title, meta=values, losses=(*losses, *self._repeated_losses(row)))

    def _repeated_losses(self, row: TableRow) -> Iterator[Loss]:
        for name in row.repeated:
            if name in self.names():
                yield Loss(f"other values of {name!r}, which its line has several times", advice=_REPEATED)

    def _is_blank(self, value: Value) -> bool:
        return self.blank_is_none and isinstance(value, str) and not value.strip()

    def key(self, row: TableRow) -> str | None:
        """Return a row's id as text; None if there is no column of ids.

        Raises:
            InputError: the row cannot be read, or has no id.
        """
        cells = row.get()
        if self.id is None:
            return None
        value = None if isinstance(cells, str) else cells.get(self.id)
        if isinstance(value, bytes):
            return value.hex()
        if value is None or isinstance(value, (dict, list)) or not str(value).strip():
            content = "nothing" if value is None or value == "" else type(value).__name__
            raise InputError(f"{row.where}: {self.id!r} holds {content}, which is no id.", param="id")
        tabular.check_unicode(row.where, self.id, str(value))
        return str(value)

    def _text(self, where: str, cells: Mapping[str, Any], column: str) -> str:
        if column not in cells:
            raise InputError(f"{where}: no field {column!r}. {nearest(column, map(str, cells))}", param="text")
        text = cells[column]
        if not isinstance(text, str):
            content = "nothing" if text is None else f"{type(text).__name__}, not text"
            raise InputError(f"{where}: field {column!r} holds {content}.", param="text")
        tabular.check_unicode(where, column, text)
        return text


class TableSource(Source):
    """A file with one document per row. ``text``, ``title`` and ``id`` name columns; ``meta`` is a list or mapping.

    A row's key is its id; without ids it is the digest of its content. If several rows have the same id, the first one
    counts. The others, and rows that cannot be read, become documents that fail with the reason. ``form`` is jsonl,
    csv, tsv or parquet; None takes the format from the file's name. ``encoding`` is that of a file that is not UTF-8;
    None recognises it.
    """

    kind = "table"

    def __init__(
        self,
        location: str,
        *,
        text: str = "text",
        title: str | None = None,
        id: str | None = None,  # noqa: A002 - the public name of the option
        meta: Mapping[str, str] | Sequence[str] = (),
        form: str | None = None,
        encoding: str | None = None,
    ) -> None:
        self._columns = column_mapping(text, title, id, meta)
        self._path = Path(os.path.abspath(Path(location).expanduser()))  # noqa: PTH100 - links stay links
        self._encoding = None if encoding is None else require_encoding(encoding)
        stated = {} if encoding is None else {"encoding": encoding}
        super().__init__(str(self._path), **self._columns.to_options(), form=form, **stated)
        self._form = tabular.table_format(self._path, form)

    def items(self) -> Iterator[SourceItem]:
        """Yield the rows.

        Raises:
            InputError: there is no such file, it is not a table, or it lacks a column.
        """
        if not self._path.is_file():
            raise InputError(f"There is no file {self._path}.", param="location")
        names = None if self._form in ("jsonl", "txt") else self._columns.names()
        encoding, losses = self._encoding_and_losses()
        columns = replace(self._columns, blank_is_none=self._form in ("csv", "tsv"), losses=losses)
        rows = tabular.read_table(self._path, self._form, names, encoding=encoding, any_delimiter=True)
        yield from row_items(rows, columns, self._path.name)

    def _encoding_and_losses(self) -> tuple[str | None, tuple[Loss, ...]]:
        """Return the encoding, None for UTF-8, and the losses of rows if it was guessed."""
        if self._encoding is not None or self._form == "parquet":
            return self._encoding, ()
        guess = guess_table_encoding(self._path)
        if guess is None:
            return None, ()
        return guess.encoding, () if guess.sure else guess_losses([guess.encoding])

    def watch(self) -> list[str]:
        """Return the file."""
        return [str(self._path)]


def row_items(rows: Iterator[TableRow], columns: ColumnMapping, name: str) -> Iterator[SourceItem]:
    """Yield rows as items, each key once."""
    with closing(_SeenKeys()) as seen:
        for row in rows:
            yield _item(row, columns, name, seen)


def _item(row: TableRow, columns: ColumnMapping, name: str, seen: _SeenKeys) -> SourceItem:
    try:
        row_id = columns.key(row)
        document = columns.document(row)
    except InputError as error:
        return _failed_item(row, name, seen, error)
    stamp = document.digest()
    key = stamp[:32] if row_id is None else row_id
    first, count = seen.add(key, row.where)
    if row_id is None:
        key = key if count == 1 else f"{key}-{count}"
    elif count > 1:
        duplicate = InputError(f"{row.where}: duplicate id {row_id!r}; the first one is in {first}.", param="id")
        return _failed_item(row, name, seen, duplicate)
    return SourceItem(key, f"{name}#{key}", _CachedRow(document), stamp)


def _failed_item(row: TableRow, name: str, seen: _SeenKeys, error: InputError) -> SourceItem:
    """Return an item whose ``read`` raises the error of its row."""

    def read() -> Document:
        raise error

    place = row.where.rpartition(", ")[2]
    _, count = seen.add(f"({place})", row.where)
    return SourceItem(f"({place})" if count == 1 else f"({place}, {count})", f"{name}, {place}", read)


class _CachedRow:
    """The ``read`` of an item whose document is known already."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def __call__(self) -> Document:
        return self._document


class _SeenKeys:
    """The keys of a listing with the place of the first row and the number of rows, in a temporary database."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("CREATE TABLE seen(key BLOB PRIMARY KEY, place TEXT, times INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")  # never committed; otherwise each row would be a transaction

    def add(self, key: str, place: str) -> tuple[str, int]:
        """Add a key; return the place of its first row, and the number of its rows so far."""
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        row = self._database.execute("SELECT place, times FROM seen WHERE key = ?", (digest,)).fetchone()
        if row is None:
            self._database.execute("INSERT INTO seen VALUES (?, ?, 1)", (digest, place))
            return place, 1
        self._database.execute("UPDATE seen SET times = times + 1 WHERE key = ?", (digest,))
        return str(row[0]), int(row[1]) + 1

    def close(self) -> None:
        """Close and delete the database."""
        self._database.close()


def column_mapping(
    text: str, title: str | None, key: str | None, meta: Mapping[str, str] | Sequence[str]
) -> ColumnMapping:
    """Return the columns that options name.

    Raises:
        InputError: a value is not the name of a column.
    """
    if isinstance(meta, str):
        raise InputError(f"meta: a list of columns, or names with their columns, not {meta!r}.", param="meta")
    fields = dict(meta) if isinstance(meta, Mapping) else {name: name for name in meta}
    names = (text, title, key, *fields, *fields.values())
    wrong = next((name for name in names if not isinstance(name, str | None)), None)
    if wrong is not None or not isinstance(text, str):
        raise InputError(f"The name of a column is a string, not {wrong!r}.", param="text")
    return ColumnMapping(text, title, key, fields)


def _value(where: str, column: str, value: object) -> Value | None:
    """Return a cell as a value for filters; None for an empty cell."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str):
        tabular.check_unicode(where, column, value)
        return value
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    raise InputError(
        f"{where}: field {column!r} holds {type(value).__name__}; fields are strings, numbers, or true and false.",
        param="meta",
    )
