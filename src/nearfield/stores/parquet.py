"""Parquet: a table's records in a file, to keep, to hand on, or to put into another store without embedding again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from nearfield.errors import InputError, MissingExtra, SpaceMismatch
from nearfield.fileio.atomic import atomic_file
from nearfield.stores.filters import Filter
from nearfield.stores.store import Record, Store, TableSpec

_KEY = b"nearfield.table"
_ABOUT = b"nearfield.about"
#: Rows that are compressed together.
_ROWS = {"dense": 4096, "sparse": 4096, "multivector": 256}


@dataclass(frozen=True)
class ParquetHeader:
    """What a file says of itself: the table, the rows, and the vectors' space and whatever else was told of them."""

    table: TableSpec
    rows: int
    fingerprint: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


def write(
    store: Store,
    table: TableSpec,
    path: Path,
    *,
    fingerprint: str = "",
    about: Mapping[str, Any] | None = None,
    where: Filter | None = None,
) -> int:
    """Write a table's records to a file, in bounded memory; return how many they are.

    The file takes its name once it is whole. ``fingerprint`` names the space of the vectors, and ``about`` is anything
    that JSON can say.

    Raises:
        InputError: the path is a folder, or cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    parquet = _parquet()
    told = {_KEY: json.dumps(asdict(table)), _ABOUT: json.dumps({"fingerprint": fingerprint, "about": about or {}})}
    try:
        with atomic_file(path, durable=True) as file:
            count = _fill(parquet, store, table, file, told, where)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
    return count


def read(path: Path, store: Store, table: TableSpec | None = None, *, fingerprint: str = "") -> int:
    """Put a file's records into a store, in bounded memory; return how many they are.

    The table is made where there is none: that of the file, or ``table``, whose vectors must be of the same kind, width
    and type, and which must have the file's fields. Run again after it was interrupted, it ends with the same records.

    Raises:
        InputError: the file is none of ours, or does not fit the table.
        SpaceMismatch: its vectors are of another space than ``fingerprint``, where both are told.
        MissingExtra: pyarrow is not installed.
    """
    from nearfield.stores import arrow

    told = head(path)
    table = told.table if table is None else table
    _check(path, told, table, fingerprint)
    store.create(table)
    with _parquet().ParquetFile(path) as file:
        for part in file.iter_batches(batch_size=store.batch):
            store.upsert(table, arrow.records(told.table, part))
    return told.rows


def head(path: Path) -> ParquetHeader:
    """Return what a file says of itself.

    Raises:
        InputError: it cannot be read, or is none of ours.
        MissingExtra: pyarrow is not installed.
    """
    parquet = _parquet()
    try:
        with parquet.ParquetFile(path) as file:
            metadata, rows = file.schema_arrow.metadata or {}, file.metadata.num_rows
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from error
    if _KEY not in metadata or _ABOUT not in metadata:
        raise InputError(f"{path} is no export of a table: it does not say which vectors it holds.")
    known = {each.name for each in fields(TableSpec)}
    held = {name: value for name, value in json.loads(metadata[_KEY]).items() if name in known}
    return ParquetHeader(TableSpec(**held), rows, **json.loads(metadata[_ABOUT]))


def _fill(
    parquet: Any, store: Store, table: TableSpec, file: BinaryIO, told: Mapping[bytes, str], where: Filter | None
) -> int:
    from nearfield.stores import arrow

    count = 0
    schema = arrow.schema(table).with_metadata(told)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for part in _groups(store.scan(table, where, vectors=True), _ROWS[table.kind]):
            writer.write_batch(arrow.rows(table, part))
            count += len(part)
    return count


def _groups(parts: Iterator[list[Record]], least: int) -> Iterator[list[Record]]:
    waiting: list[Record] = []
    for part in parts:
        waiting += part
        if len(waiting) >= least:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _check(path: Path, told: ParquetHeader, table: TableSpec, fingerprint: str) -> None:
    for name in ("kind", "dimensions", "dtype"):
        here, there = getattr(table, name), getattr(told.table, name)
        if here != there:
            raise InputError(f"{path} holds vectors of {name} {there!r}, and the table {table.name!r} takes {here!r}.")
    for name, kind in told.table.fields.items():
        if table.fields.get(name) != kind:
            raise InputError(
                f"{path} has the field {name!r} ({kind}), which the table {table.name!r} does not declare."
            )
    if fingerprint and told.fingerprint and fingerprint != told.fingerprint:
        raise SpaceMismatch(
            f"{path} holds vectors of the space {told.fingerprint}, not {fingerprint}: "
            f"they are of another model, prompt or precision. Import into a collection of that space, or index anew."
        )


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("Parquet needs 'pyarrow': pip install 'nearfield[parquet]'") from error
    return pyarrow.parquet
