"""Qdrant store: a server (1.10 or newer), or its client's local mode in a folder, for tests and small collections.

A table is a collection ``nearfield_<name>`` of points with one named vector; ``qdrant_points`` converts records.
Strings have no order in Qdrant, so a filter with ``gt`` or ``lt`` on one reads that field of all points first. The
server builds its index by itself, in the background. The local mode stores pickles: open only folders that you trust.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from nearfield.errors import InputError, StoreFailed, nearest
from nearfield.fork_safety import ForkGuard, PerProcess
from nearfield.stores import exact as scoring
from nearfield.stores import qdrant_points
from nearfield.stores.filters import BUILT_IN, All, Compare, Filter, Not, matches
from nearfield.stores.store import Quantization, Record, Store, StoreHit, TableSpec, Vector

Point = qdrant_points.Point
_PREFIX = "nearfield_"
_OLDEST = (1, 10)
_SECONDS = 60
#: Points of a page. The local mode sorts all points for each page.
_PAGE_SIZE, _LOCAL_PAGE_SIZE, _MULTIVECTOR_PAGE_SIZE = 256, 4096, 16
#: Integers up to which Qdrant's comparison, in float64, is exact.
_EXACT_INTEGER = 2**53
#: Conditions of a filter for which all points are read.
_MAX_SCANS = 16
_INDICES = {
    "str": models.PayloadSchemaType.KEYWORD,
    "int": models.PayloadSchemaType.INTEGER,
    "float": models.PayloadSchemaType.FLOAT,
    "bool": models.PayloadSchemaType.BOOL,
}
#: Candidates per result that are compared again by whole vectors, if the index is compressed.
_OVERSAMPLING = {"int8": 2.0, "binary": 4.0}
#: Points that are fetched besides the requested ones: of those that tie with the last, the lowest ids are returned.
_SPARE = 16
_FAST = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL")
_DURABLE = "PRAGMA wal_checkpoint(FULL)"
_NEVER = models.HasIdCondition(has_id=[])
_ALWAYS = models.Filter(must_not=[_NEVER])


class QdrantStore(Store):
    """``qdrant://host:6333``, ``qdrant+https://host?api_key=${NAME}``, or ``qdrant:///folder`` for the local mode."""

    quantizations: tuple[Quantization, ...] = ("none", "int8", "binary")

    def __init__(self, options: dict[str, Any]) -> None:
        """Open the client with its own options."""
        self.folder = Path(options["path"]) if "path" in options else None
        self._place = str(self.folder or f"{options['host']}:{options['port']}")
        self._options = options
        #: A forked process opens its own: two that write to one socket mix their messages.
        self._clients = PerProcess[QdrantClient]()
        #: The local mode locks its folder for the process that opened it, with what it has in memory.
        self._guard = ForkGuard("Qdrant's local mode")
        with self._translate_errors():
            self._clients.get(self._open)
        for name in self.tables() if self.folder else []:
            self._local(name, *_FAST)

    @classmethod
    def connect(cls, address: str) -> QdrantStore:
        parts = urlsplit(address)
        store = cls(_server(parts) if parts.netloc else _folder(parts))
        if not store.folder:
            version = store._call("info").version
            if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
                raise StoreFailed(f"Qdrant at {store._place} has version {version}, and 1.10 or newer is required.")
        store._call("get_collections")
        return store

    def close(self) -> None:
        client = self._clients.pop()
        if client is not None:
            client.close()

    def _open(self) -> QdrantClient:
        if self.folder:
            self._guard.check()
        return QdrantClient(**self._options)

    @property
    def _client(self) -> QdrantClient:
        return self._clients.get(self._open)

    def check(self, table: TableSpec) -> None:
        super().check(table)
        if table.quantization != "none" and table.kind == "sparse":
            raise InputError("Qdrant does not quantise sparse vectors: set quantization to 'none'.")
        if table.quantization == "int8" and table.dtype == "binary":
            raise InputError("Bits cannot be quantised to int8: set quantization to 'binary' or 'none'.")

    def create(self, table: TableSpec) -> None:
        self.check(table)
        name = _PREFIX + table.name
        if not self._call("collection_exists", name):
            try:
                self._call("create_collection", name, **qdrant_points.shape(table))
            except StoreFailed:
                # Another process may have created it just now.
                if not self._call("collection_exists", name):
                    raise
        if self.folder:
            self._local(table.name, *_FAST)
            return
        for field, kind in {**BUILT_IN, **table.fields}.items():
            if field != "id":
                index = {"field_name": qdrant_points.key(field), "field_schema": _INDICES[kind], "wait": True}
                self._call("create_payload_index", name, **index)

    def drop(self, name: str) -> None:
        if self._call("collection_exists", _PREFIX + name):
            self._call("delete_collection", _PREFIX + name)

    def tables(self) -> list[str]:
        names = [collection.name for collection in self._call("get_collections").collections]
        return sorted(name[len(_PREFIX) :] for name in names if name.startswith(_PREFIX))

    def upsert(self, table: TableSpec, records: Sequence[Record]) -> None:
        latest = list({record.id: record for record in records}.values())
        for part in qdrant_points.requests(table, latest):
            self._call("upsert", _PREFIX + table.name, points=part, wait=True)
            self._local(table.name, _DURABLE)

    def delete(self, table: TableSpec, where: Filter) -> None:
        selected = models.FilterSelector(filter=self._filter(table, where))
        self._call("delete", _PREFIX + table.name, points_selector=selected, wait=True)
        self._local(table.name, _DURABLE)

    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        result = self._call("count", _PREFIX + table.name, count_filter=self._filter(table, where), exact=True)
        return int(result.count)

    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        page = _MULTIVECTOR_PAGE_SIZE if vectors and table.kind == "multivector" else None
        for points in self._pages(table, self._filter(table, where), vectors=vectors, page=page):
            yield [qdrant_points.record(table, point, vector=vectors) for point in points]

    def fetch(self, table: TableSpec, ids: Sequence[str], *, vectors: bool = False) -> list[Record]:
        known = qdrant_points.ids(ids)
        records: dict[str, Record] = {}
        for start in range(0, len(known), _PAGE_SIZE):
            part = known[start : start + _PAGE_SIZE]
            points = self._call("retrieve", _PREFIX + table.name, part, with_payload=True, with_vectors=vectors)
            records.update({str(point.id): qdrant_points.record(table, point, vector=vectors) for point in points})
        return [records[key] for key in ids if key in records]

    def search(
        self, table: TableSpec, queries: Sequence[Vector], k: int, *, where: Filter | None = None, exact: bool = False
    ) -> list[list[StoreHit]]:
        condition = self._filter(table, where)
        return [self._search(table, query, k, condition, exact) for query in queries]

    def size(self, table: TableSpec) -> int | None:
        if not self.folder:
            return None
        folder = self.folder / "collection" / (_PREFIX + table.name)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def _search(
        self, table: TableSpec, query: Vector, k: int, condition: models.Filter | None, exact: bool
    ) -> list[StoreHit]:
        qdrant_query = qdrant_points.query(table, query)
        if qdrant_query is None:
            hits = []
        elif exact or self.folder:

            def near(count: int) -> list[Record]:
                points = self._nearest(table, qdrant_query, count, condition, exact=True)
                return [qdrant_points.record(table, point, vector=True) for point in points]

            hits = scoring.rank_candidates(table, query, k, near)
        else:
            hits = [
                StoreHit(qdrant_points.record(table, point, vector=False), qdrant_points.score(table, query, point))
                for point in self._nearest(table, qdrant_query, k + _SPARE, condition, exact=False)
            ]
        if len(hits) < k and table.kind != "dense":
            hits += self._unmatched(table, hits, k, condition)
        return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[:k]

    def _nearest(
        self, table: TableSpec, query: object, count: int, condition: models.Filter | None, *, exact: bool
    ) -> list[Point]:
        # The local mode always compares with all points, and warns if it receives parameters.
        params = None if self.folder else _params(table, exact)
        options = {"with_payload": True, "with_vectors": exact, "search_params": params}
        where = {"using": qdrant_points.VECTOR, "query_filter": condition, "limit": count}
        result = self._call("query_points", _PREFIX + table.name, query=query, **where, **options)
        return list(result.points)

    def _unmatched(
        self, table: TableSpec, hits: Sequence[StoreHit], k: int, condition: models.Filter | None
    ) -> list[StoreHit]:
        """Return points without a term in common with the query, which Qdrant leaves out: their score is 0."""
        known = models.HasIdCondition(has_id=[hit.record.id for hit in hits])
        left = models.Filter(must_not=[known], must=condition and condition.must)
        points = next(self._pages(table, left, page=k), [])
        return [StoreHit(qdrant_points.record(table, point, vector=False), 0.0) for point in points]

    def _pages(
        self,
        table: TableSpec,
        condition: models.Filter | None,
        *,
        vectors: bool = False,
        payload: bool | list[str] = True,
        page: int | None = None,
    ) -> Iterator[list[Point]]:
        limit = page or (_LOCAL_PAGE_SIZE if self.folder else _PAGE_SIZE)
        options = {"scroll_filter": condition, "limit": limit, "with_payload": payload, "with_vectors": vectors}
        offset: object = None
        while True:
            points, offset = self._call("scroll", _PREFIX + table.name, offset=offset, **options)
            if points:
                yield points
            if offset is None:
                return

    def _filter(self, table: TableSpec, where: Filter | None) -> models.Filter | None:
        if where is None:
            return None
        scans = sum(_needs_scan(table, part) for part in _comparisons(where))
        if scans > _MAX_SCANS:
            raise InputError(
                f"The filter has {scans:,} conditions on the order of texts or of very large numbers, which Qdrant "
                f"lacks; the maximum is {_MAX_SCANS}.",
                param="where",
            )
        return models.Filter(must=[self._condition(table, where)])

    def _condition(self, table: TableSpec, where: Filter) -> models.Condition:
        if isinstance(where, Compare):
            return self._comparison(table, where)
        if isinstance(where, Not):
            return models.Filter(must_not=[self._condition(table, where.part)])
        parts = [self._condition(table, part) for part in where.parts]
        if isinstance(where, All):
            return models.Filter(must=parts) if parts else _ALWAYS
        return models.Filter(should=parts) if parts else _NEVER

    def _comparison(self, table: TableSpec, where: Compare) -> models.Condition:
        kind, key = {**BUILT_IN, **table.fields}.get(where.field), qdrant_points.key(where.field)
        if kind is None or where.value == ():
            return _NEVER
        if where.op == "exists":
            empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
            return _ALWAYS if where.field in BUILT_IN else models.Filter(must_not=[empty])
        if where.field == "id" and where.op in ("eq", "in"):
            return models.HasIdCondition(has_id=qdrant_points.ids(where.value if where.op == "in" else [where.value]))
        if where.op == "in" and kind in ("float", "bool"):
            parts = [Compare(where.field, "eq", value) for value in where.value]
            return models.Filter(should=[self._comparison(table, part) for part in parts])
        if kind == "float" or where.op not in ("eq", "in"):
            return self._range(table, where, kind)
        match = models.MatchValue(value=where.value) if where.op == "eq" else models.MatchAny(any=list(where.value))
        return models.FieldCondition(key=key, match=match)

    def _range(self, table: TableSpec, where: Compare, kind: str) -> models.Condition:
        if _needs_scan(table, where):
            return models.HasIdCondition(has_id=self._matching(table, where))
        bounds: dict[str, object] = (
            {"gte": where.value, "lte": where.value} if where.op == "eq" else {where.op: where.value}
        )
        return models.FieldCondition(key=qdrant_points.key(where.field), range=models.Range(**bounds))

    def _matching(self, table: TableSpec, where: Compare) -> list[str]:
        """Return the ids of all points that match a condition which Qdrant does not support."""
        name = where.field
        pages = self._pages(table, None, payload=[name if name in BUILT_IN else "fields"])
        points = (point for page in pages for point in page)
        return [str(point.id) for point in points if matches(where, {name: qdrant_points.field_value(point, name)})]

    def _local(self, name: str, *statements: str) -> None:
        """Run statements on the local mode's SQLite, so that it syncs once per batch and not once per point."""
        if not self.folder:
            return
        with self._translate_errors():
            database = self._client._client.collections[_PREFIX + name].storage.storage
            for statement in statements:
                database.execute(statement).fetchall()

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        with self._translate_errors():
            return getattr(self._client, method)(*args, **options)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise errors of the client as StoreFailed, with the address."""
        where = f"Qdrant at {self._place}"
        try:
            yield
        except ResponseHandlingException as error:
            advice = "Check that it runs, and the address."
            raise StoreFailed(f"{where} does not answer ({error.source}). {advice}") from error
        except UnexpectedResponse as error:
            raise StoreFailed(f"{where} {_refusal(error)}") from error
        except (ApiException, QdrantException, RuntimeError, ValueError, OSError, sqlite3.Error) as error:
            raise StoreFailed(f"{where} failed: {error}") from error


def _comparisons(where: Filter) -> Iterator[Compare]:
    """Yield all conditions of a filter."""
    if isinstance(where, Compare):
        yield where
        return
    for part in (where.part,) if isinstance(where, Not) else where.parts:
        yield from _comparisons(part)


def _needs_scan(table: TableSpec, where: Compare) -> bool:
    """Return whether all points are read for a condition, since Qdrant does not support it."""
    kind = {**BUILT_IN, **table.fields}.get(where.field)
    if where.op not in ("gt", "gte", "lt", "lte"):
        return False
    return kind == "str" or (kind == "int" and abs(where.value) >= _EXACT_INTEGER)


def _params(table: TableSpec, exact: bool) -> models.SearchParams:
    if exact:
        return models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))
    if table.quantization == "none":
        return models.SearchParams()
    oversampling = _OVERSAMPLING[table.quantization]
    return models.SearchParams(quantization=models.QuantizationSearchParams(rescore=True, oversampling=oversampling))


def _folder(parts: SplitResult) -> dict[str, Any]:
    path = unquote(parts.path)
    if not path.startswith("/") or parts.query:
        raise InputError("A folder for Qdrant is written qdrant:///folder, a server qdrant://host:6333.", param="store")
    return {"path": path, "force_disable_check_same_thread": True}


def _server(parts: SplitResult) -> dict[str, Any]:
    if "@" in parts.netloc:
        raise InputError("Qdrant has no users: write its key as ?api_key=${NAME}.", param="store")
    options = dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True))
    unknown = next((name for name in options if name != "api_key"), None)
    if unknown is not None:
        raise InputError(f"Qdrant's address has no option {unknown!r}. {nearest(unknown, ['api_key'])}", param="store")
    try:
        port = parts.port or 6333
    except ValueError as error:
        raise InputError(f"Qdrant's address {parts.netloc!r} has no port up to 65535.", param="store") from error
    https, prefix = parts.scheme.endswith("https"), parts.path.strip("/") or None
    fixed = {"https": https, "prefix": prefix, "timeout": _SECONDS, "check_compatibility": False}
    return {"host": parts.hostname, "port": port, **fixed, **options}


def _refusal(error: UnexpectedResponse) -> str:
    if error.status_code in (401, 403):
        return "requires its key: add ?api_key=${NAME} to the address."
    try:
        reason = str(json.loads(error.content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        reason = error.content[:200].decode("utf-8", "replace")
    return f"refused with status {error.status_code}: {reason}"
