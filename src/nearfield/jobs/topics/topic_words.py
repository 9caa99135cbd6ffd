"""Words of topics by c-TF-IDF (Grootendorst 2022, arXiv:2203.05794): frequent in a topic, rare in the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.jobs.libraries import library

#: Words of a topic, and characters that are read of each text.
WORDS = 6
_MAX_CHARACTERS = 2_000
#: Different words and pairs of words that are counted: the most frequent.
_MAX_FEATURES = 50_000
#: How many times as frequent as in all texts a word must be: others, such as "the", are no words of a topic.
_MIN_LIFT = 1.5


def topic_words(texts: Sequence[str], clusters: Array, count: int) -> list[tuple[str, ...]]:
    """Return the words of each topic, the most typical first; -1 among ``clusters`` is no topic."""
    try:
        counts, names = _count(texts)
    except ValueError:  # no text has a word
        return [() for _ in range(count)]
    sums = np.vstack([np.asarray(counts[clusters == number].sum(axis=0)).ravel() for number in range(count)])
    totals = sums.sum(axis=1, keepdims=True)
    frequency, overall = sums / np.maximum(totals, 1), sums.sum(axis=0)
    scores = frequency * np.log1p(totals.mean() / np.maximum(overall, 1))
    is_typical = frequency * overall.sum() >= _MIN_LIFT * overall
    return [_best(row, names) for row in np.where(is_typical, scores, 0)]


def _count(texts: Sequence[str]) -> tuple[Array, Sequence[str]]:
    vectorizer = library("sklearn.feature_extraction.text").CountVectorizer(
        ngram_range=(1, 2), max_features=_MAX_FEATURES, max_df=0.5 if len(texts) > 20 else 1.0
    )
    counts = vectorizer.fit_transform(text[:_MAX_CHARACTERS] for text in texts)
    return counts, vectorizer.get_feature_names_out().tolist()


def _best(scores: Array, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names with the highest scores, without one that is part of a better one, or contains it."""
    chosen: list[str] = []
    for place in np.argsort(-scores, kind="stable"):
        name = names[place]
        if len(chosen) == WORDS or scores[place] <= 0:
            break
        if not any(set(name.split()) & set(other.split()) for other in chosen):
            chosen.append(name)
    return tuple(chosen)
