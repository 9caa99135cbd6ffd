"""Fusion: one ranking from several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Cormack's constant: how much less the first places are worth than the places' own inverses.
K = 60


def reciprocal(
    rankings: Mapping[str, Iterable[str]], *, weights: Mapping[str, float] | None = None, k: int = K
) -> dict[str, float]:
    """Reciprocal rank fusion (Cormack, Clarke & Büttcher 2009): the sum of ``weight / (k + rank)``, ranks from 1.

    ``rankings`` hold ids, the best first; a weight that is left out is 1. Returns the score of each id that is in any.
    """
    scores: dict[str, float] = {}
    for name, ids in rankings.items():
        weight = (weights or {}).get(name, 1.0)
        for rank, key in enumerate(ids, 1):
            scores[key] = scores.get(key, 0.0) + weight / (k + rank)
    return scores


def weighted(
    scored: Mapping[str, Mapping[str, float]], *, weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return the weighted mean of scores, each ranking's scaled to 0 to 1 first (``scaled``).

    What a ranking lacks counts 0 in it; a weight that is left out is 1.
    """
    total = sum((weights or {}).get(name, 1.0) for name in scored) or 1.0
    scores: dict[str, float] = {}
    for name, found in scored.items():
        share = (weights or {}).get(name, 1.0) / total
        for key, value in scaled(found).items():
            scores[key] = scores.get(key, 0.0) + share * value
    return scores


def scaled(scores: Mapping[str, float]) -> dict[str, float]:
    """Scale scores so that the lowest is 0 and the highest 1; equal ones are all 1."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    return {key: (value - low) / (high - low) if high > low else 1.0 for key, value in scores.items()}
