"""Inline documents: documents added through ``Collection.put``, stored in the manifest because no file has them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from nearfield.corpus.document import Block, Document, SourceItem
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.sources import Source
from nearfield.errors import InputError, nearest
from nearfield.stores.filters import FieldType, typed
from nearfield.text_inputs import describe, many_texts, record_names, refuse_item

_MAX_KEY = 512
_ROWS_PER_BATCH = 500
_INSERT = "INSERT OR REPLACE INTO inline_documents VALUES (?, ?)"


class InlineSource(Source):
    """The inline documents of a collection, as a source; ``only`` limits the listing to these keys."""

    kind = "put"
    NAME = "put:"

    def __init__(self, manifest: Manifest, only: Sequence[str] | None = None) -> None:
        super().__init__("")
        self._only = only
        self.whole = only is None
        self._manifest = manifest

    def add(self, documents: Sequence[Mapping[str, object]], fields: Mapping[str, FieldType]) -> None:
        """Store documents; documents with the same ids are replaced.

        Raises:
            InputError: one of them has no id or text, the id of another one, or a field that the collection does not
                declare; none is stored.
        """
        rows = [_row(number, document, fields) for number, document in enumerate(documents)]
        _check_unique([key for key, _ in rows])
        self._insert(rows)

    def add_from(self, source: Source) -> None:
        """Store the documents of a source that can be read only once.

        Raises:
            InputError: one of them cannot be read; those before it are stored.
        """
        items = source.items()
        while part := list(islice(items, _ROWS_PER_BATCH)):
            self._insert([(item.key, json.dumps(_data(source, item))) for item in part])

    def _insert(self, rows: Sequence[tuple[str, str]]) -> None:
        with self._manifest.writing():
            self._manifest.connection.executemany(_INSERT, rows)

    def remove(self, documents: Sequence[str]) -> None:
        """Delete stored documents, by their ids; others are ignored."""
        prefix = f"{self.NAME}#"
        keys = [document.removeprefix(prefix) for document in documents if document.startswith(prefix)]
        sql = "DELETE FROM inline_documents WHERE key = ?"
        with self._manifest.writing():
            self._manifest.connection.executemany(sql, [(key,) for key in keys])

    def items(self) -> Iterator[SourceItem]:
        """Yield the documents in the order of their ids."""
        if self._only is not None:
            for key in sorted(set(self._only)):
                for (value,) in self._manifest.rows("SELECT value FROM inline_documents WHERE key = ?", (key,)):
                    yield _item(key, json.loads(value))
            return
        after = ""
        sql = "SELECT key, value FROM inline_documents WHERE key > ? ORDER BY key LIMIT ?"
        while rows := self._manifest.rows(sql, (after, _ROWS_PER_BATCH)):
            for key, value in rows:
                yield _item(key, json.loads(value))
            after = rows[-1][0]


def resolve_ids(documents: object, manifest: Manifest) -> list[str]:
    """Return the ids of documents that a caller passes, by id or by the id that ``put`` used.

    Raises:
        InputError: it is no list of texts.
    """
    prefix = f"{InlineSource.NAME}#"
    keys = document_ids(documents)
    # An id that ``put`` used may have a number sign too.
    known = (key.startswith(prefix) or manifest.document(key) is not None for key in keys)
    return [key if is_id else f"{prefix}{key}" for key, is_id in zip(keys, known, strict=True)]


def document_ids(documents: object) -> list[str]:
    """Return ids of documents that a caller passes, each once.

    Raises:
        InputError: it is no list of texts.
    """
    return list(dict.fromkeys(many_texts(documents, "documents", "Document")))


#: What a document has beside its fields.
_RESERVED = ("id", "text", "title")
#: How a table of a library becomes a list of mappings.
_ROWS = {"pandas": "data.to_dict('records')", "polars": "data.to_dicts()", "pyarrow": "data.to_pylist()"}


def _library(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def documents_list(documents: object) -> list[Mapping[str, Any]]:
    """Return documents that a caller passes, as a list of mappings.

    Raises:
        InputError: it is one document, a table, or an item is no mapping.
    """
    names = record_names(documents)
    if names is not None:
        rows = "[document]" if isinstance(documents, Mapping) else _ROWS.get(_library(documents), "a list of its rows")
        raise InputError(
            f"documents is {describe(documents)}, and must be a list of mappings with id and text: give {rows}.",
            param="documents",
        )
    if isinstance(documents, (str, bytes)) or not isinstance(documents, Iterable):
        raise InputError(
            f"documents must be a list of mappings with id and text, and is {describe(documents)}.", param="documents"
        )
    items = list(documents)
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            refuse_item(item, number, f"documents[{number}]", "Document", "a mapping with id and text")
    return items


class PlannedInlineSource(InlineSource):
    """The inline documents as they will be once those of other sources are stored; nothing is written."""

    def __init__(self, manifest: Manifest, added: Sequence[Source]) -> None:
        super().__init__(manifest)
        self._added = added

    def items(self) -> Iterator[SourceItem]:
        """Yield the documents, those that are not stored yet at the end."""
        added = {item.key: _item(item.key, _data(source, item)) for source in self._added for item in source.items()}
        for item in super().items():
            yield added.pop(item.key, item)
        yield from added.values()


def _data(source: Source, item: SourceItem) -> dict[str, Any]:
    """Return the document of an item as it is stored.

    Raises:
        InputError: it cannot be read, or is no row.
    """
    document = item.read()
    if not isinstance(document, Document):
        raise InputError(f"{item.name}: {source.name} has files, and only rows can be stored.")
    return {"text": document.text, "title": document.title, "meta": {**document.meta, **item.meta}}


def _check_unique(keys: Sequence[str]) -> None:
    """Raise InputError if two documents have one id: the second would replace the first."""
    numbers: dict[str, int] = {}
    for number, key in enumerate(keys):
        first = numbers.setdefault(key, number)
        if first != number:
            raise _wrong(number, "id", f"it has the id {key!r:.60} of document {first}: give each document its own id.")


def _row(number: int, document: Mapping[str, object], fields: Mapping[str, FieldType]) -> tuple[str, str]:
    key, text, title = document.get("id"), document.get("text"), document.get("title", "")
    if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY:
        raise _wrong(number, "id", f"'id' must be a string of 1 to {_MAX_KEY} characters, not {key!r:.60}.")
    if not isinstance(text, str) or not text.strip():
        raise _wrong(number, "text", "'text' must be a string that is not blank.", key)
    if not isinstance(title, str):
        raise _wrong(number, "title", "'title' must be a string.", key)
    meta = {name: value for name, value in document.items() if name not in _RESERVED and value is not None}
    for name, value in meta.items():
        _check_field(number, key, name, value, fields)
    row = json.dumps({"text": text, "title": title, "meta": meta})
    for name, value in (("id", key), ("text", text), ("title", title)):
        if not _is_unicode(value):
            raise _wrong(number, name, "not valid Unicode: it has a lone surrogate.")
    return key, row


def _check_field(number: int, key: str, name: str, value: object, fields: Mapping[str, FieldType]) -> None:
    if name not in fields:
        hint = nearest(name, [*fields, *_RESERVED])
        raise _wrong(number, name, f"no field {name!r} is declared. {hint}", key)
    try:
        typed(name, value, fields[name])
    except InputError as error:
        raise _wrong(number, name, str(error), key) from error


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(number: int, field: str, reason: str, key: str = "") -> InputError:
    """Return the error of a document; its parameter is the field of ``documents``."""
    name = f"Document {number} ({key!r:.60})" if key else f"Document {number}"
    return InputError(f"{name}: {reason}", param=f"documents[{number}].{field}")


def _item(key: str, data: Mapping[str, Any]) -> SourceItem:
    text = data["text"]
    document = Document(text, (Block(0, len(text)),), data["title"], meta=data["meta"])
    return SourceItem(key, key, lambda: document, meta=data["meta"])
