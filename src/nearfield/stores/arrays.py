"""Arrays of records' vectors, validated and converted to the type of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.stores.store import Record, TableSpec, Vector

#: The numpy type of a table's numbers.
NUMBERS: Mapping[str, type[np.generic]] = {"float32": np.float32, "float16": np.float16, "binary": np.uint8}


def dense(table: TableSpec, records: Sequence[Record]) -> Array:
    """Return the vectors [records, dimensions], or bytes [records, dimensions / 8] for binary tables.

    Raises:
        InputError: a vector has another width, or is not finite.
    """
    width = table.dimensions // 8 if table.dtype == "binary" else table.dimensions
    rows = [_checked(table, record, np.asarray(record.vector), (width,)) for record in records]
    return np.stack(rows) if rows else np.zeros((0, width), NUMBERS[table.dtype])


def multivector(table: TableSpec, records: Sequence[Record]) -> list[Array]:
    """Return the vectors of each record's tokens [tokens, dimensions].

    Raises:
        InputError: a vector has another width, or is not finite.
    """
    vectors = []
    for record in records:
        rows = np.asarray(record.vector)
        vectors.append(_checked(table, record, rows, (len(rows) if rows.ndim else 0, table.dimensions)))
    return vectors


def sparse(table: TableSpec, records: Sequence[Record]) -> list[tuple[Array, Array]]:
    """Return the ids (int64, sorted) and values of each record.

    Raises:
        InputError: ids are not in order, are repeated, or exceed the vocabulary; or values are not finite.
    """
    vectors = []
    for record in records:
        ids, values = (np.asarray(part) for part in record.vector)
        if ids.ndim != 1 or (ids[1:] <= ids[:-1]).any() or (len(ids) and not 0 <= ids[0] <= ids[-1] < table.dimensions):
            raise InputError(
                f"Record {record.id}: the ids of a sparse vector must rise from 0 to {table.dimensions - 1}."
            )
        vectors.append((ids.astype(np.int64), _checked(table, record, values, ids.shape)))
    return vectors


def rounded(table: TableSpec, records: Sequence[Record]) -> Sequence[Vector]:
    """Return the vectors of records in the form of ``Record.vector``, rounded to the table's type."""
    if table.kind == "sparse":
        return [(ids, values.astype(np.float32)) for ids, values in sparse(table, records)]
    rows = multivector(table, records) if table.kind == "multivector" else dense(table, records)
    return [row if table.dtype == "binary" else row.astype(np.float32) for row in rows]


def _checked(table: TableSpec, record: Record, array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape != shape or (array.dtype != np.uint8) == (table.dtype == "binary"):
        expected = f"{table.dtype} {list(shape)}"
        raise InputError(
            f"Record {record.id}: a vector {array.dtype} {list(array.shape)}, where {table.name!r} holds {expected}."
        )
    if not np.isfinite(array).all():
        raise InputError(f"Record {record.id}: its vector contains numbers that are not finite.")
    return array.astype(NUMBERS[table.dtype])
