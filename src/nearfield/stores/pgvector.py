"""pgvector store: tables in a PostgreSQL database (14 or newer) with the extension ``vector``.

A table is called ``nearfield_<name>``, in the first schema of the search path, and ``nearfield_tables`` lists them. The
supported types depend on the extension's version: float16, sparse vectors and quantisation to bits from 0.7.0 on. Dense
vectors get an HNSW index from 10,000 rows on; sparse ones and multivectors are always compared one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeAlias

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from nearfield.errors import InputError, StoreFailed
from nearfield.fork_safety import PerProcess
from nearfield.stores import exact as scoring
from nearfield.stores import pgvector_sql
from nearfield.stores.filters import Filter, one_of
from nearfield.stores.store import Quantization, Record, Store, StoreHit, TableSpec, Vector

#: Defaults that an address may override. A server that vanished is noticed within a minute.
_OPTIONS = {
    "application_name": "nearfield",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
_REGISTRY = sql.Identifier("nearfield_tables")
#: Key of the advisory lock for creating tables ("near").
_LOCK = 0x6E656172
_PAGE_SIZES = {"dense": 512, "sparse": 512, "multivector": 32}
_ROWS_TO_INDEX = 10_000
#: Candidates of an index search: minimum, maximum that pgvector allows, and the factor for an index of signs only.
_MIN_CANDIDATES, _MAX_CANDIDATES, _COARSE = 100, 1_000, 8
_MAX_DIMENSIONS = 16_000
#: Rows that are fetched besides the requested ones: of those that tie with the last, the lowest ids are returned.
_SPARE = 16
_DURABLE = """SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') = 'off'"""
#: Minimum memory for building an index, whatever the server's setting.
_MORE_MEMORY = """SELECT set_config('maintenance_work_mem', '512MB', true)
    WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes('512MB')"""


