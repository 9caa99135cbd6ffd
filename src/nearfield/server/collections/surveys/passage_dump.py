"""The passages of a collection with their vectors, in files that a survey reads; in bounded memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.errors import InputError, TooLarge, nearest
from nearfield.server.collections.collection_errors import NotInstalled
from nearfield.server.collections.surveys.survey_folder import SurveyFolder, SurveyRequest

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection
    from nearfield.corpus.manifest.manifest import Manifest
    from nearfield.stores import TableSpec

#: Passages of a collection that can be surveyed: a browser draws all of them.
MAX_PASSAGES = 200_000
#: The fewest items of each kind of survey.
MIN_ITEMS = {"map": 10, "duplicates": 2}
#: What each kind of survey needs beside the server.
_LIBRARIES: Mapping[str, tuple[str, ...]] = {"map": ("sklearn", "scipy"), "duplicates": ()}
_ROWS = 1_000
Report = Callable[[str, float], None]


def require_libraries(request: SurveyRequest) -> None:
    """Raise NotInstalled if the server lacks a library that a survey needs."""
    missing = next((name for name in _LIBRARIES[request.kind] if find_spec(name) is None), None)
    if missing is not None:
        raise NotInstalled(f"A {request.kind} needs {missing!r} on the server: pip install 'nearfield[jobs]'")


def check_size(collection: Collection, request: SurveyRequest) -> None:
    """Raise InputError or TooLarge if a collection has too few or too many passages."""
    counts = collection.manifest.counts()
    passages = counts["chunks"] + counts["repeats"]
    items = counts["chunks"] if request.kind == "map" else passages
    items = counts["documents"] if request.of == "documents" else items
    needed = MIN_ITEMS[request.kind]
    if items < needed:
        what = "A map" if request.kind == "map" else "A search for duplicates"
        raise InputError(
            f"{what} needs at least {needed} {request.of}, and {collection.name!r} has {items:,}.", param="of"
        )
    if passages > MAX_PASSAGES:
        raise TooLarge(
            f"{collection.name!r} has {passages:,} passages, and the server surveys at most {MAX_PASSAGES:,}. Export "
            "the collection, and use nearfield map or nearfield dedupe with a part of it."
        )


def feature_table(collection: Collection, name: str) -> tuple[str, TableSpec]:
    """Return the dense feature of a name, by default the first one, with its table.

    Raises:
        InputError: there is none.
    """
    from nearfield.corpus.features import table_from_dict

    live = collection.manifest.live_tables()
    tables = {feature: table_from_dict(table.described) for feature, table in live.items()}
    dense = {feature: table for feature, table in tables.items() if table.kind == "dense" and table.dtype != "binary"}
    if name and name not in dense:
        raise InputError(
            f"There is no dense feature {name[:64]!r} with vectors. {nearest(name, dense)}", param="feature"
        )
    chosen = name or next((feature for feature in collection.config.features if feature in dense), "")
    if not chosen:
        raise InputError(f"{collection.name!r} has no dense vectors, by which near items are found.", param="feature")
    return chosen, dense[chosen]


def state_digest(collection: Collection) -> str:
    """Return a digest of the documents of a collection, their versions, and its tables of vectors."""
    digest = hashlib.sha256()
    manifest = collection.manifest
    for row in manifest.rows("SELECT id, version, state, title FROM documents ORDER BY id"):
        digest.update(repr(row).encode())
    digest.update(repr(sorted(table.name for table in manifest.live_tables().values())).encode())
    return digest.hexdigest()[:24]


def dump_passages(collection: Collection, request: SurveyRequest, folder: SurveyFolder) -> None:
    """Write the passages and their vectors; near-duplicates that are stored once have the vector of that one."""
    _, table = feature_table(collection, request.feature)
    rows = _dump_vectors(collection, table, folder)
    documents = {key: (title or name, fields) for key, title, name, fields in _documents(collection.manifest)}
    with folder.passages.open("w", encoding="utf-8") as file:
        for passage in _passages(collection.manifest, rows):
            title, fields = documents.get(passage["document"], ("", "{}"))
            passage |= {"title": title, "fields": {**json.loads(fields), **passage["fields"]}}
            file.write(f"{json.dumps(passage)}\n")


def _documents(manifest: Manifest) -> list[Any]:
    return manifest.rows("SELECT id, title, key, fields FROM documents")


def _dump_vectors(collection: Collection, table: TableSpec, folder: SurveyFolder) -> dict[str, int]:
    """Write the vectors of a table; return the row of each passage by its id."""
    total = max(1, collection.store.count(table))
    rows: dict[str, int] = {}
    vectors = np.lib.format.open_memmap(folder.vectors, "w+", np.float32, (total, table.dimensions))
    for part in collection.store.scan(table, vectors=True):
        for record in part:
            if len(rows) < total and record.id not in rows:
                vectors[len(rows)] = record.vector
                rows[record.id] = len(rows)
        folder.report("reads the passages", 0.2 * len(rows) / total)
    vectors.flush()
    return rows


def _passages(manifest: Manifest, rows: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the passages of each document in their order; ``aside`` are near-duplicates of a passage elsewhere."""
    sql = "SELECT rowid, id, document, ordinal, text, fields, payload FROM chunks WHERE rowid > ? ORDER BY 1 LIMIT ?"
    names = ("id", "document", "ordinal", "text", "fields", "kind")
    last = 0
    while part := manifest.rows(sql, (last, _ROWS)):
        last = part[-1][0]
        for _, key, document, ordinal, text, fields, payload in part:
            values = (key, document, ordinal, text, json.loads(fields), json.loads(payload).get("kind", "text"))
            yield dict(zip(names, values, strict=True)) | {"row": rows.get(key, -1), "aside": False}
    for original, value in manifest.rows("SELECT kept_chunk, value FROM duplicates ORDER BY document, ordinal"):
        chunk = json.loads(value)
        shown = {name: chunk[name] for name in names[:-1]} | {"kind": chunk["payload"].get("kind", "text")}
        yield shown | {"row": rows.get(original, -1), "aside": True}
