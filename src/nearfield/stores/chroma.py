"""Chroma store: a folder that one process at a time uses, or a server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import chromadb
import numpy as np
from chromadb.config import Settings

from nearfield.arrays import Array
from nearfield.errors import InputError, NearfieldError, StoreFailed
from nearfield.fork_safety import ForkGuard
from nearfield.stores import arrays
from nearfield.stores import exact as scoring
from nearfield.stores.filters import BUILT_IN, TYPES, All, Compare, Filter, Not, Value, balanced, matches
from nearfield.stores.store import Record, Store, StoreHit, TableSpec, Vector

#: Chroma's own cosine stores only the directions of vectors: the inner product stores them unchanged.
_METRICS = {"cosine": "ip", "dot": "ip", "euclidean": "l2"}
_TABLE = re.compile(r"nearfield-(.+)-table")
_PAGE_SIZE = 1000
#: In a process, Chroma shares one client, with its threads, for all uses of a folder.
_GUARD = ForkGuard("Chroma")
#: A client, a collection, and a page of results of Chroma, which has no useful types.
Client = Any
ChromaCollection = Any
Page = Mapping[str, Any]
#: A filter in Chroma's form; true for all records, false for none.
Condition = bool | dict[str, object]
#: Maximum deviation of a vector's length from 1 for which the inner product ranks like the cosine.
_UNIT_TOLERANCE = 1e-4
_NEGATED = {"gt": "$lte", "gte": "$lt", "lt": "$gte", "lte": "$gt"}


class ChromaStore(Store):
    """``chroma:///absolute/folder``, ``chroma://host:port``, or ``chroma+https://:TOKEN@host``.

    It holds dense vectors in float32. Its index is approximate. Filters that it lacks (the order of strings) are
    applied here to all records. A record's text is Chroma's document, and its fields are metadata.
    """

    kinds = ("dense",)
    dtypes = ("float32",)

    def __init__(self, client: Client) -> None:
        self._opened = client
        self._guard = ForkGuard("Chroma")
        self._guard.check()

    @property
    def _client(self) -> Client:
        self._guard.check()
        return self._opened

    @classmethod
    def connect(cls, address: str) -> ChromaStore:
        """Open a folder, and create it if there is none, or connect to a server."""
        url = urlsplit(address)
        if url.query or url.fragment or bool(url.netloc) == bool(url.path.strip("/")):
            raise InputError(f"{address!r}: Chroma's address is chroma:///folder or chroma://host:port.", param="store")
        with _store_errors(url.hostname or url.path):
            if url.netloc:
                return cls(_server(url))
            folder = Path(unquote(url.path))
            store = cls(_folder(folder))
        store.folder = folder
        return store

    def create(self, table: TableSpec) -> None:
        self.check(table)
        with _store_errors(table.name):
            self._client.get_or_create_collection(
                _name(table.name),
                embedding_function=None,
                configuration={"hnsw": {"space": _METRICS[table.metric], "ef_search": 200}},
            )

    def drop(self, name: str) -> None:
        if name in self.tables():
            with _store_errors(name):
                self._client.delete_collection(_name(name))

    def tables(self) -> list[str]:
        with _store_errors("*"):
            matched = (_TABLE.fullmatch(collection.name) for collection in self._collections())
            return sorted(match[1] for match in matched if match)

    def upsert(self, table: TableSpec, records: Sequence[Record]) -> None:
        latest = list({record.id: record for record in records}.values())
        if not latest:
            return
        vectors = arrays.dense(table, latest)
        with self._open_collection(table) as collection:
            collection.upsert(
                ids=[record.id for record in latest],
                embeddings=vectors,
                documents=[record.text for record in latest],
                metadatas=[_metadata(table, record, vector) for record, vector in zip(latest, vectors, strict=True)],
            )

    def delete(self, table: TableSpec, where: Filter) -> None:
        ids = [key for part in self._pages(table, where, ["metadatas"]) for key in part["ids"]]
        with self._open_collection(table) as collection:
            for start in range(0, len(ids), _PAGE_SIZE):
                collection.delete(ids=ids[start : start + _PAGE_SIZE])

    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        if where is not None:
            return sum(len(part["ids"]) for part in self._pages(table, where, ["metadatas"]))
        with self._open_collection(table) as collection:
            return int(collection.count())

    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        include = ["metadatas", "documents"] + ["embeddings"] * vectors
        return (_records(table, part) for part in self._pages(table, where, include) if part["ids"])

    def search(
        self, table: TableSpec, queries: Sequence[Vector], k: int, *, where: Filter | None = None, exact: bool = False
    ) -> list[list[StoreHit]]:
        condition, complete = _condition(where)
        if exact or not complete or k < 1 or table.index == "none" or self._has_unnormalised_vectors(table):
            return super().search(table, queries, k, where=where)
        return [self._nearest(table, query, k, where, condition) for query in queries]

    def close(self) -> None:
        # Chroma leaves the connections of both of its clients to a server open.
        clients = (self._client, self._client._admin_client)
        sessions = [getattr(client._server, "_session", None) for client in clients]
        self._client.close()
        for session in filter(None, sessions):
            session.close()

    def _nearest(
        self, table: TableSpec, query: Vector, k: int, where: Filter | None, condition: Mapping[str, object] | None
    ) -> list[StoreHit]:
        def nearest(count: int) -> list[Record]:
            include = ["metadatas", "documents", "embeddings"]
            with self._open_collection(table) as collection:
                result = collection.query(query_embeddings=[query], n_results=count, where=condition, include=include)
            return _records(table, {name: result[name][0] for name in ["ids", *include]})

        hits = scoring.rank_candidates(table, query, k, nearest)
        if len(hits) < k and len(hits) < self.count(table, where):
            return super().search(table, [query], k, where=where)[0]  # the filter was too narrow for the index
        return hits

    def _has_unnormalised_vectors(self, table: TableSpec) -> bool:
        """Return whether vectors of other lengths than 1 make the index rank differently from the table's metric."""
        if table.metric != "cosine":
            return False
        with self._open_collection(table) as collection:
            return bool(collection.get(where={"uneven": True}, limit=1, include=[])["ids"])

    def _pages(self, table: TableSpec, where: Filter | None, include: Sequence[str]) -> Iterator[Page]:
        """Yield the matching records, a page at a time. Chroma's own filter may only narrow them down."""
        condition, _ = _condition(where)
        offset, full = 0, True
        with self._open_collection(table) as collection:
            while full:
                page = collection.get(where=condition, limit=_PAGE_SIZE, offset=offset, include=list(include))
                offset, full = offset + _PAGE_SIZE, len(page["ids"]) == _PAGE_SIZE
                rows = [
                    row
                    for row, metadata in enumerate(page["metadatas"])
                    if matches(where, _fields(table, metadata, built_in=True))
                ]
                yield {name: [page[name][row] for row in rows] for name in ["ids", *include]}

    def _collections(self) -> Iterator[ChromaCollection]:
        offset = 0
        while page := self._client.list_collections(limit=_PAGE_SIZE, offset=offset):
            yield from page
            offset += len(page)

    @contextmanager
    def _open_collection(self, table: TableSpec) -> Iterator[ChromaCollection]:
        with _store_errors(table.name):
            yield self._client.get_collection(_name(table.name), embedding_function=None)


