"""MTEB's tasks: run by name, with the data that MTEB fetches, or with rows from here in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nearfield.errors import InputError, SourceUnavailable, nearest
from nearfield.evaluation.datasets.dataset import Classification, Dataset, PairRows, Retrieval
from nearfield.evaluation.mteb.model import MtebModel, package

#: Our kinds of rows, and the types of MTEB's tasks whose data they can stand for.
_TYPES: Mapping[type, tuple[str, ...]] = {
    Retrieval: ("Retrieval",),
    PairRows: ("STS",),
    Classification: ("Classification",),
}


def run_tasks(
    model: MtebModel,
    tasks: Sequence[str | Any],
    *,
    output: str | Path | None = None,
    data: Mapping[str, Dataset] | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Run tasks of MTEB: for each its name, split, subset, main score in points, and all its metrics.

    Args:
        model: what is measured.
        tasks: names, or tasks of MTEB.
        output: folder for results in MTEB's own layout (``results/MODEL/REVISION/TASK.json``). What is there already
            is not computed again.
        data: by a task's name, rows that take the place of those which MTEB would fetch.
        progress: show bars.

    Raises:
        InputError: there is no such task, or data does not fit it.
        SourceUnavailable: a task's data must be fetched, and cannot be.
    """
    mteb = package()
    given = dict(data or {})
    chosen = [with_data(task, given.pop(_name(task))) if _name(task) in given else _task(task) for task in tasks]
    if given:
        hint = nearest(next(iter(given)), map(_name, tasks))
        raise InputError(f"There is data for {next(iter(given))!r}, which is none of the tasks. {hint}", param="data")
    cache = None if output is None else mteb.ResultCache(output)
    rows: list[dict[str, Any]] = []
    for task in chosen:
        with _fetching(task):
            found = mteb.evaluate(model, task, cache=cache, show_progress_bar=progress, co2_tracker=False)
        rows += [row for result in found.task_results for row in _rows(result, task)]
    return rows


def with_data(task: str | Any, dataset: Dataset) -> Any:
    """Return a task of MTEB (by name, or one made by yourself) with our rows in place of those it would fetch.

    Raises:
        InputError: the rows are of another kind than the task, or the task has several subsets.
    """
    made = _task(task)
    types = _TYPES.get(type(dataset.rows), ())
    if made.metadata.type not in types:
        known = ", ".join(name for names in _TYPES.values() for name in names)
        raise InputError(
            f"{made.metadata.name} is of MTEB's type {made.metadata.type}, and {dataset.name!r} is for "
            f"{dataset.task}. Data from here can stand for that of: {known}.",
            param="data",
        )
    if made.metadata.is_multilingual:
        raise InputError(f"{made.metadata.name} has several subsets, and one data set cannot be all.", param="data")
    split = made.metadata.eval_splits[0]
    made.dataset = _FILLS[type(dataset.rows)](dataset.rows, split)
    made._eval_splits = [split]
    made.data_loaded = True
    return made


def _retrieval(rows: Retrieval, split: str) -> dict[str, Any]:
    from datasets import Dataset as Table

    judged = {query: dict(found) for query, found in rows.relevant.items() if any(found.values())}
    corpus = [{"id": key, "title": "", "text": text} for key, text in rows.documents.items()]
    queries = [{"id": key, "text": rows.queries[key]} for key in judged]
    parts = {"corpus": Table.from_list(corpus), "queries": Table.from_list(queries), "relevant_docs": judged}
    return {"default": {split: {**parts, "top_ranked": None}}}


def _pairs(rows: PairRows, split: str) -> Any:
    from datasets import Dataset as Table

    columns = {"sentence1": list(rows.first), "sentence2": list(rows.second), "score": list(rows.gold)}
    return {split: Table.from_dict(columns)}


def _classification(rows: Classification, split: str) -> Any:
    from datasets import Dataset as Table
    from datasets import DatasetDict

    numbers = {label: number for number, label in enumerate(sorted({*rows.train.labels, *rows.test.labels}))}
    sides = {"train": rows.train, split: rows.test}
    tables = {
        name: Table.from_dict({"text": list(side.texts), "label": [numbers[label] for label in side.labels]})
        for name, side in sides.items()
    }
    return DatasetDict(tables)


_FILLS: Mapping[type, Any] = {Retrieval: _retrieval, PairRows: _pairs, Classification: _classification}


def _name(task: str | Any) -> str:
    return task if isinstance(task, str) else str(task.metadata.name)


def _task(task: str | Any) -> Any:
    if not isinstance(task, str):
        return task
    try:
        return package().get_task(task)
    except KeyError as error:
        raise InputError(f"MTEB has no task {task!r}: {str(error)[:300]}", param="tasks") from None


@contextmanager
def _fetching(task: Any) -> Iterator[None]:
    """Turn what fails when data cannot be fetched into one clear error."""
    import httpx
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except (ConnectionError, httpx.HTTPError, OfflineModeIsEnabled, HfHubHTTPError, DatasetsError) as error:
        raise SourceUnavailable(
            f"The data of {task.metadata.name} ({task.metadata.dataset['path']}) could not be fetched from the "
            f"Hugging Face Hub: {str(error)[:200]}. Run it where the Hub can be reached (HF_ENDPOINT names a mirror), "
            f"or give the data: --data {task.metadata.name}=FILE."
        ) from error


def _rows(result: Any, task: Any) -> list[dict[str, Any]]:
    main = task.metadata.main_score
    return [
        {
            "task": result.task_name,
            "split": split,
            "subset": scores["hf_subset"],
            "main": main,
            "score": 100 * scores["main_score"],
            "metrics": {name: float(value) for name, value in scores.items() if isinstance(value, (int, float))},
        }
        for split, subsets in result.scores.items()
        for scores in subsets
    ]
