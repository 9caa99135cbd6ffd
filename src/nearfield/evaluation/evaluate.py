"""Evaluate a model on a data set: metrics with confidence intervals, scores of the items, and the worst items."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from nearfield import __version__
from nearfield.argument_checks import require_count
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation import significance
from nearfield.evaluation.datasets import loaders
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.systems import (
    EmbeddingCache,
    EmbeddingSystem,
    SearchSystem,
    System,
    Variant,
    from_encoder,
    open_system,
)
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import TaskOptions, open_task, require
from nearfield.text_inputs import describe

#: Largest cutoff of rankings, and largest number of bootstrap samples.
_MAX_K, _MAX_SAMPLES = 1_000_000, 1_000_000
#: Score of BM25 in points from which a set is too easy: what is left for models is about the noise of 100 queries.
MAX_KEYWORD_SCORE = 90.0
#: Documents up to which the difficulty is measured: the search builds an index in memory.
MAX_DIFFICULTY_DOCUMENTS = 50_000


def evaluate(
    model: str | Variant | Encoder | EmbeddingSystem | SearchSystem,
    dataset: str | Path | Dataset,
    *,
    task: str | None = None,
    k: int = 10,
    ignore_identical_ids: bool = False,
    full: bool = False,
    samples: int = 1000,
    seed: int = 0,
    worst: int = 10,
    progress: bool = False,
    memo: EmbeddingCache | None = None,
) -> dict[str, Any]:
    """Measure a model on a data set.

    Args:
        model: a model's name, or a variant of it as text (``all-MiniLM-L6-v2?dimensions=256&dtype=binary``); a
            ``Variant``, a loaded ``Encoder`` or an open system. The last two stay open.
        dataset: a ``Dataset``, or the path of one (see ``load_dataset``).
        task: the task, where the layout of the path does not say.
        k: cutoff of the main ranking metrics.
        ignore_identical_ids: leave a document out of the results of the query that has its id, as BEIR does.
        full: train the classifier of a classification task on all training texts, not on 8 of each label.
        samples: bootstrap samples; 0: no interval.
        seed: of the bootstrap and of the random draws of a task.
        worst: how many of the worst items to return.
        progress: show a bar.
        memo: cache of vectors, shared by several calls.

    Returns:
        A dict that JSON can hold: ``subject`` (the model), ``dataset``, ``main`` (the name of the main metric),
        ``score`` (in points of 100), ``interval`` ([low, high]: 95%; see ``significance.interval``), ``cautions``
        (why the score says little: few items, or a perfect score), ``metrics``, ``per_item`` (columns of values by
        item), ``worst`` (items that lost something, see ``error_analysis``), ``first`` (by item what the model
        preferred: ids of documents, or a label), ``seconds``, ``truncated`` (number of truncated texts; None: unknown),
        ``unread`` (number of texts of which the model knows hardly a token), ``settings``.

    Raises:
        InputError: an argument is wrong, the data set cannot be read, or the model cannot do the task.
        MissingExtra: the libraries for metrics are not installed.
    """
    k, samples, seed = check_counts(k, samples, seed)
    require_count("worst", worst, 0)
    data = dataset if isinstance(dataset, Dataset) else loaders.load_dataset(dataset, task)
    if task is not None and task != data.task:
        raise InputError(f"{data.name} is a set for {data.task}, not for {task}.", param="task")
    # An error before a model is loaded.
    require(open_task(data.task), data.task, data.rows)
    options = TaskOptions(k, ignore_identical_ids, full, seed, worst)
    started = time.perf_counter()
    system, owned = _open_system(model, memo)
    opened = time.perf_counter() - started
    try:
        return _measure(system, data, options, samples, opened, progress)
    finally:
        if owned:
            system.close()


def measure_difficulty(dataset: Dataset) -> JsonDict:
    """Return how hard a synthetic retrieval data set is for a search by words alone.

    The result has ``keyword_score`` (nDCG@10 of BM25, in points; None: too many documents) and ``cautions``.

    A set on which words alone find nearly everything does not say which model understands meaning.
    """
    if dataset.rows.counts()["documents"] > MAX_DIFFICULTY_DOCUMENTS:
        return {"keyword_score": None, "cautions": []}
    result = evaluate("bm25", dataset, samples=0, worst=0)
    cautions = [caution for caution in result["cautions"] if not caution.startswith("A perfect")]
    if result["score"] >= MAX_KEYWORD_SCORE:
        cautions.insert(
            0,
            f"Too easy: BM25, which compares words alone, scores {result['score']:.1f} of 100, so that good models "
            "will hardly differ. Have a chat model write questions in other words (nearfield synthetic --chat-url), "
            "take a larger collection, or judge real queries (nearfield judge).",
        )
    return {"keyword_score": result["score"], "cautions": cautions}


def check_counts(k: int, samples: int, seed: int) -> tuple[int, int, int]:
    """Return the cutoff, the number of bootstrap samples and the seed, as numbers that JSON can hold.

    Raises:
        InputError: one of them is no whole number, or out of range.
    """
    require_count("k", k, 1, _MAX_K)
    require_count("samples", samples, 0, _MAX_SAMPLES)
    require_count("seed", seed, 0)
    return int(k), int(samples), int(seed)


def _open_system(model: object, memo: EmbeddingCache | None) -> tuple[System, bool]:
    """Return the system, and whether to close it."""
    if isinstance(model, (str, Variant)):
        return open_system(model, memo, attach=True), True
    if isinstance(model, Encoder):
        return from_encoder(model), True  # closing the system leaves the encoder open
    if isinstance(model, (EmbeddingSystem, SearchSystem)):
        return model, False
    raise InputError(
        f"A model is a name, a Variant, an Encoder or an evaluation system, and this is {describe(model)}.",
        param="model",
    )


def _measure(
    system: System, data: Dataset, options: TaskOptions, samples: int, opened: float, progress: bool
) -> JsonDict:
    task, instrumented = open_task(data.task), InstrumentedSystem(system, progress=progress)
    before, started = _text_counts(system), time.perf_counter()
    result = task.measure(instrumented, data.rows, options)
    seconds = time.perf_counter() - started
    low, high = (
        significance.interval(task, result.main, result.columns, samples=samples, seed=options.seed)
        if samples
        else (None, None)
    )
    after = _text_counts(system)
    settings = {**result.settings, "samples": samples, "seed": options.seed, "version": __version__}
    return {
        "subject": {"name": system.name, "identity": system.identity, **_describe(system)},
        "dataset": data.to_dict(),
        "main": result.main,
        "score": result.metrics[result.main],
        "interval": None if low is None else [low, high],
        "cautions": [*result.cautions, *significance.cautions(task, result.main, result.columns)],
        "metrics": dict(result.metrics),
        "per_item": {name: dict(column) for name, column in result.columns.items()},
        "worst": [dict(item) for item in result.worst],
        "first": {key: list(values) for key, values in result.first.items()},
        "seconds": {"open": opened, **instrumented.seconds, "total": seconds},
        **{name: None if count is None else count - (before[name] or 0) for name, count in after.items()},
        "settings": settings,
    }


def _text_counts(system: System) -> dict[str, int | None]:
    """Return how many texts a system has truncated, and could not read, so far."""
    return {name: getattr(system, name, None) for name in ("truncated", "unread")}


def _describe(system: System) -> JsonDict:
    to_dict = getattr(system, "to_dict", None)
    description: JsonDict = to_dict() if to_dict else {}
    return description
