"""Clustering: whether k-means on vectors finds the groups that people made, as MTEB measures it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation import metrics
from nearfield.evaluation.datasets.dataset import Clustering
from nearfield.evaluation.error_analysis import shown
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import SEED, EvaluationTask, TaskOptions, TaskResult, column

MAIN = "v-measure"
#: Texts that k-means looks at in one step; as MTEB's ClusteringEvaluator.
BATCH = 500


class ClusteringTask(EvaluationTask):
    """Measures the v-measure (Rosenberg & Hirschberg 2007) of mini-batch k-means, the mean over all sets.

    There are as many clusters as labels. The worst items are labels: those whose texts were scattered most.
    """

    rows: ClassVar[type] = Clustering
    item: ClassVar[str] = "text"
    averages: ClassVar[bool] = False
    centred: ClassVar[bool] = True

    def measure(self, subject: InstrumentedSystem, rows: Clustering, options: TaskOptions) -> TaskResult:
        told: dict[str, list[Array]] = {"set": [], "label": [], "cluster": []}
        for number, each in enumerate(rows.sets):
            names, labels = np.unique(list(each.labels), return_inverse=True)
            vectors = subject.vectors(each.texts, "symmetric")
            told["set"].append(np.full(len(labels), number))
            told["label"].append(labels)
            told["cluster"].append(clusters(vectors, len(names), SEED + options.seed))
        joined = {name: np.concatenate(parts) for name, parts in told.items()}
        found = {MAIN: self.score(MAIN, joined)}
        columns = {name: column(values) for name, values in joined.items()}
        return TaskResult(MAIN, found, columns, _worst(rows, told)[: options.worst])

    def score(self, main: str, columns: Mapping[str, Array]) -> float:
        measure = metrics.library("sklearn.metrics").v_measure_score
        told = [columns["set"] == each for each in np.unique(columns["set"])]
        return 100 * float(np.mean([measure(columns["label"][one], columns["cluster"][one]) for one in told]))


def clusters(vectors: Array, count: int, seed: int) -> Array:
    """Return the cluster of each vector, by mini-batch k-means."""
    made = metrics.library("sklearn.cluster").MiniBatchKMeans(
        n_clusters=count, batch_size=BATCH, n_init="auto", random_state=seed
    )
    return np.asarray(made.fit(vectors).labels_)


def _worst(rows: Clustering, told: Mapping[str, list[Array]]) -> list[dict[str, Any]]:
    """Return labels by the share of their texts that are in one cluster, the lowest first."""
    found = []
    for number, each in enumerate(rows.sets):
        homes = told["cluster"][number]
        for label in dict.fromkeys(each.labels):
            own = [at for at, name in enumerate(each.labels) if name == label]
            counts = Counter(homes[own].tolist()).most_common(3)
            shares = [
                {"cluster": home, "share": 100 * held / len(own), "with": _others(each.labels, homes, home, label)}
                for home, held in counts
            ]
            found.append(
                {
                    "id": f"{number}:{label}",
                    "text": shown(each.texts[own[0]]),
                    "score": 100 * counts[0][1] / len(own),
                    "expected": [{"label": label, "texts": len(own)}],
                    "found": shares,
                }
            )
    return sorted(found, key=lambda each: float(each["score"]))


def _others(labels: Any, homes: Array, home: int, label: str) -> list[str]:
    """Return the labels that share a cluster with one most."""
    inside = Counter(labels[at] for at in np.flatnonzero(homes == home) if labels[at] != label)
    return [name for name, _ in inside.most_common(3)]
