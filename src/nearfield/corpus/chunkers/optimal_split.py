"""Filling: which seams to cut at, so that chunks are full, of like size, and end where a text does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nearfield.corpus.chunkers.boundaries import ALWAYS, SENTENCE

Array = np.ndarray[Any, np.dtype[Any]]


def split_optimally(weights: Sequence[float], costs: Sequence[float], size: int, overlap: int) -> list[tuple[int, int]]:
    """Join units to chunks; return the first unit and the one after the last of each.

    Unit ``i`` weighs ``weights[i + 1] - weights[i]`` (at most ``size``), and cutting before it costs ``costs[i]``. A
    chunk costs the square of the share of ``size`` that it leaves empty. The cheapest way overall is found, as
    paragraphs are broken into lines (Knuth & Plass 1981): a small rest at the end makes the chunks before it smaller,
    rather than stay alone. Chunks begin with the last units of the one before, up to ``overlap``, but never across a
    section's end.
    """
    count = len(weights) - 1
    leads = _leads(weights, costs, overlap)
    cheapest, before = [0.0] + [np.inf] * count, [0] * (count + 1)
    for end in range(1, count + 1):
        cut = max(costs[end], 0.0) if end < count else 0.0
        for start in range(end - 1, -1, -1):
            weight = weights[end] - weights[leads[start]]
            if weight > size and start < end - 1:
                break
            total = cheapest[start] + (1 - min(weight / size, 1)) ** 2 + cut
            if total < cheapest[end]:
                cheapest[end], before[end] = total, start
            if costs[start] == ALWAYS:
                break
    return _overlapped(_walk(before, count), leads, weights, size)


def _leads(weights: Sequence[float], costs: Sequence[float], overlap: int) -> list[int]:
    """Return for each unit the first one before it that a chunk beginning there may repeat.

    Words of a sentence that is cut say nothing alone, and those of another section mislead: neither is repeated.
    """
    leads, low = [], 0
    for unit, cost in enumerate(costs):
        low = unit if cost <= 0 else low
        while weights[unit] - weights[low] > overlap:
            low += 1
        may = range(low if cost <= SENTENCE else unit, unit)
        leads.append(next((at for at in may if costs[at] <= SENTENCE), unit))
    return leads


def _walk(before: Sequence[int], count: int) -> list[tuple[int, int]]:
    chunks, end = [], count
    while end > 0:
        chunks.append((before[end], end))
        end = before[end]
    return chunks[::-1]


def _overlapped(
    chunks: Sequence[tuple[int, int]], leads: Sequence[int], weights: Sequence[float], size: int
) -> list[tuple[int, int]]:
    """Let chunks begin at their leads, though never with all of the chunk before."""
    found, last = [], -1
    for start, end in chunks:
        first = min(start, max(leads[start], last + 1))
        while first < start and weights[end] - weights[first] > size:
            first += 1
        found.append((first, end))
        last = start
    return found
