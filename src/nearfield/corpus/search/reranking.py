"""Rerank: what was found is scored anew, by looking at query and text together or in smaller pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from nearfield.corpus.document import embedded
from nearfield.corpus.search.fusion import scaled
from nearfield.corpus.search.highlighting import Place, sentences
from nearfield.errors import InputError
from nearfield.stores import Record, Store, TableSpec
from nearfield.stores import exact as scoring
from nearfield.vectors.dense import normalize

Array = np.ndarray[Any, np.dtype[Any]]
#: Records fetched from a store at once.
_AT_ONCE = 1024
#: How much of a score is the best sentence's; the rest is the chunk's own. Measured: see ``benchmarks/README.md``.
SENTENCE_SHARE = 0.5


class PairScorer(Protocol):
    """A cross-encoder, such as ``nearfield.Reranker``."""

    def score(self, query: Sequence[str], documents: Sequence[str]) -> Any:
        """Return a score for each pair of a query and a document."""


def read(record: Record) -> str:
    """Return a chunk that a store gave as models read it."""
    return embedded(record.text, record.payload.get("context", ""))


def by_pairs(scorer: PairScorer, queries: Sequence[str], found: Sequence[Sequence[Record]]) -> list[dict[str, float]]:
    """Score each query with each of its records by a cross-encoder, all pairs in one call.

    Raises:
        InputError: the model gives a pair several scores.
    """
    firsts = [query for query, records in zip(queries, found, strict=True) for _ in records]
    seconds = [read(record) for records in found for record in records]
    scores = np.asarray(scorer.score(firsts, seconds) if firsts else [], np.float64)
    if scores.ndim > 1:
        raise InputError(f"The reranker gives {scores.shape[1]} scores a pair: none says which ranks.", param="rerank")
    told = iter(scores.tolist())
    return [{record.id: next(told) for record in records} for records in found]


def by_vectors(
    store: Store, table: TableSpec, queries: Sequence[Any], found: Sequence[Sequence[Record]]
) -> list[dict[str, float]]:
    """Score by vectors that a table holds, exactly; of multivectors that is MaxSim. What it lacks is left out."""
    vectors = fetched(store, table, (record.id for records in found for record in records))
    scores = []
    for query, records in zip(queries, found, strict=True):
        ids = [record.id for record in records if record.id in vectors]
        row = scoring.score(table, [query], [vectors[key] for key in ids])[0] if ids else []
        scores.append({key: float(value) for key, value in zip(ids, row, strict=True)})
    return scores


def fetched(store: Store, table: TableSpec, ids: Iterable[str]) -> dict[str, Any]:
    """Return the vectors of records, by id."""
    wanted = sorted(set(ids))
    parts = (wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE))
    return {record.id: record.vector for part in parts for record in store.fetch(table, part, vectors=True)}


def spread(vector: Array) -> Array:
    """Return a dense vector as numbers: the signs of a binary one, as 1 and -1."""
    return 2.0 * np.unpackbits(vector) - 1 if vector.dtype == np.uint8 else np.asarray(vector, np.float64)


class Sentences:
    """Chunks by their sentences, whose vectors are encoded once for all queries of a batch."""

    def __init__(self, encode: Callable[[Sequence[str]], Any], language: str) -> None:
        self._encode, self._language = encode, language
        self._known: dict[str, dict[Place, Array]] = {}

    def scores(self, queries: Sequence[Array], found: Sequence[Sequence[Record]]) -> list[list[dict[Place, float]]]:
        """Return, for each query and each of its records, the cosine of every sentence, by its place in the text."""
        self._learn({record.id: record.text for records in found for record in records})
        units = normalize(np.stack([spread(query) for query in queries]))
        return [
            [{place: float(unit @ row) for place, row in self._known[record.id].items()} for record in records]
            for unit, records in zip(units, found, strict=True)
        ]

    def _learn(self, texts: Mapping[str, str]) -> None:
        new = {key: text for key, text in texts.items() if key not in self._known}
        places = [(key, place) for key, text in new.items() for place in sentences(text, self._language)]
        self._known |= {key: {} for key in new}
        if not places:
            return
        rows = self._encode([new[key][start:end] for key, (start, end) in places])
        units = normalize(np.stack([spread(row) for row in rows]))
        for (key, place), unit in zip(places, units, strict=True):
            self._known[key][place] = unit


def by_sentences(
    known: Sentences,
    queries: Sequence[Array],
    found: Sequence[Sequence[Record]],
    own: Sequence[Mapping[str, float]],
) -> list[dict[str, float]]:
    """Score by each chunk's nearest sentence and the chunk's own score, both scaled to 0 to 1."""
    scores = []
    for records, row, before in zip(found, known.scores(queries, found), own, strict=True):
        near = scaled({record.id: max(each.values(), default=0.0) for record, each in zip(records, row, strict=True)})
        told = scaled(before)
        scores.append({key: (1 - SENTENCE_SHARE) * told[key] + SENTENCE_SHARE * near[key] for key in near})
    return scores
