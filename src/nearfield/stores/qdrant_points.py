"""Points: records as Qdrant keeps them, and back.

Two things are not as one would guess. Qdrant scales vectors to unit length where its metric is the cosine, and forgets
what they were; so cosines are taken as dot products: a vector of unit length, which nearly all are, lies as it is, and
another lies scaled, with the original beside it in the payload. Binary vectors lie as bytes of 0 and 1 under the
Manhattan distance, which then counts the bits that differ.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from qdrant_client import models

from nearfield.stores import arrays
from nearfield.stores.filters import BUILT_IN, TYPES, Value
from nearfield.stores.store import Array, Quantization, Record, TableSpec

VECTOR = "vector"
#: In a payload only where the vector lies scaled: float32, in base64.
_ORIGINAL = "original"
#: In a payload only where the vector's length is 1 but for the rounding to float16.
_NORM = "norm"
#: How far from unit length passes as that.
_UNIT = {"float32": 1e-6, "float16": 1e-3}
#: Bytes of one write, by estimate (a server takes 32 MB unless it is told otherwise), and of a number in JSON.
_WRITE, _NUMBER = 16_000_000, 21
_DISTANCES = {"cosine": models.Distance.DOT, "dot": models.Distance.DOT, "euclidean": models.Distance.EUCLID}
_TYPES = {
    "float32": models.Datatype.FLOAT32,
    "float16": models.Datatype.FLOAT16,
    "binary": models.Datatype.UINT8,
}
_QUANTIZATIONS: Mapping[Quantization, Any] = {
    "none": None,
    "int8": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    ),
    "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
}


def shape(table: TableSpec) -> dict[str, Any]:
    """Return the vectors of a collection, as ``create_collection`` is told of them."""
    kind = _TYPES[table.dtype]
    if table.kind == "sparse":
        params = models.SparseVectorParams(index=models.SparseIndexParams(datatype=kind))
        return {"vectors_config": {}, "sparse_vectors_config": {VECTOR: params}}
    many = table.kind == "multivector"
    distance = models.Distance.DOT if many else _DISTANCES[table.metric]
    vectors = models.VectorParams(
        size=table.dimensions,
        distance=models.Distance.MANHATTAN if table.dtype == "binary" else distance,
        datatype=kind,
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM) if many else None,
        hnsw_config=models.HnswConfigDiff(m=0) if table.index == "none" else None,
        quantization_config=_QUANTIZATIONS[table.quantization],
    )
    return {"vectors_config": {VECTOR: vectors}}


def requests(table: TableSpec, records: Sequence[Record]) -> Iterator[list[models.PointStruct]]:
    """Yield records as points, as many at a time as a server takes in one request.

    Raises:
        InputError: a vector is none that the table holds.
    """
    part: list[models.PointStruct] = []
    size = 0
    for record, vector in zip(records, arrays.of(table, records), strict=True):
        point = _point(table, record, vector)
        weight = _numbers(table, vector) * _NUMBER + len(json.dumps(point.payload))
        if part and size + weight > _WRITE:
            yield part
            part, size = [], 0
        part.append(point)
        size += weight
    if part:
        yield part


def record(table: TableSpec, point: Any, *, vector: bool) -> Record:
    """Return a point as a record."""
    held = point.payload
    fields = {name: (kind, held["fields"].get(name)) for name, kind in table.fields.items()}
    return Record(
        str(point.id),
        held["document"],
        held["version"],
        held["ordinal"],
        held["text"],
        {name: TYPES[kind](value) for name, (kind, value) in fields.items() if value is not None},
        held["payload"],
        _vector(table, point) if vector else None,
    )


def query(table: TableSpec, vector: Any) -> Any:
    """Return a query as the client takes it; None where nothing is in it."""
    if table.kind == "sparse":
        return _sparse(*vector)
    if table.dtype == "binary":
        return np.unpackbits(vector).tolist()
    return np.asarray(vector, np.float32).tolist() or None


def score(table: TableSpec, vector: Any, point: Any) -> float:
    """Return how near to a query a point was found, as ``Hit`` defines it.

    It has as many digits as points of equal vectors have in common.
    """
    if table.dtype == "binary":
        return 1 - 2 * point.score / table.dimensions
    if table.kind != "dense":
        return float(f"{point.score:.6g}")
    if table.metric == "cosine":
        told = point.score / (_norm(np.asarray(vector)) or 1.0) / point.payload.get(_NORM, 1.0)
    else:
        told = -point.score if table.metric == "euclidean" else point.score
    return float(f"{told:.6g}")


def key(field: str) -> str:
    """Return where in a payload a field lies."""
    return field if field in BUILT_IN else f"fields.{field}"


def held(point: Any, field: str) -> Value | None:
    """Return the value of a field of a point, None where it has none."""
    if field == "id":
        return str(point.id)
    place = point.payload if field in BUILT_IN else point.payload.get("fields", {})
    value: Value | None = place.get(field)
    return value


def ids(values: Iterable[Any]) -> list[str]:
    """Return those that are ids as Qdrant writes them; no point can have another."""
    return [value for value in values if _is_id(value)]


def _is_id(value: str) -> bool:
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False


def _point(table: TableSpec, record: Record, vector: Any) -> models.PointStruct:
    stored, beside = _stored(table, vector)
    there = {name: kind for name, kind in table.fields.items() if name in record.fields}
    payload: dict[str, Any] = {
        "document": record.document,
        "version": record.version,
        "ordinal": record.ordinal,
        "text": record.text,
        "fields": {name: TYPES[kind](record.fields[name]) for name, kind in there.items()},
        "payload": dict(record.payload),
        **beside,
    }
    return models.PointStruct(id=record.id, payload=payload, vector={} if stored is None else {VECTOR: stored})


def _stored(table: TableSpec, vector: Any) -> tuple[Any, dict[str, Any]]:
    """Return a vector as the client takes it, None where nothing is in it; and what belongs in the payload with it."""
    if table.kind == "sparse":
        return _sparse(*vector), {}
    if table.dtype == "binary":
        return np.unpackbits(vector).tolist(), {}
    if table.kind == "multivector":
        return vector.tolist() or None, {}
    norm = _norm(vector)
    if table.metric != "cosine" or not norm:
        return vector.tolist(), {}
    if abs(norm - 1) <= _UNIT[table.dtype]:
        return vector.tolist(), {_NORM: norm} if table.dtype == "float16" else {}
    return (vector / norm).tolist(), {_ORIGINAL: base64.b64encode(vector.tobytes()).decode()}


def _sparse(ids: Any, values: Any) -> models.SparseVector | None:
    if not len(values):
        return None
    return models.SparseVector(indices=np.asarray(ids).tolist(), values=np.asarray(values, np.float32).tolist())


def _norm(row: Array) -> float:
    return float(np.linalg.norm(row.astype(np.float64)))


def _numbers(table: TableSpec, vector: Any) -> int:
    if table.kind == "sparse":
        return 2 * len(vector[0])
    return table.dimensions if table.dtype == "binary" else int(vector.size)


def _vector(table: TableSpec, point: Any) -> Any:
    held = (point.vector or {}).get(VECTOR)
    if table.kind == "sparse":
        ids = np.asarray(held.indices if held else [], np.int64)
        order = np.argsort(ids)
        return ids[order], np.asarray(held.values if held else [], np.float32)[order]
    if table.kind == "multivector":
        return np.asarray(held or [], np.float32).reshape(-1, table.dimensions)
    if table.dtype == "binary":
        return np.packbits(np.asarray(held, np.uint8))
    original = point.payload.get(_ORIGINAL)
    return np.asarray(held, np.float32) if original is None else np.frombuffer(base64.b64decode(original), np.float32)
