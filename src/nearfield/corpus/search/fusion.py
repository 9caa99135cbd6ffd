"""Fusion of several rankings into one: reciprocal rank fusion (RRF) and the weighted mean of scaled scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Cormack's constant: the larger, the less the first places are worth.
K = 60


def reciprocal(
    rankings: Mapping[str, Iterable[str]], *, weights: Mapping[str, float] | None = None, k: int = K
) -> dict[str, float]:
    """Return scores by reciprocal rank fusion (Cormack, Clarke & Büttcher 2009): the sum of ``weight / (k + rank)``.

    ``rankings`` hold ids, the best first, with ranks from 1; a weight that is left out is 1. The result has the score
    of each id in any ranking.
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
    """Return the weighted mean of the rankings' scores, which are scaled to 0 to 1 first (``scaled``).

    An id that a ranking lacks counts 0 in it; a weight that is left out is 1.
    """
    total = sum((weights or {}).get(name, 1.0) for name in scored) or 1.0
    fused: dict[str, float] = {}
    for name, scores in scored.items():
        share = (weights or {}).get(name, 1.0) / total
        for key, value in scaled(scores).items():
            fused[key] = fused.get(key, 0.0) + share * value
    return fused


def scaled(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores scaled so that the lowest is 0 and the highest 1; equal ones are all 1."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    return {key: (value - low) / (high - low) if high > low else 1.0 for key, value in scores.items()}
