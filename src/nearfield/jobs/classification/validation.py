"""Cross-validation of a head: its figures, how strongly it is regularised, its temperature, and its unsure band.

Every figure is of examples that the head did not see: each part is judged by a head of the other parts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation.json_types import JsonDict
from nearfield.jobs.classification.linear_head import fit_heads, to_probabilities
from nearfield.jobs.libraries import library

#: Strengths that are tried, and the one that is used without a measurement.
STRENGTHS, DEFAULT_STRENGTH = (1.0, 10.0, 100.0), 10.0
#: Parts, and the most examples that they have: with more, figures change less than their interval.
FOLDS, MAX_EXAMPLES = 5, 5_000
#: Share of right labels that a prediction must have to be called sure.
SURE_ACCURACY = 0.95
#: Bins of the calibration error.
_BINS = 10
#: Confused pairs that are listed.
_MAX_PAIRS = 20


@dataclass(frozen=True)
class HeadValidation:
    """What examples that a head did not see show of it.

    Attributes:
        strength: of the regularisation that has the lowest loss.
        temperature: by which logits are divided, so that probabilities are shares of right labels.
        threshold: the probability from which on a prediction is sure; above 1 if none is.
        figures: accuracy and others, in a form for JSON.
    """

    strength: float
    temperature: float
    threshold: float
    figures: JsonDict


def validate_head(
    vectors: Array, targets: Array, labels: tuple[str, ...], several: bool, *, sure: float, seed: int
) -> HeadValidation | None:
    """Return what cross-validation shows; None if a label has fewer than two examples."""
    if int(targets.sum(0).min()) < 2:
        return None
    rows = _sample(targets, seed)
    vectors, targets = vectors[rows], targets[rows]
    parts = _parts(targets, several, seed)
    tried = _unseen_logits(vectors, targets, labels, several, parts)
    losses = {strength: _best_loss(logits, targets, several) for strength, logits in tried.items()}
    strength = min(losses, key=lambda key: losses[key][0])
    temperature = losses[strength][1]
    probabilities = to_probabilities(tried[strength] / temperature, several)
    confidence, right = confidence_of(probabilities, several), _is_right(probabilities, targets, several)
    threshold, covered = _sure_band(confidence, right, sure)
    figures: JsonDict = {
        **measure(probabilities, targets, labels, several),
        "folds": len(parts),
        "sure": {"accuracy": sure, "threshold": threshold, "share": covered},
    }
    return HeadValidation(strength, temperature, threshold, figures)


def confidence_of(probabilities: Array, several: bool) -> Array:
    """Return how sure each prediction is [n]: its probability; of several labels, that of the least sure decision."""
    if several:
        return np.asarray(np.maximum(probabilities, 1 - probabilities).min(1))
    return np.asarray(probabilities.max(1))


def _sample(targets: Array, seed: int) -> Array:
    """Return the rows that are measured: all, or some at random, and two of each label."""
    order = np.random.default_rng(seed).permutation(len(targets))
    if len(order) <= MAX_EXAMPLES:
        return order
    ranks = np.cumsum(targets[order], axis=0)
    few = ((ranks <= 2) & targets[order]).any(1)
    return np.concatenate([order[few], order[~few][: max(0, MAX_EXAMPLES - int(few.sum()))]])


def _parts(targets: Array, several: bool, seed: int) -> Sequence[tuple[Array, Array]]:
    """Return (rows to learn from, rows to judge) of each part."""
    selection, values = library("sklearn.model_selection"), targets.argmax(1)
    if several:
        splitter = selection.KFold(min(FOLDS, len(targets)), shuffle=True, random_state=seed)
    else:
        folds = min(FOLDS, int(targets.sum(0).max()))
        splitter = selection.StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of labels with fewer examples than parts
        return list(splitter.split(targets, values))


def _unseen_logits(
    vectors: Array,
    targets: Array,
    labels: tuple[str, ...],
    several: bool,
    parts: Sequence[tuple[Array, Array]],
) -> dict[float, Array]:
    """Return logits [n, labels] by heads of each strength."""
    logits = {strength: np.zeros(targets.shape, np.float32) for strength in STRENGTHS}
    for learn, judge in parts:
        heads = fit_heads(vectors[learn], targets[learn], labels, several, STRENGTHS)
        for strength, head in zip(STRENGTHS, heads, strict=True):
            logits[strength][judge] = head.logits(vectors[judge])
    return logits


def _best_loss(logits: Array, targets: Array, several: bool) -> tuple[float, float]:
    """Return the lowest log loss over temperatures, and the temperature (Guo et al. 2017, arXiv:1706.04599).

    One more example that is right and one that is wrong are reckoned in (Platt 1999): few that are all right would
    give a temperature near zero, by which any further text is sure.
    """
    wrong = 1 / (len(targets) + 2)

    def loss(log_temperature: float) -> float:
        probabilities = np.clip(to_probabilities(logits / np.exp(log_temperature), several), 1e-7, 1 - 1e-7)
        right = np.where(targets, probabilities, 1 - probabilities) if several else probabilities[targets]
        return float(-((1 - wrong) * np.log(right) + wrong * np.log1p(-right)).mean())

    best = library("scipy.optimize").minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded")
    return float(best.fun), float(np.exp(best.x))


def _is_right(probabilities: Array, targets: Array, several: bool) -> Array:
    if several:
        return np.asarray(((probabilities >= 0.5) == targets).all(1))
    return np.asarray(targets[np.arange(len(targets)), probabilities.argmax(1)])


def _sure_band(confidence: Array, right: Array, accuracy: float) -> tuple[float, float]:
    """Return the lowest confidence from which on this share of predictions is right, and how many those are."""
    order = np.argsort(-confidence, kind="stable")
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(shares >= accuracy)
    if not len(enough):
        return 1.01, 0.0
    last = int(enough[-1])
    return float(confidence[order[last]]), (last + 1) / len(order)


def _calibration_error(confidence: Array, right: Array) -> float:
    """Return the expected calibration error: by how much confidence and share of right ones differ, in points."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float((confidence - right)[bins == number].sum())) for number in range(_BINS)]
    return 100 * sum(gaps) / len(right)


