"""Relations: tables, rows and conditions as PostgreSQL with pgvector writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from pgvector import Bit, HalfVector, SparseVector, Vector
from psycopg import sql
from psycopg.types.json import Json

from nearfield.stores import arrays
from nearfield.stores.filters import BUILT_IN, TYPES, All, Compare, FieldType, Filter, Not
from nearfield.stores.store import Record, TableSpec

#: The first version of pgvector that has halfvec, sparsevec, and indices and distances of bits.
MANY_TYPES = (0, 7)
#: The first whose index goes on until a filter has let enough through.
ITERATIVE = (0, 8)
#: The first that has HNSW.
_HNSW = (0, 5)
#: As text, not jsonb: it holds any string, and gives numbers back as they were written.
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
#: The most dimensions that an index takes.
_WIDEST = {"vector": 2_000, "halfvec": 4_000, "bit": 64_000}
_NEVER, _ALWAYS = sql.SQL("FALSE"), sql.SQL("TRUE")
#: Digits of a name that is too long as it is (63 bytes are the most, and an index's name is longer than its table's).
_LONGEST, _DIGITS = 40, 32


def relation(name: str) -> str:
    """Return the name of a table in the database."""
    return "nearfield_" + (name if len(name) <= _LONGEST else hashlib.sha256(name.encode()).hexdigest()[:_DIGITS])


def identifier(table: TableSpec, suffix: str = "") -> sql.Identifier:
    """Return a table's name, or that of one of its indices, quoted."""
    return sql.Identifier(relation(table.name) + suffix)


def columns(table: TableSpec) -> dict[str, sql.Composable]:
    """Return all columns and their types; the vector comes last."""
    text, there = sql.SQL('text COLLATE "C" NOT NULL'), sql.SQL(" NOT NULL")
    types: dict[str, sql.Composable] = {
        "id": sql.SQL("uuid PRIMARY KEY"),
        "document": text,
        "version": text,
        "ordinal": sql.SQL("bigint NOT NULL"),
        "text": text,
        "payload": sql.SQL(_PAYLOAD) + there,
    }
    for name, kind in table.fields.items():
        types[column(name)] = sql.SQL('text COLLATE "C"' if kind == "str" else _TYPES[kind])
    types["vector"] = vector_type(table) + there
    return types


def column(field: str) -> str:
    """Return the column of a field."""
    return field if field in BUILT_IN else f"f_{field}"


def vector_type(table: TableSpec) -> sql.Composable:
    """Return the type of a table's vectors."""
    many = sql.SQL("[]" if table.kind == "multivector" else "")
    return sql.SQL("{}({}){}").format(sql.SQL(_type(table)), sql.Literal(table.dimensions), many)


def row(table: TableSpec, record: Record, vector: Any) -> list[Any]:
    """Return a record's values in the order of its table's columns."""
    fields = [record.fields.get(name) for name in table.fields]
    typed = [
        None if each is None else TYPES[kind](each) for each, kind in zip(fields, table.fields.values(), strict=True)
    ]
    plain = [UUID(record.id), record.document, record.version, record.ordinal, record.text, Json(dict(record.payload))]
    return [*plain, *typed, parameter(table, vector)]


def rows(table: TableSpec, records: Sequence[Record]) -> list[list[Any]]:
    """Return records' values.

    Raises:
        InputError: a vector is none that the table holds.
    """
    vectors = arrays.of(table, records)
    return [row(table, record, vector) for record, vector in zip(records, vectors, strict=True)]


def record(table: TableSpec, values: Sequence[Any], *, vector: bool) -> Record:
    """Return the record of a row, with its vector where the row has that."""
    end = 6 + len(table.fields)
    fields = {name: value for name, value in zip(table.fields, values[6:end], strict=True) if value is not None}
    key, document, version, ordinal, text, payload = values[:6]
    held = _vector(table, values[end]) if vector else None
    return Record(str(key), document, version, ordinal, text, fields, payload, held)


def parameter(table: TableSpec, vector: Any) -> Any:
    """Return a vector as the driver takes it, in pgvector's binary format."""
    if table.kind == "sparse":
        ids, values = vector
        pairs = zip(np.asarray(ids).tolist(), np.asarray(values, np.float32).tolist(), strict=True)
        return SparseVector(dict(pairs), table.dimensions)
    if table.dtype == "binary":
        return Bit(np.ascontiguousarray(vector, np.uint8).tobytes())
    wrap = HalfVector if table.dtype == "float16" else Vector
    return [wrap(each) for each in vector] if table.kind == "multivector" else wrap(np.asarray(vector))


