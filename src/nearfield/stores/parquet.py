"""Export a table's records to a Parquet file, and import them into any store without embedding them again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from nearfield.errors import InputError, MissingExtra, SpaceMismatch
from nearfield.fileio.atomic import atomic_file
from nearfield.stores.filters import Filter
from nearfield.stores.store import Payload, Record, Store, TableSpec

_KEY = b"nearfield.table"
_ABOUT = b"nearfield.about"
#: Rows of a row group.
_ROWS = {"dense": 4096, "sparse": 4096, "multivector": 256}


@dataclass(frozen=True)
class ParquetHeader:
    """The metadata of a file: the table, the number of rows, the space of the vectors, and the exporter's own facts."""

    table: TableSpec
    rows: int
    fingerprint: str = ""
    about: Payload = field(default_factory=dict)


def write_table(
    store: Store,
    table: TableSpec,
    path: Path,
    *,
    fingerprint: str = "",
    about: Payload | None = None,
    where: Filter | None = None,
) -> int:
    """Write a table's records to a file, in bounded memory; return their number.

    The file gets its name when it is complete. ``fingerprint`` names the space of the vectors, and ``about`` is
    anything that JSON can hold.

    Raises:
        InputError: the path is a folder, or cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    parquet = _parquet()
    facts = {"fingerprint": fingerprint, "about": about or {}}
    metadata = {_KEY: json.dumps(asdict(table)), _ABOUT: json.dumps(facts)}
    try:
        with atomic_file(path, durable=True) as file:
            count = _write(parquet, store, table, file, metadata, where)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
    return count


def read_table(path: Path, store: Store, table: TableSpec | None = None, *, fingerprint: str = "") -> int:
    """Write a file's records into a store, in bounded memory; return their number.

    The table is created if there is none: that of the file, or ``table``, which must have vectors of the same kind,
    width and type, and the file's fields. Repeated after an interruption, the result is the same.

    Raises:
        InputError: the file is no export of a table, or does not fit this one.
        SpaceMismatch: its vectors are of another space than ``fingerprint``, if both are known.
        MissingExtra: pyarrow is not installed.
    """
    from nearfield.stores import arrow

    header = read_header(path)
    table = header.table if table is None else table
    _check(path, header, table, fingerprint)
    store.create(table)
    with _parquet().ParquetFile(path) as file:
        for part in file.iter_batches(batch_size=store.batch):
            store.upsert(table, arrow.records(header.table, part))
    return header.rows


def read_header(path: Path) -> ParquetHeader:
    """Return the metadata of a file.

    Raises:
        InputError: it cannot be read, or is no export of a table.
        MissingExtra: pyarrow is not installed.
    """
    parquet = _parquet()
    try:
        with parquet.ParquetFile(path) as file:
            metadata, rows = file.schema_arrow.metadata or {}, file.metadata.num_rows
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from error
    if _KEY not in metadata or _ABOUT not in metadata:
        raise InputError(f"{path} is no export of a table: it lacks the description of its vectors.")
    known = {item.name for item in fields(TableSpec)}
    spec = {name: value for name, value in json.loads(metadata[_KEY]).items() if name in known}
    return ParquetHeader(TableSpec(**spec), rows, **json.loads(metadata[_ABOUT]))


def _write(
    parquet: ModuleType,
    store: Store,
    table: TableSpec,
    file: BinaryIO,
    metadata: Mapping[bytes, str],
    where: Filter | None,
) -> int:
    from nearfield.stores import arrow

    count = 0
    schema = arrow.schema(table).with_metadata(metadata)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for part in _groups(store.scan(table, where, vectors=True), _ROWS[table.kind]):
            writer.write_batch(arrow.rows(table, part))
            count += len(part)
    return count


def _groups(parts: Iterator[list[Record]], min_rows: int) -> Iterator[list[Record]]:
    waiting: list[Record] = []
    for part in parts:
        waiting += part
        if len(waiting) >= min_rows:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _check(path: Path, header: ParquetHeader, table: TableSpec, fingerprint: str) -> None:
    for name in ("kind", "dimensions", "dtype"):
        here, there = getattr(table, name), getattr(header.table, name)
        if here != there:
            raise InputError(f"{path} holds vectors of {name} {there!r}, and the table {table.name!r} takes {here!r}.")
    for name, kind in header.table.fields.items():
        if table.fields.get(name) != kind:
            raise InputError(
                f"{path} has the field {name!r} ({kind}), which the table {table.name!r} does not declare."
            )
    if fingerprint and header.fingerprint and fingerprint != header.fingerprint:
        raise SpaceMismatch(
            f"{path} holds vectors of the space {header.fingerprint}, not {fingerprint}: "
            f"they are of another model, prompt or precision. Import into a collection of that space, or index again."
        )


def _parquet() -> ModuleType:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("Parquet needs 'pyarrow': pip install 'nearfield[parquet]'") from error
    module: ModuleType = pyarrow.parquet
    return module
