"""pgvector: tables of a PostgreSQL database (14 or newer) with the extension ``vector``, beside what else it holds.

A table is one ``nearfield_<name>`` in the first schema of the search path, and ``nearfield_tables`` lists them. What
can be held goes by the extension's version: float16, sparse vectors and quantisation to bits from 0.7.0 on. Dense
vectors get an HNSW index from 10,000 rows on; sparse ones and those of tokens are always compared one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from nearfield.errors import InputError, StoreFailed
from nearfield.stores import exact as scoring
from nearfield.stores import pgvector_sql
from nearfield.stores.filters import Filter, one_of
from nearfield.stores.store import Quantization, Record, Store, StoreHit, TableSpec

#: What an address may say otherwise. A server that vanished is noticed within a minute.
_OPTIONS = {
    "application_name": "nearfield",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
_REGISTRY = sql.Identifier("nearfield_tables")
#: Key of the lock under which tables are made ("near").
_LOCK = 0x6E656172
_PAGE = {"dense": 512, "sparse": 512, "multivector": 32}
_ROWS_TO_INDEX = 10_000
#: Candidates that an index looks at: at least so many, at most what pgvector allows; more where it has only signs.
_LEAST, _MOST, _COARSE = 100, 1_000, 8
_WIDEST = 16_000
#: Rows that are asked for beyond those that are wanted: of those that tie with the last, the lowest ids are.
_SPARE = 16
_LASTING = """SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') = 'off'"""
#: For the building of an index: at least so much, whatever the server is set to.
_MORE_MEMORY = """SELECT set_config('maintenance_work_mem', '512MB', true)
    WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes('512MB')"""


