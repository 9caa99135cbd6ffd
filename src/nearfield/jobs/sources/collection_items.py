"""The documents of a collection as items of a job, with the vectors that the collection has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError, TooLarge, nearest
from nearfield.jobs.sources.job_items import JobItems
from nearfield.stores.store import Record, TableSpec
from nearfield.vectors.dense import Vectors, normalize
from nearfield.vectors.fingerprint import fingerprint

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection
    from nearfield.corpus.manifest.records import DocumentRecord, VectorTable

_PAGE = 1_000


def read_collection(name: str, columns: Sequence[str] = (), home: Path | None = None) -> JobItems:
    """Open a collection, and return its documents. Raises as ``collection_items``, and CollectionNotFound."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name, home=home) as collection:
        return collection_items(collection, columns)


def collection_items(
    collection: Collection, columns: Sequence[str] = (), *, max_documents: int | None = None
) -> JobItems:
    """Return the documents of a collection with their text, their fields, and the mean of their passages' vectors.

    Nothing is computed: the vectors are those of the first dense feature. A passage that is a near-duplicate counts
    with the vector of the one that was stored in its place. Documents without vectors are left out.

    Args:
        collection: the collection.
        columns: names of fields.
        max_documents: the largest number that is read.

    Raises:
        InputError: the collection has no dense vectors, or no such field.
        TooLarge: it has more documents.
    """
    from nearfield.corpus.features import table_from_dict

    manifest = collection.manifest
    count = manifest.counts()["documents"]
    if max_documents is not None and count > max_documents:
        raise TooLarge(
            f"The collection {collection.name!r} has {count:,} documents, and a job over HTTP reads at most "
            f"{max_documents:,}. Use the command: nearfield topics collection:{collection.name}, for example.",
            param="collection",
        )
    _check_columns(collection, columns)
    feature = _dense_table(collection)
    table = table_from_dict(feature.described)
    sums = _sum_vectors(collection, table)
    documents = [document for document in _documents(collection) if document.id in sums]
    rows = np.stack([sums[document.id] for document in documents]) if documents else np.zeros((0, table.dimensions))
    space = str(feature.space["fingerprint"]).rsplit(":", 2)[0]
    name = fingerprint(space, table.dimensions, "float32")
    return JobItems(
        [_text(collection, document) for document in documents],
        [document.id for document in documents],
        {column: [document.fields.get(column) for document in documents] for column in columns},
        Vectors(normalize(rows.astype(np.float32)), name, table.dimensions),
        str(feature.space["model"]),
    )


def _check_columns(collection: Collection, columns: Sequence[str]) -> None:
    known = collection.config.fields
    unknown = next((name for name in columns if name not in known), None)
    if unknown is not None:
        hint = nearest(unknown, known)
        raise InputError(f"The collection {collection.name!r} has no field {unknown!r}. {hint}", param="field")


def _dense_table(collection: Collection) -> VectorTable:
    for table in collection.manifest.live_tables().values():
        if table.described["kind"] == "dense":
            return table
    raise InputError(f"The collection {collection.name!r} has no dense vectors, which jobs need.", param="collection")


def _sum_vectors(collection: Collection, table: TableSpec) -> Mapping[str, Array]:
    """Return the sum of the unit vectors of each document's passages [dim]."""
    owners: dict[str, list[str]] = defaultdict(list)
    for document, passage in collection.manifest.rows("SELECT document, kept_chunk FROM duplicates"):
        owners[passage].append(document)
    sums: dict[str, Array] = {}
    for records in collection.store.scan(table, vectors=True):
        for record, row in zip(records, _unit_rows(records, table), strict=True):
            for document in (record.document, *owners.get(record.id, ())):
                sums[document] = sums[document] + row if document in sums else row
    return sums


def _unit_rows(records: Sequence[Record], table: TableSpec) -> Array:
    rows: Any = np.stack([np.asarray(record.vector) for record in records])
    if table.dtype == "binary":
        rows = np.unpackbits(rows, axis=1)[:, : table.dimensions].astype(np.float32) * 2 - 1
    return normalize(rows.astype(np.float32))


def _documents(collection: Collection) -> list[DocumentRecord]:
    documents: list[DocumentRecord] = []
    while page := collection.manifest.documents(state="done", after=documents[-1].id if documents else "", limit=_PAGE):
        documents += page
    return documents


def _text(collection: Collection, document: DocumentRecord) -> str:
    return collection.text(document.id) or document.title or document.name
