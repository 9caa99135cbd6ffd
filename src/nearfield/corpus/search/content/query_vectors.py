"""Vectors of queries: each part is encoded or looked up, and parts in the same space are added with their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.search.content.query import ContentQuery, LikeChunks, QueryPart
from nearfield.corpus.search.content.readers import readable_parts
from nearfield.corpus.search.plan import Searchable
from nearfield.corpus.search.reranking import fetch_vectors
from nearfield.errors import InputError, SpaceMismatch
from nearfield.stores import Store, TableSpec, Vector

#: Rows of a query's multivector: more would make a search slow, and add little.
_MAX_ROWS = 1024
Weighted = tuple[Vector, float]


class QueryVectors:
    """Computes the vectors of queries for the features of one collection."""

    def __init__(self, store: Store, features: Mapping[str, Searchable]) -> None:
        self._store, self._features = store, features

    def compute(self, names: Sequence[str], queries: Sequence[ContentQuery]) -> dict[str, list[Vector]]:
        """Return the queries' vectors by feature; a truncated or quantised form is computed from the whole vectors.

        Raises:
            SpaceMismatch: queries were encoded in another space than the feature's.
        """
        encoded: dict[str, list[Vector]] = {}
        vectors: dict[str, list[Vector]] = {}
        for name in sorted(names if queries else (), key=lambda name: self._features[name].of is not None):
            feature = self._features[name]
            parts = [list(readable_parts(feature, query)) for query in queries]
            if feature.of in encoded and feature.shape is not None:
                whole = encoded[feature.of]
                encoded[name] = list(feature.shape(np.stack(whole))) if whole else []
            else:
                encoded[name] = self._encode(name, [part for row in parts for part in row])
            rows = iter(encoded[name])
            vectors[name] = [self._joined(name, row, rows) for row in parts]
        return vectors

    def _encode(self, name: str, parts: Sequence[QueryPart]) -> list[Vector]:
        """Return the vectors of the parts that are encoded, in order; texts together, then the others."""
        feature = self._features[name]
        values = [part.value for part in parts if not isinstance(part.value, LikeChunks)]
        texts = [value for value in values if isinstance(value, str)]
        media = [value for value in values if not isinstance(value, str)]
        by_text = iter(_rows(name, feature, feature.encode_queries(texts)) if texts else ())
        encode = feature.encode_media
        by_medium = iter(_rows(name, feature, encode(media)) if media and encode is not None else ())
        return [next(by_text if isinstance(value, str) else by_medium) for value in values]

    def _joined(self, name: str, parts: Sequence[QueryPart], rows: Iterator[Vector]) -> Vector:
        table = self._features[name].table
        weighted: list[Weighted] = []
        for part in parts:
            if isinstance(part.value, LikeChunks):
                weighted += [(vector, part.weight) for vector in self._stored(name, part.value)]
            else:
                weighted.append((next(rows), part.weight))
        return join_vectors(table, weighted)

    def _stored(self, name: str, like: LikeChunks) -> list[Vector]:
        """Return the vector of chunks of the collection, in a list that holds it alone.

        Raises:
            InputError: the feature has none.
        """
        table = self._features[name].table
        stored = sorted(fetch_vectors(self._store, table, like.ids).items())
        if not stored:
            raise InputError(f"Feature {name!r} has no vector of {like.name}.", param="like")
        return [_in_query_form(table, join_vectors(table, [(vector, 1.0) for _, vector in stored]))]


def _rows(name: str, feature: Searchable, encoded: Sequence[Vector]) -> list[Vector]:
    """Return the queries' vectors one by one, if they are in the feature's space."""
    fingerprint = getattr(encoded, "fingerprint", feature.fingerprint)
    if feature.fingerprint and fingerprint != feature.fingerprint:
        raise SpaceMismatch(
            f"Feature {name!r} has vectors of {feature.fingerprint}, and the query's vector is of {fingerprint}: they "
            "cannot be compared. Index again, or search with the model that the collection was indexed with."
        )
    return list(encoded)


def _in_query_form(table: TableSpec, vector: Vector) -> Vector:
    whole = table.kind == "dense" and table.dtype != "binary"
    return np.asarray(vector, np.float32) if whole else vector


def join_vectors(table: TableSpec, weighted: Sequence[Weighted]) -> Vector:
    """Return the sum of vectors of one space with their weights, after each is scaled to the length 1.

    Multivectors are joined row by row: MaxSim of the result is the weighted sum of the means over the rows of each.
    One vector alone is returned unchanged.
    """
    if len(weighted) == 1:
        return weighted[0][0]
    total = sum(weight for _, weight in weighted)
    shares = [(vector, weight / total) for vector, weight in weighted]
    if table.kind == "sparse":
        return _sum_sparse(shares)
    if table.kind == "multivector":
        return _join_rows(shares)
    rows = np.stack([_unpacked(vector) for vector, _ in shares])
    lengths, weights = np.linalg.norm(rows, axis=1), np.array([weight for _, weight in shares])
    summed = weights @ (rows / np.where(lengths == 0, 1, lengths)[:, None])
    if table.dtype == "binary":
        return np.packbits(summed > 0)
    scale = float(weights @ lengths) / (float(np.linalg.norm(summed)) or 1.0)
    return np.asarray(summed * scale, np.float32)


def _unpacked(vector: Array) -> Array:
    return 2.0 * np.unpackbits(vector) - 1 if vector.dtype == np.uint8 else np.asarray(vector, np.float64)


def _sum_sparse(shares: Sequence[tuple[Any, float]]) -> Vector:
    summed: dict[int, float] = {}
    for (ids, values), weight in shares:
        length = float(np.linalg.norm(values)) or 1.0
        for key, value in zip(np.asarray(ids).tolist(), np.asarray(values).tolist(), strict=True):
            summed[key] = summed.get(key, 0.0) + weight * value / length
    keys = sorted(summed)
    return np.array(keys, np.int64), np.array([summed[key] for key in keys], np.float32)


def _join_rows(shares: Sequence[tuple[Array, float]]) -> Array:
    most = max(1, _MAX_ROWS // len(shares))
    thinned = [(rows[:: -(-len(rows) // most)] if len(rows) else rows, weight) for rows, weight in shares]
    return np.ascontiguousarray(
        np.concatenate([np.asarray(rows, np.float32) * (weight / max(len(rows), 1)) for rows, weight in thinned])
    )
