"""Shipping: a collection as a whole: exported, imported, moved to another store, and compared with it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.corpus.document import embedded
from nearfield.corpus.features import Feature, table_of
from nearfield.corpus.manifest.manifest import Manifest, VectorTable
from nearfield.corpus.search.reranking import record_text
from nearfield.errors import InputError, StoreFailed
from nearfield.stores import Record, Store, TableSpec, parquet
from nearfield.stores.filters import one_of

FORMAT = 1
_HEAD = "collection.json"
_ROWS = 2000
#: Least cosine of a vector that was made again with the one that is stored: other hardware rounds otherwise.
_ALIKE = 0.999


# -- tables of the manifest ------------------------------------------------------------------------------------


def _tables(connection: Any) -> list[str]:
    """Return the manifest's tables, without those that are made from others."""
    sql = "SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name"
    found = connection.execute(sql).fetchall()
    virtual = [name for name, told in found if told and told.upper().startswith("CREATE VIRTUAL")]
    made = tuple(f"{name}_" for name in virtual)
    return [name for name, _ in found if name not in virtual and not name.startswith(("sqlite_", *made))]


def _columns(connection: Any, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]


def copy_table(source: Any, target: Manifest, table: str) -> None:
    """Copy a table's rows into another manifest, making the table where it is not there."""
    found = source.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    if found is None:
        return
    with target.writing():
        if table not in _tables(target.connection):
            target.connection.execute(found[0])
        marks = ", ".join("?" * len(_columns(source, table)))
        rows = source.raw.execute(f'SELECT * FROM "{table}"')
        target.connection.executemany(f'INSERT OR REPLACE INTO "{table}" VALUES ({marks})', rows)


# -- export and import -----------------------------------------------------------------------------------------


