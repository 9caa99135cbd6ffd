"""Reranking of search candidates: by a cross-encoder, by stored vectors (MaxSim), or by their nearest sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.document import embedded
from nearfield.corpus.search.fusion import scaled
from nearfield.corpus.search.highlighting import Place, sentences
from nearfield.errors import InputError
from nearfield.stores import Record, Store, TableSpec, Vector
from nearfield.stores import exact as scoring
from nearfield.vectors.dense import normalize

#: Records that are fetched from a store in one call.
_RECORDS_PER_FETCH = 1024
#: Share of the best sentence in a score; the rest is the chunk's own. Measured: see ``benchmarks/README.md``.
SENTENCE_SHARE = 0.5


class PairScorer(Protocol):
    """A cross-encoder, such as ``nearfield.Reranker``."""

    def score(self, query: Sequence[str], documents: Sequence[str]) -> object:
        """Return an array with a score for each pair of a query and a document."""


def record_text(record: Record) -> str:
    """Return the text of a stored chunk as models read it, with its context."""
    return embedded(record.text, record.payload.get("context", ""))


def by_pairs(scorer: PairScorer, queries: Sequence[str], records: Sequence[Sequence[Record]]) -> list[dict[str, float]]:
    """Return cross-encoder scores by id, for each query and its records; all pairs are scored in one call.

    Raises:
        InputError: the model gives several scores for a pair.
    """
    firsts = [query for query, row in zip(queries, records, strict=True) for _ in row]
    seconds = [record_text(record) for row in records for record in row]
    scores = np.asarray(scorer.score(firsts, seconds) if firsts else [], np.float64)
    if scores.ndim > 1:
        raise InputError(
            f"The reranker gives {scores.shape[1]} scores for each pair, and ranking needs one.", param="rerank"
        )
    values = iter(scores.tolist())
    return [{record.id: next(values) for record in row} for row in records]


def by_vectors(
    store: Store, table: TableSpec, queries: Sequence[Vector], records: Sequence[Sequence[Record]]
) -> list[dict[str, float]]:
    """Return exact scores by id from a table's vectors, MaxSim for multivectors; records without one are left out."""
    vectors = fetch_vectors(store, table, (record.id for row in records for record in row))
    scores = []
    for query, row in zip(queries, records, strict=True):
        ids = [record.id for record in row if record.id in vectors]
        values = scoring.score(table, [query], [vectors[key] for key in ids])[0] if ids else []
        scores.append({key: float(value) for key, value in zip(ids, values, strict=True)})
    return scores


def fetch_vectors(store: Store, table: TableSpec, ids: Iterable[str]) -> dict[str, Vector]:
    """Return the vectors of records, by id."""
    ordered = sorted(set(ids))
    parts = (ordered[start : start + _RECORDS_PER_FETCH] for start in range(0, len(ordered), _RECORDS_PER_FETCH))
    return {record.id: record.vector for part in parts for record in store.fetch(table, part, vectors=True)}


def unpack(vector: Array) -> Array:
    """Return a dense vector as float64; a binary one as the signs 1 and -1."""
    return 2.0 * np.unpackbits(vector) - 1 if vector.dtype == np.uint8 else np.asarray(vector, np.float64)


class SentenceVectors:
    """Vectors of the chunks' sentences, encoded once for all queries of a batch."""

    def __init__(self, encode: Callable[[Sequence[str]], Sequence[Array]], language: str) -> None:
        self._encode, self._language = encode, language
        self._vectors: dict[str, dict[Place, Array]] = {}

    def scores(self, queries: Sequence[Array], records: Sequence[Sequence[Record]]) -> list[list[dict[Place, float]]]:
        """Return, for each query and each of its records, the cosine of every sentence, by its place in the text."""
        self._add({record.id: record.text for row in records for record in row})
        units = normalize(np.stack([unpack(query) for query in queries]))
        return [
            [{place: float(unit @ other) for place, other in self._vectors[record.id].items()} for record in row]
            for unit, row in zip(units, records, strict=True)
        ]

    def _add(self, texts: Mapping[str, str]) -> None:
        new = {key: text for key, text in texts.items() if key not in self._vectors}
        places = [(key, place) for key, text in new.items() for place in sentences(text, self._language)]
        self._vectors |= {key: {} for key in new}
        if not places:
            return
        rows = self._encode([new[key][start:end] for key, (start, end) in places])
        units = normalize(np.stack([unpack(row) for row in rows]))
        for (key, place), unit in zip(places, units, strict=True):
            self._vectors[key][place] = unit


def by_sentences(
    vectors: SentenceVectors,
    queries: Sequence[Array],
    records: Sequence[Sequence[Record]],
    chunk_scores: Sequence[Mapping[str, float]],
) -> list[dict[str, float]]:
    """Return scores by id: the mean of the nearest sentence's and the chunk's own score, both scaled to 0 to 1."""
    results = []
    for row, cosines, own in zip(records, vectors.scores(queries, records), chunk_scores, strict=True):
        nearest = {record.id: max(places.values(), default=0.0) for record, places in zip(row, cosines, strict=True)}
        near, own = scaled(nearest), scaled(own)
        results.append({key: (1 - SENTENCE_SHARE) * own[key] + SENTENCE_SHARE * near[key] for key in near})
    return results
