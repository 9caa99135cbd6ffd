"""Exact search: compare every record with every query, for stores without an index, and to test those with one."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from nearfield.arrays import Array
from nearfield.stores.store import Record, StoreHit, TableSpec, Vector

#: Candidates that are fetched besides the requested ones, so that ties at the end are seen.
_SPARE = 16
#: Maximum error of a database's own arithmetic, as a share of the largest score that the vectors could have.
_NOISE = {"float32": 1e-5, "float16": 4e-3, "binary": 1e-9}


def search(
    table: TableSpec, parts: Iterable[Sequence[Record]], queries: Sequence[Vector], k: int
) -> list[list[StoreHit]]:
    """Return the ``k`` best records for each query; ties in the order of ids."""
    best: list[list[tuple[float, str, Record]]] = [[] for _ in queries]
    for part in parts:
        if not part or not queries:
            continue
        scores = score(table, queries, [record.vector for record in part])
        for row, top in zip(scores, best, strict=True):
            new = [(-float(row[at]), part[at].id, part[at]) for at in _candidates(row, k)]
            top[:] = heapq.nsmallest(k, [*top, *new], key=lambda entry: entry[:2])
    return [[_hit(record, -value) for value, _, record in top] for top in best]


def rank_candidates(
    table: TableSpec, query: Vector, k: int, nearest: Callable[[int], Sequence[Record]]
) -> list[StoreHit]:
    """Return the ``k`` best of a database's candidates, scored and ordered here, so that all databases agree.

    ``nearest`` returns the n records (with vectors) that the database ranks nearest. It is called for more as long as
    records that tie with the last result may be missing.
    """
    count = k + _SPARE
    while records := nearest(count):
        scores = score(table, [query], [record.vector for record in records])[0]
        best = sorted(zip(-scores, (record.id for record in records), range(len(records)), strict=True))
        clear = float(best[-1][0] - best[min(k, len(best)) - 1][0]) > _noise(table, query, records, scores)
        if clear or len(records) < count:
            return [_hit(records[at], -float(value)) for value, _, at in best[:k]]
        count *= 4
    return []


def score(table: TableSpec, queries: Sequence[Vector], vectors: Sequence[Vector]) -> Array:
    """Return the scores [queries, vectors] as ``StoreHit`` defines them: computed in float64, returned as float32.

    The remaining digits depend on a vector's position in a block, and would order equal vectors by it.
    """
    return np.asarray(_score(table, queries, vectors), np.float32) + np.float32(0)  # no negative zero


def _score(table: TableSpec, queries: Sequence[Vector], vectors: Sequence[Vector]) -> Array:
    if table.kind == "sparse":
        return _sparse(queries, vectors, table.dimensions)
    if table.kind == "multivector":
        return _maxsim(queries, vectors)
    left, right = np.stack(queries), np.stack(vectors)
    if table.dtype == "binary":
        left, right = (2.0 * np.unpackbits(side, axis=1) - 1 for side in (left, right))
        return left @ right.T / table.dimensions
    left, right = left.astype(np.float64), right.astype(np.float64)
    if table.metric == "euclidean":
        return -np.sqrt(np.maximum(0, (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T))
    if table.metric == "cosine":
        left, right = _unit(left), _unit(right)
    return left @ right.T


def _hit(record: Record, value: float) -> StoreHit:
    return StoreHit(replace(record, vector=None), value)


def _candidates(row: Array, k: int) -> Array:
    """Return the indices of the ``k`` best scores, and of all that tie with the last of them."""
    if len(row) <= k or k < 1:
        return np.arange(len(row))
    return np.flatnonzero(row >= np.partition(row, -k)[-k])


def _noise(table: TableSpec, query: Vector, records: Sequence[Record], scores: Array) -> float:
    scale = float(np.abs(scores).max())
    if table.metric == "dot" and table.kind == "dense" and table.dtype != "binary":
        norms = [float(np.linalg.norm(vector)) for vector in (query, *(record.vector for record in records))]
        scale = norms[0] * max(norms[1:])
    return _NOISE[table.dtype] * max(scale, 1 if table.metric == "cosine" else 0)


def _unit(rows: Array) -> Array:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms == 0, 1, norms)


def _maxsim(queries: Sequence[Array], vectors: Sequence[Array]) -> Array:
    """Sum over the query's tokens of the nearest token's dot product (Khattab & Zaharia 2020, arXiv:2004.12832)."""
    lengths = np.array([len(vector) for vector in vectors])
    scores, full = np.zeros((len(queries), len(vectors))), lengths > 0
    if not full.any():
        return scores
    tokens = np.concatenate([vector for vector in vectors if len(vector)]).astype(np.float64)
    starts = np.cumsum(lengths[full]) - lengths[full]
    for row, query in enumerate(queries):
        near = tokens @ np.asarray(query, np.float64).T
        scores[row, full] = np.maximum.reduceat(near, starts).sum(1)
    return scores


def _sparse(queries: Sequence[Vector], vectors: Sequence[Vector], width: int) -> Array:
    scores = np.zeros((len(queries), len(vectors)))
    rows = np.repeat(np.arange(len(vectors)), [len(at) for at, _ in vectors])
    at = np.concatenate([np.asarray(at, np.int64) for at, _ in vectors])
    numbers = np.concatenate([np.asarray(values, np.float64) for _, values in vectors])
    for row, (ids, values) in enumerate(queries):
        weights = np.zeros(width)
        weights[np.asarray(ids, np.int64)] = values
        scores[row] = np.bincount(rows, weights[at] * numbers, minlength=len(vectors))
    return scores
