"""The bitext mining task, measured as MTEB does: find the translation of each sentence among all sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation import metrics
from nearfield.evaluation.datasets.dataset import Bitext
from nearfield.evaluation.error_analysis import shorten
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.systems import Embeddings
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import EvaluationTask, TaskOptions, TaskResult, append_items, column, count_of_share

MAIN = "F1"


class BitextTask(EvaluationTask):
    """Measures F1 (weighted, the main metric), accuracy, precision and recall, from the first column to the second.

    The metrics from the second column to the first have names such as ``reverse F1``.
    """

    rows: ClassVar[type] = Bitext
    item: ClassVar[str] = "sentence"
    averages: ClassVar[bool] = False

    def measure(self, system: InstrumentedSystem, rows: Bitext, options: TaskOptions) -> TaskResult:
        sides = [system.encode(side, "symmetric") for side in (rows.first, rows.second)]
        forward, near = _nearest(system, *sides)
        backward, _ = _nearest(system, *reversed(sides))
        values = figures(forward) | {f"reverse {name}": value for name, value in figures(backward).items()}
        columns = {"expected": column(np.arange(len(forward))), "found": column(forward), "similarity": column(near)}
        return TaskResult(MAIN, values, columns, _worst(rows, forward, near, options.worst))

    def score(self, main: str, columns: Mapping[str, Array]) -> float:
        return weighted_f1(columns["expected"].astype(int), columns["found"].astype(int))

    def score_range(self, main: str, columns: Mapping[str, Array], share: float) -> tuple[float, float]:
        """Return F1 with further sentences that all find one other sentence, and with ones that find their own."""
        count, size = count_of_share(len(columns["expected"]), share), columns["expected"].max() + 1
        more = {**dict.fromkeys(columns, np.zeros(count)), "expected": size + np.arange(count)}
        elsewhere = np.full(count, size + count)
        low, high = (
            self.score(main, append_items(columns, more | {"found": places}))
            for places in (elsewhere, more["expected"])
        )
        return low, high

    def item_scores(self, main: str, columns: Mapping[str, Array]) -> Array:
        return np.asarray(100.0 * (columns["expected"] == columns["found"]))


def figures(predicted: Array) -> dict[str, float]:
    """Return scikit-learn's metrics in points; ``predicted`` holds a sentence number for each, its own if correct."""
    sklearn, gold = metrics.library("sklearn.metrics"), np.arange(len(predicted))
    options = {"zero_division": 0, "average": "weighted"}
    return {
        MAIN: 100 * float(sklearn.f1_score(gold, predicted, **options)),
        "accuracy": 100 * float(sklearn.accuracy_score(gold, predicted)),
        "precision": 100 * float(sklearn.precision_score(gold, predicted, **options)),
        "recall": 100 * float(sklearn.recall_score(gold, predicted, **options)),
    }


def weighted_f1(expected: Array, predicted: Array) -> float:
    """Return weighted F1 in points. scikit-learn's takes minutes for a thousand samples of thousands of labels."""
    size = int(max(expected.max(), predicted.max())) + 1
    columns = (expected, predicted, predicted[expected == predicted])
    support, count, correct = (np.bincount(column, minlength=size) for column in columns)
    present = support > 0
    f1 = 2 * correct[present] / (support[present] + count[present])
    return 100 * float((f1 * support[present]).sum() / len(expected))


def _nearest(
    system: InstrumentedSystem, first: Sequence[Embeddings], second: Sequence[Embeddings]
) -> tuple[Array, Array]:
    """Return for each sentence the number of the nearest one on the other side (the first of equals), and the score."""
    places, values = [], []
    for part in first:
        scores = np.concatenate([system.similarity(part, other) for other in second], axis=1)
        places.append(scores.argmax(1))
        values.append(scores.max(1))
    return np.concatenate(places), np.concatenate(values).astype(np.float64)


def _worst(rows: Bitext, predicted: Array, near: Array, count: int) -> list[JsonDict]:
    """Return wrongly matched sentences, those with the highest similarity first."""
    wrong = [at for at in np.argsort(-near, kind="stable").tolist() if predicted[at] != at]
    return [
        {
            "id": str(at),
            "text": shorten(rows.first[at]),
            "score": 0.0,
            "expected": [{"id": str(at), "text": shorten(rows.second[at])}],
            "found": [
                {
                    "id": str(predicted[at]),
                    "text": shorten(rows.second[int(predicted[at])]),
                    "similarity": float(near[at]),
                }
            ],
        }
        for at in wrong[:count]
    ]
