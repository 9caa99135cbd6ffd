"""Rows of the manifest's tables of documents and chunks, and the records that they stand for."""

from __future__ import annotations

import json
from dataclasses import asdict

from nearfield.corpus.document import Loss
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord
from nearfield.corpus.manifest.sqlite import Row

DOCUMENT_COLUMNS = (
    "id, source, key, name, digest, version, stamp, title, type, fields, state, error, chunks, tokens, visible_words, "
    "kept_words, losses, partial"
)
CHUNK_COLUMNS = "id, document, version, ordinal, text, context, fields, payload, tokens"


def document_record(row: Row) -> DocumentRecord:
    """Return the document of a row."""
    values = list(row)
    values[9] = json.loads(values[9])
    values[16] = tuple(Loss(**{**loss, "pages": tuple(loss["pages"])}) for loss in json.loads(values[16]))
    values[17] = bool(values[17])
    return DocumentRecord(*values)


def document_row(document: DocumentRecord) -> Row:
    """Return the row of a document."""
    values = [getattr(document, name) for name in DOCUMENT_COLUMNS.split(", ")]
    values[9] = json.dumps(dict(document.fields))
    values[16] = json.dumps([asdict(loss) for loss in document.losses])
    return tuple(values)


def chunk_row(chunk: ChunkRecord) -> Row:
    """Return the row of a chunk."""
    fields, payload = json.dumps(dict(chunk.fields)), json.dumps(dict(chunk.payload))
    place = (chunk.id, chunk.document, chunk.version, chunk.ordinal)
    return (*place, chunk.text, chunk.context, fields, payload, chunk.tokens)


def chunk_record(row: Row) -> ChunkRecord:
    """Return the chunk of a row."""
    values = list(row)
    values[6], values[7] = json.loads(values[6]), json.loads(values[7])
    return ChunkRecord(*values)
