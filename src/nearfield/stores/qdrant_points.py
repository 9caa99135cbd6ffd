"""Convert records to Qdrant's points and back.

With its cosine metric, Qdrant scales vectors to unit length and loses the original ones. So cosines are computed as dot
products: a vector of unit length (nearly all are) is stored unchanged, and another one is stored scaled, with the
original in the payload. Binary vectors are stored as bytes of 0 and 1 with the Manhattan distance, which then counts
the bits that differ.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from qdrant_client import models

from nearfield.arrays import Array
from nearfield.stores import arrays
from nearfield.stores.filters import BUILT_IN, TYPES, Value
from nearfield.stores.store import Quantization, Record, TableSpec, Vector

#: A record or a scored point of the client.
Point = Any
VECTOR = "vector"
#: Payload key of the original vector, if the stored one is scaled: float32, in base64.
_ORIGINAL = "original"
#: Payload key of the vector's length, if that is 1 except for the rounding to float16.
_NORM = "norm"
#: Maximum deviation from unit length.
_UNIT_TOLERANCE = {"float32": 1e-6, "float16": 1e-3}
#: Estimated bytes of one write (a server accepts 32 MB by default), and of a number in JSON.
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
    """Return the arguments of ``create_collection`` that describe the vectors."""
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
    """Yield records as points, in batches that a server accepts in one request.

    Raises:
        InputError: a vector does not fit the table.
    """
    part: list[models.PointStruct] = []
    size = 0
    for record, vector in zip(records, arrays.rounded(table, records), strict=True):
        point = _point(table, record, vector)
        weight = _numbers(table, vector) * _NUMBER + len(json.dumps(point.payload))
        if part and size + weight > _WRITE:
            yield part
            part, size = [], 0
        part.append(point)
        size += weight
    if part:
        yield part


def record(table: TableSpec, point: Point, *, vector: bool) -> Record:
    """Return a point as a record."""
    payload = point.payload
    fields = {name: (kind, payload["fields"].get(name)) for name, kind in table.fields.items()}
    return Record(
        id=str(point.id),
        document=payload["document"],
        version=payload["version"],
        ordinal=payload["ordinal"],
        text=payload["text"],
        fields={name: TYPES[kind](value) for name, (kind, value) in fields.items() if value is not None},
        payload=payload["payload"],
        vector=_vector(table, point) if vector else None,
    )


def query(table: TableSpec, vector: Vector) -> object:
    """Return a query in the client's form; None if it is empty."""
    if table.kind == "sparse":
        return _sparse(*vector)
    if table.dtype == "binary":
        return np.unpackbits(vector).tolist()
    return np.asarray(vector, np.float32).tolist() or None


def score(table: TableSpec, vector: Vector, point: Point) -> float:
    """Return the score of a point as ``StoreHit`` defines it, to the digits that equal vectors have in common."""
    if table.dtype == "binary":
        return 1 - 2 * point.score / table.dimensions
    if table.kind != "dense":
        return float(f"{point.score:.6g}")
    if table.metric == "cosine":
        value = point.score / (_norm(np.asarray(vector)) or 1.0) / point.payload.get(_NORM, 1.0)
    else:
        value = -point.score if table.metric == "euclidean" else point.score
    return float(f"{value:.6g}")


def key(field: str) -> str:
    """Return the payload key of a field."""
    return field if field in BUILT_IN else f"fields.{field}"


def field_value(point: Point, field: str) -> Value | None:
    """Return the value of a point's field; None if it has none."""
    if field == "id":
        return str(point.id)
    fields = point.payload if field in BUILT_IN else point.payload.get("fields", {})
    value: Value | None = fields.get(field)
    return value


def ids(values: Iterable[str]) -> list[str]:
    """Return the values that are ids as Qdrant writes them; no point can have another one."""
    return [value for value in values if _is_id(value)]


def _is_id(value: str) -> bool:
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False


def _point(table: TableSpec, record: Record, vector: Vector) -> models.PointStruct:
    stored, extra = _stored(table, vector)
    fields = {name: kind for name, kind in table.fields.items() if name in record.fields}
    payload: dict[str, object] = {
        "document": record.document,
        "version": record.version,
        "ordinal": record.ordinal,
        "text": record.text,
        "fields": {name: TYPES[kind](record.fields[name]) for name, kind in fields.items()},
        "payload": dict(record.payload),
        **extra,
    }
    return models.PointStruct(id=record.id, payload=payload, vector={} if stored is None else {VECTOR: stored})


def _stored(table: TableSpec, vector: Vector) -> tuple[Any, dict[str, object]]:
    """Return a vector in the client's form (None if it is empty), and its additions to the payload."""
    if table.kind == "sparse":
        return _sparse(*vector), {}
    if table.dtype == "binary":
        return np.unpackbits(vector).tolist(), {}
    if table.kind == "multivector":
        return vector.tolist() or None, {}
    norm = _norm(vector)
    if table.metric != "cosine" or not norm:
        return vector.tolist(), {}
    if abs(norm - 1) <= _UNIT_TOLERANCE[table.dtype]:
        return vector.tolist(), {_NORM: norm} if table.dtype == "float16" else {}
    return (vector / norm).tolist(), {_ORIGINAL: base64.b64encode(vector.tobytes()).decode()}


def _sparse(ids: Array, values: Array) -> models.SparseVector | None:
    if not len(values):
        return None
    return models.SparseVector(indices=np.asarray(ids).tolist(), values=np.asarray(values, np.float32).tolist())


def _norm(row: Array) -> float:
    return float(np.linalg.norm(row.astype(np.float64)))


def _numbers(table: TableSpec, vector: Vector) -> int:
    if table.kind == "sparse":
        return 2 * len(vector[0])
    return table.dimensions if table.dtype == "binary" else int(vector.size)


def _vector(table: TableSpec, point: Point) -> Vector:
    stored = (point.vector or {}).get(VECTOR)
    if table.kind == "sparse":
        ids = np.asarray(stored.indices if stored else [], np.int64)
        order = np.argsort(ids)
        return ids[order], np.asarray(stored.values if stored else [], np.float32)[order]
    if table.kind == "multivector":
        return np.asarray(stored or [], np.float32).reshape(-1, table.dimensions)
    if table.dtype == "binary":
        return np.packbits(np.asarray(stored, np.uint8))
    original = point.payload.get(_ORIGINAL)
    return np.asarray(stored, np.float32) if original is None else np.frombuffer(base64.b64decode(original), np.float32)
