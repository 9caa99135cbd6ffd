"""Metrics: rankings by ir-measures (on pytrec_eval, which is trec_eval), agreement by scipy; in points of 100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import MissingExtra

Run = Mapping[str, Mapping[str, float]]
Judgements = Mapping[str, Mapping[str, int]]
#: Metrics of rankings: how each is shown and what ir-measures calls it, at a cutoff.
RANKED: Mapping[str, str] = {"nDCG": "nDCG", "MRR": "RR", "recall": "R", "precision": "P", "MAP": "AP"}


def library(name: str) -> Any:
    """Import a library of the extra ``evaluate``.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise
        raise MissingExtra(f"Measuring needs {error.name!r}: pip install 'nearfield[evaluate]'") from error


def ranking_metrics(names: Sequence[str], relevant: Judgements, run: Run) -> dict[str, dict[str, float]]:
    """Return metrics such as ``nDCG@10`` for each judged query, in points.

    As trec_eval computes them: ties in the order of ids, the last first; gains are linear; a query for which nothing
    was found has 0; documents that were not judged are not relevant.
    """
    measures = library("ir_measures")
    asked: dict[Any, list[str]] = {}
    for name in names:
        asked.setdefault(_measure(measures, name), []).append(name)
    found: dict[str, dict[str, float]] = {name: dict.fromkeys(relevant, 0.0) for name in names}
    told = {query: {key: float(value) for key, value in run.get(query, {}).items()} for query in relevant}
    for each in measures.iter_calc(list(asked), {key: dict(row) for key, row in relevant.items()}, told):
        for name in asked[each.measure]:
            found[name][each.query_id] = 100 * _cut(name, float(each.value))
    return found


def _measure(measures: Any, name: str) -> Any:
    kind, _, cutoff = name.partition("@")
    measure = getattr(measures, RANKED[kind])
    # trec_eval knows no cutoff of reciprocal ranks, and what ir-measures takes for it orders ties in another way.
    return measure if kind == "MRR" else measure @ int(cutoff)


def _cut(name: str, value: float) -> float:
    """Return a reciprocal rank, or 0 where it is beyond the cutoff; any other value as it is."""
    kind, _, cutoff = name.partition("@")
    return 0.0 if kind == "MRR" and value * int(cutoff) < 1 - 1e-9 else value


def means(columns: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each column."""
    return {name: float(np.mean(list(column.values()))) for name, column in columns.items()}


def spearman(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation in points; 0 where a side is constant, for it then says nothing."""
    return _correlation("spearmanr", a, b)


def spearmans(a: Array, b: Array) -> Array:
    """Return ``spearman`` of each row of two tables [rows, items]: Pearson's correlation of the ranks, ties shared."""
    rank = library("scipy.stats").rankdata
    x, y = (ranks - ranks.mean(1, keepdims=True) for ranks in (rank(a, axis=1), rank(b, axis=1)))
    size = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    return np.asarray(100 * (x * y).sum(1) / np.where(size > 0, size, 1.0))


def pearson(a: Array, b: Array) -> float:
    """Return Pearson's correlation in points; 0 where a side is constant."""
    return _correlation("pearsonr", a, b)


def _correlation(name: str, a: Array, b: Array) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return 100 * float(getattr(library("scipy.stats"), name)(a, b).statistic)
