"""The values of tasks behind the figures, in ``src/nearfield/catalog/quality/tasks.json.gz``."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tools.quality.purposes import PUBLISHED, Purpose
from tools.quality.scores import RawScores, Task, benchmark_tasks

#: The figure of this purpose is a mean over types of tasks.
BY_TYPE = "mean of task types"


def task_table(scores: RawScores, purposes: Sequence[Purpose], models: Collection[str]) -> dict[str, Any]:
    """Return the tasks of all purposes, and the values of models in them.

    ``tasks``: [name, type, subsets, splits], where no subsets mean that the raw file lacks some, and no splits all that
    are published. ``purposes``: numbers of tasks. ``by_type``: the purposes that are means over types. ``values``: by
    model and file of results with ``*`` for the task, the values by number of the task, in points of 100.
    """
    lists = {**{purpose.name: [("", task) for task in purpose.tasks] for purpose in purposes}, **_published()}
    numbers: dict[Task, int] = {}
    types: dict[Task, str] = {}
    for pairs in lists.values():
        for kind, task in pairs:
            numbers.setdefault(task, len(numbers))
            types[task] = types.get(task) or kind
    return {
        "tasks": [[task.name, types[task], list(task.subsets), list(task.splits)] for task in numbers],
        "purposes": {name: [numbers[task] for _, task in pairs] for name, pairs in lists.items()},
        "by_type": [name for name, (_, metric) in PUBLISHED.items() if metric == BY_TYPE],
        "values": {model: dict(_values(scores, model, numbers)) for model in sorted(models) if model in scores.cells},
    }


def _published() -> dict[str, list[tuple[str, Task]]]:
    """Return the tasks of the purposes whose figure is a mean over a whole benchmark."""
    lists = {name: list(benchmark_tasks(benchmark)) for name, (benchmark, _) in PUBLISHED.items()}
    return {name: pairs for name, pairs in lists.items() if pairs}


def _values(scores: RawScores, model: str, numbers: Mapping[Task, int]) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the values of a model by the file that they are from."""
    by_file: dict[str, dict[str, float]] = defaultdict(dict)
    for task, number in numbers.items():
        value = scores.mean(model, task) if task.subsets else float("nan")
        path = scores.paths[model].get(task.name)
        if path is not None and not np.isnan(value):
            by_file[path.replace(f"/{task.name}.json", "/*.json")][str(number)] = round(value, 2)
    yield from sorted(by_file.items())


def pack_tasks(table: Mapping[str, Any]) -> bytes:
    """Return the table as compressed JSON; the same table always gives the same bytes."""
    return gzip.compress(json.dumps(table, separators=(",", ":")).encode(), 9, mtime=0)