def export(name: str, manifest: Manifest, store: Store, folder: Path) -> list[Path]:
    """Write manifest and vectors as Parquet files, and last what they are; returns the files."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: export to a new folder.", param="folder")
    (folder / "manifest").mkdir(parents=True)
    (folder / "vectors").mkdir()
    made = []
    for table in _tables(manifest.connection):
        made.append(folder / "manifest" / f"{table}.parquet")
        _write_table(manifest.connection, table, made[-1])
    for placement in manifest.placements():
        if placement.state == "live":
            made.append(folder / "vectors" / f"{placement.feature}.parquet")
            fingerprint = str(placement.space.get("fingerprint", ""))
            parquet.write_table(store, table_of(placement.described), made[-1], fingerprint=fingerprint)
    head = {"format": FORMAT, "name": name, "config": manifest.get("config"), "schema": _schema(manifest.connection)}
    (folder / _HEAD).write_text(json.dumps(head, indent=1), encoding="utf-8")
    return [folder / _HEAD, *made]


def _schema(connection: Any) -> dict[str, str]:
    sql = "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
    told = dict(connection.execute(sql).fetchall())
    return {name: told[name] for name in _tables(connection)}


def _write_table(connection: Any, table: str, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _columns(connection, table)
    types = [row[2].upper() for row in connection.execute(f'PRAGMA table_info("{table}")')]
    kinds = {"INTEGER": pa.int64(), "REAL": pa.float64(), "BLOB": pa.binary()}
    schema = pa.schema([(name, kinds.get(told, pa.string())) for name, told in zip(columns, types, strict=True)])
    cursor = connection.raw.execute(f'SELECT * FROM "{table}"')
    with pq.ParquetWriter(path, schema) as writer:
        while rows := cursor.fetchmany(_ROWS):
            writer.write_table(pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)), schema))


def described(folder: Path) -> dict[str, Any]:
    """Return what an exported collection is.

    Raises:
        InputError: the folder holds none, or one of a newer Nearfield.
    """
    try:
        told: dict[str, Any] = json.loads((folder / _HEAD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no exported collection: its {_HEAD} cannot be read ({error}).") from error
    if told.get("format") != FORMAT:
        raise InputError(
            f"{folder} was exported by another version of Nearfield: its format is {told.get('format')!r}."
        )
    return told


def import_(folder: Path, manifest: Manifest, store: Store, retitled: Callable[[VectorTable], VectorTable]) -> None:
    """Fill an empty collection with what was exported; tables get names of their own."""
    import pyarrow.parquet as pq

    schema = described(folder)["schema"]
    kept = {key: manifest.get(key) for key in ("config", "uid")}
    with manifest.writing():
        for table, sql in schema.items():
            if table not in _tables(manifest.connection):
                manifest.connection.execute(sql)
            for part in pq.ParquetFile(folder / "manifest" / f"{table}.parquet").iter_batches(_ROWS):
                rows = zip(*(column.to_pylist() for column in part.columns), strict=True)
                marks = ", ".join("?" * part.num_columns)
                manifest.connection.executemany(f'INSERT OR REPLACE INTO "{table}" VALUES ({marks})', rows)
        _index_words(manifest)
        for key, value in kept.items():
            manifest.set(key, value)
        for placement in manifest.placements():
            _bring(placement, folder, manifest, store, retitled)


def _index_words(manifest: Manifest) -> None:
    cursor = manifest.connection.raw.execute("SELECT rowid, context, text FROM chunks")
    while rows := cursor.fetchmany(_ROWS):
        manifest.keywords.put([(key, embedded(text, context)) for key, context, text in rows])


def _bring(
    placement: VectorTable,
    folder: Path,
    manifest: Manifest,
    store: Store,
    retitled: Callable[[VectorTable], VectorTable],
) -> None:
    fresh = retitled(placement)
    if placement.state == "live":
        table = table_of(fresh.described)
        store.check(table)
        store.create(table)
        parquet.read_table(folder / "vectors" / f"{placement.feature}.parquet", store, table)
        manifest.rows("UPDATE placed SET place = ? WHERE place = ?", (fresh.name, placement.name))
        manifest.place(fresh)
        manifest.rows("DELETE FROM tables WHERE name = ?", (placement.name,))
    else:
        manifest.forget_table(placement.name)


# -- moving ----------------------------------------------------------------------------------------------------


def move(manifest: Manifest, old: Store, target: Store) -> None:
    """Copy all tables into another store.

    Raises:
        InputError: it cannot hold one of them; nothing was copied.
        StoreFailed: not all records arrived.
    """
    tables = [table_of(each.described) for each in manifest.placements()]
    for table in tables:
        target.check(table)
    for table in tables:
        target.drop(table.name)
        target.create(table)
        for part in _batches(old.scan(table, vectors=True), target.batch):
            target.upsert(table, part)
        if target.count(table) != old.count(table):
            raise StoreFailed(f"{target.count(table)} of {old.count(table)} records of {table.name} arrived.")
        target.index(table)


def _batches(parts: Iterator[list[Record]], size: int) -> Iterator[list[Record]]:
    held: list[Record] = []
    for part in parts:
        held += part
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held


# -- verifying -------------------------------------------------------------------------------------------------


def verify(manifest: Manifest, store: Store, made_by: Mapping[str, Feature], *, sample: int) -> dict[str, Any]:
    """Compare each table with the manifest, and some vectors with those that the models make now."""
    wanted = dict(manifest.rows("SELECT id, version FROM chunks"))
    told: dict[str, Any] = {"chunks": len(wanted), "tables": {}, "missing": [], "foreign": [], "unlike": []}
    told["outdated"] = []
    for placement in manifest.placements():
        if placement.state != "live":
            continue
        table = table_of(placement.described)
        held = {record.id: record.version for part in store.scan(table) for record in part}
        told["tables"][placement.feature] = len(held)
        told["missing"] += [f"{placement.feature}: {key}" for key in wanted if held.get(key) != wanted[key]]
        told["foreign"] += [f"{placement.feature}: {key}" for key in held if key not in wanted]
        feature = made_by.get(placement.feature)
        if feature is not None and placement.space != feature.space():
            told["outdated"].append(placement.feature)
        elif feature is not None and sample:
            both = sorted(wanted.keys() & held.keys())
            chosen = random.Random(0).sample(both, min(sample, len(both)))
            told["unlike"] += [f"{placement.feature}: {key}" for key in _unlike(store, table, feature, chosen)]
    told["whole"] = not (told["missing"] or told["foreign"] or told["unlike"] or told["outdated"])
    return told


def _unlike(store: Store, table: TableSpec, feature: Feature, ids: Sequence[str]) -> list[str]:
    """Return the ids of records whose vectors the model no longer makes."""
    if not ids or feature.kind != "dense":
        return []
    records = [record for part in store.scan(table, one_of("id", ids), vectors=True) for record in part]
    texts = [record_text(record) for record in records]
    fresh = feature.vectors(
        feature.encoder.encode(texts, role="document", outputs=("dense",), **feature.config.options)
    )
    return [record.id for record, vector in zip(records, fresh, strict=True) if _cosine(record.vector, vector) < _ALIKE]


def _cosine(a: Any, b: Any) -> float:
    left, right = np.asarray(a), np.asarray(b)
    if left.dtype == np.uint8:  # a sign may turn where a value is next to nothing
        return 1.0 - float(np.unpackbits(left ^ right).mean()) / 10
    left, right = left.astype(np.float64), right.astype(np.float64)
    return float(left @ right / max(np.linalg.norm(left) * np.linalg.norm(right), 1e-12))
