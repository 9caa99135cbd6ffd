"""Worst: the items that a subject did worst on, with what was expected and what was found instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: Characters shown of a text.
SHOWN = 300
#: Documents shown of what was found.
FOUND = 3


def worst_items(scores: Mapping[str, float], count: int) -> list[str]:
    """Return the ids of the lowest scores, the lowest first; ties in the order of the items."""
    return sorted(scores, key=lambda key: scores[key])[:count]


def shown(text: str) -> str:
    """Return a text on one line, its end cut off where it is long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN else flat[: SHOWN - 1].rstrip() + "…"


def queries(
    scores: Mapping[str, float],
    texts: Mapping[str, str],
    relevant: Mapping[str, Mapping[str, int]],
    run: Mapping[str, Mapping[str, float]],
    document: Callable[[str], str],
    count: int,
) -> list[dict[str, Any]]:
    """Return the worst queries: what should have been found and at which rank it was, and what was found first."""
    return [
        {
            "id": key,
            "text": shown(texts[key]),
            "score": scores[key],
            **_told(relevant.get(key, {}), ordered(run.get(key, {})), document),
        }
        for key in worst_items(scores, count)
    ]


def ordered(found: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return ids and scores as trec_eval ranks them: the best first, ties by id, the last first."""
    return sorted(found.items(), key=lambda each: (each[1], each[0]), reverse=True)


def _told(grades: Mapping[str, int], found: list[tuple[str, float]], document: Callable[[str], str]) -> dict[str, Any]:
    ranks = {key: rank for rank, (key, _) in enumerate(found, 1)}
    good = [key for key, grade in grades.items() if grade > 0][:FOUND]
    return {
        "expected": [{"id": key, "text": shown(document(key)), "rank": ranks.get(key)} for key in good],
        "found": [
            {"id": key, "text": shown(document(key)), "score": score, "relevance": grades.get(key)}
            for key, score in found[:FOUND]
        ],
    }
