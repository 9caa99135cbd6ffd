"""`CopyVectorIndex`: vectors of pictures, videos or sounds, each compared with all others by their cosine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nearfield.arrays import Array
from nearfield.media.copies.grouping import CopyMatches

#: Pairs that are compared at a time.
_BLOCK = 1 << 20


class CopyVectorIndex:
    """Vectors of items with numbers from 0 on.

    Args:
        vectors: float32 [n, dim], of unit length; zeros for an item without a vector, which is no copy.
        threshold: the cosine from which on two items are near-copies.
    """

    def __init__(self, vectors: Array, threshold: float) -> None:
        self._vectors, self._threshold = vectors, threshold

    def search(self, numbers: Array, others: Array) -> Iterator[CopyMatches]:
        """Yield the pairs of items and others that are near, in blocks; values are cosines."""
        size = max(1, _BLOCK // max(1, len(others)))
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            scores = self._vectors[part] @ self._vectors[others].T
            rows, columns = np.nonzero(scores >= self._threshold)
            other = part[rows] != others[columns]
            rows, columns = rows[other], columns[other]
            yield CopyMatches(rows + start, others[columns], scores[rows, columns])
