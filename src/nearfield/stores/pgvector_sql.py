"""SQL for PostgreSQL with pgvector: tables, rows, distances and filters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from pgvector import Bit, HalfVector, SparseVector
from pgvector import Vector as FloatVector
from psycopg import sql
from psycopg.types.json import Json

from nearfield.stores import arrays
from nearfield.stores.filters import BUILT_IN, TYPES, All, Compare, FieldType, Filter, Not, balanced
from nearfield.stores.store import Record, TableSpec, Vector

#: The first version of pgvector with halfvec, sparsevec, and indices and distances of bits.
MANY_TYPES = (0, 7)
#: The first version with iterative index scans, which continue until enough rows match a filter.
ITERATIVE = (0, 8)
#: The first version with HNSW.
_HNSW = (0, 5)
#: Not jsonb: json accepts any string, and returns numbers unchanged.
_PAYLOAD: str = "json"
_TYPES: Mapping[FieldType, str] = {
    "str": "text",
    "int": "bigint",
    "float": "double precision",
    "bool": "boolean",
}
_SIGNS: Mapping[str, str] = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_DISTANCES: Mapping[str, str] = {"cosine": "<=>", "dot": "<#>", "euclidean": "<->"}
_CLASSES: Mapping[str, str] = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}
#: Maximum dimensions of an index.
_MAX_DIMENSIONS = {"vector": 2_000, "halfvec": 4_000, "bit": 64_000}
_NEVER, _ALWAYS = sql.SQL("FALSE"), sql.SQL("TRUE")
#: Maximum length of a name, and digits of the hash that replaces a longer one. (PostgreSQL allows 63 bytes, and the
#: name of an index is longer than that of its table.)
_MAX_NAME, _DIGITS = 40, 32


def relation(name: str) -> str:
    """Return the name of a table in the database."""
    return "nearfield_" + (name if len(name) <= _MAX_NAME else hashlib.sha256(name.encode()).hexdigest()[:_DIGITS])


def identifier(table: TableSpec, suffix: str = "") -> sql.Identifier:
    """Return the quoted name of a table, or of one of its indices."""
    return sql.Identifier(relation(table.name) + suffix)


def columns(table: TableSpec) -> dict[str, sql.Composable]:
    """Return all columns and their types; the vector is the last one."""
    text, not_null = sql.SQL('text COLLATE "C" NOT NULL'), sql.SQL(" NOT NULL")
    types: dict[str, sql.Composable] = {
        "id": sql.SQL("uuid PRIMARY KEY"),
        "document": text,
        "version": text,
        "ordinal": sql.SQL("bigint NOT NULL"),
        "text": text,
        "payload": sql.SQL(_PAYLOAD) + not_null,
    }
    for name, kind in table.fields.items():
        types[column(name)] = sql.SQL('text COLLATE "C"' if kind == "str" else _TYPES[kind])
    types["vector"] = vector_type(table) + not_null
    return types


def column(field: str) -> str:
    """Return the column of a field."""
    return field if field in BUILT_IN else f"f_{field}"


def vector_type(table: TableSpec) -> sql.Composable:
    """Return the type of a table's vectors."""
    many = sql.SQL("[]" if table.kind == "multivector" else "")
    return sql.SQL("{}({}){}").format(sql.SQL(_type(table)), sql.Literal(table.dimensions), many)


def row(table: TableSpec, record: Record, vector: Vector) -> list[object]:
    """Return a record's values in the order of its table's columns."""
    fields = [(record.fields.get(name), kind) for name, kind in table.fields.items()]
    typed = [None if value is None else TYPES[kind](value) for value, kind in fields]
    plain = [UUID(record.id), record.document, record.version, record.ordinal, record.text, Json(dict(record.payload))]
    return [*plain, *typed, parameter(table, vector)]


def rows(table: TableSpec, records: Sequence[Record]) -> list[list[object]]:
    """Return the values of records.

    Raises:
        InputError: a vector does not fit the table.
    """
    vectors = arrays.rounded(table, records)
    return [row(table, record, vector) for record, vector in zip(records, vectors, strict=True)]


def record(table: TableSpec, values: Sequence[Any], *, vector: bool) -> Record:
    """Return the record of a row, with its vector if the row has one."""
    end = 6 + len(table.fields)
    fields = {name: value for name, value in zip(table.fields, values[6:end], strict=True) if value is not None}
    key, document, version, ordinal, text, payload = values[:6]
    return Record(
        id=str(key),
        document=document,
        version=version,
        ordinal=ordinal,
        text=text,
        fields=fields,
        payload=payload,
        vector=_vector(table, values[end]) if vector else None,
    )


def parameter(table: TableSpec, vector: Vector) -> object:
    """Return a vector in the driver's form, which is pgvector's binary format."""
    if table.kind == "sparse":
        ids, values = vector
        pairs = zip(np.asarray(ids).tolist(), np.asarray(values, np.float32).tolist(), strict=True)
        return SparseVector(dict(pairs), table.dimensions)
    if table.dtype == "binary":
        return Bit(np.ascontiguousarray(vector, np.uint8).tobytes())
    wrap = HalfVector if table.dtype == "float16" else FloatVector
    return [wrap(token) for token in vector] if table.kind == "multivector" else wrap(np.asarray(vector))


