"""Error analysis: the items with the lowest scores, with their expected and their actual results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from nearfield.evaluation.json_types import JsonDict, JsonMapping

#: Maximum length of a text in a report.
MAX_CHARACTERS = 300
#: A score from which an item has lost nothing; metrics are computed with rounding.
FULL_SCORE = 100 - 1e-9
#: Documents in a report of a query.
MAX_DOCUMENTS = 3


def worst_items(scores: Mapping[str, float], count: int) -> list[str]:
    """Return the ids of the lowest scores, the lowest first; ties in the order of the items.

    Items with the full score of 100 have lost nothing, and are left out.
    """
    return [key for key in sorted(scores, key=lambda key: scores[key]) if scores[key] < FULL_SCORE][:count]


def describe_row(row: JsonMapping) -> str:
    """Return an expected or returned item in one line, its text last."""
    facts = [
        f"{name} {_describe_fact(value)}"
        for name, value in row.items()
        if name not in ("text", "id") and value is not None
    ]
    if "rank" in row and row["rank"] is None:
        facts.append("not found")
    return ": ".join(part for part in (", ".join(facts), str(row.get("text", ""))) if part)


def _describe_fact(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def shorten(text: str) -> str:
    """Return a text on one line, truncated to ``MAX_CHARACTERS``."""
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_CHARACTERS else flat[: MAX_CHARACTERS - 1].rstrip() + "…"


def worst_queries(
    scores: Mapping[str, float],
    texts: Mapping[str, str],
    relevant: Mapping[str, Mapping[str, int]],
    run: Mapping[str, Mapping[str, float]],
    document: Callable[[str], str],
    count: int,
) -> list[JsonDict]:
    """Return the worst queries: relevant documents with their ranks, and the first documents of the ranking.

    Queries without a relevant document are left out: no ranking of theirs is better than another.
    """
    scores = {key: score for key, score in scores.items() if any(grade > 0 for grade in relevant.get(key, {}).values())}
    return [
        {
            "id": key,
            "text": shorten(texts[key]),
            "score": scores[key],
            **_expected_and_found(relevant.get(key, {}), sort_ranking(run.get(key, {})), document),
        }
        for key in worst_items(scores, count)
    ]


def sort_ranking(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return ids and scores in trec_eval's order: the best first, equal scores by falling id."""
    return sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)


def first_documents(run: Mapping[str, Mapping[str, float]], queries: Iterable[str]) -> dict[str, list[str]]:
    """Return the ids of the first ``MAX_DOCUMENTS`` documents of each query's ranking."""
    return {query: [key for key, _ in sort_ranking(run.get(query, {}))[:MAX_DOCUMENTS]] for query in queries}


def _expected_and_found(
    grades: Mapping[str, int], ranking: list[tuple[str, float]], document: Callable[[str], str]
) -> JsonDict:
    ranks = {key: rank for rank, (key, _) in enumerate(ranking, 1)}
    expected = [key for key, grade in grades.items() if grade > 0][:MAX_DOCUMENTS]
    return {
        "expected": [{"id": key, "text": shorten(document(key)), "rank": ranks.get(key)} for key in expected],
        "found": [
            {"id": key, "text": shorten(document(key)), "score": score, "relevance": grades.get(key)}
            for key, score in ranking[:MAX_DOCUMENTS]
        ],
    }
