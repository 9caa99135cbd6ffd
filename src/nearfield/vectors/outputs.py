"""Outputs: sparse vectors, vectors of every token, and several kinds at once, with the arithmetic on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nearfield.errors import InputError, SpaceMismatch
from nearfield.vectors.dense import Vectors

Array = np.ndarray[Any, np.dtype[Any]]
#: Products of query tokens and document tokens that exist at once in ``maxsim`` (float32: 64 MB).
_BLOCK = 16_000_000


@dataclass(frozen=True, eq=False)
class SparseVectors:
    """Sparse vectors in compressed rows: input i has ``indices`` and ``values`` at ``indptr[i]:indptr[i + 1]``.

    ``indices`` int32 ascend within a row and are below ``size``, the vocabulary's; ``values`` float32 are positive.
    ``tokens`` and ``dropped`` count, per input, the tokens read and those cut off.
    """

    indices: Array
    values: Array
    indptr: Array
    size: int
    fingerprint: str
    tokens: Array | None = None
    dropped: Array | None = None
    single: bool = False

    @classmethod
    def of(cls, rows: Sequence[tuple[Array, Array]], size: int, fingerprint: str, **facts: Any) -> SparseVectors:
        """Join rows of (indices, values)."""
        indices = np.concatenate([row[0] for row in rows] or [np.zeros(0)]).astype(np.int32)
        values = np.concatenate([row[1] for row in rows] or [np.zeros(0)]).astype(np.float32)
        return cls(indices, values, _ends([len(row[0]) for row in rows]), size, fingerprint, **facts)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        """Return one input's indices and values."""
        place = _place(index, len(self))
        part = slice(self.indptr[place], self.indptr[place + 1])
        return self.indices[part], self.values[part]

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Spread over the vocabulary: [n, size], or [size] for a single input."""
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
        _require_same(self.fingerprint, other.fingerprint)
        # Only columns that this side uses can meet: they are numbered anew, so that the table stays small.
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


@dataclass(frozen=True, eq=False)
class MultiVectors:
    """A vector for each token that counts: input i has the rows ``indptr[i]:indptr[i + 1]`` of ``data`` [total, dim].

    ``average`` says that a score is the mean over a query's vectors, not their sum (bge-m3).
    """

    data: Array
    indptr: Array
    fingerprint: str
    average: bool = False
    tokens: Array | None = None
    dropped: Array | None = None
    single: bool = False

    @classmethod
    def of(cls, rows: Sequence[Array], dim: int, fingerprint: str, **facts: Any) -> MultiVectors:
        """Join each input's [tokens, dim]."""
        data = np.concatenate([np.zeros((0, dim), np.float32), *rows])
        return cls(data, _ends([len(row) for row in rows]), fingerprint, **facts)

    @property
    def dim(self) -> int:
        """The size of a token's vector."""
        return int(self.data.shape[1])

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, index: int) -> Array:
        """Return one input's vectors, [tokens, dim]."""
        place = _place(index, len(self))
        return self.data[self.indptr[place] : self.indptr[place + 1]]

    def __iter__(self) -> Iterator[Array]:
        return (self[index] for index in range(len(self)))

    def similarity(self, documents: MultiVectors) -> Array:
        """Return MaxSim scores [queries, documents], exact, float32: see ``maxsim``.

        Raises:
            SpaceMismatch: the two live in different spaces.
        """
        _require_same(self.fingerprint, documents.fingerprint)
        return maxsim(self, documents)


@dataclass(frozen=True, eq=False)
class Outputs:
    """Several kinds of vectors of the same inputs, from one pass; None where a kind was not asked for."""

    dense: Vectors | None = None
    sparse: SparseVectors | None = None
    multivector: MultiVectors | None = None

    def __len__(self) -> int:
        return len(next(iter(self.kinds.values())))

    def __getitem__(self, kind: str) -> Any:
        """Return one kind by its name."""
        if kind not in self.kinds:
            raise InputError(f"{kind!r} was not asked for; there are {', '.join(self.kinds)}.", param="outputs")
        return self.kinds[kind]

    @property
    def kinds(self) -> Mapping[str, Any]:
        """What there is, by name."""
        named = {"dense": self.dense, "sparse": self.sparse, "multivector": self.multivector}
        return {name: kind for name, kind in named.items() if kind is not None}

    @property
    def tokens(self) -> Array | None:
        """Tokens read of each input."""
        counts: Array | None = next(iter(self.kinds.values())).tokens
        return counts

    @property
    def dropped(self) -> Array | None:
        """Tokens cut off from each input."""
        counts: Array | None = next(iter(self.kinds.values())).dropped
        return counts


def maxsim(queries: MultiVectors, documents: MultiVectors) -> Array:
    """Score by late interaction (ColBERT, arXiv:2004.12832): for each query vector its best match, summed.

    Returns float32 [queries, documents]; bge-m3's scores are divided by the number of query vectors. A document
    without vectors scores 0. Blocks of whole documents bound the memory.
    """
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
    """Cut documents into runs of at most ``rows`` vectors, or of one that has more; empty runs are left out."""
    start, count = 0, len(indptr) - 1
    while start < count:
        stop = max(start + 1, int(np.searchsorted(indptr, indptr[start] + rows, "right")) - 1)
        if indptr[stop] > indptr[start]:
            yield start, stop
        start = stop


def _ends(lengths: Sequence[int]) -> Array:
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)


def _place(index: int, count: int) -> int:
    if not -count <= index < count:
        raise IndexError(f"there are {count} inputs, and none has the index {index}")
    return index % count


def _require_same(a: str, b: str) -> None:
    if a != b:
        raise SpaceMismatch(
            f"These vectors live in different spaces ({a} and {b}), so comparing them means nothing. Encode both with "
            "the same model."
        )