def distance(table: TableSpec, version: tuple[int, int]) -> sql.Composable:
    """Return the distance to the parameter ``query``, which orders the nearest first."""
    if table.dtype == "binary" and version < MANY_TYPES:
        return sql.SQL("bit_count(vector # %(query)s)")
    sign: str = "<~>" if table.dtype == "binary" else _DISTANCES[table.metric]
    return sql.SQL("(vector {} %(query)s)").format(sql.SQL("<#>" if table.kind == "sparse" else sign))


def coarse(table: TableSpec) -> sql.Composable:
    """Return the distance of the vectors' signs, for an index that is quantised to bits."""
    bits = sql.SQL("bit({})").format(sql.Literal(table.dimensions))
    form = sql.SQL("(binary_quantize(vector)::{bits} <~> binary_quantize(%(query)s::{kind})::{bits})")
    return form.format(bits=bits, kind=sql.SQL(_type(table)))


def score(table: TableSpec, distance: float) -> float:
    """Return the score of a distance as ``StoreHit`` defines it, to the digits that equal vectors have in common."""
    if table.dtype == "binary":
        return 1 - 2 * distance / table.dimensions
    return float(f"{1 - distance if table.metric == 'cosine' else 0 - distance:.6g}")


def index_expression(table: TableSpec, version: tuple[int, int]) -> sql.Composable | None:
    """Return the expression and operator class of a table's vector index; None if pgvector has no such index."""
    kind = "bit" if table.quantization == "binary" else _type(table)
    if table.index == "none" or table.kind != "dense" or table.dimensions > _MAX_DIMENSIONS[kind] or version < _HNSW:
        return None
    if table.quantization == "binary":
        bits = sql.Literal(table.dimensions)
        return sql.SQL("((binary_quantize(vector)::bit({}))) bit_hamming_ops").format(bits)
    if kind == "bit":
        return sql.SQL("vector bit_hamming_ops") if version >= MANY_TYPES else None
    return sql.SQL("vector {}_{}_ops").format(sql.SQL(kind), sql.SQL(_CLASSES[table.metric]))


def condition(where: Filter | None, fields: Mapping[str, FieldType], values: dict[str, object]) -> sql.Composable:
    """Return a filter as an expression that is never null; its operands are added to ``values``, by name."""
    if where is None:
        return _ALWAYS
    if isinstance(where, Compare):
        return _comparison(where, fields, values)
    if isinstance(where, Not):
        return sql.SQL("(NOT {})").format(condition(where.part, fields, values))
    parts = [condition(part, fields, values) for part in where.parts]
    both, empty = (sql.SQL("({} AND {})"), _ALWAYS) if isinstance(where, All) else (sql.SQL("({} OR {})"), _NEVER)
    return balanced(parts, both.format) if parts else empty


def _comparison(where: Compare, fields: Mapping[str, FieldType], values: dict[str, object]) -> sql.Composable:
    kind = {**BUILT_IN, **fields}.get(where.field)
    if kind is None or where.value == ():
        return _NEVER
    name: sql.Composable = sql.Identifier(column(where.field))
    exists = _ALWAYS if where.field in BUILT_IN else sql.SQL("{} IS NOT NULL").format(name)
    if where.op == "exists":
        return exists
    if where.field == "id" and where.op in ("eq", "in"):
        keys = _uuids(where.value if where.op == "in" else [where.value])
        return sql.SQL("({} = ANY({}::uuid[]))").format(name, _named(values, keys))
    if where.field == "id":
        name = sql.SQL('({}::text COLLATE "C")').format(name)
    form = sql.SQL("({} AND {} = ANY({}::{}[]))" if where.op == "in" else "({} AND {} {sign} {}::{})")
    value = _named(values, list(where.value) if where.op == "in" else where.value)
    return form.format(exists, name, value, sql.SQL(_TYPES[kind]), sign=sql.SQL(_SIGNS.get(where.op, "=")))


def _named(values: dict[str, object], value: object) -> sql.Placeholder:
    name = f"value{len(values)}"
    values[name] = value
    return sql.Placeholder(name)


def _uuids(values: Iterable[str]) -> list[UUID]:
    """Return the values that are ids as PostgreSQL writes them; no record can have another one."""
    ids = []
    for value in values:
        try:
            key = UUID(value)
        except ValueError:
            continue
        if str(key) == value:
            ids.append(key)
    return ids


def _type(table: TableSpec) -> str:
    if table.kind == "sparse":
        return "sparsevec"
    if table.dtype == "binary":
        return "bit"
    return "halfvec" if table.dtype == "float16" else "vector"


def _vector(table: TableSpec, value: Any) -> Vector:
    """Return a vector of the driver in the form of ``Record.vector``."""
    if table.kind == "sparse":
        return np.asarray(value.indices(), np.int64), np.asarray(value.values(), np.float32)
    if table.dtype == "binary":
        return np.frombuffer(value, np.uint8, offset=4)  # after the number of bits
    if table.kind == "multivector":
        return np.asarray([token.to_numpy() for token in value], np.float32).reshape(-1, table.dimensions)
    return value.to_numpy().astype(np.float32)
