"""Matrices in int8: each row, which is one output channel, divided by its own scale."""

from __future__ import annotations

import numpy as np

from nearfield.arrays import Array

#: Numbers of the fewest columns and values of a matrix that is quantised: a smaller one saves nothing.
_FEWEST_COLUMNS, _FEWEST_VALUES = 16, 1024


def is_quantized(matrix: Array) -> bool:
    """Return whether a matrix [rows, columns] is large enough to be quantised."""
    return matrix.ndim == 2 and matrix.shape[1] >= _FEWEST_COLUMNS and matrix.size >= _FEWEST_VALUES


def quantize_rows(matrix: Array) -> tuple[Array, Array]:
    """Return a matrix [rows, columns] as int8 and the scales of its rows, float32 [rows, 1].

    Row times scale is the matrix, each value to half a step. Scales are symmetric: the largest value of a row is 127
    steps. A row of zeros has a scale of 1.
    """
    values = np.asarray(matrix, np.float32)
    largest = np.abs(values).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(values / scales).astype(np.int8), scales
