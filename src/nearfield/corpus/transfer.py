"""Export a collection to Parquet files, import such an archive, and move vectors to another store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nearfield.corpus.document import embedded
from nearfield.corpus.features import table_from_dict
from nearfield.corpus.manifest import schema, sqlite
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.records import VectorTable
from nearfield.corpus.manifest.sqlite import SharedConnection
from nearfield.errors import InputError, StoreFailed
from nearfield.fork_safety import ProcessLock
from nearfield.stores import Record, Store, parquet

#: Format of an archive. Format 1 has the tables of a manifest of format 1; later ones say which format they have.
FORMAT = 2
_HEADER = "collection.json"
_ROWS_PER_BATCH = 2000


# -- tables of the manifest ------------------------------------------------------------------------------------


def _tables(connection: SharedConnection) -> list[str]:
    """Return the manifest's tables, without the keyword index, which is built from the chunks."""
    rows = list(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name"))
    virtual = [name for name, sql in rows if sql and sql.upper().startswith("CREATE VIRTUAL")]
    internal = ("sqlite_", *(f"{name}_" for name in virtual))
    return [name for name, _ in rows if name not in virtual and not name.startswith(internal)]


def _columns(connection: SharedConnection, table: str) -> dict[str, str]:
    """Return the columns of a table with their types, in order."""
    return {row[1]: row[2].upper() for row in connection.execute(f'PRAGMA table_info("{table}")')}


def _insert(connection: SharedConnection, table: str, rows: Iterable[Sequence[object]]) -> None:
    marks = ", ".join("?" * len(_columns(connection, table)))
    connection.executemany(f'INSERT OR REPLACE INTO "{table}" VALUES ({marks})', rows)


def copy_table(source: SharedConnection, target: Manifest, table: str) -> None:
    """Copy a table's rows into another manifest of the same format; create the table if it does not exist there."""
    definition = source.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    if definition is None:
        return
    with target.writing():
        if table not in _tables(target.connection):
            target.connection.execute(definition[0])
        _insert(target.connection, table, source.raw.execute(f'SELECT * FROM "{table}"'))


# -- export ----------------------------------------------------------------------------------------------------


def export(name: str, manifest: Manifest, store: Store, folder: Path) -> list[Path]:
    """Write manifest and vectors as Parquet files, and the header last; return the files.

    Raises:
        InputError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already: export to a new folder.", param="folder")
    (folder / "manifest").mkdir(parents=True)
    (folder / "vectors").mkdir()
    files = []
    for table in _tables(manifest.connection):
        files.append(folder / "manifest" / f"{table}.parquet")
        _write_table(manifest.connection, table, files[-1])
    for feature, record in manifest.live_tables().items():
        files.append(folder / "vectors" / f"{feature}.parquet")
        fingerprint = str(record.space.get("fingerprint", ""))
        parquet.write_table(store, table_from_dict(record.described), files[-1], fingerprint=fingerprint)
    header = {
        "format": FORMAT,
        "manifest_format": schema.FORMAT,
        "name": name,
        "config": manifest.get("config"),
        "schema": _definitions(manifest.connection),
    }
    (folder / _HEADER).write_text(json.dumps(header, indent=1), encoding="utf-8")
    return [folder / _HEADER, *files]


def _definitions(connection: SharedConnection) -> dict[str, str]:
    """Return the SQL that creates the tables, by table."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
    definitions: dict[str, str] = dict(rows.fetchall())
    return {name: definitions[name] for name in _tables(connection)}


def _write_table(connection: SharedConnection, table: str, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _columns(connection, table)
    types = {"INTEGER": pa.int64(), "REAL": pa.float64(), "BLOB": pa.binary()}
    arrow = pa.schema([(name, types.get(sql_type, pa.string())) for name, sql_type in columns.items()])
    cursor = connection.raw.execute(f'SELECT * FROM "{table}"')
    with pq.ParquetWriter(path, arrow) as writer:
        while rows := cursor.fetchmany(_ROWS_PER_BATCH):
            writer.write_table(pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)), arrow))


# -- import ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Archive:
    """An exported collection: its folder, definition, and the format and tables of its manifest."""

    folder: Path
    config: dict[str, Any]
    manifest_format: int
    definitions: dict[str, str]


