"""Published MTEB scores: read a results folder or a file of many results, and compare them with own scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nearfield.errors import InputError, nearest
from nearfield.evaluation.json_types import JsonDict, JsonMapping

#: Files in a results folder that hold no results.
_OTHER_FILES = frozenset({"model_meta.json", "run_settings.json", "paths.json"})


@dataclass(frozen=True)
class PublishedScore:
    """The scores of a model on a subset of a task: ``main`` in points of 100, ``metrics`` as published."""

    model: str
    revision: str
    task: str
    split: str
    subset: str
    main: float
    metrics: Mapping[str, float]


def read_scores(path: str | Path) -> list[PublishedScore]:
    """Read published scores.

    Args:
        path: a folder of MTEB's results (``MODEL/REVISION/TASK.json``, at any depth; MODEL is ``owner__name``), one
            such file, or a file with many results: ``{"results": {model: {task: {revision: {split: {subset:
            {metric: value}}}}}}}``.

    Raises:
        InputError: there are no results, or a file is malformed.
    """
    source = Path(path)
    if source.is_dir():
        files = [file for file in sorted(source.rglob("*.json")) if file.name not in _OTHER_FILES]
        scores = [score for file in files for score in _read_file(file)]
    else:
        scores = list(_read_file(source))
    if not scores:
        raise InputError(f"There are no MTEB results in {str(path)!r}: MODEL/REVISION/TASK.json.", param="path")
    return scores


def select_scores(
    scores: Iterable[PublishedScore],
    model: str,
    task: str | None = None,
    *,
    split: str | None = None,
    subset: str | None = None,
) -> list[PublishedScore]:
    """Return the scores of a model (by its full name, or the part after the slash), in the order of ``scores``.

    Raises:
        InputError: there are no scores of that model or task.
    """
    every = list(scores)
    of_model = [score for score in every if model in (score.model, score.model.partition("/")[2])]
    if not of_model:
        raise InputError(f"No scores of {model!r}. {nearest(model, {score.model for score in every})}")
    of_task = [score for score in of_model if task in (None, score.task)]
    if not of_task:
        raise InputError(f"No scores of {model} on {task!r}. {nearest(task, {score.task for score in of_model})}")
    return [score for score in of_task if split in (None, score.split) and subset in (None, score.subset)]


def compare_scores(ours: Iterable[JsonMapping], theirs: Iterable[PublishedScore]) -> list[JsonDict]:
    """Compare the results of ``run_tasks`` with published scores of one model: both scores and the difference.

    ``published`` and ``difference`` are None where no score was published.
    """
    known = {(score.task, score.split, score.subset): score for score in theirs}
    rows = []
    for row in ours:
        key = (row["task"], row["split"], row["subset"])
        other = known.get(key)
        facts = {"task": key[0], "split": key[1], "subset": key[2], "main": row["main"], "ours": row["score"]}
        published = None if other is None else other.main
        more = {"published": published, "difference": None if published is None else row["score"] - published}
        rows.append({**facts, **more, "revision": None if other is None else other.revision})
    return rows


def _read_file(file: Path) -> Iterator[PublishedScore]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no {str(file)!r}.", param="path") from None
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}.", param="path") from error
    if isinstance(content, dict) and isinstance(content.get("results"), dict):
        yield from _parse_many(content["results"])
    elif isinstance(content, dict) and "scores" in content:
        yield from _parse_result(file, content)
    elif isinstance(content, dict) and {"mteb_version", "mteb_dataset_name"} <= content.keys():
        yield from _parse_result(file, _load_legacy(file))
    else:
        raise InputError(f"{file} is not an MTEB result: it has neither scores nor results.", param="path")


def _parse_result(file: Path, content: JsonMapping) -> Iterator[PublishedScore]:
    folder = file.resolve().parent
    while folder.parent.name == "experiments" or folder.name == "experiments":
        folder = folder.parent
    model, revision = folder.parent.name.replace("__", "/", 1), folder.name
    task = str(content.get("task_name", file.stem))
    for split, subsets in content["scores"].items():
        for row in subsets:
            yield _parse_score(file, model, revision, task, split, row.get("hf_subset", "default"), row)


def _parse_many(results: JsonMapping) -> Iterator[PublishedScore]:
    for model, tasks in results.items():
        for task, revisions in tasks.items():
            for revision, splits in revisions.items():
                for split, subsets in splits.items():
                    for subset, row in subsets.items():
                        yield _parse_score(model, model.replace("__", "/", 1), revision, task, split, subset, row)


def _parse_score(
    source: object, model: str, revision: str, task: str, split: str, subset: str, row: object
) -> PublishedScore:
    if not isinstance(row, dict) or not isinstance(row.get("main_score"), (int, float)):
        raise InputError(f"{source}: {task}, {split}, {subset} has no main_score.", param="path")
    numbers = {name: float(value) for name, value in row.items() if isinstance(value, (int, float))}
    return PublishedScore(model, revision, task, split, subset, 100.0 * float(row["main_score"]), numbers)


def _load_legacy(file: Path) -> JsonMapping:
    """Read a file of a release before 1.11 with the mteb package."""
    from nearfield.evaluation.mteb.model import package

    result = package().results.TaskResult.from_disk(file)
    return {"task_name": result.task_name, "scores": result.scores}
