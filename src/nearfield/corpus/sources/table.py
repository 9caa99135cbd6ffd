"""Table: a JSONL, CSV, TSV or Parquet file whose rows are documents."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import math
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearfield.corpus.document import Document, SourceItem
from nearfield.corpus.sources import Source
from nearfield.errors import InputError, nearest
from nearfield.fileio import tabular
from nearfield.fileio.tabular import TableRow
from nearfield.stores.filters import Value


@dataclass(frozen=True)
class ColumnMapping:
    """Which columns hold what. ``meta`` gives the columns of further values by the names that these are to have."""

    text: str = "text"
    title: str | None = None
    id: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Return all columns that are read, each once."""
        return list(dict.fromkeys([*filter(None, (self.text, self.title, self.id)), *self.meta.values()]))

    def told(self) -> dict[str, Any]:
        """Return them as options."""
        return {"text": self.text, "title": self.title, "id": self.id, "meta": dict(self.meta)}

    def document(self, row: TableRow) -> Document:
        """Return the document that a row is.

        Raises:
            InputError: it cannot be read, or lacks its text; the message names file, line and column.
        """
        held = row.get()
        if isinstance(held, str):
            held = {self.text: held}
        text = self._text(row.where, held, self.text)
        if not text.strip():
            raise InputError(f"{row.where}: there is no text in {self.text!r}.")
        title = self._text(row.where, held, self.title) if self.title and held.get(self.title) is not None else ""
        meta = {name: _value(row.where, column, held.get(column)) for name, column in self.meta.items()}
        return Document(text, title=title, meta={name: value for name, value in meta.items() if value is not None})

    def key(self, row: TableRow) -> str | None:
        """Return a row's id as text; None where there is no column for it.

        Raises:
            InputError: the row cannot be read, or has none.
        """
        held = row.get()
        if self.id is None:
            return None
        found = None if isinstance(held, str) else held.get(self.id)
        if isinstance(found, bytes):
            return found.hex()
        if found is None or isinstance(found, (dict, list)) or not str(found).strip():
            told = "nothing" if found is None or found == "" else type(found).__name__
            raise InputError(f"{row.where}: {self.id!r} holds {told}, which is no id.", param="id")
        tabular.check_unicode(row.where, self.id, str(found))
        return str(found)

    def _text(self, where: str, held: Mapping[str, Any], column: str) -> str:
        if column not in held:
            raise InputError(f"{where}: no field {column!r}. {nearest(column, map(str, held))}", param="text")
        text = held[column]
        if not isinstance(text, str):
            told = "nothing" if text is None else f"{type(text).__name__}, not text"
            raise InputError(f"{where}: field {column!r} holds {told}.", param="text")
        tabular.check_unicode(where, column, text)
        return text


class TableSource(Source):
    """A file of rows. ``text``, ``title`` and ``id`` name columns; ``meta`` is a list of columns, or names for them.

    A row's key is its id, else the digest of its content. Of rows with the same id the first one counts; the others,
    and rows that cannot be read, are documents that fail with the reason. ``form`` is jsonl, csv, tsv or parquet [by
    the name].
    """

    kind = "table"

    def __init__(
        self,
        location: str,
        *,
        text: str = "text",
        title: str | None = None,
        id: str | None = None,  # noqa: A002 - the word that people write
        meta: Mapping[str, str] | Sequence[str] = (),
        form: str | None = None,
    ) -> None:
        self._columns = columns_of(text, title, id, meta)
        self._path = Path(os.path.abspath(Path(location).expanduser()))  # noqa: PTH100 - links stay links
        super().__init__(str(self._path), **self._columns.told(), form=form)
        self._form = tabular.table_format(self._path, form)

    def items(self) -> Iterator[SourceItem]:
        """Yield the rows.

        Raises:
            InputError: there is no such file, it is no table, or lacks a column.
        """
        if not self._path.is_file():
            raise InputError(f"There is no file {self._path}.", param="location")
        names = None if self._form in ("jsonl", "txt") else self._columns.names()
        yield from listed(tabular.read_table(self._path, self._form, names), self._columns, self._path.name)

    def watch(self) -> list[str]:
        """Return the file."""
        return [str(self._path)]


def listed(found: Iterator[TableRow], columns: ColumnMapping, name: str) -> Iterator[SourceItem]:
    """Yield rows as items, each key once."""
    with closing(_Seen()) as seen:
        for row in found:
            yield _item(row, columns, name, seen)


def _item(row: TableRow, columns: ColumnMapping, name: str, seen: _Seen) -> SourceItem:
    try:
        key = columns.key(row)
        document = columns.document(row)
    except InputError as error:
        return _failed(row, name, seen, error)
    stamp = document.digest()
    wanted = stamp[:32] if key is None else key
    first, times = seen.add(wanted, row.where)
    if key is None:
        wanted = wanted if times == 1 else f"{wanted}-{times}"
    elif times > 1:
        again = InputError(f"{row.where}: the id {key!r} again; it is that of {first}.", param="id")
        return _failed(row, name, seen, again)
    return SourceItem(wanted, f"{name}#{wanted}", _CachedRow(document), stamp)


def _failed(row: TableRow, name: str, seen: _Seen, error: InputError) -> SourceItem:
    """Return an item that says, when it is read, what is wrong with its row."""

    def read() -> Document:
        raise error

    place = row.where.rpartition(", ")[2]
    _, times = seen.add(f"({place})", row.where)
    return SourceItem(f"({place})" if times == 1 else f"({place}, {times})", f"{name}, {place}", read)


class _CachedRow:
    """Gives a document that was read already."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def __call__(self) -> Document:
        return self._document


class _Seen:
    """Keys that were met, with the place of the first and their number: in a temporary file, however many they are."""

    def __init__(self) -> None:
        self._kept = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._kept.execute("PRAGMA journal_mode=OFF")
        self._kept.execute("CREATE TABLE seen(key BLOB PRIMARY KEY, place TEXT, times INTEGER) WITHOUT ROWID")
        self._kept.execute("BEGIN")  # never ended: each row would be a transaction

    def add(self, key: str, place: str) -> tuple[str, int]:
        """Note a key; return where it was met first, and how many times by now."""
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        met = self._kept.execute("SELECT place, times FROM seen WHERE key = ?", (digest,)).fetchone()
        if met is None:
            self._kept.execute("INSERT INTO seen VALUES (?, ?, 1)", (digest, place))
            return place, 1
        self._kept.execute("UPDATE seen SET times = times + 1 WHERE key = ?", (digest,))
        return str(met[0]), int(met[1]) + 1

    def close(self) -> None:
        """Let go of the file."""
        self._kept.close()


def columns_of(text: str, title: str | None, key: str | None, meta: Mapping[str, str] | Sequence[str]) -> ColumnMapping:
    """Return columns as options say them.

    Raises:
        InputError: what is said is no name of a column.
    """
    if isinstance(meta, str):
        raise InputError(f"meta: a list of columns, or names with their columns, not {meta!r}.", param="meta")
    named = dict(meta) if isinstance(meta, Mapping) else {each: each for each in meta}
    wrong = next(
        (each for each in (text, title, key, *named, *named.values()) if not isinstance(each, str | None)), None
    )
    if wrong is not None or not isinstance(text, str):
        raise InputError(f"A column's name is a text, not {wrong!r}.", param="text")
    return ColumnMapping(text, title, key, named)


def _value(where: str, column: str, value: Any) -> Value | None:
    """Return a cell as filters compare it; None for an empty one."""
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
    told = f"{where}: field {column!r} holds {type(value).__name__}; fields are texts, numbers, or true and false."
    raise InputError(told, param="meta")
