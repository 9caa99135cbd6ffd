"""Scores of media on a scale from 0 to 1, by how many random chunks would score as high.

Scores of different features and kinds cannot be compared: a text has a cosine of 0.2 to 0.35 with a picture that it
describes, and of 0.4 with a text that has nothing to do with it. What can be compared is how far a score is out of the
ordinary. The ordinary is the same query's scores with a random sample of stored vectors of the same feature and kind,
each of which counts once: their median, and the spread around it. Both are robust: chunks in the sample that match the
query hardly change them.

A score that is ``z`` spreads above the median is reached by chance by ``N * P(z)`` of the ``N`` chunks of the kind,
with the tail of a normal distribution. If ``r`` hits score at least as high, the share of chance among them is
``N * P(z) / r``, as in the control of false discoveries (Benjamini & Hochberg 1995). The score is 0.5 where a tenth of
the hits would be chance, and 0.12 where all would.

A few chunks say little about what is ordinary. So only a chunk that is the query itself scores 1 for a picture, sound
or video, and none scores more than 0.99 beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.document import TEXT
from nearfield.corpus.manifest.keyword_index import KeywordIndex
from nearfield.corpus.search.candidates import Ranking
from nearfield.corpus.search.plan import Searchable
from nearfield.corpus.search.relevance import UNRELATED, logistic
from nearfield.corpus.search.reranking import fetch_vectors
from nearfield.stores import Store, Vector
from nearfield.stores import exact as scoring

#: Random chunks of a kind; fewer multivectors, which have a vector for each token or patch.
_SAMPLE, _SAMPLED_MULTIVECTORS = 200, 32
#: With fewer chunks than this, unrelated texts say what is ordinary, or the query's score with itself.
_MIN_SAMPLE = 8
#: The median of absolute deviations times this is the deviation of a normal distribution.
_DEVIATIONS = 1.4826
#: Slope of the score by the decimal logarithm of the share of chance, and the share at which it is 0.5.
_SLOPE, _HALF = 2.0, 0.1
_LEAST = 1e-300
#: Slope and value at 0.5 of the nearness that counts where nothing says what is ordinary.
_NEARNESS = (14.0, 0.6)
#: Share of the query's score with itself from which a chunk is the query itself; the most that others score.
_SAME, _MOST = 0.999, 0.99


class SurpriseScale:
    """Scores of candidates by one feature from 0 to 1, for one collection at one state of its vectors."""

    def __init__(self, store: Store, features: Mapping[str, Searchable], keywords: KeywordIndex) -> None:
        self._store, self._features, self._keywords = store, features, keywords
        self._samples: dict[tuple[str, str], list[Vector]] = {}
        self._unrelated: dict[str, list[Vector]] = {}

    def scores(
        self, name: str, kind: str, queries: Sequence[Vector], rankings: Sequence[Ranking], *, are_texts: bool
    ) -> list[list[float]]:
        """Return the score of each candidate of a kind by the vectors of a feature; 0 for those without one.

        Args:
            name: the feature.
            kind: that of all candidates.
            queries: the queries' vectors.
            rankings: the candidates of each query.
            are_texts: whether the queries are texts.
        """
        table = self._features[name].table
        stored = fetch_vectors(self._store, table, (one.id for ranking in rankings for one in ranking))
        results = []
        for query, ranking in zip(queries, rankings, strict=True):
            known = [one.id for one in ranking if one.id in stored]
            values = self._values(name, query, [stored[key] for key in known])
            scores = dict(zip(known, self._scaled(name, kind, query, values, are_texts), strict=True))
            results.append([scores.get(one.id, 0.0) for one in ranking])
        return results

    def _values(self, name: str, query: Vector, vectors: Sequence[Vector]) -> Array:
        if not vectors:
            return np.zeros(0)
        return scoring.score(self._features[name].table, [query], vectors)[0].astype(np.float64)

    def _scaled(self, name: str, kind: str, query: Vector, values: Array, are_texts: bool) -> list[float]:
        ordinary = self._ordinary(name, kind, query, are_texts)
        if are_texts and ordinary is not None:
            return self._by_chance(kind, values, ordinary)
        nearness = (values / (float(self._values(name, query, [query])[0]) or 1.0)).tolist()
        if ordinary is None:
            scores = [logistic(_NEARNESS[0] * (near - _NEARNESS[1])) for near in nearness]
        else:
            scores = self._by_chance(kind, values, ordinary)
        return [1.0 if near >= _SAME else min(score, _MOST) for near, score in zip(nearness, scores, strict=True)]

    def _by_chance(self, kind: str, values: Array, ordinary: Array) -> list[float]:
        total = max(self._keywords.count_kind(kind), 1)
        return [_score_of(share) for share in chance_shares(values, ordinary, total)]

    def _ordinary(self, name: str, kind: str, query: Vector, are_texts: bool) -> Array | None:
        """Return scores of what has nothing to do with each other; None if there is nothing to compare."""
        sample = self._sample(name, kind)
        if len(sample) >= _MIN_SAMPLE:
            return self._values(name, query, sample)
        if not are_texts or not sample:
            return None
        if name not in self._unrelated:
            self._unrelated[name] = list(self._features[name].encode_queries(UNRELATED))
        return scoring.score(self._features[name].table, self._unrelated[name], sample).astype(np.float64).ravel()

    def _sample(self, name: str, kind: str) -> list[Vector]:
        if (name, kind) not in self._samples:
            table = self._features[name].table
            count = _SAMPLED_MULTIVECTORS if table.kind == "multivector" else _SAMPLE
            ids = self._keywords.sample_ids(count, () if kind == TEXT else (kind,))
            stored = sorted(fetch_vectors(self._store, table, ids).items())
            self._samples[name, kind] = distinct(vector for _, vector in stored)
        return self._samples[name, kind]


def distinct(vectors: Iterable[Vector]) -> list[Vector]:
    """Return different vectors: many copies of a file say no more of what is ordinary than one."""
    return list({_content(vector): vector for vector in vectors}.values())


def _content(vector: Vector) -> bytes:
    parts = vector if isinstance(vector, tuple) else (vector,)
    return b"".join(np.asarray(part).tobytes() for part in parts)


def chance_shares(values: Array, ordinary: Array, total: int) -> list[float]:
    """Return for each score the share of chance among the scores that are at least as high.

    Args:
        values: scores of candidates [n].
        ordinary: scores of random chunks [m].
        total: the number of chunks that the candidates are the best of.
    """
    median = float(np.median(ordinary))
    spread = _DEVIATIONS * float(np.median(np.abs(ordinary - median))) or float(ordinary.std())
    if spread <= 0:
        return [1.0 if value <= median else 0.0 for value in values.tolist()]
    order = np.argsort(-values, kind="stable")
    chance = [total * _tail((value - median) / spread) for value in values[order].tolist()]
    shares = np.array(chance) / np.arange(1, len(chance) + 1)
    falling = np.minimum.accumulate(shares[::-1])[::-1]
    result = np.empty(len(values))
    result[order] = falling
    return [float(value) for value in result]


def _tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def _score_of(share: float) -> float:
    return logistic(-_SLOPE * (math.log10(max(share, _LEAST)) - math.log10(_HALF)))
