"""LanceDB store: the default vector database, in a folder, without a server."""

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
from nearfield.fork_safety import ForkGuard
from nearfield.hardware import bound_heaps, return_memory
from nearfield.stores import arrow
from nearfield.stores import exact as scoring
from nearfield.stores.filters import BUILT_IN, All, Compare, Either, Filter, Value, balanced, one_of
from nearfield.stores.store import Record, Store, StoreHit, TableSpec, Vector

#: A table and a query of LanceDB, which has few types.
LanceTable = Any
LanceQuery = Any
_ADDRESS = re.compile(r"lancedb://(.+)", re.DOTALL)
_DISTANCES = {"cosine": "cosine", "dot": "dot", "euclidean": "l2"}
_SIGNS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
#: Columns by which documents are looked up, and the number of rows from which an index on them pays.
_KEYS = ("id", "document")
_ROWS_TO_KEY = 5_000
#: Bytes of LanceDB's caches of indices and table metadata, for searching and for writing: the latter loads every
#: version of a growing index.
_SEARCH_CACHE, _WRITE_CACHE = (2**28, 2**25), (2**21, 2**22)
#: Number of rows from which a vector index pays.
_ROWS_TO_INDEX = 20_000
#: Writes before a table is compacted: minimum and maximum number, and the share of new rows in between.
_MIN_WRITES, _MAX_WRITES, _SHARE = 64, 512, 0.05
#: How long readers of an older version may take to finish.
_GRACE = timedelta(minutes=1)
#: Partitions of an index that are read for a query, and candidates per result by quantisation of the index.
_PROBES = 40
_CANDIDATES = {"none": 1, "int8": 1, "binary": 8}
_ROWS_PER_BATCH = {"dense": 1024, "sparse": 1024, "multivector": 128}

#: Its threads, and locks that they had, are not there in a forked process: of 12, six crashed or hung (version 0.40).
_GUARD = ForkGuard("LanceDB")


