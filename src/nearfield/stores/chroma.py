"""Chroma: a folder that one process at a time uses, or a server."""

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

from nearfield.errors import InputError, NearfieldError, StoreFailed
from nearfield.stores import arrays
from nearfield.stores import exact as scoring
from nearfield.stores.filters import BUILT_IN, TYPES, All, Compare, Filter, Not, matches
from nearfield.stores.store import Record, Store, StoreHit, TableSpec

#: Where Chroma's cosine is asked for, it keeps the vectors' directions alone; ours are kept as they are.
_SPACES = {"cosine": "ip", "dot": "ip", "euclidean": "l2"}
_TABLE = re.compile(r"nearfield-(.+)-table")
_PAGE = 1000
#: How far the length of a vector may be from 1 for the dot product to rank as the cosine does.
_UNIT = 1e-4
_OPPOSITE = {"gt": "$lte", "gte": "$lt", "lt": "$gte", "lte": "$gt"}


class ChromaStore(Store):
    """``chroma:///absolute/folder``, ``chroma://host:port``, or ``chroma+https://:TOKEN@host``.

    It holds dense vectors in float32. Its index is approximate; what it cannot filter by itself (strings by their
    order) is read through. A record's text is Chroma's document, and its fields are metadata.
    """

    kinds = ("dense",)
    dtypes = ("float32",)

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    def connect(cls, address: str) -> ChromaStore:
        """Open a folder, which is made where there is none, or reach a server."""
        url = urlsplit(address)
        if url.query or url.fragment or bool(url.netloc) == bool(url.path.strip("/")):
            raise InputError(f"{address!r}: Chroma's address is chroma:///folder or chroma://host:port.", param="store")
        with _told(url.hostname or url.path):
            if url.netloc:
                return cls(_server(url))
            folder = Path(unquote(url.path))
            store = cls(_folder(folder))
        store.folder = folder
        return store

    def create(self, table: TableSpec) -> None:
        self.check(table)
        with _told(table.name):
            self._client.get_or_create_collection(
                _name(table.name),
                embedding_function=None,
                configuration={"hnsw": {"space": _SPACES[table.metric], "ef_search": 200}},
            )

    def drop(self, name: str) -> None:
        if name in self.tables():
            with _told(name):
                self._client.delete_collection(_name(name))

    def tables(self) -> list[str]:
        with _told("*"):
            matched = (_TABLE.fullmatch(each.name) for each in self._collections())
            return sorted(match[1] for match in matched if match)

    def upsert(self, table: TableSpec, records: Sequence[Record]) -> None:
        latest = list({record.id: record for record in records}.values())
        if not latest:
            return
        vectors = arrays.dense(table, latest)
        with self._opened(table) as opened:
            opened.upsert(
                ids=[record.id for record in latest],
                embeddings=vectors,
                documents=[record.text for record in latest],
                metadatas=[_metadata(table, record, vector) for record, vector in zip(latest, vectors, strict=True)],
            )

    def delete(self, table: TableSpec, where: Filter) -> None:
        ids = [key for part in self._pages(table, where, ["metadatas"]) for key in part["ids"]]
        with self._opened(table) as opened:
            for start in range(0, len(ids), _PAGE):
                opened.delete(ids=ids[start : start + _PAGE])

    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        if where is not None:
            return sum(len(part["ids"]) for part in self._pages(table, where, ["metadatas"]))
        with self._opened(table) as opened:
            return int(opened.count())

    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        include = ["metadatas", "documents"] + ["embeddings"] * vectors
        return (_records(table, part) for part in self._pages(table, where, include) if part["ids"])

    def search(
        self, table: TableSpec, queries: Sequence[Any], k: int, *, where: Filter | None = None, exact: bool = False
    ) -> list[list[StoreHit]]:
        condition, whole = _condition(where)
        if exact or not whole or k < 1 or table.index == "none" or self._uneven(table):
            return super().search(table, queries, k, where=where)
        return [self._nearest(table, query, k, where, condition) for query in queries]

    def close(self) -> None:
        # Chroma leaves its connections to a server open: its own, and those of the client by which it checks its own.
        clients = (self._client, self._client._admin_client)
        sessions = [getattr(client._server, "_session", None) for client in clients]
        self._client.close()
        for session in filter(None, sessions):
            session.close()

    def _nearest(
        self, table: TableSpec, query: Any, k: int, where: Filter | None, condition: Mapping[str, Any] | None
    ) -> list[StoreHit]:
        def nearest(count: int) -> list[Record]:
            include = ["metadatas", "documents", "embeddings"]
            with self._opened(table) as opened:
                found = opened.query(query_embeddings=[query], n_results=count, where=condition, include=include)
            return _records(table, {name: found[name][0] for name in ["ids", *include]})

        found = scoring.settle(table, query, k, nearest)
        if len(found) < k and len(found) < self.count(table, where):
            return super().search(table, [query], k, where=where)[0]  # the filter was too narrow for the index
        return found

    def _uneven(self, table: TableSpec) -> bool:
        """Return whether the index ranks by length too, where the table's metric does not."""
        if table.metric != "cosine":
            return False
        with self._opened(table) as opened:
            return bool(opened.get(where={"uneven": True}, limit=1, include=[])["ids"])

    def _pages(self, table: TableSpec, where: Filter | None, include: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield what matches, a page at a time. What is said to Chroma only narrows it down."""
        condition, _ = _condition(where)
        offset, full = 0, True
        with self._opened(table) as opened:
            while full:
                page = opened.get(where=condition, limit=_PAGE, offset=offset, include=list(include))
                offset, full = offset + _PAGE, len(page["ids"]) == _PAGE
                kept = [
                    at for at, told in enumerate(page["metadatas"]) if matches(where, _fields(table, told, whole=True))
                ]
                yield {name: [page[name][at] for at in kept] for name in ["ids", *include]}

    def _collections(self) -> Iterator[Any]:
        offset = 0
        while page := self._client.list_collections(limit=_PAGE, offset=offset):
            yield from page
            offset += len(page)

    @contextmanager
    def _opened(self, table: TableSpec) -> Iterator[Any]:
        with _told(table.name):
            yield self._client.get_collection(_name(table.name), embedding_function=None)


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except NearfieldError:
        raise
    except Exception as error:  # its own, its HTTP client's, and Python's
        raise StoreFailed(f"Chroma failed at {name!r}: {error}") from error


def _folder(path: Path) -> Any:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return chromadb.PersistentClient(path, settings=_settings())


def _server(url: SplitResult) -> Any:
    secure = url.scheme.endswith("+https")
    headers = {"Authorization": f"Bearer {unquote(url.password)}"} if url.password else None
    port = url.port or (443 if secure else 8000)
    return chromadb.HttpClient(url.hostname or "", port, ssl=secure, headers=headers, settings=_settings())


def _settings() -> Settings:
    return Settings(_env_file=None, anonymized_telemetry=False)


def _name(table: str) -> str:
    return f"nearfield-{table}-table"


def _metadata(table: TableSpec, record: Record, vector: Any) -> dict[str, Any]:
    """Return a record's metadata. What it lacks is none: Chroma would keep what an older record of the id had."""
    told: dict[str, Any] = {name: getattr(record, name) for name in BUILT_IN}
    told["payload"] = json.dumps(record.payload)
    for name, kind in table.fields.items():
        value = record.fields.get(name)
        told[f"field_{name}"] = None if value is None else TYPES[kind](value)
        told[f"has_{name}"] = None if value is None else True
    uneven = table.metric == "cosine" and abs(float(np.linalg.norm(vector)) - 1) > _UNIT
    return {**told, "uneven": True if uneven else None}


def _fields(table: TableSpec, told: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
    own = {name: told[name] for name in BUILT_IN} if whole else {}
    return {name: told[f"field_{name}"] for name in table.fields if f"field_{name}" in told} | own


def _records(table: TableSpec, part: Mapping[str, Any]) -> list[Record]:
    vectors = part.get("embeddings")
    arrays = [None] * len(part["ids"]) if vectors is None else [np.asarray(row, np.float32) for row in vectors]
    columns = zip(part["ids"], part["documents"], part["metadatas"], arrays, strict=True)
    return [
        Record(
            id=key,
            document=told["document"],
            version=told["version"],
            ordinal=told["ordinal"],
            text=text or "",
            fields=_fields(table, told),
            payload=json.loads(told["payload"]),
            vector=array,
        )
        for key, text, told, array in columns
    ]


class _Unsaid(Exception):
    """Chroma has no words for a condition."""


Condition = bool | dict[str, Any]


def _condition(where: Filter | None) -> tuple[dict[str, Any] | None, bool]:
    """Return a filter in Chroma's words (None: everything), and whether these say all of it."""
    try:
        told = True if where is None else said(where, True)
    except _Unsaid:
        return None, False
    return ({"id": {"$eq": ""}} if told is False else None) if isinstance(told, bool) else told, True


def said(where: Filter, holds: bool) -> Condition:
    """Return a filter, or its complement, in Chroma's words, which have no negation but that of single conditions."""
    if isinstance(where, Not):
        return said(where.part, not holds)
    if isinstance(where, Compare):
        return _comparison(where) if holds else _opposite(where)
    joint = isinstance(where, All) == holds
    parts = [said(part, holds) for part in where.parts]
    if (not joint) in [part for part in parts if isinstance(part, bool)]:
        return not joint
    rest = [part for part in parts if not isinstance(part, bool)]
    return {"$and" if joint else "$or": rest} if len(rest) > 1 else rest[0] if rest else joint


def _comparison(where: Compare) -> Condition:
    key = where.field if where.field in BUILT_IN else f"field_{where.field}"
    if where.op == "exists":
        return where.field in BUILT_IN or {f"has_{where.field}": {"$eq": True}}
    if where.op == "in":
        return {key: {"$in": list(where.value)}} if where.value else False
    if where.op != "eq" and isinstance(where.value, str):
        raise _Unsaid
    return {key: {f"${where.op}": where.value}}


def _opposite(where: Compare) -> Condition:
    """Return what holds where a condition does not; Chroma's ``$ne`` and ``$nin`` hold where the field is missing."""
    key = where.field if where.field in BUILT_IN else f"field_{where.field}"
    if where.op == "exists":
        return where.field not in BUILT_IN and {f"has_{where.field}": {"$ne": True}}
    if where.op == "in":
        return {key: {"$nin": list(where.value)}} if where.value else True
    if where.op == "eq":
        return {key: {"$ne": where.value}}
    if isinstance(where.value, str):
        raise _Unsaid
    other = {key: {_OPPOSITE[where.op]: where.value}}
    return other if where.field in BUILT_IN else {"$or": [other, {f"has_{where.field}": {"$ne": True}}]}