@contextmanager
def _store_errors(name: str) -> Iterator[None]:
    """Raise other errors as StoreFailed, with the table's name."""
    try:
        yield
    except NearfieldError:
        raise
    except Exception as error:  # of Chroma, its HTTP client, or Python
        raise StoreFailed(f"Chroma failed at {name!r}: {error}") from error


def _folder(path: Path) -> Client:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    _GUARD.check()
    return chromadb.PersistentClient(path, settings=_settings())


def _server(url: SplitResult) -> Client:
    secure = url.scheme.endswith("+https")
    headers = {"Authorization": f"Bearer {unquote(url.password)}"} if url.password else None
    port = url.port or (443 if secure else 8000)
    return chromadb.HttpClient(url.hostname or "", port, ssl=secure, headers=headers, settings=_settings())


def _settings() -> Settings:
    return Settings(_env_file=None, anonymized_telemetry=False)


def _name(table: str) -> str:
    return f"nearfield-{table}-table"


def _metadata(table: TableSpec, record: Record, vector: Array) -> dict[str, object]:
    """Return a record's metadata, with None for missing fields: Chroma would retain those of an older record."""
    metadata: dict[str, object] = {name: getattr(record, name) for name in BUILT_IN}
    metadata["payload"] = json.dumps(record.payload)
    for name, kind in table.fields.items():
        value = record.fields.get(name)
        metadata[f"field_{name}"] = None if value is None else TYPES[kind](value)
        metadata[f"has_{name}"] = None if value is None else True
    unnormalised = table.metric == "cosine" and abs(float(np.linalg.norm(vector)) - 1) > _UNIT_TOLERANCE
    return {**metadata, "uneven": True if unnormalised else None}


