"""Evaluation tasks: each measures a system on one kind of data set; metrics are in points of 100."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonMapping
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.registry import Registry

#: Values by item id; an item is a query, a pair, a text or a sentence.
Column = Mapping[str, float]

REGISTRY = Registry(
    "task",
    {
        "retrieval": "nearfield.evaluation.tasks.retrieval:RetrievalTask",
        "sts": "nearfield.evaluation.tasks.sts:StsTask",
        "pairs": "nearfield.evaluation.tasks.pair_classification:PairsTask",
        "classification": "nearfield.evaluation.tasks.classification:ClassificationTask",
        "clustering": "nearfield.evaluation.tasks.clustering:ClusteringTask",
        "reranking": "nearfield.evaluation.tasks.reranking:RerankingTask",
        "bitext": "nearfield.evaluation.tasks.bitext_mining:BitextTask",
    },
    group="nearfield.tasks",
)
#: Added to the user's seed. MTEB's seed, so that the default draws are MTEB's.
SEED = 42


@dataclass(frozen=True)
class TaskOptions:
    """The options of a task.

    Args:
        k: cutoff of the main metric.
        ignore_identical_ids: leave a document out of the results of the query that has its id, as BEIR does for data
            sets whose queries are documents.
        full: train the classifier of a classification task on all training texts.
        seed: of every random draw.
        worst: how many of the worst items to return.
    """

    k: int = 10
    ignore_identical_ids: bool = False
    full: bool = False
    seed: int = 0
    worst: int = 10


@dataclass(frozen=True)
class TaskResult:
    """The result of a task.

    ``metrics`` are in points of 100, with ``main`` first. ``columns`` hold for each item the values that the main
    metric is computed from. ``worst`` are the items that lost something, the lowest score first: ``id``, ``text``,
    ``score``, ``expected`` and ``found``. ``cautions`` are sentences on why the metrics say little. ``first`` has by
    item what the system preferred, the best first: ids of documents, or a label; empty for tasks whose columns say it.
    """

    main: str
    metrics: Mapping[str, float]
    columns: Mapping[str, Column]
    worst: Sequence[JsonMapping] = ()
    settings: JsonMapping = field(default_factory=dict)
    cautions: Sequence[str] = ()
    first: Mapping[str, Sequence[str]] = field(default_factory=dict)


class EvaluationTask(ABC):
    """Measures systems on data sets of one kind."""

    #: The class of its data.
    rows: ClassVar[type]
    #: The name of one item.
    item: ClassVar[str] = "query"

    @abstractmethod
    def measure(self, system: InstrumentedSystem, rows: Any, options: TaskOptions) -> TaskResult:
        """Measure a system on the rows of a data set.

        Raises:
            InputError: the system cannot do what the task needs, or the rows do not fit the options.
        """

    def score(self, main: str, columns: Mapping[str, Array]) -> float:
        """Return the main metric, in points, from the columns [items] of some items, which may repeat.

        Intervals and tests resample with it. The default is the mean of the column of that name.
        """
        return float(np.mean(columns[main]))

    def scores(self, main: str, columns: Mapping[str, Array], draws: Array) -> Array:
        """Return ``score`` [samples] for each draw of items in ``draws`` [samples, items]."""
        if self.averages:
            return np.asarray(columns[main][draws].mean(1))
        return np.array([self.score(main, {name: column[row] for name, column in columns.items()}) for row in draws])

    def score_range(self, main: str, columns: Mapping[str, Array], share: float) -> tuple[float, float]:
        """Return the main metric if, besides these items, a share of others were all wrong, and if all were right.

        Intervals use it: there may be items of a kind that is not in the sample. The default is that of
        means of columns from 0 to 100.
        """
        mean = self.score(main, columns)
        return mean * (1 - share), mean * (1 - share) + 100 * share

    def item_scores(self, main: str, columns: Mapping[str, Array]) -> Array | None:
        """Return a score [items] of each item in points, by which two systems can be compared item by item.

        None: the task has no such score. The default is the column of the main metric, if that is its mean.
        """
        return columns[main] if self.averages else None

    #: Whether the main metric is the mean of its column, which makes resampling fast.
    averages: ClassVar[bool] = True
    #: Whether repeated items bias the metric (a cluster with repeated texts is purer): samples are then centred on the
    #: metric of all items.
    centred: ClassVar[bool] = False


def open_task(name: str) -> EvaluationTask:
    """Return the task with a name.

    Raises:
        InputError: no task has that name.
    """
    task: EvaluationTask = REGISTRY.load(name)()
    return task


def column(values: Array) -> dict[str, float]:
    """Return a column for items that have no ids: the keys are their positions, from 0."""
    return {str(position): float(value) for position, value in enumerate(values)}


def count_of_share(items: int, share: float) -> int:
    """Return how many further items are a share of all items together, rounded up."""
    return math.ceil(items * share / (1 - share))


def append_items(columns: Mapping[str, Array], values: Mapping[str, Array]) -> dict[str, Array]:
    """Return columns with the values of further items at their ends."""
    return {name: np.concatenate([column, values[name]]) for name, column in columns.items()}


def require(task: EvaluationTask, name: str, rows: object) -> None:
    """Raise InputError unless the rows are of the class that a task takes."""
    if not isinstance(rows, task.rows):
        raise InputError(
            f"Task {name!r} takes {task.rows.__name__}, and the data set holds {type(rows).__name__}.", param="task"
        )
