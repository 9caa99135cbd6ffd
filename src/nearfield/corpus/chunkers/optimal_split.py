"""Optimal split: choose boundaries so that chunks are full, of similar size, and end where the text does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nearfield.corpus.chunkers.boundaries import ALWAYS, SENTENCE


def split_optimally(weights: Sequence[float], costs: Sequence[float], size: int, overlap: int) -> list[tuple[int, int]]:
    """Join units to chunks; return each chunk's first unit and the one after its last.

    Unit ``i`` weighs ``weights[i + 1] - weights[i]`` (at most ``size``), and a split before it costs ``costs[i]``. A
    chunk costs the square of the share of ``size`` that it leaves empty. The split with the lowest total cost is
    computed like the line breaks of a paragraph (Knuth & Plass 1981): a small rest at the end makes the chunks before
    it smaller instead of becoming a chunk by itself. Chunks start with the last units of the one before, up to
    ``overlap``, but never across the end of a section.
    """
    count = len(weights) - 1
    leads = _leads(weights, costs, overlap)
    cheapest, before = [0.0] + [np.inf] * count, [0] * (count + 1)
    for end in range(1, count + 1):
        split_cost = max(costs[end], 0.0) if end < count else 0.0
        for start in range(end - 1, -1, -1):
            weight = weights[end] - weights[leads[start]]
            if weight > size and start < end - 1:
                break
            total = cheapest[start] + (1 - min(weight / size, 1)) ** 2 + split_cost
            if total < cheapest[end]:
                cheapest[end], before[end] = total, start
            if costs[start] == ALWAYS:
                break
    return _with_overlap(_walk(before, count), leads, weights, size)


def _leads(weights: Sequence[float], costs: Sequence[float], overlap: int) -> list[int]:
    """Return, for each unit, the first unit before it that a chunk which starts there may repeat.

    Words of an incomplete sentence carry no meaning, and those of another section mislead: neither is repeated.
    """
    leads, low = [], 0
    for unit, cost in enumerate(costs):
        low = unit if cost <= 0 else low
        while weights[unit] - weights[low] > overlap:
            low += 1
        repeatable = range(low if cost <= SENTENCE else unit, unit)
        leads.append(next((at for at in repeatable if costs[at] <= SENTENCE), unit))
    return leads


def _walk(before: Sequence[int], count: int) -> list[tuple[int, int]]:
    chunks, end = [], count
    while end > 0:
        chunks.append((before[end], end))
        end = before[end]
    return chunks[::-1]


def _with_overlap(
    chunks: Sequence[tuple[int, int]], leads: Sequence[int], weights: Sequence[float], size: int
) -> list[tuple[int, int]]:
    """Let chunks start at their leads, but never repeat all of the chunk before."""
    extended, last = [], -1
    for start, end in chunks:
        first = min(start, max(leads[start], last + 1))
        while first < start and weights[end] - weights[first] > size:
            first += 1
        extended.append((first, end))
        last = start
    return extended
