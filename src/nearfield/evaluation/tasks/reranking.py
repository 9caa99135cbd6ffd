"""Reranking: each query's own candidates put in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nearfield.evaluation import error_analysis, metrics
from nearfield.evaluation.datasets.dataset import Candidates, Reranking
from nearfield.evaluation.systems.instrumented import InstrumentedSystem
from nearfield.evaluation.tasks import EvaluationTask, TaskOptions, TaskResult

Run = dict[str, dict[str, float]]


class RerankingTask(EvaluationTask):
    """Measures MAP over all candidates (the main metric), MRR@k and nDCG@k."""

    rows: ClassVar[type] = Reranking

    def measure(self, subject: InstrumentedSystem, rows: Reranking, options: TaskOptions) -> TaskResult:
        texts = [{**_ids("p", each.positive), **_ids("n", each.negative)} for each in rows.samples]
        run = _searched(subject, rows, texts) if subject.searches else _scored(subject, rows, texts)
        relevant = {str(at): {key: int(key[0] == "p") for key in each} for at, each in enumerate(texts)}
        depth = max(map(len, texts))
        names = [f"MAP@{depth}", f"MRR@{options.k}", f"nDCG@{options.k}"]
        columns = metrics.ranking_metrics(names, relevant, run)
        # Over all candidates there is no cutoff to speak of.
        columns = {"MAP": columns[names[0]], names[1]: columns[names[1]], names[2]: columns[names[2]]}
        queries = {str(at): each.query for at, each in enumerate(rows.samples)}
        whole = {f"{at} {key}": text for at, each in enumerate(texts) for key, text in each.items()}
        missed = error_analysis.queries(
            columns["MAP"],
            queries,
            {key: {f"{key} {name}": grade for name, grade in each.items()} for key, each in relevant.items()},
            {key: {f"{key} {name}": score for name, score in each.items()} for key, each in run.items()},
            whole.__getitem__,
            options.worst,
        )
        return TaskResult("MAP", metrics.means(columns), columns, missed, {"k": options.k})


def _ids(kind: str, texts: Sequence[str]) -> dict[str, str]:
    return {f"{kind}{at}": text for at, text in enumerate(texts)}


def _scored(subject: InstrumentedSystem, rows: Reranking, texts: list[dict[str, str]]) -> Run:
    """Encode one query with its candidates at a time, so that kinds of vectors without slices can be compared."""
    run: Run = {}
    for at, each in enumerate(texts):
        sample: Candidates = rows.samples[at]
        query, documents = subject.encode([sample.query], "query"), subject.encode(list(each.values()), "document")
        scores = [value for part in documents for value in subject.similarity(query[0], part)[0].tolist()]
        run[str(at)] = dict(zip(each, scores, strict=True))
    return run


def _searched(subject: InstrumentedSystem, rows: Reranking, texts: list[dict[str, str]]) -> Run:
    return {
        str(at): subject.search(each, {"q": rows.samples[at].query}, len(each))["q"] for at, each in enumerate(texts)
    }
