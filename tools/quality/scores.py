"""The raw figures: one value for each model, task and subset, without those of broken runs."""

from __future__ import annotations

import csv
import gzip
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from nearfield.catalog import find

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Types of tasks that count as retrieval in a language.
RETRIEVAL = frozenset({"Retrieval", "Reranking"})
#: How ``scores_suspicious.tsv`` names all tasks of LongEmbed.
LONG_RUN = "LongEmbed (all of it)"
_LONG_TASK = "LEMB"
#: Runs that cut texts at about 512 tokens find 8 to 28 of 100 passkeys at 2,048; whole ones at least 80.
_CUT_FROM, _CUT_BELOW = 2048, 30.0
#: How tasks with fewer documents are called, and the shares of the figure among all documents that cannot be.
_REDUCED = "HardNegatives"
_CLEAR, _WORSE, _NOTHING = 20.0, 0.6, 0.2


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
    (benchmark, metric), with the source and the number of tasks of each. ``paths`` are the files of the results, by
    model and task.
    """

    cells: Mapping[str, Mapping[tuple[str, str, str], float]]
    spoken: Mapping[tuple[str, str], frozenset[str]]
    models: Mapping[tuple[str, str], int]
    means: Mapping[str, Mapping[tuple[str, str], tuple[float, str, int]]]
    paths: Mapping[str, Mapping[str, str]]

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
    rows = list(_rows(folder / "scores_tasks.tsv.gz"))
    worse = list(worse_with_fewer(rows))
    broken |= {(run.model, run.name) for run in worse} | {(model, LONG_RUN) for model in cut_runs(rows)}
    revisions = broken_revisions(worse)
    cells: dict[str, dict[tuple[str, str, str], float]] = defaultdict(dict)
    spoken: dict[tuple[str, str], set[str]] = defaultdict(set)
    models: dict[tuple[str, str], set[str]] = defaultdict(set)
    paths: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if _is_broken(row, broken) or _revision(row) in revisions:
            continue
        cells[row["model"]][row["task"], row["subset"], row["split"]] = float(row["score"])
        paths[row["model"]][row["task"]] = row["source"]
        if row["type"] in RETRIEVAL:
            spoken[row["language"], row["task"]].add(row["subset"])
            models[row["language"], row["task"]].add(row["model"])
    return RawScores(
        cells,
        {key: frozenset(subsets) for key, subsets in spoken.items()},
        {key: len(names) for key, names in models.items()},
        _read_means(folder, broken),
        paths,
    )


def cut_runs(rows: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Yield the models whose LongEmbed was run with texts cut short.

    They find a passkey in less than 30 of 100 texts at each length from 2,048 tokens to the most that they read.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["task"] == f"{_LONG_TASK}PasskeyRetrieval":
            length, entry = int(row["split"].rpartition("_")[2]), find(row["model"])
            if entry is not None and _CUT_FROM <= length <= entry.max_length:
                found[row["model"]].append(float(row["score"]))
    return (model for model, values in found.items() if max(values) < _CUT_BELOW)


@dataclass(frozen=True)
class WorseRun:
    """A task whose figure is far below that of the same queries among more documents; ``share`` is of the latter."""

    model: str
    name: str
    revision: tuple[str, str]
    share: float


def worse_with_fewer(rows: Iterable[Mapping[str, str]]) -> Iterator[WorseRun]:
    """Yield the tasks whose search is far worse among hard negatives alone than among all documents.

    That cannot be: the hard negatives are part of the documents. ``name`` is the task after its language.
    """
    values = {(row["model"], row["task"], row["subset"]): (float(row["score"]), row) for row in rows}
    for (model, task, subset), (value, row) in values.items():
        base, reduced, _ = task.partition(_REDUCED)
        whole = values.get((model, base, subset), (0.0, row))[0]
        if reduced and whole > _CLEAR and value < _WORSE * whole:
            yield WorseRun(model, f"{row['language']}:{task}", _revision(row), value / whole)


def broken_revisions(runs: Iterable[WorseRun]) -> set[tuple[str, str]]:
    """Return the models and revisions of which several runs found next to nothing: all of their runs are broken."""
    counts = Counter(run.revision for run in runs if run.share < _NOTHING)
    return {revision for revision, count in counts.items() if count > 1}


def _revision(row: Mapping[str, str]) -> tuple[str, str]:
    """Return the model of a row and the revision in the path of its file; ``external`` for figures of its card."""
    return row["model"], row["source"].split("/")[2]


def _is_broken(row: Mapping[str, str], broken: set[tuple[str, str]]) -> bool:
    """Return whether a run is left out. A task is named alone, after its language, or as a part of LongEmbed."""
    names = [row["task"], f"{row['language']}:{row['task']}"]
    if row["task"].startswith(_LONG_TASK):
        names.append(LONG_RUN)
    return any((row["model"], name) in broken for name in names)


def _read_means(
    folder: Path, broken: set[tuple[str, str]]
) -> Mapping[str, dict[tuple[str, str], tuple[float, str, int]]]:
    means: dict[str, dict[tuple[str, str], tuple[float, str, int]]] = defaultdict(dict)
    for row in _rows(folder / "scores.tsv.gz"):
        benchmark = row["benchmark_or_task"]
        tasks = {task.name for _, task in benchmark_tasks(benchmark)}
        names = {f"{benchmark} (all of it)", *tasks, *(f"en:{name}" for name in tasks)}
        names |= {LONG_RUN for name in tasks if name.startswith(_LONG_TASK)}
        # A mean as its publisher gives it is of other runs.
        if row["metric"] == "as published" or not any((row["model"], name) in broken for name in names):
            means[row["model"]][benchmark, row["metric"]] = (
                float(row["score"]),
                row["source"],
                int(row["tasks"].partition("/")[0] or 1),
            )
    return means


def benchmark_tasks(name: str) -> Iterator[tuple[str, Task]]:
    """Yield the types and tasks of a benchmark, or of one type after `` / ``; none of an unknown benchmark.

    A task without subsets has some that the raw file lacks.
    """
    benchmark, _, kind = name.partition(" / ")
    for task, its_kind, subsets, splits in _benchmarks().get(benchmark.partition(" without ")[0], {}).get("tasks", ()):
        if kind in ("", its_kind):
            yield its_kind, Task(task, tuple(subsets), tuple(splits))


@lru_cache(maxsize=1)
def _benchmarks() -> Mapping[str, Mapping[str, list[tuple[str, str, list[str], list[str]]]]]:
    return tomllib.loads((Path(__file__).parent / "benchmarks.toml").read_text(encoding="utf-8"))


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
