"""Ranking metrics by ir-measures (trec_eval through pytrec_eval) and correlations by scipy, in points of 100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.registry import import_library

Run = Mapping[str, Mapping[str, float]]
Judgments = Mapping[str, Mapping[str, int]]
#: Ranking metrics with a cutoff: the displayed name, and the name in ir-measures.
RANKING_METRICS: Mapping[str, str] = {"nDCG": "nDCG", "MRR": "RR", "recall": "R", "precision": "P", "MAP": "AP"}


def library(name: str) -> Any:
    """Import a library of the extra ``evaluate``.

    Raises:
        MissingExtra: the library is not installed.
    """
    return import_library(name, extra="evaluate", purpose="Measuring")


def ranking_metrics(names: Sequence[str], relevant: Judgments, run: Run) -> dict[str, dict[str, float]]:
    """Return metrics such as ``nDCG@10`` for each judged query, in points.

    They are trec_eval's: equal scores are ordered by falling id, gains are linear, a query without results has 0, and
    documents without a judgment are not relevant.
    """
    measures = library("ir_measures")
    names_of: dict[Any, list[str]] = {}
    for name in names:
        names_of.setdefault(_measure(measures, name), []).append(name)
    values: dict[str, dict[str, float]] = {name: dict.fromkeys(relevant, 0.0) for name in names}
    scores = {query: {key: float(value) for key, value in run.get(query, {}).items()} for query in relevant}
    for result in measures.iter_calc(list(names_of), {key: dict(row) for key, row in relevant.items()}, scores):
        for name in names_of[result.measure]:
            values[name][result.query_id] = 100 * _apply_cutoff(name, float(result.value))
    return values


def _measure(measures: Any, name: str) -> Any:
    kind, _, cutoff = name.partition("@")
    measure = getattr(measures, RANKING_METRICS[kind])
    # trec_eval has no cutoff for reciprocal ranks, and the tool that ir-measures uses instead orders ties differently.
    return measure if kind == "MRR" else measure @ int(cutoff)


def _apply_cutoff(name: str, value: float) -> float:
    """Return 0 for a reciprocal rank beyond the cutoff, and any other value unchanged."""
    kind, _, cutoff = name.partition("@")
    return 0.0 if kind == "MRR" and value * int(cutoff) < 1 - 1e-9 else value


def means(columns: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each column."""
    return {name: float(np.mean(list(column.values()))) for name, column in columns.items()}


def spearman(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation in points; 0 if a side is constant."""
    return _correlation("spearmanr", a, b)


def spearman_rows(a: Array, b: Array) -> Array:
    """Return ``spearman`` of each row of two tables [rows, items]: Pearson's correlation of ranks."""
    rank = library("scipy.stats").rankdata
    x, y = (ranks - ranks.mean(1, keepdims=True) for ranks in (rank(a, axis=1), rank(b, axis=1)))
    size = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    return np.asarray(100 * (x * y).sum(1) / np.where(size > 0, size, 1.0))


def pearson(a: Array, b: Array) -> float:
    """Return Pearson's correlation in points; 0 if a side is constant."""
    return _correlation("pearsonr", a, b)


def _correlation(name: str, a: Array, b: Array) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return 100 * float(getattr(library("scipy.stats"), name)(a, b).statistic)
