"""Evaluation: a subject measured on a data set: figures with intervals, what each item scored, and the worst ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from nearfield import __version__
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation import significance
from nearfield.evaluation.datasets import loaders
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.systems import EmbeddingCache, EmbeddingSystem, SearchSystem, Variant, of_encoder, open_system
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import TaskOptions, open_task, require


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
            ``Variant``, a loaded ``Encoder`` or an open subject (left open).
        dataset: a ``Dataset``, or the path of one (see ``reading.read``).
        task: what to measure, where the path's layout leaves it open.
        k: cutoff of rankings' main metrics.
        ignore_identical_ids: leave a document out of the results of the query that has its id, as BEIR does.
        full: let the probe of a classification learn from all training texts, not from 8 of each label.
        samples: draws of the bootstrap; 0 for no interval.
        seed: of the bootstrap and of every draw of a task.
        worst: how many of the worst items to return.
        progress: show a bar.
        memo: vectors encoded before, shared by several calls.

    Returns:
        A dict that JSON can hold: ``subject``, ``dataset``, ``main`` (the main metric's name), ``score`` (in points of
        100), ``interval`` ([low, high]: 95%, by bootstrap over items), ``metrics``, ``per_item`` (columns of figures by
        item), ``worst``, ``seconds``, ``truncated`` (texts that were cut; None where unknown), ``settings``.

    Raises:
        InputError: an argument is wrong, the data set cannot be read, or the model cannot do the task.
        MissingExtra: the metrics' libraries are not installed.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k is a whole number of 1 or more, and not {k!r}.", param="k")
    if samples < 0 or worst < 0:
        raise InputError("samples and worst are whole numbers of 0 or more.", param="samples")
    data = dataset if isinstance(dataset, Dataset) else loaders.load_dataset(dataset, task)
    if task is not None and task != data.task:
        raise InputError(f"{data.name} is a set for {data.task}, not for {task}.", param="task")
    # Refused before a model is loaded.
    require(open_task(data.task), data.task, data.rows)
    options = TaskOptions(k, ignore_identical_ids, full, seed, worst)
    started = time.perf_counter()
    subject, owned = _subject(model, memo)
    opened = time.perf_counter() - started
    try:
        return _measured(subject, data, options, samples, opened, progress)
    finally:
        if owned:
            subject.close()


def _subject(model: Any, memo: EmbeddingCache | None) -> tuple[Any, bool]:
    """Return what is measured, and whether it was opened here."""
    if isinstance(model, (str, Variant)):
        return open_system(model, memo), True
    if isinstance(model, Encoder):
        return of_encoder(model), True  # closing it leaves the encoder open
    if isinstance(model, (EmbeddingSystem, SearchSystem)):
        return model, False
    raise InputError(
        f"A model is a name, a Variant, an Encoder or a subject, not {type(model).__name__}.", param="model"
    )


def _measured(
    subject: Any, data: Dataset, options: TaskOptions, samples: int, opened: float, progress: bool
) -> dict[str, Any]:
    task, metered = open_task(data.task), InstrumentedSystem(subject, progress=progress)
    before, started = getattr(subject, "truncated", None), time.perf_counter()
    found = task.measure(metered, data.rows, options)
    taken = time.perf_counter() - started
    low, high = (
        significance.interval(task, found.main, found.columns, samples=samples, seed=options.seed)
        if samples
        else (None, None)
    )
    after = getattr(subject, "truncated", None)
    settings = {**found.settings, "samples": samples, "seed": options.seed, "version": __version__}
    return {
        "subject": {"name": subject.name, "identity": subject.identity, **_told(subject)},
        "dataset": data.told(),
        "main": found.main,
        "score": found.metrics[found.main],
        "interval": None if low is None else [low, high],
        "metrics": dict(found.metrics),
        "per_item": {name: dict(column) for name, column in found.columns.items()},
        "worst": [dict(each) for each in found.worst],
        "seconds": {"open": opened, **metered.seconds, "total": taken},
        "truncated": None if before is None or after is None else after - before,
        "settings": settings,
    }


def _told(subject: Any) -> dict[str, Any]:
    tell = getattr(subject, "told", None)
    told: dict[str, Any] = tell() if tell else {}
    return told
