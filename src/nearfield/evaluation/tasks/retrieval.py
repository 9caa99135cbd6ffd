"""Retrieval: documents found for queries, as BEIR and MTEB measure it: the best of all documents, by exact search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation import error_analysis, metrics
from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import EvaluationTask, TaskOptions, TaskResult

Run = dict[str, dict[str, float]]
#: Documents found for each query, or more where the cutoff is larger; recall is measured there too.
DEPTH = 100


class RetrievalTask(EvaluationTask):
    """Measures nDCG@k (the main metric), MRR@k, recall@k, precision@k, and recall and MAP further down."""

    rows: ClassVar[type] = Retrieval

    def measure(self, subject: InstrumentedSystem, rows: Retrieval, options: TaskOptions) -> TaskResult:
        depth = max(DEPTH, options.k)
        if subject.most is not None:
            depth = max(options.k, min(depth, subject.most))
        wanted = depth + 1 if options.ignore_identical_ids else depth
        run = subject.search(rows.documents, rows.queries, wanted) if subject.searches else found(subject, rows, wanted)
        run = {query: _kept(query, ranking, options, depth) for query, ranking in run.items()}
        main = f"nDCG@{options.k}"
        names = [main, *(f"{name}@{options.k}" for name in ("MRR", "recall", "precision"))]
        names += [f"recall@{depth}", f"MAP@{depth}"] if depth > options.k else [f"MAP@{depth}"]
        columns = metrics.ranking_metrics(names, rows.relevant, run)
        missed = error_analysis.queries(
            columns[main], rows.queries, rows.relevant, run, rows.documents.__getitem__, options.worst
        )
        settings = {"k": options.k, "depth": depth, "ignore_identical_ids": options.ignore_identical_ids}
        return TaskResult(main, metrics.means(columns), columns, missed, settings)


def found(subject: InstrumentedSystem, rows: Retrieval, depth: int) -> Run:
    """Compare every query with every document, and return the ``depth`` best of each, as trec_eval orders ties."""
    queries, ids = list(rows.queries), list(rows.documents)
    encoded = subject.encode(list(rows.queries.values()), "query")
    best: list[list[tuple[float, str]]] = [[] for _ in queries]
    at = 0
    # One window of documents at a time: what was found in it is all that is kept of it.
    texts = list(rows.documents.values())
    for documents in subject.encode(texts, "document"):
        keys = ids[at : at + len(documents)]
        at += len(keys)
        row = 0
        for part in encoded:
            scores = subject.similarity(part, documents)
            for line in scores:
                best[row] = _merged(best[row], line, keys, depth)
                row += 1
    return {query: {key: value for value, key in ranking} for query, ranking in zip(queries, best, strict=True)}


def _merged(held: list[tuple[float, str]], scores: Array, keys: list[str], depth: int) -> list[tuple[float, str]]:
    """Return the best of what is held and of a window's scores; among equal ones those with the last ids."""
    if len(scores) > depth:
        edge = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        places = np.flatnonzero(scores >= edge)
    else:
        places = np.arange(len(scores))
    fresh = [(float(scores[place]), keys[place]) for place in places]
    return sorted([*held, *fresh], reverse=True)[:depth]


def _kept(query: str, ranking: Mapping[str, float], options: TaskOptions, depth: int) -> dict[str, float]:
    rows = error_analysis.ordered(ranking)
    if options.ignore_identical_ids:
        rows = [each for each in rows if each[0] != query]
    return dict(rows[:depth])
