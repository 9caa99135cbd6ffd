"""The tasks behind a figure: which there are, what a model's published value in each is, and in which file it is.

The values are those of https://github.com/embeddings-benchmark/results (CC0) at one commit. ``python -m tools.quality``
writes them.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from statistics import fmean
from typing import Any

#: Where the files of results are.
RESULTS_URL = "https://github.com/embeddings-benchmark/results/blob/f4cc6c8b365a"


@dataclass(frozen=True)
class TaskValue:
    """A task of a purpose, and a model's published value in it.

    ``value`` is the mean over ``subsets`` of the task's main score, each a mean over ``splits`` (empty: all that are
    published), in points of 100; None if nothing is published, or a suspicious run was left out. ``url`` is the file of
    results. A task without subsets has some that the table lacks: its value is in the file of results alone.
    """

    task: str
    kind: str
    subsets: tuple[str, ...]
    splits: tuple[str, ...]
    value: float | None
    url: str | None


def task_values(model: str, purpose: str) -> tuple[TaskValue, ...]:
    """Return the tasks of a purpose with a model's values. ``model`` is the full id.

    Empty for a purpose whose figures publishers state themselves, not a mean of tasks.
    """
    table = _read_table()
    values = {
        int(number): (value, f"{RESULTS_URL}/{path}")
        for path, by_task in table["values"].get(model, {}).items()
        for number, value in by_task.items()
    }
    return tuple(
        _task_value(table["tasks"][number], *values.get(number, (None, None)))
        for number in table["purposes"].get(purpose, ())
    )


def mean_of_tasks(purpose: str, tasks: Sequence[TaskValue]) -> float | None:
    """Return the mean over those tasks of a purpose that have a value, as its figures are computed; None without one.

    The figures of some purposes are means over the types of tasks.
    """
    by_kind: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        if task.value is not None:
            by_kind[task.kind if is_by_type(purpose) else ""].append(task.value)
    return fmean(map(fmean, by_kind.values())) if by_kind else None


def is_by_type(purpose: str) -> bool:
    """Return whether the figures of a purpose are means over the means of types of tasks."""
    return purpose in _read_table()["by_type"]


def _task_value(row: Sequence[Any], value: float | None, url: str | None) -> TaskValue:
    name, kind, subsets, splits = row
    return TaskValue(name, kind, tuple(subsets), tuple(splits), value, url and url.replace("/*.json", f"/{name}.json"))


@lru_cache(maxsize=1)
def _read_table() -> Mapping[str, Any]:
    content = gzip.decompress((files(__package__) / "tasks.json.gz").read_bytes())
    table: Mapping[str, Any] = json.loads(content)
    return table