class PgVectorStore(Store):
    """``postgresql://user:${NAME}@host/database``, with all options of libpq's addresses."""

    quantizations: tuple[Quantization, ...] = ("none", "binary")

    def __init__(self, options: dict[str, Any]) -> None:
        """Open a first connection with libpq's options."""
        self._options = {**_OPTIONS, **options, "client_encoding": "utf8"}
        #: A forked process opens its own connections: two that write to one socket mix their messages.
        self._connections = PerProcess[list[Connection]]()
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
            # The original message quotes a part of the address, which may be the password.
            advice = "Write postgresql://user:${PASSWORD}@host:5432/database, with %40 for @ and %2F for / in names."
            raise InputError(f"The address of PostgreSQL cannot be read. {advice}", param="store") from None
        return cls(options)

    def close(self) -> None:
        for connection in self._connections.pop() or ():
            connection.close()

    def check(self, table: TableSpec) -> None:
        try:
            super().check(table)
        except InputError as error:
            hint = f" This database has pgvector {self._version[0]}.{self._version[1]}, from 0.7 on it supports more."
            raise InputError(f"{error}{hint if self._version < pgvector_sql.MANY_TYPES else ''}") from error
        if table.quantization == "binary" and (table.kind != "dense" or table.dtype == "binary"):
            raise InputError("pgvector quantises only an index of dense vectors: set quantization to 'none'.")
        if table.kind != "sparse" and table.dtype != "binary" and table.dimensions > _MAX_DIMENSIONS:
            raise InputError(f"pgvector's vectors have at most {_MAX_DIMENSIONS} dimensions, not {table.dimensions}.")

    def create(self, table: TableSpec) -> None:
        self.check(table)
        columns = sql.SQL(", ").join(sql.Identifier(name) + sql.SQL(" ") + kind for name, kind in _columns(table))
        with self._session(table.name) as session:
            session.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            registry = sql.SQL("CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, description json NOT NULL)")
            session.execute(registry.format(_REGISTRY))
            create = sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})")
            session.execute(create.format(pgvector_sql.identifier(table), columns))
            # By hash: the id of a document may be longer than a key of a B-tree.
            key = sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hash (document)")
            session.execute(key.format(pgvector_sql.identifier(table, "_document"), pgvector_sql.identifier(table)))
            insert = sql.SQL("INSERT INTO {} VALUES (%s, %s) ON CONFLICT DO NOTHING").format(_REGISTRY)
            session.execute(insert, [table.name, json.dumps(asdict(table))])

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
        updates = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in names[1:]]
        statement = sql.SQL("INSERT INTO {} VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}").format(
            pgvector_sql.identifier(table),
            sql.SQL(", ").join([sql.Placeholder()] * len(names)),
            sql.SQL(", ").join(updates),
        )
        with self._session(table.name) as session:
            # Whatever the server's setting: what is reported as written must survive a crash.
            session.execute(_DURABLE)
            session.cursor().executemany(statement, rows)

    def delete(self, table: TableSpec, where: Filter) -> None:
        self._select(table, "DELETE FROM {relation} WHERE {where}", where)

    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        return int(self._select(table, "SELECT count(*) FROM {relation} WHERE {where}", where)[0][0])

    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        # One transaction per page, so that nothing is locked in between: a reader may drop the table.
        text = "SELECT {columns} FROM {relation} WHERE {where}{after} ORDER BY id LIMIT %(limit)s"
        page, after, last = _PAGE_SIZES[table.kind], sql.SQL(""), None
        while True:
            rows = self._select(table, text, where, vectors=vectors, parts={"after": after}, limit=page, last=last)
            if rows:
                yield [pgvector_sql.record(table, row, vector=vectors) for row in rows]
            if len(rows) < page:
                return
            after, last = sql.SQL(" AND id > %(last)s"), rows[-1][0]

    def fetch(self, table: TableSpec, ids: Sequence[str], *, vectors: bool = False) -> list[Record]:
        records: dict[str, Record] = {}
        page = _PAGE_SIZES[table.kind]
        for start in range(0, len(ids), page):
            text, where = "SELECT {columns} FROM {relation} WHERE {where}", one_of("id", ids[start : start + page])
            rows = self._select(table, text, where, vectors=vectors)
            records.update((str(row[0]), pgvector_sql.record(table, row, vector=vectors)) for row in rows)
        return [records[key] for key in ids if key in records]

    def search(
        self, table: TableSpec, queries: Sequence[Vector], k: int, *, where: Filter | None = None, exact: bool = False
    ) -> list[list[StoreHit]]:
        if table.kind == "multivector":
            return super().search(table, queries, k, where=where)
        if exact or table.kind == "sparse" or not self._has_index(table):
            return [self._compared(table, query, k, where) for query in queries]
        return [self._indexed(table, query, k, where) for query in queries]

    def index(self, table: TableSpec) -> None:
        expression, name = pgvector_sql.index_expression(table, self._version), pgvector_sql.identifier(table)
        many = "SELECT count(*) FROM (SELECT FROM {relation} LIMIT %(limit)s) AS part"
        if expression and self._select(table, many, limit=_ROWS_TO_INDEX)[0][0] >= _ROWS_TO_INDEX:
            form = sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw ({})")
            self._build(table, form.format(pgvector_sql.identifier(table, "_vector"), name, expression))
        with self._session(table.name, transaction=False) as session:
            session.execute(sql.SQL("VACUUM (ANALYZE) {}").format(name))

    def size(self, table: TableSpec) -> int | None:
        text = "SELECT pg_total_relation_size(%(name)s::regclass)"
        return int(self._select(table, text, name=f'"{pgvector_sql.relation(table.name)}"')[0][0])

    # -- searching ---------------------------------------------------------------------------------------------

    def _compared(self, table: TableSpec, query: Vector, k: int, where: Filter | None) -> list[StoreHit]:
        """Compare with every record that matches the filter."""
        parameter = pgvector_sql.parameter(table, query)
        distance = pgvector_sql.distance(table, self._version)
        # The cosine distance to a vector of zeros is NaN. That of sparse ones without common terms is 0.
        number = sql.SQL("coalesce(nullif({}::float8, 'NaN'), 1)").format(distance)
        text = "SELECT {columns} FROM {relation} WHERE {where}{met} ORDER BY {number}, id LIMIT %(limit)s"
        sparse = table.kind == "sparse"
        parts = {"number": number, "met": sql.SQL(" AND {} <> 0").format(distance) if sparse else sql.SQL("")}

        def near(count: int) -> list[Record]:
            options: dict[str, Any] = {"vectors": True, "parts": parts, "indexed": False}
            rows = self._select(table, text, where, query=parameter, limit=count, **options)
            return [pgvector_sql.record(table, row, vector=True) for row in rows]

        hits = scoring.rank_candidates(table, query, k, near)
        if not sparse or len(hits) >= k:
            return hits
        text = "SELECT {columns} FROM {relation} WHERE {where} AND {number} = 0 ORDER BY id LIMIT %(limit)s"
        rest = self._select(table, text, where, query=parameter, limit=k, parts={"number": distance})
        hits += [StoreHit(pgvector_sql.record(table, row, vector=False), 0.0) for row in rest]
        return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[:k]

    def _indexed(self, table: TableSpec, query: Vector, k: int, where: Filter | None) -> list[StoreHit]:
        """Search with the index, and without it if too few of its results match the filter."""
        near = "SELECT {columns}, {distance} FROM {relation} WHERE {where} ORDER BY {order} LIMIT %(limit)s"
        if table.quantization == "binary":
            inner = "SELECT * FROM {relation} WHERE {where} ORDER BY {order} LIMIT %(candidates)s"
            near = f"SELECT {{columns}}, {{distance}} FROM ({inner}) AS near ORDER BY {{distance}} LIMIT %(limit)s"
        distance = pgvector_sql.distance(table, self._version)
        order = pgvector_sql.coarse(table) if table.quantization == "binary" else distance
        candidates = max(_MIN_CANDIDATES, _COARSE * k if table.quantization == "binary" else 2 * k)
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
        # With workers it uses shared memory, of which a container has little.
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

    # -- statements and connections ----------------------------------------------------------------------------

    def _select(
        self,
        table: TableSpec,
        text: str,
        where: Filter | None = None,
        *,
        vectors: bool = False,
        parts: dict[str, sql.Composable] | None = None,
        indexed: int | bool | None = None,
        **values: object,
    ) -> list[tuple[Any, ...]]:
        """Run a statement with ``parts`` filled in, and return its rows.

        ``indexed`` is the number of candidates for an index, or False to use no index.
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
                _set(session, {"hnsw.ef_search": str(min(indexed, _MAX_CANDIDATES))})
                if self._version >= pgvector_sql.ITERATIVE:
                    _set(session, {"hnsw.iterative_scan": "strict_order"})
            cursor = session.cursor(binary=True)
            cursor.execute(filled, values)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def _session(self, table: str = "", *, transaction: bool = True) -> Iterator[Connection]:
        """Yield a connection for one transaction, which takes effect completely or not at all."""
        connection: Connection | None = None
        try:
            connection = self._take_connection()
            if transaction:
                with connection.transaction():
                    yield connection
            else:
                yield connection
        except errors.UndefinedTable as error:
            raise StoreFailed(f"{self._place} has no table {table!r}: create it first.") from error
        except (psycopg.DataError, UnicodeEncodeError) as error:
            raise InputError(f"PostgreSQL cannot hold this in table {table!r}: {self._message(error)}") from error
        except psycopg.Error as error:
            lost = connection is None or connection.closed
            if lost:
                self.close()
            what = "does not answer" if lost else "failed"
            raise StoreFailed(f"{self._place} {what}: {self._message(error)}") from error
        finally:
            if connection is not None:
                self._return_connection(connection)

    def _take_connection(self) -> Connection:
        try:
            return self._connections.get(list).pop()
        except IndexError:
            # No prepared statements: their plans outlast the settings that they were planned with.
            connection = psycopg.connect(**self._options, autocommit=True, prepare_threshold=None)
        try:
            self._version = _extension(connection)
            register_vector(connection)
            _set(connection, {"lock_timeout": "60s"}, permanent=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _return_connection(self, connection: Connection) -> None:
        if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            connection.close()
        else:
            self._connections.get(list).append(connection)

    @property
    def _place(self) -> str:
        options = {"host": "localhost", "port": "5432", "dbname": "", **self._options}
        return self._without_password(f"PostgreSQL at {options['host']}:{options['port']}/{options['dbname']}")

    def _message(self, error: Exception) -> str:
        """Return the driver's message on one line, without the password."""
        return self._without_password(" ".join(str(error).split()))

    def _without_password(self, text: str) -> str:
        password = self._options.get("password")
        return text.replace(str(password), "***") if password else text


def _columns(table: TableSpec) -> list[tuple[str, sql.Composable]]:
    return list(pgvector_sql.columns(table).items())


def _set(session: Connection, settings: Mapping[str, str], *, permanent: bool = False) -> None:
    for name, value in settings.items():
        session.execute("SELECT set_config(%s, %s, %s)", [name, value, not permanent])


def _registered(session: Connection) -> bool:
    row = session.execute("SELECT to_regclass('nearfield_tables') IS NOT NULL").fetchone()
    return bool(row and row[0])


def _extension(session: Connection) -> tuple[int, int]:
    """Return the version of pgvector, and add the extension to the database if it lacks it."""
    text = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    row = session.execute(text).fetchone()
    if row is None:
        try:
            session.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.Error as error:
            raise StoreFailed(
                "The database has no extension 'vector', and it cannot be created here "
                f"({' '.join(str(error).split())}). Install pgvector on the server, and run CREATE EXTENSION vector "
                "as a user with the right to do so."
            ) from error
        row = session.execute(text).fetchone()
    major, minor = str(row[0] if row else "0.0").split(".")[:2]
    return int(major), int(minor)
