"""Statistical significance: intervals of a metric, cautions, and paired tests of two results on one data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation import metrics
from nearfield.evaluation.error_analysis import FULL_SCORE
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.evaluation.tasks import Column, EvaluationTask, open_task
from nearfield.message_text import count_of

#: Items below which a comparison of models has a large error: Buckley & Voorhees (SIGIR 2000, "Evaluating evaluation
#: measure stability") found 25 queries the least and 50 much better.
MIN_ITEMS = 50
#: Random numbers in one block, so that resampling a long column does not exceed the memory.
_NUMBERS_PER_BLOCK = 1_000_000
#: A width in points that is due to rounding.
_ROUNDING = 1e-9


def interval(
    task: EvaluationTask,
    main: str,
    columns: Mapping[str, Column],
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return an interval of the main metric over items, at the given confidence level; it is never empty.

    It holds the percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13): items are drawn with replacement
    ``samples`` times, and the middle ``level`` of the metric counts. A bootstrap knows only the items that there are:
    of equal items, such as those of a perfect score, it makes an interval without width. The interval therefore also
    holds the metric for the largest share of items, all wrong or all right, that a sample of this size may have missed
    (``unseen_share``). If the items are shares of yes and no (all scores 0 or 100), it also holds the exact
    interval of Clopper & Pearson (1934), which for a perfect score is the same.
    """
    arrays = _arrays(columns)
    values = resample(task, main, [arrays], samples, seed)[0]
    if task.centred:
        values += task.score(main, arrays) - values.mean()
    tail = 100 * (1 - level) / 2
    ends = [*np.percentile(values, [tail, 100 - tail])]
    ends += task.score_range(main, arrays, unseen_share(len(arrays[next(iter(arrays))]), level))
    if task.averages and np.isin(arrays[main], (0.0, 100.0)).all():
        ends += _exact_interval(arrays[main], level)
    return float(min(ends)), float(max(ends))


def unseen_share(items: int, level: float = 0.95) -> float:
    """Return the largest share of a kind of items that a sample may have missed, at a two-sided confidence level.

    A kind with the share q is missed with the probability ``(1 - q) ** items``; this is the q at which it is half of
    ``1 - level``: the exact form of the rule of three (Hanley & Lippman-Hand 1983), about 3.7 divided by the number of
    items.
    """
    return float(1 - ((1 - level) / 2) ** (1 / items))


def _exact_interval(scores: Array, level: float) -> tuple[float, float]:
    test = metrics.library("scipy.stats").binomtest(int((scores > 0).sum()), len(scores))
    interval = test.proportion_ci(level, method="exact")
    return 100 * float(interval.low), 100 * float(interval.high)


def cautions(task: EvaluationTask, main: str, columns: Mapping[str, Column]) -> list[str]:
    """Return sentences on why a score says little: few items, or a score that no model can exceed."""
    count = len(next(iter(columns.values())))
    items = count_of(count, task.item, f"{task.item[:-1]}ies" if task.item.endswith("y") else None)
    notes = []
    if count < MIN_ITEMS:
        notes.append(
            f"Only {items}: fewer than {MIN_ITEMS} show only large differences between models. Add more "
            "(Buckley & Voorhees 2000)."
        )
    if task.score(main, _arrays(columns)) >= FULL_SCORE:
        notes.append(f"A perfect {main} of {items}: on such easy data good models do not differ. Use harder data.")
    return notes


def resample(task: EvaluationTask, main: str, sides: list[dict[str, Array]], samples: int, seed: int) -> list[Array]:
    """Return the main metric [samples] of each side on the same draws of items."""
    count = len(next(iter(sides[0].values())))
    random = np.random.default_rng(seed)
    values_of: list[list[Array]] = [[] for _ in sides]
    done = 0
    while done < samples:
        part = max(1, min(samples - done, _NUMBERS_PER_BLOCK // max(count, 1)))
        draws = random.integers(0, count, (part, count))
        for side, values in zip(sides, values_of, strict=True):
            values.append(task.scores(main, side, draws))
        done += part
    return [np.concatenate(values) for values in values_of]


def paired_test(a: JsonMapping, b: JsonMapping, *, samples: int = 10_000, seed: int = 0) -> JsonDict:
    """Test whether two results on the same data set differ significantly.

    ``a`` and ``b`` are results of ``evaluate``. If the main metric is a mean over items, ``p`` is that of a paired
    permutation test (scipy's ``permutation_test``, two-sided: each item's two values are swapped at random; Smucker,
    Allan & Carterette 2007); else it is twice the share of paired bootstrap differences on the other side of zero.
    ``interval`` is the middle 95% of the differences of paired bootstrap samples. If all items differ by the same
    amount, it is widened by what items that no sample had could change (``unseen_share``).

    Returns:
        ``difference`` (a minus b, in points), ``interval`` [low, high], ``p``, ``test``, ``items`` and ``significant``
        (p below 0.05, without a correction for multiple comparisons).

    Raises:
        InputError: the results have different items or metrics.
    """
    task, main = open_task(a["dataset"]["task"]), a["main"]
    if a["dataset"]["digest"] != b["dataset"]["digest"] or main != b["main"]:
        raise InputError("The two results are of different data sets or metrics: evaluate both on the same data set.")
    left, right = _arrays(a["per_item"]), _arrays(b["per_item"], list(next(iter(a["per_item"].values()))))
    first, second = resample(task, main, [left, right], min(samples, _max_samples(task)), seed)
    differences = first - second
    if task.centred:
        differences += a["score"] - b["score"] - differences.mean()
    low, high = np.percentile(differences, [2.5, 97.5])
    if high - low < _ROUNDING:
        low, high = _widen(float(low), float(high), len(left[next(iter(left))]))
    if task.averages:
        p, test = _permutation_p(left[main], right[main], samples, seed), "paired permutation"
    else:
        p, test = _bootstrap_p(differences), "paired bootstrap"
    return {
        "difference": a["score"] - b["score"],
        "interval": [float(low), float(high)],
        "p": p,
        "test": test,
        "items": len(left[next(iter(left))]),
        "significant": p < 0.05,
    }


def _widen(low: float, high: float, items: int) -> tuple[float, float]:
    """Return the interval of a difference from -100 to 100, if items that no sample had may differ by as much."""
    share = unseen_share(items)
    return low * (1 - share) - 100 * share, high * (1 - share) + 100 * share


def _permutation_p(a: Array, b: Array, samples: int, seed: int) -> float:
    if np.array_equal(a, b):
        return 1.0

    def difference(x: Array, y: Array, axis: int) -> Any:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    stats = metrics.library("scipy.stats")
    result = stats.permutation_test(
        (a, b),
        difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=samples,
        batch=max(1, _NUMBERS_PER_BLOCK // (2 * len(a))),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _bootstrap_p(differences: Array) -> float:
    """Return the two-sided p of a bootstrap: twice the smaller share of differences at or beyond zero, plus one."""
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1)))


def _max_samples(task: EvaluationTask) -> int:
    """Return the maximum number of samples for a task: a mean is fast, a correlation takes a millisecond."""
    return 10_000 if task.averages else 1_000


def _arrays(columns: Mapping[str, Column], ids: list[str] | None = None) -> dict[str, Array]:
    """Return columns as arrays, with items in the order of ``ids``."""
    order = list(next(iter(columns.values()))) if ids is None else ids
    try:
        return {name: np.array([column[key] for key in order], np.float64) for name, column in columns.items()}
    except KeyError as error:
        raise InputError(f"The two results are not of the same items: {error} is missing in one of them.") from None