class PgVectorStore(Store):
    """``postgresql://user:${NAME}@host/database``, with all that libpq's addresses may say."""

    quantizations: tuple[Quantization, ...] = ("none", "binary")

    def __init__(self, options: dict[str, Any]) -> None:
        """Open a first connection with libpq's options."""
        self._options = {**_OPTIONS, **options, "client_encoding": "utf8"}
        self._idle: list[psycopg.Connection[Any]] = []
        self._version = (0, 0)
        with self._session():
            pass
        if self._version < pgvector_sql.MANY_TYPES:
            self.kinds, self.dtypes, self.quantizations = ("dense", "multivector"), ("float32", "binary"), ("none",)

    @classmethod
    def connect(cls, address: str) -> PgVectorStore:
        try:
            options = conninfo_to_dict(address)
        except psycopg.ProgrammingError:
            # What was wrong is told with a part of the address, which may be of the password.
            advice = "Write postgresql://user:${PASSWORD}@host:5432/database, with %40 for @ and %2F for / in names."
            raise InputError(f"The address of PostgreSQL cannot be read. {advice}", param="store") from None
        return cls(options)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def check(self, table: TableSpec) -> None:
        try:
            super().check(table)
        except InputError as error:
            hint = f" This database has pgvector {self._version[0]}.{self._version[1]}, from 0.7 on it holds more."
            raise InputError(f"{error}{hint if self._version < pgvector_sql.MANY_TYPES else ''}") from error
        if table.quantization == "binary" and (table.kind != "dense" or table.dtype == "binary"):
            raise InputError("pgvector quantises an index of dense vectors alone: set quantization to 'none'.")
        if table.kind != "sparse" and table.dtype != "binary" and table.dimensions > _WIDEST:
            raise InputError(f"pgvector's vectors have at most {_WIDEST} dimensions, not {table.dimensions}.")

    def create(self, table: TableSpec) -> None:
        self.check(table)
        held = sql.SQL(", ").join(sql.Identifier(name) + sql.SQL(" ") + kind for name, kind in _columns(table))
        with self._session(table.name) as session:
            session.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            there = sql.SQL("CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, description json NOT NULL)")
            session.execute(there.format(_REGISTRY))
            session.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(pgvector_sql.identifier(table), held))
            # By hash: an id of a document may be longer than a key of a tree.
            key = sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hash (document)")
            session.execute(key.format(pgvector_sql.identifier(table, "_document"), pgvector_sql.identifier(table)))
            noted = sql.SQL("INSERT INTO {} VALUES (%s, %s) ON CONFLICT DO NOTHING").format(_REGISTRY)
            session.execute(noted, [table.name, json.dumps(asdict(table))])

    def drop(self, name: str) -> None:
        with self._session(name) as session:
            session.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            if _registered(session):
                session.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(pgvector_sql.relation(name))))
                session.execute(sql.SQL("DELETE FROM {} WHERE name = %s").format(_REGISTRY), [name])

    def tables(self) -> list[str]:
        with self._session() as session:
            if not _registered(session):
                return []
            return sorted(name for (name,) in session.execute(sql.SQL("SELECT name FROM {}").format(_REGISTRY)))

    def upsert(self, table: TableSpec, records: Sequence[Record]) -> None:
        latest = list({record.id: record for record in records}.values())
        rows, names = pgvector_sql.rows(table, latest), [name for name, _ in _columns(table)]
        fresh = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in names[1:]]
        statement = sql.SQL("INSERT INTO {} VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}").format(
            pgvector_sql.identifier(table),
            sql.SQL(", ").join([sql.Placeholder()] * len(names)),
            sql.SQL(", ").join(fresh),
        )
        with self._session(table.name) as session:
            # Whatever the server is set to: what is reported as written has to last.
            session.execute(_LASTING)
            session.cursor().executemany(statement, rows)

    def delete(self, table: TableSpec, where: Filter) -> None:
        self._select(table, "DELETE FROM {relation} WHERE {where}", where)

    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        return int(self._select(table, "SELECT count(*) FROM {relation} WHERE {where}", where)[0][0])

    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        # Each page by itself, so that nothing is locked in between: who reads may drop the table meanwhile.
        text = "SELECT {columns} FROM {relation} WHERE {where}{after} ORDER BY id LIMIT %(limit)s"
        page, after, last = _PAGE[table.kind], sql.SQL(""), None
        while True:
            found = self._select(table, text, where, vectors=vectors, parts={"after": after}, limit=page, last=last)
            if found:
                yield [pgvector_sql.record(table, row, vector=vectors) for row in found]
            if len(found) < page:
                return
            after, last = sql.SQL(" AND id > %(last)s"), found[-1][0]

    def fetch(self, table: TableSpec, ids: Sequence[str], *, vectors: bool = False) -> list[Record]:
        found: dict[str, Record] = {}
        page = _PAGE[table.kind]
        for start in range(0, len(ids), page):
            text, where = "SELECT {columns} FROM {relation} WHERE {where}", one_of("id", ids[start : start + page])
            rows = self._select(table, text, where, vectors=vectors)
            found.update((str(row[0]), pgvector_sql.record(table, row, vector=vectors)) for row in rows)
        return [found[key] for key in ids if key in found]

    def search(
        self, table: TableSpec, queries: Sequence[Any], k: int, *, where: Filter | None = None, exact: bool = False
    ) -> list[list[StoreHit]]:
        if table.kind == "multivector":
            return super().search(table, queries, k, where=where)
        if exact or table.kind == "sparse" or not self._has_index(table):
            return [self._compared(table, query, k, where) for query in queries]
        return [self._indexed(table, query, k, where) for query in queries]

    def index(self, table: TableSpec) -> None:
        made_of, name = pgvector_sql.indexed(table, self._version), pgvector_sql.identifier(table)
        many = "SELECT count(*) FROM (SELECT FROM {relation} LIMIT %(limit)s) AS part"
        if made_of and self._select(table, many, limit=_ROWS_TO_INDEX)[0][0] >= _ROWS_TO_INDEX:
            form = sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw ({})")
            self._build(table, form.format(pgvector_sql.identifier(table, "_vector"), name, made_of))
        with self._session(table.name, transaction=False) as session:
            session.execute(sql.SQL("VACUUM (ANALYZE) {}").format(name))

    def size(self, table: TableSpec) -> int | None:
        told = "SELECT pg_total_relation_size(%(name)s::regclass)"
        return int(self._select(table, told, name=f'"{pgvector_sql.relation(table.name)}"')[0][0])

    # -- searching ---------------------------------------------------------------------------------------------

    def _compared(self, table: TableSpec, query: Any, k: int, where: Filter | None) -> list[StoreHit]:
        """Compare with every record that the filter lets through."""
        asked = pgvector_sql.parameter(table, query)
        distance = pgvector_sql.distance(table, self._version)
        # To vectors of zeros the cosine's distance is no number. Where sparse ones have nothing in common it is 0.
        number = sql.SQL("coalesce(nullif({}::float8, 'NaN'), 1)").format(distance)
        text = "SELECT {columns} FROM {relation} WHERE {where}{met} ORDER BY {number}, id LIMIT %(limit)s"
        sparse = table.kind == "sparse"
        parts = {"number": number, "met": sql.SQL(" AND {} <> 0").format(distance) if sparse else sql.SQL("")}

        def near(count: int) -> list[Record]:
            options: dict[str, Any] = {"vectors": True, "parts": parts, "indexed": False}
            rows = self._select(table, text, where, query=asked, limit=count, **options)
            return [pgvector_sql.record(table, row, vector=True) for row in rows]

        hits = scoring.settle(table, query, k, near)
        if not sparse or len(hits) >= k:
            return hits
        text = "SELECT {columns} FROM {relation} WHERE {where} AND {number} = 0 ORDER BY id LIMIT %(limit)s"
        rest = self._select(table, text, where, query=asked, limit=k, parts={"number": distance})
        hits += [StoreHit(pgvector_sql.record(table, row, vector=False), 0.0) for row in rest]
        return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[:k]

    def _indexed(self, table: TableSpec, query: Any, k: int, where: Filter | None) -> list[StoreHit]:
        """Search with the index, and without it where a filter lets too little of what that finds through."""
        near = "SELECT {columns}, {distance} FROM {relation} WHERE {where} ORDER BY {order} LIMIT %(limit)s"
        if table.quantization == "binary":
            inner = "SELECT * FROM {relation} WHERE {where} ORDER BY {order} LIMIT %(candidates)s"
            near = f"SELECT {{columns}}, {{distance}} FROM ({inner}) AS near ORDER BY {{distance}} LIMIT %(limit)s"
        distance = pgvector_sql.distance(table, self._version)
        order = pgvector_sql.coarse(table) if table.quantization == "binary" else distance
        candidates = max(_LEAST, _COARSE * k if table.quantization == "binary" else 2 * k)
        parts = {"distance": distance, "order": order}
        options: dict[str, Any] = {"parts": parts, "indexed": candidates, "candidates": candidates}
        rows = self._select(table, near, where, query=pgvector_sql.parameter(table, query), limit=k + _SPARE, **options)
        if len(rows) < k:
            return self._compared(table, query, k, where)
        hits = [
            StoreHit(pgvector_sql.record(table, row, vector=False), pgvector_sql.score(table, row[-1])) for row in rows
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[:k]

    def _has_index(self, table: TableSpec) -> bool:
        name = f'"{pgvector_sql.relation(table.name)}_vector"'
        return bool(self._select(table, "SELECT to_regclass(%(name)s) IS NOT NULL", name=name)[0][0])

    def _build(self, table: TableSpec, statement: sql.Composed) -> None:
        # With workers its memory is shared memory, of which a container has little.
        for workers in (None, 0):
            try:
                with self._session(table.name) as session:
                    session.execute(_MORE_MEMORY)
                    if workers is not None:
                        _set(session, {"max_parallel_maintenance_workers": str(workers)})
                    session.execute(statement)
                return
            except StoreFailed as error:
                if workers == 0 or not isinstance(error.__cause__, (errors.DiskFull, errors.OutOfMemory)):
                    raise

    # -- asking ------------------------------------------------------------------------------------------------

    def _select(
        self,
        table: TableSpec,
        text: str,
        where: Filter | None = None,
        *,
        vectors: bool = False,
        parts: dict[str, sql.Composable] | None = None,
        indexed: int | bool | None = None,
        **values: Any,
    ) -> list[tuple[Any, ...]]:
        """Run a statement of which ``parts`` are filled in, and return its rows.

        ``indexed`` says how many candidates an index is to look at, or False for none to be used.
        """
        names = [name for name, _ in _columns(table)][: None if vectors else -1]
        condition = pgvector_sql.condition(where, table.fields, values)
        filled = sql.SQL(text).format(
            relation=pgvector_sql.identifier(table),
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
            where=condition,
            **(parts or {}),
        )
        with self._session(table.name) as session:
            if indexed is False:
                _set(session, {"enable_indexscan": "off", "enable_seqscan": "on"})
            elif indexed is not None:
                _set(session, {"hnsw.ef_search": str(min(indexed, _MOST))})
                if self._version >= pgvector_sql.ITERATIVE:
                    _set(session, {"hnsw.iterative_scan": "strict_order"})
            cursor = session.cursor(binary=True)
            cursor.execute(filled, values)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def _session(self, table: str = "", *, transaction: bool = True) -> Iterator[psycopg.Connection[Any]]:
        """Lend a connection; what is done with it is done as a whole, or not at all."""
        connection: psycopg.Connection[Any] | None = None
        try:
            connection = self._borrowed()
            if transaction:
                with connection.transaction():
                    yield connection
            else:
                yield connection
        except errors.UndefinedTable as error:
            raise StoreFailed(f"{self._place} has no table {table!r}: create it first.") from error
        except (psycopg.DataError, UnicodeEncodeError) as error:
            raise InputError(f"PostgreSQL cannot hold this in table {table!r}: {self._said(error)}") from error
        except psycopg.Error as error:
            lost = connection is None or connection.closed
            if lost:
                self.close()
            what = "does not answer" if lost else "failed"
            raise StoreFailed(f"{self._place} {what}: {self._said(error)}") from error
        finally:
            if connection is not None:
                self._give_back(connection)

    def _borrowed(self) -> psycopg.Connection[Any]:
        try:
            return self._idle.pop()
        except IndexError:
            # No prepared statements: their plans outlast the settings that they were made under.
            connection = psycopg.connect(**self._options, autocommit=True, prepare_threshold=None)
        try:
            self._version = _extension(connection)
            register_vector(connection)
            _set(connection, {"lock_timeout": "60s"}, lasting=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            connection.close()
        else:
            self._idle.append(connection)

    @property
    def _place(self) -> str:
        told = {"host": "localhost", "port": "5432", "dbname": "", **self._options}
        return self._without_password(f"PostgreSQL at {told['host']}:{told['port']}/{told['dbname']}")

    def _said(self, error: Exception) -> str:
        """Return what the driver said, on a line."""
        return self._without_password(" ".join(str(error).split()))

    def _without_password(self, text: str) -> str:
        password = self._options.get("password")
        return text.replace(str(password), "***") if password else text


def _columns(table: TableSpec) -> list[tuple[str, sql.Composable]]:
    return list(pgvector_sql.columns(table).items())


def _set(session: psycopg.Connection[Any], settings: Mapping[str, str], *, lasting: bool = False) -> None:
    for name, value in settings.items():
        session.execute("SELECT set_config(%s, %s, %s)", [name, value, not lasting])


def _registered(session: psycopg.Connection[Any]) -> bool:
    found = session.execute("SELECT to_regclass('nearfield_tables') IS NOT NULL").fetchone()
    return bool(found and found[0])


def _extension(session: psycopg.Connection[Any]) -> tuple[int, int]:
    """Return the version of pgvector, which is put into the database where it is not in it yet."""
    told = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    row = session.execute(told).fetchone()
    if row is None:
        try:
            session.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.Error as error:
            raise StoreFailed(
                "The database has no extension 'vector', and it cannot be created here "
                f"({' '.join(str(error).split())}). Install pgvector on the server, and run CREATE EXTENSION vector "
                "as one who may."
            ) from error
        row = session.execute(told).fetchone()
    major, minor = str(row[0] if row else "0.0").split(".")[:2]
    return int(major), int(minor)
