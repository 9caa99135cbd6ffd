"""Matrices in int8: each row, which is one output channel, divided by its own scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.weights.quantized.finite_values import require_finite

#: Numbers of the fewest columns and values of a matrix that is quantised: a smaller one saves nothing.
_FEWEST_COLUMNS, _FEWEST_VALUES = 16, 1024


@dataclass(frozen=True, eq=False)
class Int8Rows:
    """A matrix [rows, columns] as codes, int8, and the scales of its rows, float32 [rows, 1]."""

    codes: Array
    scales: Array

    def decoded(self) -> Array:
        """Return the matrix, float32."""
        return self.codes * self.scales


def is_quantized(shape: tuple[int, ...]) -> bool:
    """Return whether a matrix [rows, columns] is large enough to be quantised."""
    return len(shape) == 2 and shape[1] >= _FEWEST_COLUMNS and shape[0] * shape[1] >= _FEWEST_VALUES


def quantize_rows(matrix: Array) -> Int8Rows:
    """Return a matrix [rows, columns] in int8.

    Each value is right to half a step. Scales are symmetric: the largest value of a row is 127 steps. A row of zeros
    has a scale of 1. Quantising the decoded matrix gives the same codes.

    Raises:
        WeightsError: it has values that are not finite.
    """
    require_finite(matrix)
    values = np.asarray(matrix, np.float32)
    largest = np.abs(values).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return Int8Rows(np.rint(values / scales).astype(np.int8), scales)