def read_archive(folder: Path) -> Archive:
    """Read the header of an exported collection.

    Raises:
        InputError: the folder has no exported collection, or one of a newer version.
    """
    try:
        header: dict[str, Any] = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is not an exported collection: its {_HEADER} cannot be read ({error}).") from error
    number, manifest_format = header.get("format"), header.get("manifest_format", 1)
    if number not in range(1, FORMAT + 1) or manifest_format not in range(1, schema.FORMAT + 1):
        raise InputError(
            f"{folder} has archive format {number!r} with a manifest of format {manifest_format!r}. This version of "
            f"Nearfield reads archives up to format {FORMAT} and manifests up to format {schema.FORMAT}: update it."
        )
    return Archive(folder, header["config"], manifest_format, header["schema"])


def import_archive(archive: Archive, manifest: Manifest, store: Store, new_name: Callable[[str], str]) -> None:
    """Fill an empty collection from an archive. ``new_name`` returns a name for the vector table of a feature."""
    own = {key: manifest.get(key) for key in ("config", "uid")}
    connection = _load_manifest(archive)
    try:
        with manifest.writing():
            for table in _tables(connection):
                copy_table(connection, manifest, table)
            _index_keywords(manifest)
            for key, value in own.items():
                manifest.set(key, value)
            for record in manifest.vector_tables():
                _import_vectors(record, archive.folder, manifest, store, new_name)
    finally:
        connection.close()


def _load_manifest(archive: Archive) -> SharedConnection:
    """Load an archive's tables into a temporary database, and migrate it to the current format."""
    import pyarrow.parquet as pq

    connection = sqlite.connect("", ProcessLock())
    try:
        connection.execute("BEGIN")
        for table, definition in archive.definitions.items():
            connection.execute(definition)
            for part in pq.ParquetFile(archive.folder / "manifest" / f"{table}.parquet").iter_batches(_ROWS_PER_BATCH):
                _insert(connection, table, zip(*(column.to_pylist() for column in part.columns), strict=True))
        schema.set_format(connection, archive.manifest_format)
        schema.migrate(connection)
        connection.execute("COMMIT")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise InputError(f"{archive.folder}: its manifest cannot be read ({error}).") from error
        raise
    return connection


def _index_keywords(manifest: Manifest) -> None:
    if manifest.rows("SELECT 1 FROM chunks WHERE json_extract(payload, '$.kind') IS NOT NULL LIMIT 1"):
        manifest.keywords.leave_out_media()
    sql = "SELECT rowid, context, text FROM chunks WHERE json_extract(payload, '$.kind') IS NULL"
    cursor = manifest.connection.raw.execute(sql)
    while rows := cursor.fetchmany(_ROWS_PER_BATCH):
        manifest.keywords.put([(key, embedded(text, context)) for key, context, text in rows])


def _import_vectors(
    record: VectorTable, folder: Path, manifest: Manifest, store: Store, new_name: Callable[[str], str]
) -> None:
    """Load the vectors of a complete table into a new table; unfinished tables are dropped from the manifest."""
    if record.state == "live":
        name = new_name(record.feature)
        renamed = replace(record, name=name, described={**record.described, "name": name})
        table = table_from_dict(renamed.described)
        store.check(table)
        store.create(table)
        parquet.read_table(folder / "vectors" / f"{record.feature}.parquet", store, table)
        manifest.rows("UPDATE document_tables SET table_name = ? WHERE table_name = ?", (name, record.name))
        manifest.add_vector_table(renamed)
    manifest.remove_vector_table(record.name)


# -- moving ----------------------------------------------------------------------------------------------------


def copy_vectors(manifest: Manifest, source: Store, target: Store) -> None:
    """Copy all vector tables into another store.

    Raises:
        InputError: the other store does not support one of them; nothing was copied.
        StoreFailed: records are missing after the copy.
    """
    tables = [table_from_dict(record.described) for record in manifest.vector_tables()]
    for table in tables:
        target.check(table)
    for table in tables:
        target.drop(table.name)
        target.create(table)
        for part in _batches(source.scan(table, vectors=True), target.batch):
            target.upsert(table, part)
        if target.count(table) != source.count(table):
            raise StoreFailed(
                f"Only {target.count(table)} of {source.count(table)} records of {table.name} were copied."
            )
        target.index(table)


def _batches(parts: Iterator[list[Record]], size: int) -> Iterator[list[Record]]:
    pending: list[Record] = []
    for part in parts:
        pending += part
        while len(pending) >= size:
            yield pending[:size]
            pending = pending[size:]
    if pending:
        yield pending
