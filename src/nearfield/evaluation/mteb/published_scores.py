"""Published: scores that others measured, as MTEB keeps them: a folder of results, or one file of many."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.errors import InputError, nearest

#: Files that lie beside results and hold none.
_OTHERS = frozenset({"model_meta.json", "run_settings.json", "paths.json"})


@dataclass(frozen=True)
class PublishedScore:
    """One model's figures on one subset of a task: ``main`` in points of 100, ``metrics`` as they were published."""

    model: str
    revision: str
    task: str
    split: str
    subset: str
    main: float
    metrics: Mapping[str, float]


def read(path: str | Path) -> list[PublishedScore]:
    """Read published scores.

    Args:
        path: a folder of MTEB's results (``MODEL/REVISION/TASK.json``, at any depth; MODEL is ``owner__name``), one
            such file, or a file with many results: ``{"results": {model: {task: {revision: {split: {subset:
            {metric: value}}}}}}}``.

    Raises:
        InputError: there are no results, or a file is none (which, and why).
    """
    place = Path(path)
    if place.is_dir():
        files = [file for file in sorted(place.rglob("*.json")) if file.name not in _OTHERS]
        found = [score for file in files for score in _file(file)]
    else:
        found = list(_file(place))
    if not found:
        raise InputError(f"There are no results of MTEB in {str(path)!r}: MODEL/REVISION/TASK.json.", param="path")
    return found


def of(
    scores: Iterable[PublishedScore],
    model: str,
    task: str | None = None,
    *,
    split: str | None = None,
    subset: str | None = None,
) -> list[PublishedScore]:
    """Return the scores of a model (its full name, or the part after the slash), in the order they were read.

    Raises:
        InputError: there are none of that model, or none of that task.
    """
    every = list(scores)
    named = [each for each in every if model in (each.model, each.model.partition("/")[2])]
    if not named:
        raise InputError(f"No scores of {model!r} are here. {nearest(model, {each.model for each in every})}")
    found = [each for each in named if task in (None, each.task)]
    if not found:
        raise InputError(f"No scores of {model} on {task!r}. {nearest(task, {each.task for each in named})}")
    return [each for each in found if split in (None, each.split) and subset in (None, each.subset)]


def beside(ours: Iterable[Mapping[str, Any]], theirs: Iterable[PublishedScore]) -> list[dict[str, Any]]:
    """Put published scores beside those of ``mteb_tasks.run``: task, split, subset, ours, theirs and the difference.

    ``theirs`` are of one model. What was not published has None there.
    """
    known = {(each.task, each.split, each.subset): each for each in theirs}
    rows = []
    for row in ours:
        key = (row["task"], row["split"], row["subset"])
        other = known.get(key)
        found = {"task": key[0], "split": key[1], "subset": key[2], "main": row["main"], "ours": row["score"]}
        published = None if other is None else other.main
        more = {"published": published, "difference": None if published is None else row["score"] - published}
        rows.append({**found, **more, "revision": None if other is None else other.revision})
    return rows


def _file(file: Path) -> Iterator[PublishedScore]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no {str(file)!r}.", param="path") from None
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}.", param="path") from error
    if isinstance(told, dict) and isinstance(told.get("results"), dict):
        yield from _many(told["results"])
    elif isinstance(told, dict) and "scores" in told:
        yield from _one(file, told)
    elif isinstance(told, dict) and {"mteb_version", "mteb_dataset_name"} <= told.keys():
        yield from _one(file, _old(file))
    else:
        raise InputError(f"{file} is no result of MTEB: it has neither scores nor results.", param="path")


def _one(file: Path, told: Mapping[str, Any]) -> Iterator[PublishedScore]:
    folder = file.resolve().parent
    while folder.parent.name == "experiments" or folder.name == "experiments":
        folder = folder.parent
    model, revision = folder.parent.name.replace("__", "/", 1), folder.name
    task = str(told.get("task_name", file.stem))
    for split, subsets in told["scores"].items():
        for row in subsets:
            yield _score(file, model, revision, task, split, row.get("hf_subset", "default"), row)


def _many(results: Mapping[str, Any]) -> Iterator[PublishedScore]:
    for model, tasks in results.items():
        for task, revisions in tasks.items():
            for revision, splits in revisions.items():
                for split, subsets in splits.items():
                    for subset, row in subsets.items():
                        yield _score(model, model.replace("__", "/", 1), revision, task, split, subset, row)


def _score(place: Any, model: str, revision: str, task: str, split: str, subset: str, row: Any) -> PublishedScore:
    if not isinstance(row, dict) or not isinstance(row.get("main_score"), (int, float)):
        raise InputError(f"{place}: {task}, {split}, {subset} has no main_score.", param="path")
    numbers = {name: float(value) for name, value in row.items() if isinstance(value, (int, float))}
    return PublishedScore(model, revision, task, split, subset, 100.0 * float(row["main_score"]), numbers)


def _old(file: Path) -> Mapping[str, Any]:
    """Let mteb read what its releases before 1.11 wrote."""
    from nearfield.evaluation.mteb.model import package

    result = package().results.TaskResult.from_disk(file)
    return {"task_name": result.task_name, "scores": result.scores}
