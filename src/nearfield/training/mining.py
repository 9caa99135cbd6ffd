"""Hard negatives: documents that a model ranks high for a query although they do not answer it.

A candidate whose score comes close to that of the positive is often an unjudged answer, and is left out
(NV-Retriever, arXiv 2407.15831: a negative scores at most 95% of its positive). A teacher, such as a cross-encoder,
decides the same way with its better scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.top_matches import TopMatches
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.evaluation.json_types import JsonDict
from nearfield.training.overlap.normalised import normalise
from nearfield.training.training_data import TrainingData

#: Documents whose vectors exist at once; with 1,024 dimensions these take 67 MB.
_DOCUMENT_ROWS = 16_384
_QUERY_ROWS = 1024
#: Share by which a negative's score has to be lower than its positive's.
RELATIVE_MARGIN = 0.05
#: Why a candidate was left out, in the order in which it is checked.
REASONS: Mapping[str, str] = {
    "judged": "judged for this query",
    "equal_text": "the text of a positive",
    "margin": "too close to the positive's score",
    "teacher": "too close to the positive's score by the teacher",
}


class VectorSource(Protocol):
    """Gives texts their vectors, of unit length or to be compared by dot product, as ``Encoder`` does."""

    def encode_query(self, texts: list[str], /) -> Array:
        """Return float vectors [n, dimensions] of queries."""

    def encode_document(self, texts: list[str], /) -> Array:
        """Return float vectors [n, dimensions] of documents."""


class PairTeacher(Protocol):
    """Scores pairs, as ``Reranker`` does."""

    def score(self, query: list[str], documents: list[str], /) -> Array:
        """Return float scores [n], higher is better."""


@dataclass(frozen=True)
class MinedNegatives:
    """Training data with negatives (grade 0), and what was left out.

    Attributes:
        data: with the mined negatives, and with the teacher's scores if there was one.
        mined: negatives that were added.
        left_out: candidates that were not taken, by reason (see ``REASONS``).
        short_of: queries with fewer negatives than wished for.
        close_share: share of candidates within the margin: these may be unjudged answers.
    """

    data: TrainingData
    mined: int
    left_out: Mapping[str, int]
    short_of: int
    close_share: float

    def to_dict(self) -> JsonDict:
        """Return the counts, as reports contain them."""
        return {
            "mined": self.mined,
            "left_out": dict(self.left_out),
            "queries_short_of_negatives": self.short_of,
            "share_within_margin": self.close_share,
        }


@dataclass(frozen=True)
class NegativeChoice:
    """How negatives are chosen: how many, of which ranks, and how far below the positive."""

    per_query: int = 3
    ranks: tuple[int, int] = (1, 100)
    relative_margin: float = RELATIVE_MARGIN

    def __post_init__(self) -> None:
        first, last = self.ranks
        if self.per_query < 1:
            raise InputError(f"per_query is at least 1, and is {self.per_query}.", param="per_query")
        if not 1 <= first <= last:
            raise InputError(f"ranks are two numbers such as (1, 100), and are {self.ranks}.", param="ranks")
        if not 0 <= self.relative_margin < 1:
            raise InputError(f"relative_margin is from 0 to 1, and is {self.relative_margin}.", param="relative_margin")


def mine_negatives(
    data: TrainingData,
    encoder: VectorSource,
    *,
    per_query: int = 3,
    ranks: tuple[int, int] = (1, 100),
    relative_margin: float = RELATIVE_MARGIN,
    teacher: PairTeacher | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MinedNegatives:
    """Add hard negatives to ranking data: the best-ranked documents that are no answers, by exact search.

    Vectors of documents exist block by block, so that memory grows with the texts and with ``ranks[1]`` numbers a
    query only.

    Args:
        data: of the shape ``ranking``; its documents are the corpus.
        encoder: the model whose errors are searched for, usually the base of the training.
        per_query: negatives to add to each query.
        ranks: first and last rank of candidates, from 1.
        relative_margin: a negative's score is at most the lowest positive's less this share of its size.
        teacher: a second opinion on each candidate; its scores of what is used become the data's teacher scores.
        progress: called with the number of texts encoded so far and of all.

    Raises:
        InputError: the data has another shape, or an option is out of range.
    """
    if not isinstance(data.rows, Retrieval):
        raise InputError(
            f"Negatives are mined for queries and documents, and {data.name!r} has {data.shape}.", param="data"
        )
    options = NegativeChoice(per_query, ranks, relative_margin)
    run = _MiningRun(data, data.rows, encoder, options, teacher, progress)
    return run.mine()


@dataclass
class _MiningRun:
    """One search for negatives; ``positives`` holds the score of each positive of a query."""

    data: TrainingData
    rows: Retrieval
    encoder: VectorSource
    options: NegativeChoice
    teacher: PairTeacher | None
    progress: Callable[[int, int], None] | None
    left_out: Counter[str] = field(default_factory=Counter)
    positives: dict[str, dict[str, float]] = field(default_factory=dict)
    teacher_scores: dict[str, dict[str, float]] = field(default_factory=dict)
    candidates: int = 0

    def mine(self) -> MinedNegatives:
        keys, documents = list(self.rows.relevant), list(self.rows.documents)
        matches = self._search(keys, documents)
        relevant, short_of, mined = {}, 0, 0
        for number, key in enumerate(keys):
            names = [documents[place] for place in matches.ids[number] if place < len(documents)]
            negatives = self._choose(key, list(zip(names, matches.scores[number].tolist(), strict=False)))
            relevant[key] = {**self.rows.relevant[key], **dict.fromkeys(negatives, 0)}
            mined, short_of = mined + len(negatives), short_of + (len(negatives) < self.options.per_query)
        rows = replace(self.rows, relevant=relevant)
        scores = {**self.data.teacher_scores, **self.teacher_scores}
        share = self.left_out["margin"] / self.candidates if self.candidates else 0.0
        return MinedNegatives(
            replace(self.data, rows=rows, teacher_scores=scores), mined, dict(self.left_out), short_of, share
        )

    # -- search ----------------------------------------------------------------------------------------------------

    def _search(self, keys: Sequence[str], documents: Sequence[str]) -> TopMatches:
        total = len(keys) + len(documents)
        queries = np.asarray(self.encoder.encode_query([self.rows.queries[key] for key in keys]), np.float32)
        self._show(len(keys), total)
        deepest = self.options.ranks[1] + max(len(judged) for judged in self.rows.relevant.values())
        matches = TopMatches(len(keys), min(deepest, len(documents)))
        queries_of = self._queries_by_positive(keys)
        for start in range(0, len(documents), _DOCUMENT_ROWS):
            block = documents[start : start + _DOCUMENT_ROWS]
            texts = [self.rows.documents[name] for name in block]
            vectors = np.asarray(self.encoder.encode_document(texts), np.float32)
            for first in range(0, len(keys), _QUERY_ROWS):
                matches.add(first, queries[first : first + _QUERY_ROWS] @ vectors.T, None, start)
            self._score_positives(keys, queries_of, block, queries, vectors)
            self._show(len(keys) + start + len(block), total)
        return matches

    def _show(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)

    def _queries_by_positive(self, keys: Sequence[str]) -> Mapping[str, list[int]]:
        queries_of: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            for document, grade in self.rows.relevant[key].items():
                if grade > 0:
                    queries_of.setdefault(document, []).append(number)
        return queries_of

    def _score_positives(
        self,
        keys: Sequence[str],
        queries_of: Mapping[str, list[int]],
        block: Sequence[str],
        queries: Array,
        vectors: Array,
    ) -> None:
        for place, name in enumerate(block):
            for number in queries_of.get(name, ()):
                self.positives.setdefault(keys[number], {})[name] = float(queries[number] @ vectors[place])

    # -- choice ----------------------------------------------------------------------------------------------------

    def _choose(self, key: str, ranked: Sequence[tuple[str, float]]) -> list[str]:
        """Return the first candidates of a query, by rank, that are far enough from its positives."""
        positives = self.positives.get(key)
        if not positives:
            return []
        limit = _below(min(positives.values()), self.options.relative_margin)
        count = self.options.per_query
        chosen: list[str] = []
        for batch in _batches(list(self._candidates(key, ranked, limit)), count):
            chosen += self._agreed(key, list(positives), batch)
            if len(chosen) >= count:
                break
        return chosen[:count]

    def _candidates(self, key: str, ranked: Sequence[tuple[str, float]], limit: float) -> Iterator[str]:
        judged = self.rows.relevant[key]
        answers = {normalise(self.rows.documents[name]) for name, grade in judged.items() if grade > 0}
        first, last = self.options.ranks
        unjudged = [(name, score) for name, score in ranked if not (name in judged and self._leave_out("judged"))]
        for name, score in unjudged[first - 1 : last]:
            self.candidates += 1
            if normalise(self.rows.documents[name]) in answers:
                self._leave_out("equal_text")
            elif score > limit:
                self._leave_out("margin")
            else:
                yield name

    def _agreed(self, key: str, positives: Sequence[str], names: Sequence[str]) -> list[str]:
        """Return the candidates that the teacher ranks below the positives too; all, if there is none."""
        if self.teacher is None:
            return list(names)
        texts = [self.rows.documents[name] for name in (*positives, *names)]
        scores = np.asarray(self.teacher.score([self.rows.queries[key]] * len(texts), texts), np.float64).tolist()
        limit = _below(min(scores[: len(positives)]), self.options.relative_margin)
        pairs = list(zip(names, scores[len(positives) :], strict=True))
        agreed = [(name, score) for name, score in pairs if not (score > limit and self._leave_out("teacher"))]
        of_query = self.teacher_scores.setdefault(key, {})
        of_query.update({**dict(zip(positives, scores, strict=False)), **dict(agreed)})
        return [name for name, _ in agreed]

    def _leave_out(self, reason: str) -> bool:
        self.left_out[reason] += 1
        return True


def _below(score: float, share: float) -> float:
    """Return a score lowered by a share of its size, also where it is negative."""
    return score - abs(score) * share


def _batches(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
