"""The pair classification task, measured as sentence-transformers and MTEB do: similar or dissimilar pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation import metrics
from nearfield.evaluation.datasets.dataset import PairRows
from nearfield.evaluation.error_analysis import shorten
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import EvaluationTask, TaskOptions, TaskResult, append_items, column, count_of_share

MAIN = "AP"


class PairsTask(EvaluationTask):
    """Measures average precision, ROC AUC, and the best accuracy and F1 that one threshold gives."""

    rows: ClassVar[type] = PairRows
    item: ClassVar[str] = "pair"
    averages: ClassVar[bool] = False

    def measure(self, system: InstrumentedSystem, rows: PairRows, options: TaskOptions) -> TaskResult:
        if set(rows.gold) != {0.0, 1.0}:
            raise InputError("Pairs need the labels 1 (similar) and 0 (dissimilar), both of them.", param="data")
        near, gold = system.pairwise(rows.first, rows.second), np.asarray(rows.gold)
        values, thresholds = separation(near, gold)
        columns = {"similarity": column(near), "label": column(gold)}
        return TaskResult(MAIN, values, columns, _worst(rows, near, gold, options.worst), thresholds)

    def score(self, main: str, columns: Mapping[str, Array]) -> float:
        return average_precision(columns["similarity"], columns["label"])

    def score_range(self, main: str, columns: Mapping[str, Array], share: float) -> tuple[float, float]:
        """Return the average precision with further pairs above all others: dissimilar ones, and similar ones."""
        near, count = columns["similarity"], count_of_share(len(columns["label"]), share)
        above = np.full(count, near.max() + 1)
        low, high = (
            self.score(main, append_items(columns, {"similarity": above, "label": np.full(count, label)}))
            for label in (0.0, 1.0)
        )
        return low, high

    def item_scores(self, main: str, columns: Mapping[str, Array]) -> Array:
        return _separated_share(columns["similarity"], columns["label"])


def average_precision(near: Array, gold: Array) -> float:
    """Return scikit-learn's average precision in points; 0 if no pair is similar."""
    if not gold.any():
        return 0.0
    return 100 * float(metrics.library("sklearn.metrics").average_precision_score(gold, near))


def separation(near: Array, gold: Array) -> tuple[dict[str, float], dict[str, float]]:
    """Return the metrics in points, the main one first, and the thresholds of the best accuracy and F1.

    As in MTEB's PairClassification, a threshold lies midway between two neighbouring similarities that differ, so that
    at least one pair is below it.
    """
    order = np.argsort(-near, kind="stable")
    scores, labels = near[order], gold[order]
    cuts = np.flatnonzero(scores[:-1] != scores[1:])
    accepted, correct = cuts + 1, np.cumsum(labels)[cuts]
    positives = labels.sum()
    accuracy = (correct + (len(labels) - positives) - (accepted - correct)) / len(labels)
    f1 = 2 * correct / (accepted + positives)
    values = {
        MAIN: average_precision(near, gold),
        "ROC AUC": 100 * float(metrics.library("sklearn.metrics").roc_auc_score(gold, near)),
    }
    if not len(cuts):
        return values | dict.fromkeys(("accuracy", "F1", "precision", "recall"), 0.0), {}
    best, top = int(np.argmax(accuracy)), int(np.argmax(f1))
    values |= {
        "accuracy": 100 * float(accuracy[best]),
        "F1": 100 * float(f1[top]),
        "precision": 100 * float(correct[top] / accepted[top]),
        "recall": 100 * float(correct[top] / positives),
    }
    middle = (scores[cuts] + scores[cuts + 1]) / 2
    return values, {"accuracy_threshold": float(middle[best]), "F1_threshold": float(middle[top])}


def _worst(rows: PairRows, near: Array, gold: Array, count: int) -> list[JsonDict]:
    """Return the worst pairs by ``_separated_share``; those on the right side of all others are left out."""
    scores = _separated_share(near, gold)
    return [
        {
            "id": str(at),
            "text": shorten(rows.first[at]),
            "score": float(scores[at]),
            "expected": [{"text": shorten(rows.second[at]), "label": "similar" if gold[at] else "dissimilar"}],
            "found": [{"similarity": float(near[at])}],
        }
        for at in np.argsort(scores, kind="stable")[:count]
        if scores[at] < 100
    ]


def _separated_share(near: Array, gold: Array) -> Array:
    """Return for each pair the percentage of pairs of the other label that are on the right side of it."""
    ordered = [np.sort(near[gold == label]) for label in (0.0, 1.0)]
    right = np.where(
        gold == 1.0,
        np.searchsorted(ordered[0], near) / max(len(ordered[0]), 1),
        1 - np.searchsorted(ordered[1], near, "right") / max(len(ordered[1]), 1),
    )
    return np.asarray(100 * right)
