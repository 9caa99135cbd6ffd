"""Bitext: each sentence's translation found among all of them, as MTEB measures it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation import metrics
from nearfield.evaluation.datasets.dataset import Bitext
from nearfield.evaluation.error_analysis import shown
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import EvaluationTask, TaskOptions, TaskResult, column

MAIN = "F1"


class BitextTask(EvaluationTask):
    """Measures F1 (weighted, the main metric), accuracy, precision and recall, from the first column to the second.

    ``reverse F1`` and its like are those from the second to the first.
    """

    rows: ClassVar[type] = Bitext
    item: ClassVar[str] = "sentence"
    averages: ClassVar[bool] = False

    def measure(self, subject: InstrumentedSystem, rows: Bitext, options: TaskOptions) -> TaskResult:
        sides = [subject.encode(side, "symmetric") for side in (rows.first, rows.second)]
        forward, near = _nearest(subject, *sides)
        backward, _ = _nearest(subject, *reversed(sides))
        told = figures(forward) | {f"reverse {name}": value for name, value in figures(backward).items()}
        columns = {"expected": column(np.arange(len(forward))), "found": column(forward), "similarity": column(near)}
        return TaskResult(MAIN, told, columns, _worst(rows, forward, near, options.worst))

    def score(self, main: str, columns: Mapping[str, Array]) -> float:
        return weighted_f1(columns["expected"].astype(int), columns["found"].astype(int))


def figures(found: Array) -> dict[str, float]:
    """Return scikit-learn's figures in points, of which sentence was found for each; the right one has its number."""
    sklearn, gold = metrics.library("sklearn.metrics"), np.arange(len(found))
    options = {"zero_division": 0, "average": "weighted"}
    return {
        MAIN: 100 * float(sklearn.f1_score(gold, found, **options)),
        "accuracy": 100 * float(sklearn.accuracy_score(gold, found)),
        "precision": 100 * float(sklearn.precision_score(gold, found, **options)),
        "recall": 100 * float(sklearn.recall_score(gold, found, **options)),
    }


def weighted_f1(expected: Array, found: Array) -> float:
    """Return scikit-learn's weighted F1 in points; thousands of labels a thousand times would take it minutes."""
    size = int(max(expected.max(), found.max())) + 1
    there, told, right = (np.bincount(each, minlength=size) for each in (expected, found, found[expected == found]))
    present = there > 0
    f1 = 2 * right[present] / (there[present] + told[present])
    return 100 * float((f1 * there[present]).sum() / len(expected))


def _nearest(subject: InstrumentedSystem, first: Sequence[Any], second: Sequence[Any]) -> tuple[Array, Array]:
    """Return for each sentence the number of its nearest on the other side, the first of equals, and how near."""
    places, values = [], []
    for part in first:
        scores = np.concatenate([subject.similarity(part, other) for other in second], axis=1)
        places.append(scores.argmax(1))
        values.append(scores.max(1))
    return np.concatenate(places), np.concatenate(values).astype(np.float64)


def _worst(rows: Bitext, found: Array, near: Array, count: int) -> list[dict[str, Any]]:
    """Return sentences for which another was found, the surest mistakes first."""
    wrong = [at for at in np.argsort(-near, kind="stable").tolist() if found[at] != at]
    return [
        {
            "id": str(at),
            "text": shown(rows.first[at]),
            "score": 0.0,
            "expected": [{"id": str(at), "text": shown(rows.second[at])}],
            "found": [
                {"id": str(found[at]), "text": shown(rows.second[int(found[at])]), "similarity": float(near[at])}
            ],
        }
        for at in wrong[:count]
    ]
