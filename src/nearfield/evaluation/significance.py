"""Significance: how far a figure may be from that of other queries, and whether two models differ on the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation import metrics
from nearfield.evaluation.tasks import Column, EvaluationTask, open_task

#: Numbers drawn at once: resampling a long column stays within memory.
_AT_ONCE = 1_000_000


def interval(
    task: EvaluationTask,
    main: str,
    columns: Mapping[str, Column],
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the main metric over items (Efron & Tibshirani 1993, chapter 13).

    Items are drawn anew, with replacement, ``samples`` times, and the middle ``level`` of what comes out is returned.
    """
    values = resampled(task, main, [_arrays(columns)], samples, seed)[0]
    if task.centred:
        values += task.score(main, _arrays(columns)) - values.mean()
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def resampled(task: EvaluationTask, main: str, sides: list[dict[str, Array]], samples: int, seed: int) -> list[Array]:
    """Return the main metric [samples] of each side on the same draws of items."""
    count = len(next(iter(sides[0].values())))
    random = np.random.default_rng(seed)
    found: list[list[Array]] = [[] for _ in sides]
    done = 0
    while done < samples:
        part = max(1, min(samples - done, _AT_ONCE // max(count, 1)))
        draws = random.integers(0, count, (part, count))
        for side, values in zip(sides, found, strict=True):
            values.append(task.scores(main, side, draws))
        done += part
    return [np.concatenate(values) for values in found]


def paired_test(a: Mapping[str, Any], b: Mapping[str, Any], *, samples: int = 10_000, seed: int = 0) -> dict[str, Any]:
    """Say whether two results on the same data set differ by more than chance would have it.

    ``a`` and ``b`` are what ``evaluate`` returns. Where the main metric is a mean over items, ``p`` is that of a paired
    permutation test (scipy's ``permutation_test``, two-sided: each item's two values are swapped at random; Smucker,
    Allan & Carterette 2007); else it is twice the share of paired bootstrap differences on the other side of zero.
    ``interval`` is the middle 95% of the differences of paired bootstrap samples.

    Returns:
        ``difference`` (a less b, in points), ``interval`` [low, high], ``p``, ``test``, ``items`` and ``significant``
        (p below 0.05; not corrected for several comparisons).

    Raises:
        InputError: the two are not of the same items and metric.
    """
    task, main = open_task(a["dataset"]["task"]), a["main"]
    if a["dataset"]["digest"] != b["dataset"]["digest"] or main != b["main"]:
        raise InputError("Two results can be compared that are of one data set and one metric; these are not.")
    left, right = _arrays(a["per_item"]), _arrays(b["per_item"], list(next(iter(a["per_item"].values()))))
    first, second = resampled(task, main, [left, right], min(samples, _affordable(task)), seed)
    differences = first - second
    if task.centred:
        differences += a["score"] - b["score"] - differences.mean()
    low, high = np.percentile(differences, [2.5, 97.5])
    if task.averages:
        p, test = _permuted(left[main], right[main], samples, seed), "paired permutation"
    else:
        p, test = _crossing(differences), "paired bootstrap"
    return {
        "difference": a["score"] - b["score"],
        "interval": [float(low), float(high)],
        "p": p,
        "test": test,
        "items": len(left[next(iter(left))]),
        "significant": p < 0.05,
    }


def _permuted(a: Array, b: Array, samples: int, seed: int) -> float:
    if np.array_equal(a, b):
        return 1.0

    def difference(x: Array, y: Array, axis: int) -> Any:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    stats = metrics.library("scipy.stats")
    found = stats.permutation_test(
        (a, b),
        difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=samples,
        batch=max(1, _AT_ONCE // (2 * len(a))),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def _crossing(differences: Array) -> float:
    """Return the two-sided p of a bootstrap: twice the smaller share of differences at or beyond zero, plus one."""
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1)))


def _affordable(task: EvaluationTask) -> int:
    """Return how many samples a task can be asked for: a mean costs nothing, a correlation a millisecond."""
    return 10_000 if task.averages else 1_000


def _arrays(columns: Mapping[str, Column], ids: list[str] | None = None) -> dict[str, Array]:
    """Return columns as arrays, items in the order of ``ids``."""
    order = list(next(iter(columns.values()))) if ids is None else ids
    try:
        return {name: np.array([column[key] for key in order], np.float64) for name, column in columns.items()}
    except KeyError as error:
        raise InputError(f"The two results are not of the same items: {error} is in one of them alone.") from None
