"""Near copies: texts whose sets of character 5-grams have a Jaccard similarity of at least 0.8.

MinHash proposes pairs; each is then compared exactly, so that no pair below the threshold is reported. Of pairs at the
threshold, fewer than one in a million are missed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.training.overlap.minhash import GRAM, band_values, comparable_form

THRESHOLD = 0.8
#: Texts whose pairs are looked up at a time.
_BLOCK = 1_000


def near_copies(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of positions (left, right) with their similarity of at least ``THRESHOLD``.

    Time grows with the number of texts and of pairs that are found; memory with the texts, about 500 bytes each.
    """
    bands, others = band_values(left), band_values(right)
    order = np.argsort(others, axis=0, kind="stable")
    others = np.take_along_axis(others, order, axis=0)
    for start in range(0, len(left), _BLOCK):
        for number, other in _shared_bands(bands[start : start + _BLOCK], others, order).tolist():
            similarity = jaccard(grams(left[start + number]), grams(right[other]))
            if similarity >= THRESHOLD:
                yield start + number, other, similarity


def _shared_bands(bands: Array, others: Array, order: Array) -> Array:
    """Return the pairs that share a band, each once and sorted, int64 [pairs, 2].

    ``others`` are the bands of the right texts, each sorted by its value, and ``order`` which text each value is of.
    """
    parts = [np.zeros((0, 2), np.int64)]
    for values, known, texts in zip(bands.T, others.T, order.T, strict=True):
        first, last = (np.searchsorted(known, values, side) for side in ("left", "right"))
        counts = last - first
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(first, counts) + steps
        parts.append(np.stack([np.repeat(np.arange(len(values)), counts), texts[places]], axis=1))
    return np.unique(np.concatenate(parts), axis=0)


def grams(text: str) -> frozenset[str]:
    """Return the set of character 5-grams of a normalised text; a shorter text is its only gram."""
    plain = comparable_form(text)
    return frozenset(plain[start : start + GRAM] for start in range(max(1, len(plain) - GRAM + 1)))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Return the share of the grams of two texts that both have."""
    return len(left & right) / len(left | right)
