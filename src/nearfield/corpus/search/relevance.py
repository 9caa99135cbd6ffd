"""Relevance of search results on a scale from 0 to 1, calibrated on the collection itself.

Raw scores cannot be compared between models and modes: unrelated texts have a cosine of 0.1 with one model and 0.75
with another, and BM25 has no upper bound. Two measures can be compared:

- *nearness*: how far a chunk's score lies between the query's mean score with random chunks of the collection (0) and
  its score with itself (1);
- *coverage*: the share of the query's words that a chunk contains, where rare words weigh more (inverse document
  frequency) and function words nothing.

Nearness is unknown for a query in a script that the model cannot read: all such texts have nearly the same vector.

A logistic function turns them into one number. Its coefficients were fitted on SQuAD questions whose paragraph is in a
collection, and on questions about articles that are not (see ``MIN_ANSWER_SCORE``).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.document import TEXT
from nearfield.corpus.manifest.keyword_index import KeywordIndex
from nearfield.corpus.search.candidates import Ranking
from nearfield.corpus.search.plan import BM25, Searchable, SearchPlan
from nearfield.corpus.search.reranking import fetch_vectors
from nearfield.corpus.search.stop_words import STOP_WORDS
from nearfield.stores import Store, Vector
from nearfield.stores import exact as scoring

LOG = logging.getLogger("nearfield")
#: Minimum score of a passage that may answer a question. Measured with all-MiniLM-L6-v2 on two collections of SQuAD
#: (10 and 3 articles): 98% of 400 questions with an answer have a passage above it, and 96% of 240 questions about
#: other articles have none.
MIN_ANSWER_SCORE = 0.5
#: Options of a search for passages that may answer a question.
ANSWER_OPTIONS: Mapping[str, Any] = {"min_score": MIN_ANSWER_SCORE}
#: Random chunks that a query is compared with, and the size of a collection below which fixed texts replace them: in a
#: small one, the chunks that answer the query would be a large part of the sample.
_SAMPLE, _MIN_SAMPLE = 200, 50
#: Digits of a score; more would depend on the texts that are encoded in the same batch.
_DIGITS = 3
#: Words of a query that count, and the minimum number of chunks for the weights of words.
_MAX_WORDS, _MIN_CHUNKS = 64, 100
#: Names and numbers decide more often than other words whether a passage answers a question.
_NAME_WEIGHT = 1.5
#: With this share of a query's words in the collection, function words included, both are in the same language.
_SAME_LANGUAGE = 0.2
_UNREAD_WARNING = (
    "The model %s does not know the letters of a query (%s): scores count shared words alone, and are 0 in searches "
    "without keywords. Use a multilingual model."
)
#: Coefficients of the logistic function: of nearness and coverage with an intercept; of nearness alone, as slope and
#: value at 0.5, if a chunk has other words than the query or if words cannot be compared; the same of coverage alone.
_BOTH, _NEAR_DESPITE_WORDS, _NEAR_ALONE, _COVERED = (8.0, 8.0, -6.1), (14.0, 0.51), (14.0, 0.39), (12.0, 0.45)
#: Texts that have nothing to do with any query.
UNRELATED = (
    "The train to the coast leaves at seven in the morning.",
    "Whisk the eggs with sugar until the mixture is pale.",
    "The committee approved the budget for the coming year.",
    "Press the button to restart the device.",
    "He painted the fence green last summer.",
    "The river flooded the valley after heavy rain.",
    "Her second novel won a prize in 1987.",
    "The function returns an error if the file does not exist.",
    "Vitamin C is found in many fruits and vegetables.",
    "The tenant shall pay the rent on the first day of each month.",
    "Two teams reached the final of the tournament.",
    "Whales are mammals that live in the sea.",
    "The castle was built by a duke in the twelfth century.",
    "Interest rates rose by a quarter of a percent.",
    "Tighten the screws before you attach the wheel.",
    "Our shop is closed on Sundays and public holidays.",
)


class RelevanceScale:
    """Scores of search results from 0 (unrelated) to 1, for one collection at one state of its vectors."""

    def __init__(self, store: Store, features: Mapping[str, Searchable], keywords: KeywordIndex) -> None:
        self._store, self._features, self._keywords = store, features, keywords
        self._samples: dict[str, list[Vector]] = {}
        #: Scripts that a warning has named.
        self._warned: set[str] = set()

    def scores(
        self, plan: SearchPlan, texts: Sequence[str], vectors: Mapping[str, Sequence[Vector]], rankings: list[Ranking]
    ) -> list[list[float]]:
        """Return the score of each candidate. Candidates in the order of relevance have falling scores.

        Args:
            plan: the plan of the search.
            texts: the queries.
            vectors: the queries' vectors by feature.
            rankings: the candidates of each query.
        """
        name = self._feature(plan)
        nearness: list[list[float | None]] = [[None] * len(row) for row in rankings]
        if name is not None:
            nearness = self._nearness(name, vectors[name], rankings)
            nearness = [
                [None] * len(row) if self.is_unread(name, text) else row
                for text, row in zip(texts, nearness, strict=True)
            ]
        scores = []
        for text, near, ranking in zip(texts, nearness, rankings, strict=True):
            words = _QueryWords(self._keywords, text) if self._uses_words(plan) else None
            covered: list[float | None] = [None] * len(ranking)
            if words is not None:
                covered = words.coverage([candidate.id for candidate in ranking])
            row = [_combine(*evidence) for evidence in zip(near, covered, strict=True)]
            if plan.rerank and plan.rerank not in ("multivector", "sentences"):
                row = [max(score, _probability(candidate)) for score, candidate in zip(row, ranking, strict=True)]
            row = [round(score, _DIGITS) for score in row]
            scores.append(row if plan.mmr is not None else falling(row))
        return scores

    def _feature(self, plan: SearchPlan) -> str | None:
        """Return the feature whose vectors measure nearness: the first one that the search uses, dense if possible."""
        used = [name for name in (plan.rescored, *plan.rankings, plan.dense) if name and name != BM25]
        used = [name for name in used if TEXT in self._features[name].reads]
        dense = (name for name in used if self._features[name].table.kind == "dense")
        return next(dense, used[0] if used else None)

    def is_unread(self, name: str, text: str) -> bool:
        """Return whether a model cannot read a query, so that its vector says nothing; warn once for each script."""
        feature = self._features[name]
        script = None if feature.unread_script is None else feature.unread_script(text)
        if script is None:
            return False
        if script not in self._warned:
            self._warned.add(script)
            LOG.warning(_UNREAD_WARNING, feature.model or name, script)
        return True

    def _uses_words(self, plan: SearchPlan) -> bool:
        return len(plan.rankings) > 1 or BM25 in plan.rankings

    def _nearness(self, name: str, queries: Sequence[Vector], rankings: list[Ranking]) -> list[list[float | None]]:
        """Return each candidate's place between the query's mean score with random texts (0) and with itself (1)."""
        table, sample = self._features[name].table, self._sample(name)
        ids = (candidate.id for ranking in rankings for candidate in ranking)
        stored = fetch_vectors(self._store, table, ids)
        rows: list[list[float | None]] = []
        for query, ranking in zip(queries, rankings, strict=True):
            known = [candidate.id for candidate in ranking if candidate.id in stored]
            own = [query, *(stored[key] for key in known)]
            values = scoring.score(table, [query], [*own, *sample])[0].astype(np.float64)
            base = float(values[len(own) :].mean()) if sample else 0.0
            scale = float(values[0]) - base
            near = (values[1 : len(own)] - base) / scale if scale > 0 else np.zeros(len(known))
            places = dict(zip(known, np.clip(near, 0.0, 1.0).tolist(), strict=True))
            rows.append([places.get(candidate.id) for candidate in ranking])
        return rows

    def _sample(self, name: str) -> list[Vector]:
        """Return vectors of texts that have nothing to do with a query."""
        if name not in self._samples:
            feature = self._features[name]
            ids = self._keywords.sample_ids(_SAMPLE)
            if len(ids) < _MIN_SAMPLE and feature.encode_documents is not None:
                self._samples[name] = list(feature.encode_documents(UNRELATED))
            else:  # ids are digests, so that their order is random
                self._samples[name] = list(fetch_vectors(self._store, feature.table, ids).values())
        return self._samples[name]


class _QueryWords:
    """The words of a query that say what it is about, and their weights in a collection."""

    def __init__(self, keywords: KeywordIndex, text: str) -> None:
        self._keywords = keywords
        total = max(keywords.count(), _MIN_CHUNKS)
        terms = dict(islice(keywords.terms(text).items(), _MAX_WORDS))
        content = {word: term for word, term in terms.items() if word.casefold() not in STOP_WORDS} or terms
        self._weights: dict[str, float] = {}
        for word, term in content.items():
            count = keywords.count_with(term, total)
            weight = math.log(1 + (total - count + 0.5) / (count + 0.5))
            # The first word of a sentence has a capital anyway.
            is_name = word.isdigit() or (word[:1].isupper() and not text.lstrip().startswith(word))
            self._weights[term] = weight * (_NAME_WEIGHT if is_name else 1.0)
        known = sum(keywords.count_with(term, 1) for term in terms.values())
        self._comparable = len(terms) < 3 or known >= _SAME_LANGUAGE * len(terms)

    def coverage(self, ids: Sequence[str]) -> list[float | None]:
        """Return for each chunk the share of the words that it has; None if the query is in another language."""
        total = sum(self._weights.values())
        if not self._comparable or not total:
            return [None] * len(ids)
        covered = dict.fromkeys(ids, 0.0)
        for term, weight in self._weights.items():
            for key in self._keywords.with_term(term, ids):
                covered[key] += weight
        return [covered[key] / total for key in ids]


def _combine(near: float | None, covered: float | None) -> float:
    """Return the relevance by nearness and coverage, either of which may be unknown."""
    if near is None and covered is None:
        return 0.0
    if near is None:
        return logistic(_COVERED[0] * ((covered or 0.0) - _COVERED[1]))
    if covered is None:
        return logistic(_NEAR_ALONE[0] * (near - _NEAR_ALONE[1]))
    both = _BOTH[0] * near + _BOTH[1] * covered + _BOTH[2]
    return logistic(max(both, _NEAR_DESPITE_WORDS[0] * (near - _NEAR_DESPITE_WORDS[1])))


def logistic(value: float) -> float:
    """Return 1 / (1 + e^-value)."""
    return 1 / (1 + math.exp(-max(-60.0, min(value, 60.0))))


def _probability(candidate: object) -> float:
    """Return a cross-encoder's score as a probability; some models return the logit."""
    score = float(getattr(candidate, "score", 0.0))
    return score if 0.0 <= score <= 1.0 else logistic(score)


def falling(scores: Sequence[float]) -> list[float]:
    """Return scores of which each is at least as high as all that follow: a better hit is at least as relevant."""
    reversed_scores: Array = np.maximum.accumulate(np.asarray(scores[::-1], np.float64))
    return [float(score) for score in reversed_scores[::-1]]
