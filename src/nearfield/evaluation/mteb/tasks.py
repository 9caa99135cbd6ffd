"""Run MTEB tasks by name, with the data that MTEB downloads or with own data sets instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from nearfield.errors import InputError, SourceUnavailable, nearest
from nearfield.evaluation.datasets.dataset import Classification, Dataset, PairRows, Retrieval
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.mteb.model import MtebModel, MtebObject, package

#: Classes of data sets, and the types of MTEB tasks whose data they can replace.
_TASK_TYPES: Mapping[type, tuple[str, ...]] = {
    Retrieval: ("Retrieval",),
    PairRows: ("STS",),
    Classification: ("Classification",),
}


def run_tasks(
    model: MtebModel,
    tasks: Sequence[str | MtebObject],
    *,
    output: str | Path | None = None,
    data: Mapping[str, Dataset] | None = None,
    progress: bool = False,
) -> list[JsonDict]:
    """Run MTEB tasks; return task, split, subset, main score in points, and all metrics of each.

    Args:
        model: the model to evaluate.
        tasks: names or task objects of MTEB.
        output: folder for results in MTEB's own layout (``results/MODEL/REVISION/TASK.json``). Stored results
            are not computed again.
        data: data sets by task name, used instead of those that MTEB downloads.
        progress: show progress bars.

    Raises:
        InputError: a task is unknown, or a data set does not fit it.
        SourceUnavailable: the data of a task cannot be downloaded.
    """
    mteb = package()
    replacements = dict(data or {})
    chosen = [
        with_data(task, replacements.pop(_name(task))) if _name(task) in replacements else _task(task) for task in tasks
    ]
    if replacements:
        unused = next(iter(replacements))
        hint = nearest(unused, map(_name, tasks))
        raise InputError(f"There is data for {unused!r}, which is none of the tasks. {hint}", param="data")
    cache = None if output is None else mteb.ResultCache(output)
    rows: list[JsonDict] = []
    for task in chosen:
        with _download_errors(task):
            results = mteb.evaluate(model, task, cache=cache, show_progress_bar=progress, co2_tracker=False)
        rows += [row for result in results.task_results for row in _rows(result, task)]
    return rows


def with_data(task: str | MtebObject, dataset: Dataset) -> MtebObject:
    """Return an MTEB task, given by name or object, with the rows of a data set.

    Raises:
        InputError: the data set is for another kind of task, or the task has several subsets.
    """
    filled = _task(task)
    types = _TASK_TYPES.get(type(dataset.rows), ())
    if filled.metadata.type not in types:
        known = ", ".join(name for names in _TASK_TYPES.values() for name in names)
        raise InputError(
            f"{filled.metadata.name} is of MTEB's type {filled.metadata.type}, and {dataset.name!r} is for "
            f"{dataset.task}. Own data sets are supported for: {known}.",
            param="data",
        )
    if filled.metadata.is_multilingual:
        raise InputError(
            f"{filled.metadata.name} has several subsets, which one data set cannot replace.", param="data"
        )
    split = filled.metadata.eval_splits[0]
    filled.dataset = _CONVERTERS[type(dataset.rows)](dataset.rows, split)
    filled._eval_splits = [split]
    filled.data_loaded = True
    return filled


def _convert_retrieval(rows: Retrieval, split: str) -> JsonDict:
    from datasets import Dataset as Table

    judged = {query: dict(grades) for query, grades in rows.relevant.items() if any(grades.values())}
    corpus = [{"id": key, "title": "", "text": text} for key, text in rows.documents.items()]
    queries = [{"id": key, "text": rows.queries[key]} for key in judged]
    parts = {"corpus": Table.from_list(corpus), "queries": Table.from_list(queries), "relevant_docs": judged}
    return {"default": {split: {**parts, "top_ranked": None}}}


def _convert_pairs(rows: PairRows, split: str) -> MtebObject:
    from datasets import Dataset as Table

    columns = {"sentence1": list(rows.first), "sentence2": list(rows.second), "score": list(rows.gold)}
    return {split: Table.from_dict(columns)}


def _convert_classification(rows: Classification, split: str) -> MtebObject:
    from datasets import Dataset as Table
    from datasets import DatasetDict

    numbers = {label: number for number, label in enumerate(sorted({*rows.train.labels, *rows.test.labels}))}
    sides = {"train": rows.train, split: rows.test}
    tables = {
        name: Table.from_dict({"text": list(side.texts), "label": [numbers[label] for label in side.labels]})
        for name, side in sides.items()
    }
    return DatasetDict(tables)


_CONVERTERS: Mapping[type, MtebObject] = {
    Retrieval: _convert_retrieval,
    PairRows: _convert_pairs,
    Classification: _convert_classification,
}


def _name(task: str | MtebObject) -> str:
    return task if isinstance(task, str) else str(task.metadata.name)


def _task(task: str | MtebObject) -> MtebObject:
    if not isinstance(task, str):
        return task
    try:
        return package().get_task(task)
    except KeyError as error:
        raise InputError(f"MTEB has no task {task!r}: {str(error)[:300]}", param="tasks") from None


@contextmanager
def _download_errors(task: MtebObject) -> Iterator[None]:
    """Convert the errors of a failed download into SourceUnavailable."""
    import httpx
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except (ConnectionError, httpx.HTTPError, OfflineModeIsEnabled, HfHubHTTPError, DatasetsError) as error:
        raise SourceUnavailable(
            f"The data of {task.metadata.name} ({task.metadata.dataset['path']}) could not be downloaded from the "
            f"Hugging Face Hub: {str(error)[:200]}. Use a machine with access to the Hub (HF_ENDPOINT names a mirror), "
            f"or give a file: --data {task.metadata.name}=FILE."
        ) from error


def _rows(result: MtebObject, task: MtebObject) -> list[JsonDict]:
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
