"""Tasks: one file, one kind of measuring: from a subject and a data set's rows to metrics in points of 100."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.registry import Registry

#: A column of figures by item (a query, a pair, a text): its id to its value.
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
#: The seed of a task's own draws where the user's is 0: MTEB's.
SEED = 42


@dataclass(frozen=True)
class TaskOptions:
    """How to measure.

    ``k`` is the cutoff of the main metric. ``ignore_identical_ids`` leaves a document out of the results of the query
    that has its id, as BEIR does (sets whose queries are documents themselves). ``full`` lets a classification's probe
    learn from all of the training texts. ``seed`` is that of every draw.
    """

    k: int = 10
    ignore_identical_ids: bool = False
    full: bool = False
    seed: int = 0
    worst: int = 10


@dataclass(frozen=True)
class TaskResult:
    """What a task found.

    ``metrics`` are in points of 100, ``main`` first among them. ``columns`` hold for each item what the main metric is
    computed of. ``worst`` are the items that it did worst on, the worst first: ``id``, ``text``, ``score``,
    ``expected`` and ``found``.
    """

    main: str
    metrics: Mapping[str, float]
    columns: Mapping[str, Column]
    worst: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


class EvaluationTask(ABC):
    """Measures subjects on rows of one kind."""

    #: The rows that it takes.
    rows: ClassVar[type]
    #: What one item is called.
    item: ClassVar[str] = "query"

    @abstractmethod
    def measure(self, subject: InstrumentedSystem, rows: Any, options: TaskOptions) -> TaskResult:
        """Measure a subject on rows.

        Raises:
            InputError: the subject cannot do what the task needs, or the rows do not fit the options.
        """

    def score(self, main: str, columns: Mapping[str, Array]) -> float:
        """Return the main metric, in points, from columns [items] of some items, which may repeat.

        Intervals and tests resample through it. It is the mean of the column of that name unless a task says otherwise.
        """
        return float(np.mean(columns[main]))

    def scores(self, main: str, columns: Mapping[str, Array], draws: Array) -> Array:
        """Return the main metric [samples] of draws of items [samples, items]: ``score`` of each, all at once."""
        if self.averages:
            return np.asarray(columns[main][draws].mean(1))
        return np.array([self.score(main, {name: column[row] for name, column in columns.items()}) for row in draws])

    #: Whether the main metric is the mean of its column: resampling is then one multiplication.
    averages: ClassVar[bool] = True
    #: Whether drawing items twice moves the figure itself (a cluster with repeated texts is purer): samples are then
    #: centred on it.
    centred: ClassVar[bool] = False


def open_task(name: str) -> EvaluationTask:
    """Return the task of a name.

    Raises:
        InputError: there is none of that name.
    """
    made: EvaluationTask = REGISTRY.load(name)()
    return made


def column(values: Array) -> dict[str, float]:
    """Return figures of items that have no ids but their places, from 0."""
    return {str(at): float(value) for at, value in enumerate(values)}


def require(task: EvaluationTask, name: str, rows: Any) -> None:
    """Raise InputError where rows are not of the kind that a task takes."""
    if not isinstance(rows, task.rows):
        raise InputError(
            f"Task {name!r} takes {task.rows.__name__}, and the data set holds {type(rows).__name__}.", param="task"
        )
