"""Serialisation of rows of vectors as NPY, JSON lines and Parquet, one block at a time.

Multi-vectors of an input are a list of lists in JSON, and a list of lists of fixed size in Parquet. In NPY they lie
end to end.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from nearfield.arrays import Array
from nearfield.bulk.row_files.vector_rows import VectorRows
from nearfield.fileio.tabular import require_parquet

#: A type, schema or table of pyarrow, which has no type hints.
ArrowType: TypeAlias = Any
#: Further columns of some rows: the values by the column's name.
Columns: TypeAlias = Mapping[str, Sequence[object]]

#: Columns that every row of JSON lines and Parquet has.
OUTPUT_COLUMNS = ("id", "embedding", "tokens", "truncated")
_HEADER_BYTES = 128


def npy_header(data: Array, count: int) -> bytes:
    """Return the header of NumPy's format, version 1.0, for ``count`` rows like those of ``data``: 128 bytes."""
    fields = {"descr": np.lib.format.dtype_to_descr(data.dtype), "fortran_order": False}
    text = repr({**fields, "shape": (count, *data.shape[1:])}).encode("latin-1")
    text += b" " * (_HEADER_BYTES - 10 - len(text) - 1) + b"\n"
    return bytes(np.lib.format.magic(1, 0)) + len(text).to_bytes(2, "little") + text


def json_lines(
    ids: Sequence[object], rows: VectorRows | None, counts: Array, columns: Columns | None = None
) -> Iterator[bytes]:
    """Yield one line of JSON per row; without ``rows`` it has no embedding."""
    half = rows is not None and rows.data.dtype == np.float16
    embeddings = None if rows is None else rows.items(np.float32 if half else None)
    for number, (key, (tokens, dropped)) in enumerate(zip(ids, counts.tolist(), strict=True)):
        line = {"id": key} if embeddings is None else {"id": key, "embedding": embeddings[number]}
        line |= {"tokens": tokens, "truncated": dropped}
        yield _json_line(line | {name: column[number] for name, column in (columns or {}).items()})


def _json_line(line: dict[str, object]) -> bytes:
    import orjson

    try:
        return orjson.dumps(line, default=_to_json, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # an integer of more than 64 bits, or a key that is not a string
        return (json.dumps(line, default=_to_json) + "\n").encode()


def _to_json(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.hex() if isinstance(value, bytes) else str(value)


def arrow_schema(
    rows: VectorRows, *, string_ids: bool, metadata: Mapping[str, str], types: Mapping[str, ArrowType] | None = None
) -> ArrowType:
    """Return the Arrow schema of rows like ``rows``; without ``string_ids`` the ids are row numbers.

    ``types`` are the Arrow types of further columns, and ``metadata`` becomes the file's key-value metadata.
    """
    import pyarrow as arrow

    require_parquet()
    vector = arrow.list_(arrow.from_numpy_dtype(rows.data.dtype), rows.width)
    vector = vector if rows.lengths is None else arrow.list_(vector)
    key = arrow.string() if string_ids else arrow.int64()
    columns = [*zip(OUTPUT_COLUMNS, (key, vector, arrow.int64(), arrow.int64()), strict=True), *(types or {}).items()]
    return arrow.schema(columns, metadata=dict(metadata))


def arrow_types(types: Mapping[str, type[np.generic]]) -> dict[str, ArrowType]:
    """Return the Arrow types of columns of numbers."""
    if not types:
        return {}
    import pyarrow as arrow

    return {name: arrow.from_numpy_dtype(kind) for name, kind in types.items()}


def arrow_table(
    schema: ArrowType, ids: Sequence[object], rows: VectorRows, counts: Array, columns: Columns | None = None
) -> ArrowType:
    """Return rows as an Arrow table of a schema."""
    import pyarrow as arrow

    key = schema.field("id").type
    keys = [str(item) for item in ids] if arrow.types.is_string(key) else ids
    arrays = [arrow.array(keys, key), _arrow_vectors(rows)]
    arrays += [arrow.array(counts[:, 0].copy()), arrow.array(counts[:, 1].copy())]
    arrays += [_arrow_array(values, schema.field(name).type) for name, values in (columns or {}).items()]
    return arrow.Table.from_arrays(arrays, schema=schema)


def _arrow_vectors(rows: VectorRows) -> ArrowType:
    """Return vectors as an Arrow array of lists of fixed size, or of lists of these; mapped files are copied."""
    import pyarrow as arrow

    vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(np.array(rows.data).reshape(-1)), rows.width)
    return vectors if rows.lengths is None else arrow.ListArray.from_arrays(rows.offsets.astype(np.int32), vectors)


def _arrow_array(values: Sequence[object], arrow_type: ArrowType) -> ArrowType:
    """Return values as an Arrow array; where the type is string, values of other types are written as JSON."""
    import pyarrow as arrow

    if not arrow.types.is_string(arrow_type):
        return arrow.array(values, arrow_type)
    texts = [
        value if value is None or isinstance(value, str) else json.dumps(value, default=_to_json) for value in values
    ]
    return arrow.array(texts, arrow_type)


def infer_types(columns: Columns, known: Mapping[str, ArrowType]) -> dict[str, ArrowType]:
    """Return the Arrow types that hold these values and those of the types ``known`` so far.

    Values that no type holds together become strings, those that are not strings as JSON.
    """
    return {name: unify_types(known.get(name), _infer_type(values)) for name, values in columns.items()}


def unify_types(one: ArrowType | None, other: ArrowType) -> ArrowType:
    """Return the Arrow type that holds the values of two types; None stands for no type yet."""
    import pyarrow as arrow

    if one is None or one == other:
        return other
    try:
        pair = [arrow.schema([("it", arrow_type)]) for arrow_type in (one, other)]
        return arrow.unify_schemas(pair, promote_options="permissive").field("it").type
    except arrow.ArrowException:
        return arrow.string()


def serialize_types(types: Mapping[str, ArrowType]) -> str:
    """Return Arrow types by name as a text in base64."""
    import pyarrow as arrow

    return base64.b64encode(arrow.schema(list(types.items())).serialize().to_pybytes()).decode()


def deserialize_types(text: str) -> dict[str, ArrowType]:
    """Return the Arrow types that ``serialize_types`` stored."""
    import pyarrow as arrow

    schema = arrow.ipc.read_schema(arrow.BufferReader(base64.b64decode(text)))
    return {name: schema.field(name).type for name in schema.names}


def _infer_type(values: Sequence[object]) -> ArrowType:
    import pyarrow as arrow

    try:
        return arrow.array(values).type
    except (arrow.ArrowException, OverflowError):
        return arrow.string()
