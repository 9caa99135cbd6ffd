"""The retrieval task, measured as BEIR and MTEB do: exact search over all documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation import error_analysis, metrics
from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import EvaluationTask, TaskOptions, TaskResult
from nearfield.message_text import count_of

Run = dict[str, dict[str, float]]
#: Results for each query, or more if the cutoff is larger; recall is also measured at this depth.
DEPTH = 100
#: Documents for each of the first k results below which chance finds much.
MIN_DOCUMENTS_PER_RESULT = 10


class RetrievalTask(EvaluationTask):
    """Measures nDCG@k (the main metric), MRR@k, recall@k, precision@k, and recall and MAP at the full depth."""

    rows: ClassVar[type] = Retrieval

    def measure(self, system: InstrumentedSystem, rows: Retrieval, options: TaskOptions) -> TaskResult:
        depth = max(DEPTH, options.k)
        if system.max_results is not None:
            depth = max(options.k, min(depth, system.max_results))
        count = depth + 1 if options.ignore_identical_ids else depth
        run = (
            system.search(rows.documents, rows.queries, count)
            if system.searches
            else rank_documents(system, rows, count)
        )
        run = {query: _final_ranking(query, ranking, options, depth) for query, ranking in run.items()}
        main = f"nDCG@{options.k}"
        names = [main, *(f"{name}@{options.k}" for name in ("MRR", "recall", "precision"))]
        names += [f"recall@{depth}", f"MAP@{depth}"] if depth > options.k else [f"MAP@{depth}"]
        columns = metrics.ranking_metrics(names, rows.relevant, run)
        worst = error_analysis.worst_queries(
            columns[main], rows.queries, rows.relevant, run, rows.documents.__getitem__, options.worst
        )
        settings = {"k": options.k, "depth": depth, "ignore_identical_ids": options.ignore_identical_ids}
        first = error_analysis.first_documents(run, columns[main])
        cautions = _cautions(rows, options.k)
        return TaskResult(main, metrics.means(columns), columns, worst, settings, cautions, first)


def _cautions(rows: Retrieval, k: int) -> list[str]:
    """Return sentences on queries without a relevant document, and on few documents, if that is so."""
    notes, total = [], len(rows.documents)
    if total < MIN_DOCUMENTS_PER_RESULT * k:
        share = 100 * min(1.0, k / total)
        notes.append(
            f"Only {count_of(total, 'document')}: the first {k} results are {share:.0f}% of them, so that a search at "
            "random finds as much. Add documents, or take a smaller k."
        )
    count = sum(not any(grade > 0 for grade in grades.values()) for grades in rows.relevant.values())
    queries = count_of(count, "query without a relevant document counts", "queries without a relevant document count")
    if count:
        notes.append(f"{queries} 0 for every model, as in trec_eval. Judge more documents for them, or remove them.")
    return notes


def rank_documents(system: InstrumentedSystem, rows: Retrieval, depth: int) -> Run:
    """Compare every query with every document and return the ``depth`` best, ties ordered as by trec_eval."""
    queries, ids = list(rows.queries), list(rows.documents)
    encoded = system.encode(list(rows.queries.values()), "query")
    best: list[list[tuple[float, str]]] = [[] for _ in queries]
    first = 0
    # One window of documents at a time, so that not all vectors are in memory.
    texts = list(rows.documents.values())
    for documents in system.encode(texts, "document"):
        keys = ids[first : first + len(documents)]
        first += len(keys)
        row = 0
        for part in encoded:
            scores = system.similarity(part, documents)
            for line in scores:
                best[row] = _merge_best(best[row], line, keys, depth)
                row += 1
    return {query: {key: value for value, key in ranking} for query, ranking in zip(queries, best, strict=True)}


def _merge_best(best: list[tuple[float, str]], scores: Array, keys: list[str], depth: int) -> list[tuple[float, str]]:
    """Return the best of the results so far and of a window's scores; among equal ones those with the last ids."""
    if len(scores) > depth:
        edge = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        places = np.flatnonzero(scores >= edge)
    else:
        places = np.arange(len(scores))
    fresh = [(float(scores[place]), keys[place]) for place in places]
    return sorted([*best, *fresh], reverse=True)[:depth]


def _final_ranking(query: str, ranking: Mapping[str, float], options: TaskOptions, depth: int) -> dict[str, float]:
    rows = error_analysis.sort_ranking(ranking)
    if options.ignore_identical_ids:
        rows = [(key, score) for key, score in rows if key != query]
    return dict(rows[:depth])
