"""Multi-vectors (`MultiVectors`): one vector for each token, and MaxSim, the score of late interaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.text_inputs import describe
from nearfield.vectors.fingerprint import require_same_space
from nearfield.vectors.rows import row_bounds, row_number

#: Products of query tokens and document tokens that exist at once in ``maxsim`` (float32: 64 MB).
_BLOCK = 16_000_000


@dataclass(frozen=True, eq=False)
class MultiVectors:
    """A vector for each token: input i has the rows ``indptr[i]:indptr[i + 1]`` of ``data``, float32 [total, dim].

    ``average`` says that a score is the mean over a query's vectors, not their sum (bge-m3).
    """

    data: Array
    indptr: Array
    fingerprint: str
    average: bool = False
    tokens: Array | None = None
    dropped: Array | None = None
    single: bool = False
    unknown: Array | None = None

    @classmethod
    def of(cls, rows: Sequence[Array], dim: int, fingerprint: str, **facts: Any) -> MultiVectors:
        """Create multi-vectors from one array [tokens, dim] for each input; ``facts`` are further fields."""
        data = np.concatenate([np.zeros((0, dim), np.float32), *rows])
        return cls(data, row_bounds([len(row) for row in rows]), fingerprint, **facts)

    @property
    def dim(self) -> int:
        """The dimensions of a token's vector."""
        return int(self.data.shape[1])

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, index: int) -> Array:
        """Return one input's vectors, [tokens, dim]."""
        number = row_number(index, len(self))
        return self.data[self.indptr[number] : self.indptr[number + 1]]

    def __iter__(self) -> Iterator[Array]:
        return (self[index] for index in range(len(self)))

    def similarity(self, documents: MultiVectors) -> Array:
        """Return exact MaxSim scores [queries, documents], float32: see ``maxsim``.

        Raises:
            SpaceMismatch: the two live in different spaces.
        """
        require_same_space(self.fingerprint, documents.fingerprint)
        return maxsim(self, documents)

    def similarity_pairwise(self, documents: MultiVectors) -> Array:
        """Return the MaxSim score of each query with the document in the same place, float32 [n].

        Raises:
            SpaceMismatch: the two live in different spaces.
        """
        require_same_space(self.fingerprint, documents.fingerprint)
        pairs = zip(self._singles(), documents._singles(), strict=True)
        return np.array([maxsim(query, document)[0, 0] for query, document in pairs], np.float32)

    def _singles(self) -> Iterator[MultiVectors]:
        return (MultiVectors.of([rows], self.dim, self.fingerprint, average=self.average) for rows in self)


def maxsim(queries: MultiVectors, documents: MultiVectors) -> Array:
    """Score by late interaction (ColBERT, arXiv:2004.12832): for each query vector its best match, summed.

    Returns float32 [queries, documents]; bge-m3's scores are divided by the number of query vectors. A document
    without vectors scores 0. Memory is bounded by blocks of whole documents.
    """
    for name, value in (("queries", queries), ("documents", documents)):
        if not isinstance(value, MultiVectors):
            raise InputError(f"{name} must be MultiVectors, and is {describe(value)}.", param=name)
    scores = np.zeros((len(queries), len(documents)), np.float32)
    lengths = np.diff(queries.indptr)
    if not len(queries.data) or not len(documents.data):
        return scores
    for start, stop in _blocks(documents.indptr, max(1, _BLOCK // len(queries.data))):
        filled = start + np.flatnonzero(np.diff(documents.indptr[start : stop + 1]))
        first = documents.indptr[start]
        products = queries.data @ documents.data[first : documents.indptr[stop]].T
        best = np.maximum.reduceat(products, documents.indptr[filled] - first, axis=1)
        owners = np.flatnonzero(lengths)
        scores[np.ix_(owners, filled)] = np.add.reduceat(best, queries.indptr[owners], axis=0)
    return scores / np.maximum(lengths, 1)[:, None].astype(np.float32) if queries.average else scores


def _blocks(indptr: Array, rows: int) -> Iterator[tuple[int, int]]:
    """Yield runs of documents with at most ``rows`` vectors, or of one longer document; skip empty runs."""
    start, count = 0, len(indptr) - 1
    while start < count:
        stop = max(start + 1, int(np.searchsorted(indptr, indptr[start] + rows, "right")) - 1)
        if indptr[stop] > indptr[start]:
            yield start, stop
        start = stop