class LanceDbStore(Store):
    """``lancedb:///absolute/folder`` or ``lancedb://relative/folder``.

    Each write creates a new version, completely or not at all, so that a process may be killed at any moment. Small
    writes are compacted from time to time, and old versions removed.
    """

    quantizations = ("none", "int8", "binary")
    folder: Path

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        bound_heaps()
        self._connections = (_connect(folder, *_SEARCH_CACHE), _connect(folder, *_WRITE_CACHE))
        self._writes: dict[str, tuple[int, int]] = {}

    @property
    def _database(self) -> lancedb.DBConnection:
        _GUARD.check()
        return self._connections[0]

    @property
    def _writer(self) -> lancedb.DBConnection:
        _GUARD.check()
        return self._connections[1]

    @classmethod
    def connect(cls, address: str) -> LanceDbStore:
        """Open a folder, and create it if there is none."""
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise InputError(f"{address!r}: LanceDB's address is lancedb:// and the path of a folder.", param="store")
        try:
            return cls(Path(match[1]).expanduser())
        except OSError as error:
            raise StoreFailed(f"LanceDB cannot use the folder {match[1]}: {error}") from error

    def create(self, table: TableSpec) -> None:
        self.check(table)
        if table.name not in self.tables():
            with _store_errors(table.name):
                # An incomplete folder of a killed process is taken over.
                self._database.create_table(table.name, schema=arrow.schema(table), exist_ok=True)

    def drop(self, name: str) -> None:
        with _store_errors(name):
            self._database.drop_table(name, ignore_missing=True)

    def tables(self) -> list[str]:
        with _store_errors("*"):
            return sorted(name for name in self._names() if (self._path(name) / "_versions").is_dir())

    def upsert(self, table: TableSpec, records: Sequence[Record]) -> None:
        latest = list({record.id: record for record in records}.values())
        if not latest:
            return
        rows = pa.Table.from_batches([arrow.rows(table, latest)])
        with self._open_table(table, writing=True) as lance_table:
            if lance_table.count_rows(sql(one_of("id", [record.id for record in latest]))):
                # The index on ids covers only some rows: the join is faster without it.
                merge = lance_table.merge_insert("id").use_index(False)
                merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
            else:
                lance_table.add(rows)
            self._compact_if_due(table, lance_table, len(latest))

    def delete(self, table: TableSpec, where: Filter) -> None:
        with self._open_table(table, writing=True) as lance_table:
            lance_table.delete(sql(where))
            self._compact_if_due(table, lance_table, 1)

    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        with self._open_table(table) as lance_table:
            return int(lance_table.count_rows(_condition(where)))

    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        columns = arrow.schema(table).names if vectors else _without_vectors(table)
        return self._scan(table, where, columns)

    def search(
        self, table: TableSpec, queries: Sequence[Vector], k: int, *, where: Filter | None = None, exact: bool = False
    ) -> list[list[StoreHit]]:
        with self._open_table(table) as lance_table:
            native = table.kind == "dense" or (not exact and _vector_index(lance_table) is not None)
            if not native or k < 1:
                return self._search_all(table, queries, k, where)
            return [self._nearest(table, lance_table, query, k, where, exact) for query in queries]

    def index(self, table: TableSpec) -> None:
        with self._open_table(table, writing=True) as lance_table:
            self._build(table, lance_table)
            lance_table.optimize(cleanup_older_than=_GRACE)
        self._writes.pop(table.name, None)
        return_memory()

    def size(self, table: TableSpec) -> int | None:
        # Of the latest version, with its index; older versions are removed soon.
        with self._open_table(table) as lance_table:
            return int(lance_table.stats()["total_bytes"])

    # -- reading -----------------------------------------------------------------------------------------------

    def _scan(self, table: TableSpec, where: Filter | None, columns: Sequence[str]) -> Iterator[list[Record]]:
        with self._open_table(table) as lance_table:
            query = lance_table.search().select(list(columns))
            query = query if where is None else query.where(_condition(where))
            for part in query.to_batches(_ROWS_PER_BATCH[table.kind]):
                if len(part):
                    yield arrow.records(table, part)

    def _search_all(
        self, table: TableSpec, queries: Sequence[Vector], k: int, where: Filter | None
    ) -> list[list[StoreHit]]:
        """Compare with every vector; the other columns are read for the results only."""
        parts = self._scan(table, where, ["id", *arrow.vector_columns(table)])
        results = scoring.search(table, parts, queries, k)
        keys = list({hit.record.id for hits in results for hit in hits})
        whole = {record.id: record for record in self.fetch(table, keys)}
        return [
            [StoreHit(whole[hit.record.id], hit.score) for hit in hits if hit.record.id in whole] for hits in results
        ]

    def _nearest(
        self, table: TableSpec, lance_table: LanceTable, query: Vector, k: int, where: Filter | None, exact: bool
    ) -> list[StoreHit]:
        condition = _condition(where)

        def nearest(count: int) -> list[Record]:
            rows = _query(table, lance_table, query, count, condition, exact).to_arrow()
            return arrow.records(table, rows.combine_chunks().to_batches()[0]) if len(rows) else []

        hits = scoring.rank_candidates(table, query, k, nearest)
        # An index has too few results with a narrow filter, and misses vectors of zeros.
        if len(hits) < k and len(hits) < int(lance_table.count_rows(condition)):
            return self._search_all(table, [query], k, where)[0]
        return hits

    # -- writing -----------------------------------------------------------------------------------------------

    def _compact_if_due(self, table: TableSpec, lance_table: LanceTable, count: int) -> None:
        """Compact the table after many writes, so rarely that each row is rewritten only a few times in all."""
        writes, rows = self._writes.get(table.name, (0, 0))
        writes, rows = writes + 1, rows + count
        self._writes[table.name] = writes, rows
        if writes < _MIN_WRITES or (writes < _MAX_WRITES and rows < _SHARE * lance_table.count_rows()):
            return
        self._index_keys(lance_table)
        lance_table.optimize(cleanup_older_than=_GRACE)
        self._writes[table.name] = 0, 0
        return_memory()

    def _index_keys(self, lance_table: LanceTable) -> None:
        if lance_table.count_rows() < _ROWS_TO_KEY:
            return
        indexed = {name for index in lance_table.list_indices() for name in index.columns}
        for name in _KEYS:
            if name not in indexed:
                lance_table.create_index(name, config=indices.BTree())

    def _build(self, table: TableSpec, lance_table: LanceTable) -> None:
        self._index_keys(lance_table)
        if table.index == "none" or table.kind == "sparse" or lance_table.count_rows() < _ROWS_TO_INDEX:
            return
        name = _vector_index(lance_table)
        stats = None if name is None else lance_table.index_stats(name)
        # New rows are added to an existing index; when they are the majority, it is built again.
        if stats is None or stats.num_unindexed_rows > stats.num_indexed_rows:
            lance_table.create_index("vector", config=_config(table))

    # -- tables ------------------------------------------------------------------------------------------------

    @contextmanager
    def _open_table(self, table: TableSpec, *, writing: bool = False) -> Iterator[LanceTable]:
        with _store_errors(table.name):
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


