"""Sparse vectors (`SparseVectors`): weights of vocabulary tokens in compressed rows, and their dot products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nearfield.arrays import Array
from nearfield.vectors.fingerprint import require_same_space
from nearfield.vectors.rows import row_bounds, row_number


@dataclass(frozen=True, eq=False)
class SparseVectors:
    """Sparse vectors in compressed rows: input i has ``indices`` and ``values`` at ``indptr[i]:indptr[i + 1]``.

    ``indices`` (int32) ascend within a row and are below ``size``, the vocabulary's; ``values`` (float32) are positive.
    ``tokens``, ``dropped`` and ``unknown`` count, per input, the tokens read, those truncated, and those read that the
    model does not know.
    """

    indices: Array
    values: Array
    indptr: Array
    size: int
    fingerprint: str
    tokens: Array | None = None
    dropped: Array | None = None
    single: bool = False
    unknown: Array | None = None

    @classmethod
    def of(cls, rows: Sequence[tuple[Array, Array]], size: int, fingerprint: str, **facts: Any) -> SparseVectors:
        """Create sparse vectors from one pair of indices and values for each input; ``facts`` are further fields."""
        indices = np.concatenate([row[0] for row in rows] or [np.zeros(0)]).astype(np.int32)
        values = np.concatenate([row[1] for row in rows] or [np.zeros(0)]).astype(np.float32)
        return cls(indices, values, row_bounds([len(row[0]) for row in rows]), size, fingerprint, **facts)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        """Return one input's indices and values."""
        number = row_number(index, len(self))
        part = slice(self.indptr[number], self.indptr[number + 1])
        return self.indices[part], self.values[part]

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Return the vectors with their zeros: float32 [n, size], or [size] for a single input."""
        dense = np.zeros((len(self), self.size), dtype or np.float32)
        dense[np.repeat(np.arange(len(self)), np.diff(self.indptr)), self.indices] = self.values
        return dense[0] if self.single else dense

    def to_dicts(self) -> list[dict[int, float]]:
        """Return each input as {index: value}."""
        return [dict(zip(ids.tolist(), values.tolist(), strict=True)) for ids, values in self]

    def similarity(self, other: SparseVectors) -> Array:
        """Return the dot products [len(self), len(other)], float32.

        Raises:
            SpaceMismatch: the two live in different spaces.
        """
        require_same_space(self.fingerprint, other.fingerprint)
        # Only columns that this side uses can contribute: they are renumbered, so that the table stays small.
        used, columns = np.unique(self.indices, return_inverse=True)
        table = np.zeros((len(self), len(used)), np.float32)
        table[np.repeat(np.arange(len(self)), np.diff(self.indptr)), columns] = self.values
        place = np.searchsorted(used, other.indices)
        meets = place < len(used)
        meets[meets] = used[place[meets]] == other.indices[meets]
        scores = np.zeros((len(other), len(self)), np.float32)
        owner = np.repeat(np.arange(len(other)), np.diff(other.indptr))[meets]
        np.add.at(scores, owner, table.T[place[meets]] * other.values[meets, None])
        return np.ascontiguousarray(scores.T)

    def similarity_pairwise(self, other: SparseVectors) -> Array:
        """Return the dot product of each row with the row of ``other`` in the same place, float32 [n].

        Raises:
            SpaceMismatch: the two live in different spaces.
        """
        require_same_space(self.fingerprint, other.fingerprint)
        return np.array([_dot(*pair) for pair in zip(self, other, strict=True)], np.float32)


def _dot(one: tuple[Array, Array], other: tuple[Array, Array]) -> float:
    _, places, others = np.intersect1d(one[0], other[0], assume_unique=True, return_indices=True)
    return float(one[1][places] @ other[1][others])


def keep_largest(row: tuple[Array, Array], count: int) -> tuple[Array, Array]:
    """Return the ``count`` largest values of a row, with their indices, in the order of the row."""
    indices, values = row
    if len(values) <= count:
        return row
    places = np.sort(np.argpartition(values, -count)[-count:])
    return indices[places], values[places]
