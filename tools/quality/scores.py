"""The raw figures: one value for each model, task and subset, without those of broken runs."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Types of tasks that count as retrieval in a language.
RETRIEVAL = frozenset({"Retrieval", "Reranking"})


@dataclass(frozen=True)
class Task:
    """A task of a purpose: its subsets, and the splits whose figures count; no splits: all that are published."""

    name: str
    subsets: tuple[str, ...]
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class RawScores:
    """``cells``: by model, then (task, subset, split). ``spoken``: by language and task of retrieval, the subsets.

    ``models`` counts the models of a language's task. ``means`` are figures over whole benchmarks, by model and
    (benchmark, metric), with the source and the number of tasks of each.
    """

    cells: Mapping[str, Mapping[tuple[str, str, str], float]]
    spoken: Mapping[tuple[str, str], frozenset[str]]
    models: Mapping[tuple[str, str], int]
    means: Mapping[str, Mapping[tuple[str, str], tuple[float, str, int]]]

    def mean(self, model: str, task: Task) -> float:
        """Return a model's mean over a task's subsets, each over its splits; NaN if a subset has no figure."""
        cells = self.cells.get(model, {})
        values = []
        for subset in task.subsets:
            splits = task.splits or tuple(split for name, part, split in cells if (name, part) == (task.name, subset))
            known = [cells[task.name, subset, split] for split in splits if (task.name, subset, split) in cells]
            if not known:
                return float("nan")
            values.append(float(np.mean(known)))
        return float(np.mean(values))


def read_scores(folder: Path) -> RawScores:
    """Read the files that the package's docstring names.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    broken = {(row["model"], row["task"]) for row in _rows(folder / "scores_suspicious.tsv")}
    cells: dict[str, dict[tuple[str, str, str], float]] = defaultdict(dict)
    spoken: dict[tuple[str, str], set[str]] = defaultdict(set)
    models: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in _rows(folder / "scores_tasks.tsv.gz"):
        if _is_broken(row, broken):
            continue
        cells[row["model"]][row["task"], row["subset"], row["split"]] = float(row["score"])
        if row["type"] in RETRIEVAL:
            spoken[row["language"], row["task"]].add(row["subset"])
            models[row["language"], row["task"]].add(row["model"])
    return RawScores(
        cells,
        {key: frozenset(subsets) for key, subsets in spoken.items()},
        {key: len(names) for key, names in models.items()},
        _read_means(folder, broken),
    )


def _is_broken(row: Mapping[str, str], broken: set[tuple[str, str]]) -> bool:
    """Return whether a run is left out. A task is named alone, after its language, or as a part of LongEmbed."""
    names = [row["task"], f"{row['language']}:{row['task']}"]
    if row["task"].startswith("LEMB"):
        names.append("LongEmbed (all of it)")
    return any((row["model"], name) in broken for name in names)


def _read_means(
    folder: Path, broken: set[tuple[str, str]]
) -> Mapping[str, dict[tuple[str, str], tuple[float, str, int]]]:
    means: dict[str, dict[tuple[str, str], tuple[float, str, int]]] = defaultdict(dict)
    for row in _rows(folder / "scores.tsv.gz"):
        if (row["model"], f"{row['benchmark_or_task']} (all of it)") not in broken:
            means[row["model"]][row["benchmark_or_task"], row["metric"]] = (
                float(row["score"]),
                row["source"],
                int(row["tasks"].partition("/")[0] or 1),
            )
    return means


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        yield from csv.DictReader(file, delimiter="\t")


def language_tasks(scores: RawScores, language: str, fewest: int) -> Sequence[Task]:
    """Return the tasks of retrieval in a language for which at least ``fewest`` models have a figure, by name."""
    return [
        Task(task, tuple(sorted(scores.spoken[spoken, task])))
        for spoken, task in sorted(scores.spoken)
        if spoken == language and scores.models[spoken, task] >= fewest
    ]
