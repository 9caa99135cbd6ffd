"""Exact: every record compared with every query, for stores without an index and as the truth for those with one."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.stores.store import Record, StoreHit, TableSpec

#: Candidates that a database is asked for beyond those that are wanted, so that ties at the end are seen.
_SPARE = 16
#: How far a database's own arithmetic may be off, as a part of the largest score that the vectors could have.
_NOISE = {"float32": 1e-5, "float16": 4e-3, "binary": 1e-9}


def search(table: TableSpec, parts: Iterable[Sequence[Record]], queries: Sequence[Any], k: int) -> list[list[StoreHit]]:
    """Return the ``k`` best of all records for each query; ties in the order of ids."""
    best: list[list[tuple[float, str, Record]]] = [[] for _ in queries]
    for part in parts:
        if not part or not queries:
            continue
        scores = score(table, queries, [record.vector for record in part])
        for row, kept in zip(scores, best, strict=True):
            fresh = [(-float(row[at]), part[at].id, part[at]) for at in _promising(row, k)]
            kept[:] = heapq.nsmallest(k, [*kept, *fresh], key=lambda each: each[:2])
    return [[_hit(record, -value) for value, _, record in kept] for kept in best]


def settle(table: TableSpec, query: Any, k: int, nearest: Callable[[int], Sequence[Record]]) -> list[StoreHit]:
    """Return the ``k`` best of what a database finds, scored and ordered here, so that all databases agree.

    ``nearest`` gives the n records (with vectors) that the database holds for the nearest. It is asked for more as long
    as records that tie with the last one that is returned may have been cut off.
    """
    wanted = k + _SPARE
    while found := nearest(wanted):
        scores = score(table, [query], [record.vector for record in found])[0]
        best = sorted(zip(-scores, (record.id for record in found), range(len(found)), strict=True))
        clear = float(best[-1][0] - best[min(k, len(best)) - 1][0]) > _noise(table, query, found, scores)
        if clear or len(found) < wanted:
            return [_hit(found[at], -float(value)) for value, _, at in best[:k]]
        wanted *= 4
    return []


def score(table: TableSpec, queries: Sequence[Any], vectors: Sequence[Any]) -> Array:
    """Return the scores [queries, vectors] as ``Hit`` defines them: computed in float64, and given as float32.

    What is left of the digits would tell equal vectors apart by where they stood in a block.
    """
    return np.asarray(_score(table, queries, vectors), np.float32) + np.float32(0)  # no negative zero


def _score(table: TableSpec, queries: Sequence[Any], vectors: Sequence[Any]) -> Array:
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


def _promising(row: Array, k: int) -> Array:
    """Return where the ``k`` best lie, with all that tie with the last of them."""
    if len(row) <= k or k < 1:
        return np.arange(len(row))
    return np.flatnonzero(row >= np.partition(row, -k)[-k])


def _noise(table: TableSpec, query: Any, found: Sequence[Record], scores: Array) -> float:
    scale = float(np.abs(scores).max())
    if table.metric == "dot" and table.kind == "dense" and table.dtype != "binary":
        norms = [float(np.linalg.norm(vector)) for vector in (query, *(record.vector for record in found))]
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


def _sparse(queries: Sequence[Any], vectors: Sequence[Any], width: int) -> Array:
    scores = np.zeros((len(queries), len(vectors)))
    rows = np.repeat(np.arange(len(vectors)), [len(at) for at, _ in vectors])
    at = np.concatenate([np.asarray(at, np.int64) for at, _ in vectors])
    held = np.concatenate([np.asarray(values, np.float64) for _, values in vectors])
    for row, (ids, values) in enumerate(queries):
        weights = np.zeros(width)
        weights[np.asarray(ids, np.int64)] = values
        scores[row] = np.bincount(rows, weights[at] * held, minlength=len(vectors))
    return scores
