"""Given: documents that were put into a collection by themselves; it keeps them, since no file does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from nearfield.corpus.document import Block, Document, SourceItem
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.sources import Source
from nearfield.errors import InputError, nearest
from nearfield.stores.filters import FieldType, typed

_LONGEST_KEY = 512
_AT_ONCE = 500


class InlineSource(Source):
    """The documents that were put into a collection, as a source; ``only`` names those that are listed."""

    kind = "put"
    NAME = "put:"

    def __init__(self, manifest: Manifest, only: Sequence[str] | None = None) -> None:
        super().__init__("")
        self._only = only
        self.whole = only is None
        self._manifest = manifest
        manifest.rows("CREATE TABLE IF NOT EXISTS given(key TEXT PRIMARY KEY, told TEXT NOT NULL) WITHOUT ROWID")

    def add(self, documents: Sequence[Mapping[str, Any]], fields: Mapping[str, FieldType]) -> None:
        """Keep documents, in place of those of the same ids.

        Raises:
            InputError: one of them lacks id or text, or has a field that the collection does not declare; none is kept.
        """
        rows = [_row(number, each, fields) for number, each in enumerate(documents)]
        with self._manifest.writing():
            self._manifest.connection.executemany("INSERT OR REPLACE INTO given VALUES (?, ?)", rows)

    def take(self, source: Source) -> None:
        """Keep the documents of a source that cannot be read again.

        Raises:
            InputError: one of them cannot be read; those before it are kept.
        """
        items = source.items()
        while part := list(islice(items, _AT_ONCE)):
            rows = []
            for item in part:
                found = item.read()
                if not isinstance(found, Document):
                    raise InputError(f"{item.name}: {source.name} gives files, and only rows can be kept.")
                told = {"text": found.text, "title": found.title, "meta": {**found.meta, **item.meta}}
                rows.append((item.key, json.dumps(told)))
            with self._manifest.writing():
                self._manifest.connection.executemany("INSERT OR REPLACE INTO given VALUES (?, ?)", rows)

    def remove(self, keys: Sequence[str]) -> None:
        """Forget documents."""
        with self._manifest.writing():
            self._manifest.connection.executemany("DELETE FROM given WHERE key = ?", [(key,) for key in keys])

    def items(self) -> Iterator[SourceItem]:
        """Yield them in the order of their ids."""
        if self._only is not None:
            for key in sorted(set(self._only)):
                for found in self._manifest.rows("SELECT told FROM given WHERE key = ?", (key,)):
                    yield _item(key, json.loads(found[0]))
            return
        after = ""
        while True:
            sql = "SELECT key, told FROM given WHERE key > ? ORDER BY key LIMIT ?"
            found = self._manifest.rows(sql, (after, _AT_ONCE))
            for key, told in found:
                yield _item(key, json.loads(told))
            if len(found) < _AT_ONCE:
                return
            after = found[-1][0]


def _row(number: int, told: Mapping[str, Any], fields: Mapping[str, FieldType]) -> tuple[str, str]:
    where = f"Document {number}"
    key, text, title = told.get("id"), told.get("text"), told.get("title", "")
    if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY:
        raise InputError(
            f"{where}: 'id' must be a text of 1 to {_LONGEST_KEY} characters, not {key!r:.60}.", param="id"
        )
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where} ({key!r:.60}): 'text' must be a text that says something.", param="text")
    if not isinstance(title, str):
        raise InputError(f"{where} ({key!r:.60}): 'title' must be a text.", param="title")
    meta = {name: value for name, value in told.items() if name not in ("id", "text", "title") and value is not None}
    for name, value in meta.items():
        if name not in fields:
            hint = nearest(name, [*fields, "id", "text", "title"])
            raise InputError(f"{where} ({key!r:.60}): no field {name!r} is declared. {hint}", param=name)
        typed(name, value, fields[name])
    row = json.dumps({"text": text, "title": title, "meta": meta})
    try:
        (key + text + title).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: not Unicode: it holds a lone surrogate.", param="text") from error
    return key, row


def _item(key: str, told: Mapping[str, Any]) -> SourceItem:
    text = told["text"]
    document = Document(text, (Block(0, len(text)),), told["title"], meta=told["meta"])
    return SourceItem(key, key, lambda: document, meta=told["meta"])
