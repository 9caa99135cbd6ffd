"""Rows of different lengths stored end to end: bounds, and checked row numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nearfield.arrays import Array


def row_bounds(lengths: Sequence[int]) -> Array:
    """Return int64 [n + 1]: row i lies at ``bounds[i]:bounds[i + 1]`` (``indptr`` of compressed rows)."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)


def row_number(index: int, count: int) -> int:
    """Return an index as a number from 0; negative ones count from the end.

    Raises:
        IndexError: there is no such row.
    """
    if not -count <= index < count:
        raise IndexError(f"there are {count} inputs, and none has the index {index}")
    return index % count
