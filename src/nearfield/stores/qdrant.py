"""Qdrant: a server (1.10 or newer), or its client's local mode in a folder, for tests and small collections.

A table is a collection ``nearfield_<name>`` of points with one named vector; ``points`` says how records lie in it.
Strings have no order in Qdrant, so a filter with ``gt`` or ``lt`` on one reads that field of all points first. The
server builds its index by itself, in the background. The local mode keeps pickles: open only folders that you trust.
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
from nearfield.stores import exact as scoring
from nearfield.stores import qdrant_points
from nearfield.stores.filters import BUILT_IN, All, Compare, Filter, Not, matches
from nearfield.stores.store import Quantization, Record, Store, StoreHit, TableSpec

_PREFIX = "nearfield_"
_OLDEST = (1, 10)
_SECONDS = 60
#: Points of a page. The local mode sorts all of them for each page.
_PAGE, _LOCAL_PAGE, _MULTIVECTOR_PAGE = 256, 4096, 16
#: Integers up to which Qdrant's comparison, in float64, is exact.
_EXACT_INTEGER = 2**53
_INDICES = {
    "str": models.PayloadSchemaType.KEYWORD,
    "int": models.PayloadSchemaType.INTEGER,
    "float": models.PayloadSchemaType.FLOAT,
    "bool": models.PayloadSchemaType.BOOL,
}
#: Candidates per result that are compared again with their whole vectors, where the index is compressed.
_OVERSAMPLING = {"int8": 2.0, "binary": 4.0}
#: Points that are asked for beyond those that are wanted: of those that tie with the last, the lowest ids are.
_SPARE = 16
_QUICK = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL")
_LASTING = "PRAGMA wal_checkpoint(FULL)"
_NEVER = models.HasIdCondition(has_id=[])
_ALWAYS = models.Filter(must_not=[_NEVER])


class QdrantStore(Store):
    """``qdrant://host:6333``, ``qdrant+https://host?api_key=${NAME}``, or ``qdrant:///folder`` for the local mode."""

    quantizations: tuple[Quantization, ...] = ("none", "int8", "binary")

    def __init__(self, options: dict[str, Any]) -> None:
        """Open the client with its own options."""
        self.folder = Path(options["path"]) if "path" in options else None
        self._place = str(self.folder or f"{options['host']}:{options['port']}")
        with self._asked():
            self._client = QdrantClient(**options)
        for name in self.tables() if self.folder else []:
            self._local(name, *_QUICK)

    @classmethod
    def connect(cls, address: str) -> QdrantStore:
        parts = urlsplit(address)
        store = cls(_server(parts) if parts.netloc else _folder(parts))
        if not store.folder:
            told = store._ask("info").version
            if tuple(int(each) for each in told.split(".")[:2]) < _OLDEST:
                raise StoreFailed(f"Qdrant at {store._place} is {told}: too old, take 1.10 or newer.")
        store._ask("get_collections")
        return store

    def close(self) -> None:
        self._client.close()

    def check(self, table: TableSpec) -> None:
        super().check(table)
        if table.quantization != "none" and table.kind == "sparse":
            raise InputError("Qdrant keeps sparse vectors as they are: set quantization to 'none'.")
        if table.quantization == "int8" and table.dtype == "binary":
            raise InputError("Bits cannot be quantised to int8: set quantization to 'binary' or 'none'.")

    def create(self, table: TableSpec) -> None:
        self.check(table)
        name = _PREFIX + table.name
        if not self._ask("collection_exists", name):
            try:
                self._ask("create_collection", name, **qdrant_points.shape(table))
            except StoreFailed:
                # Another process may have made it just now.
                if not self._ask("collection_exists", name):
                    raise
        if self.folder:
            self._local(table.name, *_QUICK)
            return
        for field, kind in {**BUILT_IN, **table.fields}.items():
            if field != "id":
                told = {"field_name": qdrant_points.key(field), "field_schema": _INDICES[kind], "wait": True}
                self._ask("create_payload_index", name, **told)

    def drop(self, name: str) -> None:
        if self._ask("collection_exists", _PREFIX + name):
            self._ask("delete_collection", _PREFIX + name)

    def tables(self) -> list[str]:
        names = [each.name for each in self._ask("get_collections").collections]
        return sorted(name[len(_PREFIX) :] for name in names if name.startswith(_PREFIX))

    def upsert(self, table: TableSpec, records: Sequence[Record]) -> None:
        latest = list({record.id: record for record in records}.values())
        for part in qdrant_points.requests(table, latest):
            self._ask("upsert", _PREFIX + table.name, points=part, wait=True)
            self._local(table.name, _LASTING)

    def delete(self, table: TableSpec, where: Filter) -> None:
        selected = models.FilterSelector(filter=self._filter(table, where))
        self._ask("delete", _PREFIX + table.name, points_selector=selected, wait=True)
        self._local(table.name, _LASTING)

    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        told = self._ask("count", _PREFIX + table.name, count_filter=self._filter(table, where), exact=True)
        return int(told.count)

    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        page = _MULTIVECTOR_PAGE if vectors and table.kind == "multivector" else None
        for found in self._pages(table, self._filter(table, where), vectors=vectors, page=page):
            yield [qdrant_points.record(table, point, vector=vectors) for point in found]

    def fetch(self, table: TableSpec, ids: Sequence[str], *, vectors: bool = False) -> list[Record]:
        known = qdrant_points.ids(ids)
        records: dict[str, Record] = {}
        for start in range(0, len(known), _PAGE):
            part = known[start : start + _PAGE]
            found = self._ask("retrieve", _PREFIX + table.name, part, with_payload=True, with_vectors=vectors)
            records.update({str(point.id): qdrant_points.record(table, point, vector=vectors) for point in found})
        return [records[key] for key in ids if key in records]

    def search(
        self, table: TableSpec, queries: Sequence[Any], k: int, *, where: Filter | None = None, exact: bool = False
    ) -> list[list[StoreHit]]:
        condition = self._filter(table, where)
        return [self._search(table, query, k, condition, exact) for query in queries]

    def size(self, table: TableSpec) -> int | None:
        if not self.folder:
            return None
        folder = self.folder / "collection" / (_PREFIX + table.name)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def _search(
        self, table: TableSpec, query: Any, k: int, condition: models.Filter | None, exact: bool
    ) -> list[StoreHit]:
        asked = qdrant_points.query(table, query)
        if asked is None:
            hits = []
        elif exact or self.folder:

            def near(count: int) -> list[Record]:
                found = self._nearest(table, asked, count, condition, exact=True)
                return [qdrant_points.record(table, point, vector=True) for point in found]

            hits = scoring.settle(table, query, k, near)
        else:
            found = self._nearest(table, asked, k + _SPARE, condition, exact=False)
            hits = [
                StoreHit(qdrant_points.record(table, point, vector=False), qdrant_points.score(table, query, point))
                for point in found
            ]
        if len(hits) < k and table.kind != "dense":
            hits += self._unmatched(table, hits, k, condition)
        return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[:k]

    def _nearest(self, table: TableSpec, asked: Any, count: int, condition: Any, *, exact: bool) -> list[Any]:
        # The local mode compares with all, and warns of being told how to.
        params = None if self.folder else _params(table, exact)
        options = {"with_payload": True, "with_vectors": exact, "search_params": params}
        where = {"using": qdrant_points.VECTOR, "query_filter": condition, "limit": count}
        found: list[Any] = self._ask("query_points", _PREFIX + table.name, query=asked, **where, **options).points
        return found

    def _unmatched(self, table: TableSpec, hits: Sequence[StoreHit], k: int, condition: Any) -> list[StoreHit]:
        """Return points that have nothing in common with a query, which Qdrant leaves out: their score is 0."""
        known = models.HasIdCondition(has_id=[hit.record.id for hit in hits])
        left = models.Filter(must_not=[known], must=condition and condition.must)
        found = next(self._pages(table, left, page=k), [])
        return [StoreHit(qdrant_points.record(table, point, vector=False), 0.0) for point in found]

    def _pages(
        self, table: TableSpec, condition: Any, *, vectors: bool = False, payload: Any = True, page: int | None = None
    ) -> Iterator[list[Any]]:
        limit = page or (_LOCAL_PAGE if self.folder else _PAGE)
        options = {"scroll_filter": condition, "limit": limit, "with_payload": payload, "with_vectors": vectors}
        offset: Any = None
        while True:
            found, offset = self._ask("scroll", _PREFIX + table.name, offset=offset, **options)
            if found:
                yield found
            if offset is None:
                return

    def _filter(self, table: TableSpec, where: Filter | None) -> models.Filter | None:
        return None if where is None else models.Filter(must=[self._condition(table, where)])

    def _condition(self, table: TableSpec, where: Filter) -> Any:
        if isinstance(where, Compare):
            return self._comparison(table, where)
        if isinstance(where, Not):
            return models.Filter(must_not=[self._condition(table, where.part)])
        parts = [self._condition(table, part) for part in where.parts]
        if isinstance(where, All):
            return models.Filter(must=parts) if parts else _ALWAYS
        return models.Filter(should=parts) if parts else _NEVER

    def _comparison(self, table: TableSpec, where: Compare) -> Any:
        kind, key = {**BUILT_IN, **table.fields}.get(where.field), qdrant_points.key(where.field)
        if kind is None or where.value == ():
            return _NEVER
        if where.op == "exists":
            empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
            return _ALWAYS if where.field in BUILT_IN else models.Filter(must_not=[empty])
        if where.field == "id" and where.op in ("eq", "in"):
            return models.HasIdCondition(has_id=qdrant_points.ids(where.value if where.op == "in" else [where.value]))
        if where.op == "in" and kind in ("float", "bool"):
            each = [Compare(where.field, "eq", value) for value in where.value]
            return models.Filter(should=[self._comparison(table, part) for part in each])
        if kind == "float" or where.op not in ("eq", "in"):
            return self._range(table, where, kind)
        found = models.MatchValue(value=where.value) if where.op == "eq" else models.MatchAny(any=list(where.value))
        return models.FieldCondition(key=key, match=found)

    def _range(self, table: TableSpec, where: Compare, kind: str) -> Any:
        if kind == "str" or (kind == "int" and abs(where.value) >= _EXACT_INTEGER):
            return models.HasIdCondition(has_id=self._matching(table, where))
        bounds: dict[str, Any] = (
            {"gte": where.value, "lte": where.value} if where.op == "eq" else {where.op: where.value}
        )
        return models.FieldCondition(key=qdrant_points.key(where.field), range=models.Range(**bounds))

    def _matching(self, table: TableSpec, where: Compare) -> list[str]:
        """Return the ids of all points that meet a condition which Qdrant cannot put."""
        name = where.field
        pages = self._pages(table, None, payload=[name if name in BUILT_IN else "fields"])
        found = (point for page in pages for point in page)
        return [str(point.id) for point in found if matches(where, {name: qdrant_points.held(point, name)})]

    def _local(self, name: str, *statements: str) -> None:
        """Have the local mode's SQLite wait for the disk once for a batch: by itself it does for each point."""
        if not self.folder:
            return
        with self._asked():
            database = self._client._client.collections[_PREFIX + name].storage.storage
            for statement in statements:
                database.execute(statement).fetchall()

    def _ask(self, method: str, *args: Any, **options: Any) -> Any:
        with self._asked():
            return getattr(self._client, method)(*args, **options)

    @contextmanager
    def _asked(self) -> Iterator[None]:
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
        raise InputError("Qdrant knows no users: give its key as ?api_key=${NAME}.", param="store")
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
        return "lets nobody in without its key: add ?api_key=${NAME} to the address."
    try:
        told = str(json.loads(error.content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        told = error.content[:200].decode("utf-8", "replace")
    return f"refused with status {error.status_code}: {told}"
