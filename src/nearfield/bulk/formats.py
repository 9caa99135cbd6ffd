"""Formats: how rows of vectors are written as NPY, JSONL and Parquet, a block at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nearfield.fileio.tabular import require_parquet

Array = np.ndarray[Any, np.dtype[Any]]
#: Columns that every row of JSONL and Parquet has.
OWN = ("id", "embedding", "tokens", "truncated")
_HEADER = 128


def npy_header(data: Array, count: int) -> bytes:
    """Return the header of NumPy's format, version 1.0, for ``count`` rows like those of ``data``: 128 bytes."""
    told = {"descr": np.lib.format.dtype_to_descr(data.dtype), "fortran_order": False, "shape": (count, data.shape[1])}
    text = repr(told).encode("latin-1")
    text += b" " * (_HEADER - 10 - len(text) - 1) + b"\n"
    return bytes(np.lib.format.magic(1, 0)) + len(text).to_bytes(2, "little") + text


def json_lines(
    ids: Sequence[Any], rows: Array | None, counts: Array, kept: Mapping[str, Sequence[Any]] | None = None
) -> Iterator[bytes]:
    """Yield a line of JSON for each row; without ``rows`` it has no embedding."""
    columns = kept or {}
    values = rows.astype(np.float32) if rows is not None and rows.dtype == np.float16 else rows
    # A copy: rows may be mapped from a file, and the values of one line must lie side by side.
    plain = None if values is None else np.array(values)
    for number, (key, (tokens, dropped)) in enumerate(zip(ids, counts.tolist(), strict=True)):
        line = {"id": key} if plain is None else {"id": key, "embedding": plain[number]}
        line |= {"tokens": tokens, "truncated": dropped}
        yield _dumped(line | {name: column[number] for name, column in columns.items()})


def _dumped(line: dict[str, Any]) -> bytes:
    import orjson

    try:
        return orjson.dumps(line, default=_said, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a number of more than 64 bits, or a key that is no text
        return (json.dumps(line, default=_said) + "\n").encode()


def _said(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.hex() if isinstance(value, bytes) else str(value)


def schema(data: Array, *, named: bool, told: Mapping[str, str], types: Mapping[str, Any] | None = None) -> Any:
    """Return the Arrow schema of rows like ``data``: ids are texts where they are ``named``, else row numbers.

    ``types`` are the Arrow types of further columns; ``told`` goes to the file's key-value metadata.
    """
    import pyarrow as arrow

    require_parquet()
    kind = arrow.list_(arrow.from_numpy_dtype(data.dtype), data.shape[1])
    key = arrow.string() if named else arrow.int64()
    fields = [*zip(OWN, (key, kind, arrow.int64(), arrow.int64()), strict=True), *(types or {}).items()]
    return arrow.schema(fields, metadata=dict(told))


def table(
    shape: Any, ids: Sequence[Any], rows: Array, counts: Array, kept: Mapping[str, Sequence[Any]] | None = None
) -> Any:
    """Return rows as an Arrow table of a schema."""
    import pyarrow as arrow

    key, kind = shape.field("id").type, shape.field("embedding").type
    names = [str(item) for item in ids] if arrow.types.is_string(key) else ids
    flat = arrow.array(np.array(rows).reshape(-1))
    columns = [arrow.array(names, key), arrow.FixedSizeListArray.from_arrays(flat, type=kind)]
    columns += [arrow.array(counts[:, 0].copy()), arrow.array(counts[:, 1].copy())]
    columns += [column(values, shape.field(name).type) for name, values in (kept or {}).items()]
    return arrow.Table.from_arrays(columns, schema=shape)


def column(values: Sequence[Any], kind: Any) -> Any:
    """Return values as an Arrow array; where the type is text, what is none is written as JSON."""
    import pyarrow as arrow

    if not arrow.types.is_string(kind):
        return arrow.array(values, kind)
    texts = [value if value is None or isinstance(value, str) else json.dumps(value, default=_said) for value in values]
    return arrow.array(texts, kind)


def types_of(kept: Mapping[str, Sequence[Any]], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Arrow types that hold both these values and those of the types ``known`` so far.

    Values that no type holds together are texts, the others among them as JSON.
    """
    return {name: joined(known.get(name), _inferred(values)) for name, values in kept.items()}


def joined(one: Any, other: Any) -> Any:
    """Return the Arrow type that holds the values of two; None is no type yet."""
    import pyarrow as arrow

    if one is None or one == other:
        return other
    try:
        pair = [arrow.schema([("it", kind)]) for kind in (one, other)]
        return arrow.unify_schemas(pair, promote_options="permissive").field("it").type
    except arrow.ArrowException:
        return arrow.string()


def _inferred(values: Sequence[Any]) -> Any:
    import pyarrow as arrow

    try:
        return arrow.array(values).type
    except (arrow.ArrowException, OverflowError):
        return arrow.string()
