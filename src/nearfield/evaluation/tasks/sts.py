"""The semantic textual similarity (STS) task: correlation of similarities with human scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation import metrics
from nearfield.evaluation.datasets.dataset import PairRows
from nearfield.evaluation.error_analysis import shorten
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import EvaluationTask, TaskOptions, TaskResult, append_items, column, count_of_share

MAIN = "Spearman"


class StsTask(EvaluationTask):
    """Measures Spearman's rank correlation of the model's own similarity and the gold scores, and Pearson's."""

    rows: ClassVar[type] = PairRows
    item: ClassVar[str] = "pair"
    averages: ClassVar[bool] = False

    def measure(self, system: InstrumentedSystem, rows: PairRows, options: TaskOptions) -> TaskResult:
        near, gold = system.pairwise(rows.first, rows.second), np.asarray(rows.gold, np.float64)
        values = {MAIN: metrics.spearman(near, gold), "Pearson": metrics.pearson(near, gold)}
        columns = {"similarity": column(near), "gold": column(gold)}
        return TaskResult(MAIN, values, columns, _worst(rows, near, gold, options.worst))

    def score(self, main: str, columns: Mapping[str, Array]) -> float:
        return metrics.spearman(columns["similarity"], columns["gold"])

    def scores(self, main: str, columns: Mapping[str, Array], draws: Array) -> Array:
        return metrics.spearman_rows(columns["similarity"][draws], columns["gold"][draws])

    def score_range(self, main: str, columns: Mapping[str, Array], share: float) -> tuple[float, float]:
        """Return the correlation with further pairs at the ends of the scales: opposite ends, and the same ones."""
        count = count_of_share(len(columns["gold"]), share)
        ends = {name: np.resize([values.min(), values.max()], count) for name, values in columns.items()}
        wrong = ends | {"similarity": np.resize([columns["similarity"].max(), columns["similarity"].min()], count)}
        low, high = (self.score(main, append_items(columns, more)) for more in (wrong, ends))
        return low, high

    def item_scores(self, main: str, columns: Mapping[str, Array]) -> Array:
        return _rank_agreement(columns["similarity"], columns["gold"])


def _rank_agreement(near: Array, gold: Array) -> Array:
    """Return for each pair 100 minus the difference of its two ranks in percent of all ranks."""
    ranks = [metrics.library("scipy.stats").rankdata(column) for column in (near, gold)]
    return np.asarray(100 * (1 - np.abs(ranks[0] - ranks[1]) / len(near)))


def _worst(rows: PairRows, near: Array, gold: Array, count: int) -> list[JsonDict]:
    """Return the pairs whose ranks differ most; pairs with equal ranks are left out."""
    scores = _rank_agreement(near, gold)
    return [
        {
            "id": str(at),
            "text": shorten(rows.first[at]),
            "score": float(scores[at]),
            "expected": [{"text": shorten(rows.second[at]), "gold": float(gold[at])}],
            "found": [{"similarity": float(near[at])}],
        }
        for at in np.argsort(scores, kind="stable")[:count]
        if scores[at] < 100
    ]
