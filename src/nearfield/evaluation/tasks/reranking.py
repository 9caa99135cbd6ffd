"""The reranking task: order the candidates of each query."""

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

    def measure(self, system: InstrumentedSystem, rows: Reranking, options: TaskOptions) -> TaskResult:
        texts = [{**_ids("p", sample.positive), **_ids("n", sample.negative)} for sample in rows.samples]
        run = _search_candidates(system, rows, texts) if system.searches else _score_candidates(system, rows, texts)
        relevant = {str(at): {key: int(key[0] == "p") for key in candidates} for at, candidates in enumerate(texts)}
        depth = max(map(len, texts))
        names = [f"MAP@{depth}", f"MRR@{options.k}", f"nDCG@{options.k}"]
        columns = metrics.ranking_metrics(names, relevant, run)
        # The cutoff includes all candidates: leave it out of the name.
        columns = {"MAP": columns[names[0]], names[1]: columns[names[1]], names[2]: columns[names[2]]}
        queries = {str(at): sample.query for at, sample in enumerate(rows.samples)}
        whole = {f"{at} {key}": text for at, candidates in enumerate(texts) for key, text in candidates.items()}
        worst = error_analysis.worst_queries(
            columns["MAP"],
            queries,
            {key: {f"{key} {name}": grade for name, grade in grades.items()} for key, grades in relevant.items()},
            {key: {f"{key} {name}": score for name, score in scores.items()} for key, scores in run.items()},
            whole.__getitem__,
            options.worst,
        )
        first = error_analysis.first_documents(run, relevant)
        return TaskResult("MAP", metrics.means(columns), columns, worst, {"k": options.k}, first=first)


def _ids(kind: str, texts: Sequence[str]) -> dict[str, str]:
    return {f"{kind}{at}": text for at, text in enumerate(texts)}


def _score_candidates(system: InstrumentedSystem, rows: Reranking, texts: list[dict[str, str]]) -> Run:
    """Encode one query with its candidates at a time: sparse vectors and multi-vectors cannot be sliced."""
    run: Run = {}
    for at, candidates in enumerate(texts):
        sample: Candidates = rows.samples[at]
        query, documents = system.encode([sample.query], "query"), system.encode(list(candidates.values()), "document")
        scores = [value for part in documents for value in system.similarity(query[0], part)[0].tolist()]
        run[str(at)] = dict(zip(candidates, scores, strict=True))
    return run


def _search_candidates(system: InstrumentedSystem, rows: Reranking, texts: list[dict[str, str]]) -> Run:
    return {
        str(at): system.search(candidates, {"q": rows.samples[at].query}, len(candidates))["q"]
        for at, candidates in enumerate(texts)
    }