def _fields(table: TableSpec, metadata: Page, *, built_in: bool = False) -> dict[str, Value]:
    fields = {name: metadata[f"field_{name}"] for name in table.fields if f"field_{name}" in metadata}
    return fields | {name: metadata[name] for name in BUILT_IN} if built_in else fields


def _records(table: TableSpec, part: Page) -> list[Record]:
    vectors = part.get("embeddings")
    embeddings = [None] * len(part["ids"]) if vectors is None else [np.asarray(row, np.float32) for row in vectors]
    columns = zip(part["ids"], part["documents"], part["metadatas"], embeddings, strict=True)
    return [
        Record(
            id=key,
            document=metadata["document"],
            version=metadata["version"],
            ordinal=metadata["ordinal"],
            text=text or "",
            fields=_fields(table, metadata),
            payload=json.loads(metadata["payload"]),
            vector=array,
        )
        for key, text, metadata, array in columns
    ]


class _Unsupported(Exception):
    """Chroma has no such condition."""


def _condition(where: Filter | None) -> tuple[dict[str, object] | None, bool]:
    """Return a filter in Chroma's form (None: all records), and whether that form is complete."""
    try:
        condition = True if where is None else to_chroma(where)
    except _Unsupported:
        return None, False
    if isinstance(condition, bool):
        return None if condition else {"id": {"$eq": ""}}, True
    return condition, True


def to_chroma(where: Filter, negate: bool = False) -> Condition:
    """Return a filter, or its complement, in Chroma's form, which can negate only single conditions."""
    if isinstance(where, Not):
        return to_chroma(where.part, not negate)
    if isinstance(where, Compare):
        return _negation(where) if negate else _comparison(where)
    joint = isinstance(where, All) != negate
    parts = [to_chroma(part, negate) for part in where.parts]
    if (not joint) in [part for part in parts if isinstance(part, bool)]:
        return not joint
    rest = [part for part in parts if not isinstance(part, bool)]
    name = "$and" if joint else "$or"
    return balanced(rest, lambda left, right: {name: [left, right]}) if rest else joint


def _comparison(where: Compare) -> Condition:
    key = where.field if where.field in BUILT_IN else f"field_{where.field}"
    if where.op == "exists":
        return where.field in BUILT_IN or {f"has_{where.field}": {"$eq": True}}
    if where.op == "in":
        return {key: {"$in": list(where.value)}} if where.value else False
    if where.op != "eq" and isinstance(where.value, str):
        raise _Unsupported
    return {key: {f"${where.op}": where.value}}


def _negation(where: Compare) -> Condition:
    """Return the complement of a condition; Chroma's ``$ne`` and ``$nin`` also match records without the field."""
    key = where.field if where.field in BUILT_IN else f"field_{where.field}"
    if where.op == "exists":
        return where.field not in BUILT_IN and {f"has_{where.field}": {"$ne": True}}
    if where.op == "in":
        return {key: {"$nin": list(where.value)}} if where.value else True
    if where.op == "eq":
        return {key: {"$ne": where.value}}
    if isinstance(where.value, str):
        raise _Unsupported
    other: dict[str, object] = {key: {_NEGATED[where.op]: where.value}}
    return other if where.field in BUILT_IN else {"$or": [other, {f"has_{where.field}": {"$ne": True}}]}
