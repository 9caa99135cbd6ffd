"""Hard negatives: documents that a model ranks high for a query although they do not answer it.

A candidate whose score comes close to that of the positive is often an unjudged answer, and is left out
(NV-Retriever, arXiv 2407.15831: a negative scores at most 95% of its positive). A teacher, such as a cross-encoder,
decides the same way with its better scores.

The rules of choice are those of ``mine_hard_negatives`` (``compat.sentence_transformers``), in the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.negative_selection import are_pairs, best_places, remove_by_limits
from nearfield.compat.sentence_transformers.util.top_matches import TopMatches
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.evaluation.json_types import JsonDict
from nearfield.training.overlap.normalised import normalise
from nearfield.training.teachers import ModelTeacher
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
        ranked = self._candidates(keys, documents, self._search(keys, documents))
        relevant, short_of, mined = {}, 0, 0
        for key, places in zip(keys, ranked, strict=True):
            negatives = self._choose(key, [documents[place] for place in places])
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

    def _candidates(self, keys: Sequence[str], documents: Sequence[str], matches: TopMatches) -> list[list[int]]:
        """Return for each query the numbers of its candidates, by rank, that are far enough from its positives."""
        ids, scores = np.where(matches.filled, matches.ids, -1), matches.scores.copy()
        lowest = np.array([min(self.positives.get(key, {"": -np.inf}).values()) for key in keys])[:, None]
        scores[(ids < 0) | (lowest == -np.inf)] = -np.inf
        numbers = {name: number for number, name in enumerate(documents)}
        judged = [(row, numbers[name]) for row, key in enumerate(keys) for name in self.rows.relevant[key]]
        self._remove("judged", scores, _are_among(ids, judged, len(documents)))
        first, last = self.options.ranks
        order = best_places(scores, first - 1, last)
        ids, scores = (np.take_along_axis(part, order, 1) for part in (ids, scores))
        self.candidates = int((scores != -np.inf).sum())
        texts = _text_numbers(self.rows.documents[name] for name in documents)
        answers = [(row, texts[numbers[name]]) for row, key in enumerate(keys) for name in self.positives.get(key, ())]
        self._remove("equal_text", scores, _are_among(np.where(ids < 0, -1, texts[ids]), answers, len(documents)))
        for removal in remove_by_limits(scores, lowest, {"relative_margin": self.options.relative_margin}).values():
            self.left_out["margin"] += removal.count
        return [row_ids[row_scores != -np.inf].tolist() for row_ids, row_scores in zip(ids, scores, strict=True)]

    def _remove(self, reason: str, scores: Array, removed: Array) -> None:
        """Set scores to minus infinity, and count those that were not."""
        count = int((removed & (scores != -np.inf)).sum())
        scores[removed] = -np.inf
        if count:
            self.left_out[reason] += count

    def _choose(self, key: str, names: Sequence[str]) -> list[str]:
        """Return the first candidates of a query that the teacher agrees with."""
        count = self.options.per_query
        if self.teacher is None or not names:
            return list(names[:count])
        chosen: list[str] = []
        for batch in _batches(names, count):
            chosen += self._agreed(key, list(self.positives[key]), batch, self.teacher)
            if len(chosen) >= count:
                break
        return chosen[:count]

    def _agreed(self, key: str, positives: Sequence[str], names: Sequence[str], teacher: PairTeacher) -> list[str]:
        """Return the candidates that the teacher ranks clearly below the positives too."""
        texts = [self.rows.documents[name] for name in (*positives, *names)]
        scores = np.asarray(teacher.score([self.rows.queries[key]] * len(texts), texts), np.float64)
        near = teacher.nearness(scores) if isinstance(teacher, ModelTeacher) else scores
        lowest, others = np.array([[near[: len(positives)].min()]]), near[None, len(positives) :].copy()
        remove_by_limits(others, lowest, {"relative_margin": self.options.relative_margin})
        agreed = [name for name, score in zip(names, others[0], strict=True) if score != -np.inf]
        if len(agreed) < len(names):
            self.left_out["teacher"] += len(names) - len(agreed)
        by_name = dict(zip((*positives, *names), scores.tolist(), strict=True))
        self.teacher_scores.setdefault(key, {}).update({name: by_name[name] for name in (*positives, *agreed)})
        return agreed


def _are_among(ids: Array, pairs: Sequence[tuple[int, int]], size: int) -> Array:
    owners, others = np.array(pairs, np.int64).reshape(-1, 2).T
    return are_pairs(ids, owners, others, size)


def _text_numbers(texts: Iterable[str]) -> Array:
    """Return a number for each text, the same for texts that are equal when normalised."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalise(text), len(numbers)) for text in texts], np.int64)


def _batches(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