def _connect(folder: Path, index_cache: int, metadata_cache: int) -> lancedb.DBConnection:
    """Open a folder such that each read sees the writes of other processes and connections."""
    _GUARD.check()
    # Without limits its caches take gigabytes: they contain every version of a growing table.
    session = lancedb.Session(index_cache_size_bytes=index_cache, metadata_cache_size_bytes=metadata_cache)
    return lancedb.connect(folder, read_consistency_interval=timedelta(0), session=session)


@contextmanager
def _store_errors(name: str) -> Iterator[None]:
    """Raise errors of LanceDB as StoreFailed, with the table's name."""
    try:
        yield
    except NearfieldError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreFailed(f"LanceDB failed at table {name!r}: {error}") from error


def _query(
    table: TableSpec, lance_table: LanceTable, query: Vector, count: int, condition: str | None, exact: bool
) -> LanceQuery:
    exact = exact or table.index == "none"
    limit = count if exact else count * _CANDIDATES[table.quantization]
    search = lance_table.search(query, vector_column_name="vector").limit(limit)
    search = search.select([*arrow.schema(table).names, "_distance"]).distance_type(_distance(table))
    search = search if condition is None else search.where(condition, prefilter=True)
    # Zero means no limit: partitions are read until a narrow filter has matched enough rows.
    return search.bypass_vector_index() if exact else search.minimum_nprobes(_PROBES).maximum_nprobes(0)


def _distance(table: TableSpec) -> str:
    if table.kind == "multivector":
        return "cosine"
    return "hamming" if table.dtype == "binary" else _DISTANCES[table.metric]


def _config(table: TableSpec) -> object:
    """Return the configuration of the index: partitions of near vectors (IVF), whole or compressed.

    Graphs (HNSW) are no quicker up to 100,000 rows, and take a hundred times as long to build.
    """
    kinds = {"none": indices.IvfFlat, "int8": indices.IvfSq, "binary": indices.IvfRq}
    kind = indices.IvfFlat if table.dtype == "binary" else kinds[table.quantization]
    return kind(distance_type=_distance(table))


def _vector_index(lance_table: LanceTable) -> str | None:
    return next((index.name for index in lance_table.list_indices() if index.columns == ["vector"]), None)


def _without_vectors(table: TableSpec) -> list[str]:
    return [name for name in arrow.schema(table).names if name not in arrow.vector_columns(table)]


def _condition(where: Filter | None) -> str | None:
    return None if where is None else sql(where)


def sql(where: Filter) -> str:
    """Return a filter as a condition that is true or false for each row, never null."""
    if isinstance(where, Compare):
        return _comparison(where)
    if isinstance(where, (All, Either)):
        joint, empty = ("AND", "TRUE") if isinstance(where, All) else ("OR", "FALSE")
        parts = [sql(part) for part in where.parts]
        return balanced(parts, lambda left, right: f"({left} {joint} {right})") if parts else empty
    return f"(NOT {sql(where.part)})"


def _comparison(where: Compare) -> str:
    name = f"`{arrow.column(where.field)}`"
    exists = "TRUE" if where.field in BUILT_IN else f"{name} IS NOT NULL"
    if where.op == "exists":
        return f"({exists})"
    if where.op == "in":
        listed = ", ".join(map(_literal, where.value))
        return f"({exists} AND {name} IN ({listed}))" if listed else "FALSE"
    return f"({exists} AND {name} {_SIGNS[where.op]} {_literal(where.value)})"


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    # As text, since SQL reads large numbers as floats.
    return f"CAST('{value + 0!r}' AS {'BIGINT' if isinstance(value, int) else 'DOUBLE'})"
