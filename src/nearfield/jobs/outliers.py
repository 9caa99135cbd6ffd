"""`find_outliers` and `find_drift`: texts that are unlike all others, and a stream that is unlike a reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nearfield.argument_checks import require_count, require_list, require_optional_counts
from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict
from nearfield.jobs.job_vectors import DEFAULT_MODEL, JobModel, vectors_of
from nearfield.jobs.libraries import library
from nearfield.jobs.sources.job_items import require_items
from nearfield.jobs.topics.clusters import sample_rows
from nearfield.message_text import count_of
from nearfield.text_inputs import many_texts

#: Neighbours whose mean distance is the score of a text.
NEIGHBOURS = 10
#: Texts with which each is compared: with more, the order of scores hardly changes.
_MAX_COMPARED = 20_000
#: Texts of each side between which a classifier decides.
_MAX_DRIFT = 5_000
#: Share of a reference that counts as new by definition.
_NEW_SHARE = 0.01
#: Differences of distances that come from rounding: equal texts are no farther from each other than from themselves.
_ROUNDING = 1e-6
#: Pairs that are compared at a time.
_PAIRS = 1 << 24
MIN_TEXTS = 10
#: Parts of cross-validation, and digits of numbers in vectors that are compared to find equal texts.
_FOLDS, _DIGITS = 5, 4


@dataclass(frozen=True)
class Outlier:
    """A text that is unlike all others: its number, its score (the mean cosine distance to its nearest texts)."""

    number: int
    score: float
    is_far: bool


@dataclass(frozen=True)
class DriftReport:
    """How a stream differs from a reference.

    Attributes:
        separability: the chance that a classifier separates a text of the stream from one of the reference: 0.5 if they
            are alike, 1 if they have nothing in common (area under the ROC curve, in cross-validation).
        p: the chance of such a separability without a difference (Mann-Whitney).
        new_share: share of the stream that is further from the reference than 99% of the reference is from itself.
        interval: of ``new_share``, at 95% (Clopper & Pearson). About 0.01 is expected without a difference.
        newest: numbers of the texts of the stream that are furthest from the reference.
    """

    separability: float
    p: float
    new_share: float
    interval: tuple[float, float]
    newest: tuple[int, ...]
    reference: int
    stream: int

    @property
    def has_drifted(self) -> bool:
        """Whether the difference is significant, and large enough to matter: p below 0.01, separability above 0.6."""
        return self.p < 0.01 and self.separability > 0.6

    def to_dict(self) -> JsonDict:
        """Return the report in a form for JSON."""
        return {**vars(self), "drifted": self.has_drifted}

    def to_text(self) -> str:
        """Return lines for a terminal."""
        low, high = self.interval
        verdict = "the stream has drifted" if self.has_drifted else "no drift that matters"
        return (
            f"{count_of(self.stream, 'text')} against {count_of(self.reference, 'text')}: {verdict}\n"
            f"separability {self.separability:.2f} (0.5: alike, 1: nothing in common), p {self.p:.2g}\n"
            f"new: {100 * self.new_share:.1f}% (95% {100 * low:.1f} to {100 * high:.1f}; 1% without a difference)"
        )


def find_outliers(
    texts: Sequence[str],
    *,
    count: int | None = None,
    vectors: ArrayLike | None = None,
    model: JobModel = DEFAULT_MODEL,
    seed: int = 1,
    accept_license: bool = False,
    progress: bool = False,
) -> list[Outlier]:
    """Return the texts that are unlike all others, the most unlike first.

    Args:
        texts: at least ten.
        count: how many; None: those that are far, whose score is above the third quartile by more than one and a half
            times the distance of the quartiles (Tukey's fence).
        vectors: those of the texts, if there are any; otherwise the model computes them.
        model, accept_license, progress: as for ``find_topics``.
        seed: of the sample with which each text is compared, where there are more than 20,000.

    Raises:
        InputError: there are too few texts, or an argument is invalid.
    """
    listed = many_texts(texts, "texts")
    require_items(listed, MIN_TEXTS, "A search for outliers")
    require_optional_counts(count=count)
    require_count("seed", seed, 0)
    rows = vectors_of(listed, vectors, model, "clustering", accept_license=accept_license, progress=progress).rows
    scores = neighbour_distances(rows, sample_rows(rows, _MAX_COMPARED, seed), skip_self=True)
    first, third = np.percentile(scores, [25, 75])
    fence = third + 1.5 * (third - first) + _ROUNDING
    order = np.argsort(-scores, kind="stable")[: int((scores > fence).sum()) if count is None else count]
    return [Outlier(int(place), float(scores[place]), bool(scores[place] > fence)) for place in order]


def find_drift(
    reference: Sequence[str],
    stream: Sequence[str],
    *,
    count: int = 10,
    vectors: tuple[ArrayLike, ArrayLike] | None = None,
    model: JobModel = DEFAULT_MODEL,
    seed: int = 1,
    accept_license: bool = False,
    progress: bool = False,
) -> DriftReport:
    """Return how a stream of texts differs from a reference: how well a classifier separates them, and what is new.

    Args:
        reference: texts as they were.
        stream: texts that arrive now.
        count: texts of the stream that are listed.
        vectors: those of the reference and of the stream, if there are any.
        model, accept_license, progress: as for ``find_topics``.
        seed: of samples.

    Raises:
        InputError: there are fewer than ten texts on a side, or an argument is invalid.
        MissingExtra: scikit-learn is not installed.
    """
    require_count("count", count)
    require_count("seed", seed, 0)
    pair = _check_pair(vectors)
    sides = [many_texts(reference, "reference"), many_texts(stream, "stream")]
    for texts in sides:
        require_items(texts, MIN_TEXTS, "A search for drift")
    options = {"accept_license": accept_license, "progress": progress}
    old, new = (
        vectors_of(texts, rows, model, "clustering", **options) for texts, rows in zip(sides, pair, strict=True)
    )
    old.require_same_space(new)
    return _compare(old.rows, new.rows, count, seed)


def _check_pair(vectors: tuple[ArrayLike, ArrayLike] | None) -> Sequence[ArrayLike | None]:
    """Return the vectors of both sides, None for those that a model computes; raise InputError unless there are two."""
    pair = [None, None] if vectors is None else require_list("vectors", vectors)
    if len(pair) != 2:
        raise InputError(
            f"vectors must be two arrays, of the reference and of the stream, and has {len(pair)}.", param="vectors"
        )
    return pair


def neighbour_distances(vectors: Array, others: Array, *, skip_self: bool) -> Array:
    """Return the mean cosine distance of each vector to its nearest others, float32 [n], in bounded memory.

    With ``skip_self``, the nearest one is left out: that is the vector itself, if it is among the others.
    """
    depth = min(NEIGHBOURS + skip_self, len(others))
    size = max(1, _PAIRS // len(others))
    parts = []
    for start in range(0, len(vectors), size):
        near = np.partition(vectors[start : start + size] @ others.T, -depth, axis=1)[:, -depth:]
        parts.append(1 - (near.sum(1) - near.max(1) * skip_self) / (depth - skip_self))
    return np.concatenate(parts)


def _compare(old: Array, new: Array, count: int, seed: int) -> DriftReport:
    compared = sample_rows(old, _MAX_COMPARED, seed)
    usual = np.quantile(neighbour_distances(compared, compared, skip_self=True), 1 - _NEW_SHARE) + _ROUNDING
    distances = neighbour_distances(new, compared, skip_self=False)
    is_new = distances > usual
    interval = library("scipy.stats").binomtest(int(is_new.sum()), len(new)).proportion_ci(method="exact")
    separability, p = _separate(sample_rows(old, _MAX_DRIFT, seed), sample_rows(new, _MAX_DRIFT, seed + 1), seed)
    newest = tuple(np.argsort(-distances, kind="stable")[:count].tolist())
    bounds = (float(interval.low), float(interval.high))
    return DriftReport(separability, p, float(is_new.mean()), bounds, newest, len(old), len(new))


def _separate(old: Array, new: Array, seed: int) -> tuple[float, float]:
    """Return how well a classifier separates two sides, and its p (Lopez-Paz & Oquab 2017, arXiv:1610.06545).

    Equal texts are in one fold: otherwise a text that is on both sides is judged by a classifier that has learnt the
    other side of it, and separability is below 0.5.
    """
    rows, values = np.vstack([old, new]), np.repeat([0, 1], [len(old), len(new)])
    scores = np.zeros(len(rows))
    model = library("sklearn.linear_model").LogisticRegression(max_iter=300, class_weight="balanced")
    for learn, judge in _folds(rows, values, seed):
        if len(np.unique(values[learn])) == 2:
            scores[judge] = model.fit(rows[learn], values[learn]).decision_function(rows[judge])
    test = library("scipy.stats").mannwhitneyu(scores[values == 1], scores[values == 0], alternative="greater")
    return float(test.statistic / (len(old) * len(new))), float(test.pvalue)


def _folds(rows: Array, values: Array, seed: int) -> Iterable[tuple[Array, Array]]:
    """Return (rows to learn from, rows to judge) of each part; equal rows are in one, if a side has two different."""
    groups = np.unique(np.round(rows, _DIGITS), axis=0, return_inverse=True)[1].ravel()
    different = min(len(np.unique(groups[values == side])) for side in (0, 1))
    if different < 2:
        groups, different = np.arange(len(rows)), _FOLDS
    folds = library("sklearn.model_selection").StratifiedGroupKFold(
        min(_FOLDS, different), shuffle=True, random_state=seed
    )
    return list(folds.split(rows, values, groups))
