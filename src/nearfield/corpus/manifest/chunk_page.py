"""Parts of long documents: some of the chunks, and a part of the text, without reading the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nearfield.corpus.document import TEXT
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.reading_text import join_chunks, read_text
from nearfield.corpus.manifest.records import ChunkRecord
from nearfield.corpus.manifest.row_format import CHUNK_COLUMNS, chunk_record

#: The chunks of a document in their order, as rows of ``chunks``, or numbers of ``duplicates``. Columns that come
#: before the text in a row are read alone.
_ORDER = (
    "SELECT ordinal, rowid AS chunk FROM chunks WHERE document = :document UNION ALL "
    "SELECT ordinal, NULL FROM duplicates WHERE document = :document ORDER BY 1 LIMIT :limit OFFSET :first"
)
#: The same with the kind of each, and with its place in the text that is read.
_PLACES = (
    "SELECT json_extract(payload, '$.place[0]'), json_extract(payload, '$.place[1]'), ordinal, rowid, "
    "json_extract(payload, '$.kind') FROM chunks WHERE document = :document UNION ALL "
    "SELECT json_extract(value, '$.payload.place[0]'), json_extract(value, '$.payload.place[1]'), ordinal, NULL, "
    "json_extract(value, '$.payload.kind') FROM duplicates WHERE document = :document ORDER BY 1, 2"
)


@dataclass(frozen=True)
class TextPart:
    """A part of a document's text from the character ``start`` on, and the length of the whole text."""

    start: int
    text: str
    total: int


def count_chunks(manifest: Manifest, document: str) -> int:
    """Return the number of a document's chunks, near-duplicates of others included."""
    tables = ("chunks", "duplicates")
    return sum(manifest.rows(f"SELECT count(*) FROM {name} WHERE document = ?", (document,))[0][0] for name in tables)


def read_chunks(manifest: Manifest, document: str, first: int, limit: int) -> list[ChunkRecord]:
    """Return at most ``limit`` of a document's chunks in their order, from the number ``first`` on (the first is 0)."""
    values = {"document": document, "first": first, "limit": limit}
    return _fetch(manifest, document, manifest.rows(_ORDER, values))


def read_part(manifest: Manifest, document: str, start: int, end: int) -> TextPart:
    """Return the text of a document from ``start`` to ``end``, or to its end."""
    rows = [row for row in manifest.rows(_PLACES, {"document": document}) if row[4] in (None, TEXT)]
    if any(row[1] is None for row in rows):  # of version 0.1
        text = read_text(manifest, document).text
        return TextPart(min(start, len(text)), text[start:end], len(text))
    total = max((row[1] for row in rows), default=0)
    first = min(start, total)
    records = _fetch(manifest, document, _overlapping(rows, first, end))
    text = join_chunks(records, first).text
    return TextPart(first, text[: max(0, min(end, total) - first)], total)


def _overlapping(
    rows: Iterable[tuple[int, int, int, int | None, str]], start: int, end: int
) -> Iterator[tuple[int, int | None]]:
    """Yield number and row of the chunks in a part of the text, and of the next one, which has the text before it."""
    for low, high, ordinal, row, _ in rows:
        if high > start:
            yield ordinal, row
        if low >= end:
            return


def _fetch(manifest: Manifest, document: str, places: Iterable[tuple[int, int | None]]) -> list[ChunkRecord]:
    """Return the chunks with these numbers and rows."""
    one = f"SELECT {CHUNK_COLUMNS} FROM chunks WHERE rowid = ?"
    aside = "SELECT value FROM duplicates WHERE document = ? AND ordinal = ?"
    records: list[ChunkRecord] = []
    for ordinal, row in places:
        if row is not None:
            records += map(chunk_record, manifest.rows(one, (row,)))
        else:
            records += [ChunkRecord(**json.loads(value)) for (value,) in manifest.rows(aside, (document, ordinal))]
    return records
