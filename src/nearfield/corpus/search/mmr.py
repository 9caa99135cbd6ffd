"""Maximal marginal relevance (MMR): choose results that are relevant and do not repeat each other."""

from __future__ import annotations

import numpy as np

from nearfield.arrays import Array


def select(relevance: Array, vectors: Array, k: int, balance: float) -> tuple[list[int], list[float]]:
    """Choose ``k`` of n results, one after the other (Carbonell & Goldstein 1998).

    Each step takes the result with the highest ``balance * relevance - (1 - balance) * similarity``, where similarity
    is the largest cosine to a result that is taken already. Cosines below zero count as zero, so that scores only fall.

    Args:
        relevance: how well each result matches the query [n], ideally between 0 and 1.
        vectors: of any length [n, dimensions].
        k: number of results to choose.
        balance: 1 for relevance alone, 0 for variety alone.

    Returns:
        Indices in the order of choice, the earlier of equal ones first, and the value that each was chosen for.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms == 0, 1, norms)
    nearest, left = np.zeros(len(relevance)), np.ones(len(relevance), bool)
    chosen: list[int] = []
    values: list[float] = []
    for _ in range(min(k, len(relevance))):
        marginal = np.where(left, balance * relevance - (1 - balance) * nearest, -np.inf)
        best = int(marginal.argmax())
        chosen.append(best)
        values.append(float(marginal[best]))
        left[best] = False
        nearest = np.maximum(nearest, unit @ unit[best])
    return chosen, values