def measure(probabilities: Array, targets: Array, labels: tuple[str, ...], several: bool) -> JsonDict:
    """Return accuracy with its exact interval (Clopper & Pearson 1934), macro F1 and others, in points.

    A text with several labels counts as right if all its labels are.
    """
    chosen = probabilities >= 0.5 if several else np.eye(len(labels), dtype=bool)[probabilities.argmax(1)]
    sklearn, right = library("sklearn.metrics"), _is_right(probabilities, targets, several)
    test = library("scipy.stats").binomtest(int(right.sum()), len(right)).proportion_ci(method="exact")
    precision, recall, f1, counts = sklearn.precision_recall_fscore_support(targets, chosen, zero_division=0)
    columns = zip(labels, *(values.tolist() for values in (precision, recall, counts)), strict=True)
    return {
        "examples": len(right),
        "accuracy": 100 * float(right.mean()),
        "interval": [100 * float(test.low), 100 * float(test.high)],
        "macro_f1": 100 * float(f1.mean()),
        "calibration_error": _calibration_error(confidence_of(probabilities, several), right),
        "labels": [
            {"label": name, "precision": 100 * p, "recall": 100 * r, "examples": int(count)}
            for name, p, r, count in columns
        ],
        "confused": [] if several else _confused(probabilities, targets, labels),
    }


def _confused(probabilities: Array, targets: Array, labels: tuple[str, ...]) -> list[JsonDict]:
    """Return pairs of a label and another one that was predicted in its place, the most frequent first."""
    table = library("sklearn.metrics").confusion_matrix(
        targets.argmax(1), probabilities.argmax(1), labels=range(len(labels))
    )
    np.fill_diagonal(table, 0)
    order = np.argsort(-table, axis=None, kind="stable")[:_MAX_PAIRS]
    places = [divmod(int(place), len(labels)) for place in order if table.flat[place]]
    return [
        {"label": labels[row], "predicted": labels[column], "texts": int(table[row, column])} for row, column in places
    ]
