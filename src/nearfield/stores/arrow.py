"""Convert records to Arrow and back, for tables of LanceDB and for Parquet files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from nearfield.arrays import Array
from nearfield.stores import arrays
from nearfield.stores.filters import BUILT_IN, FieldType, Value
from nearfield.stores.store import Record, TableSpec, Vector

#: Columns of every table, before the fields and the vectors.
PLAIN = ("id", "document", "version", "ordinal", "text", "payload")
_TYPES: Mapping[FieldType, pa.DataType] = {
    "str": pa.utf8(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}
_NUMBERS = {"float32": pa.float32(), "float16": pa.float16(), "binary": pa.uint8()}


def column(field: str) -> str:
    """Return the column of a field, with a prefix that keeps it apart from our own columns."""
    return field if field in BUILT_IN else f"field_{field}"


def vector_columns(table: TableSpec) -> tuple[str, ...]:
    """Return the columns of a record's vector."""
    return ("vector_ids", "vector_values") if table.kind == "sparse" else ("vector",)


def schema(table: TableSpec) -> pa.Schema:
    """Return the columns of a table: only fields may be null."""
    columns = [pa.field(name, pa.int64() if name == "ordinal" else pa.utf8(), nullable=False) for name in PLAIN]
    columns += [pa.field(column(name), _TYPES[kind]) for name, kind in table.fields.items()]
    types = zip(vector_columns(table), _vector_types(table), strict=True)
    return pa.schema(columns + [pa.field(name, kind, nullable=False) for name, kind in types])


def rows(table: TableSpec, records: Sequence[Record]) -> pa.RecordBatch:
    """Return records as rows.

    Raises:
        InputError: a vector does not fit the table.
    """
    columns: list[list[Any]] = [[getattr(record, name) for record in records] for name in PLAIN[:-1]]
    columns.append([json.dumps(record.payload) for record in records])
    columns += [_values(records, name, kind) for name, kind in table.fields.items()]
    fields = schema(table)
    filled = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=False)]
    return pa.RecordBatch.from_arrays(filled + _vectors(table, records), schema=fields)


def records(table: TableSpec, part: pa.RecordBatch) -> list[Record]:
    """Return rows as records; columns that were not read, such as vectors, stay empty."""
    names = set(part.schema.names)
    plain = [part[name].to_pylist() if name in names else [""] * len(part) for name in PLAIN]
    columns = {name: part[column(name)].to_pylist() for name in table.fields if column(name) in names}
    rows = zip(*columns.values(), strict=True)
    fields = [dict(zip(columns, values, strict=True)) for values in rows] or [{}] * len(part)
    full = names.issuperset(vector_columns(table))
    vectors = _arrays(table, part) if full else [None] * len(part)
    return [_record(*values) for values in zip(*plain, fields, vectors, strict=True)]


def _record(
    key: str,
    document: str,
    version: str,
    ordinal: int | str,
    text: str,
    payload: str,
    fields: dict[str, Value | None],
    vector: Vector,
) -> Record:
    return Record(
        id=key,
        document=document,
        version=version,
        ordinal=int(ordinal or 0),
        text=text,
        fields={name: value for name, value in fields.items() if value is not None},
        payload=json.loads(payload or "{}"),
        vector=vector,
    )


def _values(records: Sequence[Record], name: str, kind: FieldType) -> list[Value | None]:
    values = [record.fields.get(name) for record in records]
    # Arrow distinguishes the two zeros; Python does not.
    return [None if value is None else float(value) + 0.0 for value in values] if kind == "float" else values


def _vector_types(table: TableSpec) -> tuple[pa.DataType, ...]:
    number = _NUMBERS[table.dtype]
    if table.kind == "sparse":
        return pa.list_(pa.int32()), pa.list_(number)
    width = table.dimensions // 8 if table.dtype == "binary" else table.dimensions
    row = pa.list_(pa.field("item", number), width)
    return (pa.list_(row) if table.kind == "multivector" else row,)


def _vectors(table: TableSpec, records: Sequence[Record]) -> list[pa.Array]:
    kinds = _vector_types(table)
    if table.kind == "dense":
        return [_fixed(arrays.dense(table, records), kinds[0])]
    if table.kind == "multivector":
        parts = arrays.multivector(table, records)
        tokens = np.concatenate([*parts, np.zeros((0, table.dimensions), arrays.NUMBERS[table.dtype])])
        return [pa.ListArray.from_arrays(_offsets(parts), _fixed(tokens, kinds[0].value_type), type=kinds[0])]
    pairs = arrays.sparse(table, records)
    columns = zip(*pairs, strict=True) if pairs else ([], [])
    return [_ragged(list(parts), kind) for parts, kind in zip(columns, kinds, strict=True)]


def _fixed(array: Array, kind: pa.DataType) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1), kind.value_type), type=kind)


def _ragged(parts: Sequence[Array], kind: pa.DataType) -> pa.Array:
    flat = np.concatenate([*parts, np.zeros(0, np.int32 if pa.types.is_integer(kind.value_type) else np.float16)])
    return pa.ListArray.from_arrays(_offsets(parts), pa.array(flat, kind.value_type), type=kind)


def _offsets(parts: Sequence[Array]) -> pa.Array:
    return pa.array(np.cumsum([0, *map(len, parts)]), pa.int32())


def _arrays(table: TableSpec, part: pa.RecordBatch) -> list[Vector]:
    if table.kind == "sparse":
        ids, values = (_split(part[name]) for name in vector_columns(table))
        return [(row.astype(np.int64), other.astype(np.float32)) for row, other in zip(ids, values, strict=True)]
    vectors = _split(part["vector"]) if table.kind == "multivector" else list(_matrix(part["vector"]))
    return [row if table.dtype == "binary" else row.astype(np.float32) for row in vectors]


def _split(column: pa.ListArray) -> list[Array]:
    ends = np.asarray(column.offsets)
    flat = column.values
    whole = _matrix(flat) if pa.types.is_fixed_size_list(flat.type) else flat.to_numpy(zero_copy_only=False)
    return [whole[start:end] for start, end in pairwise(ends)]


def _matrix(column: pa.FixedSizeListArray) -> Array:
    size = column.type.list_size
    # Unlike ``flatten``, this does not load Arrow's library of functions.
    values = column.values.slice(column.offset * size, len(column) * size)
    return values.to_numpy(zero_copy_only=False).reshape(len(column), size)
