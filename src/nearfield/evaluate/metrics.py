"""Metrics: rankings by ir-measures (on pytrec_eval, which is trec_eval), agreement by scipy; in points of 100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from nearfield.errors import MissingExtra

Array = np.ndarray[Any, np.dtype[Any]]
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


def ranked(names: Sequence[str], relevant: Judgements, run: Run) -> dict[str, dict[str, float]]:
    """Return metrics such as ``nDCG@10`` for each judged query, in points.

    As trec_eval computes them: ties in the order of ids, the last first; gains are linear; a query for which nothing
    was found has 0; documents that were not judged are not relevant.
    """
    measures = library("ir_measures")
    asked = {_measure(measures, name): name for name in names}
    found: dict[str, dict[str, float]] = {name: dict.fromkeys(relevant, 0.0) for name in names}
    told = {query: {key: float(value) for key, value in run.get(query, {}).items()} for query in relevant}
    for each in measures.iter_calc(list(asked), {key: dict(row) for key, row in relevant.items()}, told):
        found[asked[each.measure]][each.query_id] = 100 * float(each.value)
    return found


def _measure(measures: Any, name: str) -> Any:
    kind, _, cutoff = name.partition("@")
    return getattr(measures, RANKED[kind]) @ int(cutoff)


def means(columns: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each column."""
    return {name: float(np.mean(list(column.values()))) for name, column in columns.items()}


def spearman(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation in points; 0 where a side is constant, for it then says nothing."""
    return _correlation("spearmanr", a, b)


def pearson(a: Array, b: Array) -> float:
    """Return Pearson's correlation in points; 0 where a side is constant."""
    return _correlation("pearsonr", a, b)


def _correlation(name: str, a: Array, b: Array) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return 100 * float(getattr(library("scipy.stats"), name)(a, b).statistic)