def distance(table: TableSpec, version: tuple[int, int]) -> sql.Composable:
    """Return what orders the nearest first, of a parameter ``query``."""
    if table.dtype == "binary" and version < MANY_TYPES:
        return sql.SQL("bit_count(vector # %(query)s)")
    sign: str = "<~>" if table.dtype == "binary" else _DISTANCES[table.metric]
    return sql.SQL("(vector {} %(query)s)").format(sql.SQL("<#>" if table.kind == "sparse" else sign))


def coarse(table: TableSpec) -> sql.Composable:
    """Return the distance of the vectors' signs, which an index that is quantised to bits holds."""
    bits = sql.SQL("bit({})").format(sql.Literal(table.dimensions))
    form = sql.SQL("(binary_quantize(vector)::{bits} <~> binary_quantize(%(query)s::{kind})::{bits})")
    return form.format(bits=bits, kind=sql.SQL(_type(table)))


def score(table: TableSpec, told: float) -> float:
    """Return a distance as the score that ``Hit`` defines, to as many digits as equal vectors have in common."""
    if table.dtype == "binary":
        return 1 - 2 * told / table.dimensions
    return float(f"{1 - told if table.metric == 'cosine' else 0 - told:.6g}")


def indexed(table: TableSpec, version: tuple[int, int]) -> sql.Composable | None:
    """Return what an index of a table's vectors is made of; None where there is none to be had."""
    kind = "bit" if table.quantization == "binary" else _type(table)
    if table.index == "none" or table.kind != "dense" or table.dimensions > _WIDEST[kind] or version < _HNSW:
        return None
    if table.quantization == "binary":
        bits = sql.Literal(table.dimensions)
        return sql.SQL("((binary_quantize(vector)::bit({}))) bit_hamming_ops").format(bits)
    if kind == "bit":
        return sql.SQL("vector bit_hamming_ops") if version >= MANY_TYPES else None
    return sql.SQL("vector {}_{}_ops").format(sql.SQL(kind), sql.SQL(_CLASSES[table.metric]))


def condition(where: Filter | None, fields: Mapping[str, FieldType], values: dict[str, Any]) -> sql.Composable:
    """Return a filter as an expression that is never null; what it compares with goes to ``values``, by name."""
    if where is None:
        return _ALWAYS
    if isinstance(where, Compare):
        return _comparison(where, fields, values)
    if isinstance(where, Not):
        return sql.SQL("(NOT {})").format(condition(where.part, fields, values))
    parts = [condition(part, fields, values) for part in where.parts]
    joint, empty = (sql.SQL(" AND "), _ALWAYS) if isinstance(where, All) else (sql.SQL(" OR "), _NEVER)
    return sql.SQL("({})").format(joint.join(parts)) if parts else empty


def _comparison(where: Compare, fields: Mapping[str, FieldType], values: dict[str, Any]) -> sql.Composable:
    kind = {**BUILT_IN, **fields}.get(where.field)
    if kind is None or where.value == ():
        return _NEVER
    name: sql.Composable = sql.Identifier(column(where.field))
    there = _ALWAYS if where.field in BUILT_IN else sql.SQL("{} IS NOT NULL").format(name)
    if where.op == "exists":
        return there
    if where.field == "id" and where.op in ("eq", "in"):
        keys = _uuids(where.value if where.op == "in" else [where.value])
        return sql.SQL("({} = ANY({}::uuid[]))").format(name, _named(values, keys))
    if where.field == "id":
        name = sql.SQL('({}::text COLLATE "C")').format(name)
    form = sql.SQL("({} AND {} = ANY({}::{}[]))" if where.op == "in" else "({} AND {} {sign} {}::{})")
    value = _named(values, list(where.value) if where.op == "in" else where.value)
    return form.format(there, name, value, sql.SQL(_TYPES[kind]), sign=sql.SQL(_SIGNS.get(where.op, "=")))


def _named(values: dict[str, Any], value: Any) -> sql.Placeholder:
    name = f"value{len(values)}"
    values[name] = value
    return sql.Placeholder(name)


def _uuids(values: Iterable[Any]) -> list[UUID]:
    """Return those that are ids as PostgreSQL writes them; no record can have another."""
    found = []
    for value in values:
        try:
            key = UUID(value)
        except ValueError:
            continue
        if str(key) == value:
            found.append(key)
    return found


def _type(table: TableSpec) -> str:
    if table.kind == "sparse":
        return "sparsevec"
    if table.dtype == "binary":
        return "bit"
    return "halfvec" if table.dtype == "float16" else "vector"


def _vector(table: TableSpec, held: Any) -> Any:
    if table.kind == "sparse":
        return np.asarray(held.indices(), np.int64), np.asarray(held.values(), np.float32)
    if table.dtype == "binary":
        return np.frombuffer(held, np.uint8, offset=4)  # after the number of bits
    if table.kind == "multivector":
        return np.asarray([each.to_numpy() for each in held], np.float32).reshape(-1, table.dimensions)
    return held.to_numpy().astype(np.float32)
