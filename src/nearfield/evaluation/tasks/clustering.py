"""The clustering task, measured as MTEB does: agreement of k-means clusters with labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation import metrics
from nearfield.evaluation.datasets.dataset import Clustering
from nearfield.evaluation.error_analysis import FULL_SCORE, shorten
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import (
    SEED,
    EvaluationTask,
    TaskOptions,
    TaskResult,
    append_items,
    column,
    count_of_share,
)

MAIN = "v-measure"
#: Texts in one step of k-means, as in MTEB's ClusteringEvaluator.
BATCH = 500


class ClusteringTask(EvaluationTask):
    """Measures the v-measure (Rosenberg & Hirschberg 2007) of mini-batch k-means, the mean over all sets.

    There are as many clusters as labels. The worst items are labels: those that agree least with a cluster.
    """

    rows: ClassVar[type] = Clustering
    item: ClassVar[str] = "text"
    averages: ClassVar[bool] = False
    centred: ClassVar[bool] = True

    def measure(self, system: InstrumentedSystem, rows: Clustering, options: TaskOptions) -> TaskResult:
        parts: dict[str, list[Array]] = {"set": [], "label": [], "cluster": []}
        for number, labelled in enumerate(rows.sets):
            names, labels = np.unique(list(labelled.labels), return_inverse=True)
            vectors = system.vectors(labelled.texts, "symmetric")
            parts["set"].append(np.full(len(labels), number))
            parts["label"].append(labels)
            parts["cluster"].append(cluster_vectors(vectors, len(names), SEED + options.seed))
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        values = {MAIN: self.score(MAIN, joined)}
        columns = {name: column(values) for name, values in joined.items()}
        return TaskResult(MAIN, values, columns, _worst(rows, parts)[: options.worst])

    def score(self, main: str, columns: Mapping[str, Array]) -> float:
        measure = metrics.library("sklearn.metrics").v_measure_score
        sets = [columns["set"] == number for number in np.unique(columns["set"])]
        return 100 * float(np.mean([measure(columns["label"][rows], columns["cluster"][rows]) for rows in sets]))

    def score_range(self, main: str, columns: Mapping[str, Array], share: float) -> tuple[float, float]:
        """Return the v-measure with further texts of a new label: in all clusters, and alone in a new one."""
        count = count_of_share(len(columns["label"]), share)
        more = {name: np.resize(values, count) for name, values in columns.items()}
        more["label"] = np.full(count, columns["label"].max() + 1)
        alone = more | {"cluster": np.full(count, columns["cluster"].max() + 1)}
        low, high = (self.score(main, append_items(columns, texts)) for texts in (more, alone))
        return low, high


def cluster_vectors(vectors: Array, count: int, seed: int) -> Array:
    """Return the cluster of labelled vector, by mini-batch k-means."""
    model = metrics.library("sklearn.cluster").MiniBatchKMeans(
        n_clusters=count, batch_size=BATCH, n_init="auto", random_state=seed
    )
    return np.asarray(model.fit(vectors).labels_)


def _worst(rows: Clustering, parts: Mapping[str, list[Array]]) -> list[JsonDict]:
    """Return labels by how nearly one cluster holds their texts and no others, the lowest first.

    The score is the share of texts of both (Jaccard's index) in those of the label or of its largest cluster. Labels
    that are a cluster are left out.
    """
    items = []
    for number, labelled in enumerate(rows.sets):
        homes = parts["cluster"][number]
        for label in dict.fromkeys(labelled.labels):
            own = [at for at, name in enumerate(labelled.labels) if name == label]
            counts = Counter(homes[own].tolist()).most_common(3)
            home, both = counts[0]
            score = 100 * both / (len(own) + int((homes == home).sum()) - both)
            if score >= FULL_SCORE:
                continue
            shares = [
                {"cluster": home, "share": 100 * count / len(own), "with": _others(labelled.labels, homes, home, label)}
                for home, count in counts
            ]
            items.append(
                {
                    "id": f"{number}:{label}",
                    "text": shorten(labelled.texts[own[0]]),
                    "score": score,
                    "expected": [{"label": label, "texts": len(own)}],
                    "found": shares,
                }
            )
    return sorted(items, key=lambda item: float(item["score"]))


def _others(labels: Sequence[str], homes: Array, home: int, label: str) -> list[str]:
    """Return the other labels that are most frequent in a cluster."""
    inside = Counter(labels[at] for at in np.flatnonzero(homes == home).tolist() if labels[at] != label)
    return [name for name, _ in inside.most_common(3)]
