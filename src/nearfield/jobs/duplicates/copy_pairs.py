"""Pairs of texts that may be copies: equal ones, and those that share a band of MinHash values.

Memory grows with the number of texts alone: 256 bytes of band values each. Pairs are compared exactly by `CopyLinks`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.progress import Progress
from nearfield.training.overlap.minhash import band_values
from nearfield.training.overlap.normalised import normalise


def equal_pairs(texts: Sequence[str], rank: Array) -> Array:
    """Return pairs (best, other) of texts that are equal but for case, punctuation and space, int64 [pairs, 2]."""
    digests = b"".join(hashlib.blake2b(normalise(text).encode(), digest_size=8).digest() for text in texts)
    return _grouped_pairs(np.frombuffer(digests, np.uint64), rank, chained=False)


def near_pairs(texts: Sequence[str], rank: Array, bar: Progress) -> Array:
    """Return pairs (better, other) of texts that may be near copies, each once, int64 [pairs, 2]."""
    bands = band_values(texts, lambda count: bar.advance(count, 0))
    pairs = np.zeros(0, np.int64)
    for column in bands.T:
        grouped = _grouped_pairs(column, rank, chained=True)
        pairs = np.union1d(pairs, grouped[:, 0] * len(texts) + grouped[:, 1])
    return np.stack(np.divmod(pairs, max(1, len(texts))), axis=1)


def by_rank(pairs: Array, rank: Array) -> Array:
    """Return pairs in the order in which they are decided: those of the best text first."""
    return np.asarray(pairs[np.lexsort((rank[pairs[:, 1]], rank[pairs[:, 0]]))])


def _grouped_pairs(values: Array, rank: Array, *, chained: bool) -> Array:
    """Return pairs of texts with one value: each with the best of them, and if ``chained`` with the next better one."""
    order = np.lexsort((rank, values))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = values[order][1:] != values[order][:-1]
    places = np.arange(len(order))
    firsts = np.maximum.accumulate(np.where(is_first, places, 0))
    others = places[~is_first]
    pairs = np.stack([order[firsts[others]], order[others]], axis=1)
    return np.vstack([pairs, np.stack([order[others - 1], order[others]], axis=1)]) if chained else pairs
