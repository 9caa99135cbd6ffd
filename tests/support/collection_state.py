"""The content of a collection in a form that can be compared: rows of the manifest in their order, and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearfield.corpus.collection import Collection
from nearfield.corpus.features import table_from_dict


def collection_state(collection: Collection) -> dict[str, Any]:
    """Return what a collection contains. Documents are by key; vectors are lists by feature and id of the chunk."""
    manifest = collection.manifest
    columns = "key, digest, version, state, error, chunks, tokens, title, type, visible_words, kept_words, partial"
    return {
        "documents": {row[0]: row for row in manifest.rows(f"SELECT {columns} FROM documents")},
        "chunks": manifest.rows("SELECT id, document, version, ordinal, text, context, payload FROM chunks"),
        "duplicates": manifest.rows("SELECT document, ordinal, kept_chunk, value FROM duplicates"),
        "near": manifest.rows("SELECT number, chunk, document FROM near_chunks"),
        "boilerplate": manifest.rows("SELECT source, value FROM boilerplate"),
        "consistent": manifest.keywords.is_consistent(),
        "whole": len(manifest.vector_tables()) == len(collection.store.tables()),
        "vectors": {name: _vectors(collection, table.described) for name, table in manifest.live_tables().items()},
    }


def _vectors(collection: Collection, described: Any) -> dict[str, Any]:
    records = [record for part in collection.store.scan(table_from_dict(described), vectors=True) for record in part]
    assert len({record.id for record in records}) == len(records)
    return {record.id: _listed(record.vector) for record in sorted(records, key=lambda record: record.id)}


def _listed(vector: Any) -> Any:
    return [part.tolist() for part in vector] if isinstance(vector, tuple) else np.asarray(vector).tolist()
