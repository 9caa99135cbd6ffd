"""LanceDB: tables in a folder, with nothing to install or to start; the default."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
from lancedb import index as indices

from nearfield.errors import InputError, NearfieldError, StoreFailed
from nearfield.hardware import bound_heaps, return_memory
from nearfield.stores import arrow
from nearfield.stores import exact as scoring
from nearfield.stores.filters import BUILT_IN, All, Compare, Either, Filter, Value, one_of
from nearfield.stores.store import Record, Store, StoreHit, TableSpec

_ADDRESS = re.compile(r"lancedb://(.+)", re.DOTALL)
_DISTANCES = {"cosine": "cosine", "dot": "dot", "euclidean": "l2"}
_SIGNS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
#: Columns that documents are looked up by, and the rows from which on an index on them pays.
_KEYS = ("id", "document")
_ROWS_TO_KEY = 5_000
#: Bytes that LanceDB may keep of indices and tables' descriptions, where it searches and where it writes: there every
#: version of a growing index passes.
_SEARCHING, _WRITING = (2**28, 2**25), (2**21, 2**22)
#: Rows from which on a vector index pays.
_ROWS_TO_INDEX = 20_000
#: Small writes that are put up with before they are joined, and large tables' share of new rows.
_WRITES, _MOST_WRITES, _SHARE = 64, 512, 0.05
#: Who reads an older version has this long to finish.
_GRACE = timedelta(minutes=1)
#: Parts of an index that are read for a query, and candidates per result, by how the index is compressed.
_PROBES = 40
_CANDIDATES = {"none": 1, "int8": 1, "binary": 8}
_AT_ONCE = {"dense": 1024, "sparse": 1024, "multivector": 128}


class LanceDbStore(Store):
    """``lancedb:///absolute/folder`` or ``lancedb://relative/folder``.

    Each write is a version of its own, complete or not there at all, so a process may be killed at any moment. Small
    writes are joined on the way, and versions that nobody needs any more removed.
    """

    quantizations = ("none", "int8", "binary")
    folder: Path

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        bound_heaps()
        self._database = _connected(folder, *_SEARCHING)
        self._writer = _connected(folder, *_WRITING)
        self._writes: dict[str, tuple[int, int]] = {}

    @classmethod
    def connect(cls, address: str) -> LanceDbStore:
        """Open a folder, which is made where there is none."""
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise InputError(f"{address!r}: LanceDB's address is lancedb:// and a folder.", param="store")
        try:
            return cls(Path(match[1]).expanduser())
        except OSError as error:
            raise StoreFailed(f"LanceDB cannot use the folder {match[1]}: {error}") from error

    def create(self, table: TableSpec) -> None:
        self.check(table)
        if table.name not in self.tables():
            with _told(table.name):
                # A folder that a killed process left half made is taken over.
                self._database.create_table(table.name, schema=arrow.schema(table), exist_ok=True)

    def drop(self, name: str) -> None:
        with _told(name):
            self._database.drop_table(name, ignore_missing=True)

    def tables(self) -> list[str]:
        with _told("*"):
            return sorted(name for name in self._names() if (self._path(name) / "_versions").is_dir())

    def upsert(self, table: TableSpec, records: Sequence[Record]) -> None:
        latest = list({record.id: record for record in records}.values())
        if not latest:
            return
        rows = pa.Table.from_batches([arrow.rows(table, latest)])
        with self._opened(table, writing=True) as opened:
            if opened.count_rows(sql(one_of("id", [record.id for record in latest]))):
                # The index on ids covers but a part, and is slower to join by than to do without.
                merge = opened.merge_insert("id").use_index(False)
                merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
            else:
                opened.add(rows)
            self._tidy(table, opened, len(latest))

    def delete(self, table: TableSpec, where: Filter) -> None:
        with self._opened(table, writing=True) as opened:
            opened.delete(sql(where))
            self._tidy(table, opened, 1)

    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        with self._opened(table) as opened:
            return int(opened.count_rows(_condition(where)))

    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        wanted = arrow.schema(table).names
        return self._scan(table, where, wanted if vectors else _without_vectors(table))

    def search(
        self, table: TableSpec, queries: Sequence[Any], k: int, *, where: Filter | None = None, exact: bool = False
    ) -> list[list[StoreHit]]:
        with self._opened(table) as opened:
            native = table.kind == "dense" or (not exact and _vector_index(opened) is not None)
            if not native or k < 1:
                return self._scanned(table, queries, k, where)
            return [self._nearest(table, opened, query, k, where, exact) for query in queries]

    def index(self, table: TableSpec) -> None:
        with self._opened(table, writing=True) as opened:
            self._build(table, opened)
            opened.optimize(cleanup_older_than=_GRACE)
        self._writes.pop(table.name, None)
        return_memory()

    def size(self, table: TableSpec) -> int | None:
        # Of the latest version, index and all; what older ones still take is on its way out.
        with self._opened(table) as opened:
            return int(opened.stats()["total_bytes"])

    # -- reading -----------------------------------------------------------------------------------------------

    def _scan(self, table: TableSpec, where: Filter | None, columns: Sequence[str]) -> Iterator[list[Record]]:
        with self._opened(table) as opened:
            query = opened.search().select(list(columns))
            query = query if where is None else query.where(_condition(where))
            for part in query.to_batches(_AT_ONCE[table.kind]):
                if len(part):
                    yield arrow.records(table, part)

    def _scanned(self, table: TableSpec, queries: Sequence[Any], k: int, where: Filter | None) -> list[list[StoreHit]]:
        """Compare with every vector; only of what is found is the rest read."""
        parts = self._scan(table, where, ["id", *arrow.vector_columns(table)])
        found = scoring.search(table, parts, queries, k)
        keys = list({hit.record.id for hits in found for hit in hits})
        whole = {record.id: record for record in self.fetch(table, keys)}
        return [[StoreHit(whole[hit.record.id], hit.score) for hit in hits if hit.record.id in whole] for hits in found]

    def _nearest(
        self, table: TableSpec, opened: Any, query: Any, k: int, where: Filter | None, exact: bool
    ) -> list[StoreHit]:
        condition = _condition(where)

        def nearest(count: int) -> list[Record]:
            rows = _query(table, opened, query, count, condition, exact).to_arrow()
            return arrow.records(table, rows.combine_chunks().to_batches()[0]) if len(rows) else []

        found = scoring.settle(table, query, k, nearest)
        # An index finds too little under a narrow filter, and vectors of zeros are near to nothing.
        if len(found) < k and len(found) < int(opened.count_rows(condition)):
            return self._scanned(table, [query], k, where)[0]
        return found

    # -- writing -----------------------------------------------------------------------------------------------

    def _tidy(self, table: TableSpec, opened: Any, count: int) -> None:
        """Join small writes, so seldom that each row is written anew a few times in all."""
        writes, rows = self._writes.get(table.name, (0, 0))
        writes, rows = writes + 1, rows + count
        self._writes[table.name] = writes, rows
        if writes < _WRITES or (writes < _MOST_WRITES and rows < _SHARE * opened.count_rows()):
            return
        self._keys(opened)
        opened.optimize(cleanup_older_than=_GRACE)
        self._writes[table.name] = 0, 0
        return_memory()

    def _keys(self, opened: Any) -> None:
        if opened.count_rows() < _ROWS_TO_KEY:
            return
        there = {name for each in opened.list_indices() for name in each.columns}
        for name in _KEYS:
            if name not in there:
                opened.create_index(name, config=indices.BTree())

    def _build(self, table: TableSpec, opened: Any) -> None:
        self._keys(opened)
        if table.index == "none" or table.kind == "sparse" or opened.count_rows() < _ROWS_TO_INDEX:
            return
        name = _vector_index(opened)
        told = None if name is None else opened.index_stats(name)
        # Further rows are added to an index as it is; once they are the most, it is made anew.
        if told is None or told.num_unindexed_rows > told.num_indexed_rows:
            opened.create_index("vector", config=_config(table))

    # -- tables ------------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, table: TableSpec, *, writing: bool = False) -> Iterator[Any]:
        with _told(table.name):
            yield (self._writer if writing else self._database).open_table(table.name)

    def _names(self) -> Iterator[str]:
        token = None
        while True:
            page = self._database.list_tables(page_token=token)
            yield from page.tables
            token = page.page_token
            if not token:
                return

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.lance"


def _connected(folder: Path, of_indices: int, of_metadata: int) -> Any:
    """Open a folder; each reading looks for what other processes, and other connections, wrote."""
    # Its caches take gigabytes unless they are told not to: every version of a growing table stays in them.
    session = lancedb.Session(index_cache_size_bytes=of_indices, metadata_cache_size_bytes=of_metadata)
    return lancedb.connect(folder, read_consistency_interval=timedelta(0), session=session)


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except NearfieldError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreFailed(f"LanceDB failed at table {name!r}: {error}") from error


def _query(table: TableSpec, opened: Any, query: Any, count: int, condition: str | None, exact: bool) -> Any:
    exact = exact or table.index == "none"
    limit = count if exact else count * _CANDIDATES[table.quantization]
    asked = opened.search(query, vector_column_name="vector").limit(limit)
    asked = asked.select([*arrow.schema(table).names, "_distance"]).distance_type(_distance(table))
    asked = asked if condition is None else asked.where(condition, prefilter=True)
    # Zero is no limit: parts are read until a narrow filter has matched enough.
    return asked.bypass_vector_index() if exact else asked.minimum_nprobes(_PROBES).maximum_nprobes(0)


def _distance(table: TableSpec) -> str:
    if table.kind == "multivector":
        return "cosine"
    return "hamming" if table.dtype == "binary" else _DISTANCES[table.metric]


def _config(table: TableSpec) -> Any:
    """Return the index: parts of nearest vectors, whole or compressed.

    Graphs (HNSW) are no quicker up to 100,000 rows, and take a hundred times as long to build.
    """
    kinds = {"none": indices.IvfFlat, "int8": indices.IvfSq, "binary": indices.IvfRq}
    maker = indices.IvfFlat if table.dtype == "binary" else kinds[table.quantization]
    return maker(distance_type=_distance(table))


def _vector_index(opened: Any) -> str | None:
    return next((each.name for each in opened.list_indices() if each.columns == ["vector"]), None)


def _without_vectors(table: TableSpec) -> list[str]:
    return [name for name in arrow.schema(table).names if name not in arrow.vector_columns(table)]


def _condition(where: Filter | None) -> str | None:
    return None if where is None else sql(where)


def sql(where: Filter) -> str:
    """Return a filter as a condition that is true or false for each row, never null."""
    if isinstance(where, Compare):
        return _comparison(where)
    if isinstance(where, (All, Either)):
        joint, empty = (" AND ", "TRUE") if isinstance(where, All) else (" OR ", "FALSE")
        return "(" + (joint.join(map(sql, where.parts)) or empty) + ")"
    return f"(NOT {sql(where.part)})"


def _comparison(where: Compare) -> str:
    name = f"`{arrow.column(where.field)}`"
    there = "TRUE" if where.field in BUILT_IN else f"{name} IS NOT NULL"
    if where.op == "exists":
        return f"({there})"
    if where.op == "in":
        listed = ", ".join(map(_literal, where.value))
        return f"({there} AND {name} IN ({listed}))" if listed else "FALSE"
    return f"({there} AND {name} {_SIGNS[where.op]} {_literal(where.value)})"


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    # As text, since numbers in SQL are read as floats where they are large.
    return f"CAST('{value + 0!r}' AS {'BIGINT' if isinstance(value, int) else 'DOUBLE'})"
