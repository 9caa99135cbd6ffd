"""Similarity of vectors: matrices (``cos_sim``), rows with rows (``pairwise_cos_sim``), `SimilarityFunction`.

All take arrays, ``Vectors``, tensors (sparse ones too) and lists. They return float tensors if torch is installed, as
sentence-transformers does, else arrays. Larger is nearer: distances are negative. Vectors of two different known
spaces are refused with SpaceMismatch.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.maxsim import (
    maxsim,
    maxsim_pairwise,
    mean_maxsim,
    mean_maxsim_pairwise,
)
from nearfield.compat.sentence_transformers.util.tensor import (
    AnyVectors,
    ArrayOrTensor,
    as_array_or_tensor,
    as_rows,
    is_sparse,
    require_known_spaces,
    scale_to_unit,
    to_dense,
)
from nearfield.errors import InputError, nearest
from nearfield.tensors import import_torch, is_tensor

#: Numbers that exist at once while distances are computed without torch, or of sparse tensors (float32: 64 MB).
_BLOCK = 16_000_000

__all__ = [
    "SimilarityFunction",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "manhattan_sim",
    "maxsim",
    "maxsim_pairwise",
    "mean_maxsim",
    "mean_maxsim_pairwise",
    "pairwise_angle_sim",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "pytorch_cos_sim",
]


def cos_sim(a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    """Return the cosine of each vector of ``a`` with each of ``b``: [len(a), len(b)]."""
    x, y = _matrices(a, b)
    return _product(scale_to_unit(x), scale_to_unit(y))


def pytorch_cos_sim(a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    """Return ``cos_sim(a, b)``: its older name."""
    return cos_sim(a, b)


def dot_score(a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    """Return the dot product of each vector of ``a`` with each of ``b``: [len(a), len(b)]."""
    return _product(*_matrices(a, b))


def euclidean_sim(a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    """Return the negative Euclidean distance of each vector of ``a`` to each of ``b``: [len(a), len(b)]."""
    x, y = map(_real, _matrices(a, b))
    if is_sparse(x) or is_sparse(y):
        squares = _square_sums(x)[:, None] + _square_sums(y)[None] - 2 * _product(x, y)
        return -squares.clamp_min(0).sqrt()
    return -import_torch().cdist(x, y) if is_tensor(x) else _euclidean(x, y)


def manhattan_sim(a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    """Return the negative Manhattan distance of each vector of ``a`` to each of ``b``: [len(a), len(b)]."""
    x, y = map(_real, _matrices(a, b))
    if is_sparse(x) or is_sparse(y):
        return _sparse_manhattan(x, y)
    return -import_torch().cdist(x, y, p=1.0) if is_tensor(x) else _manhattan(x, y)


def pairwise_cos_sim(a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    """Return the cosine of each vector of ``a`` with the one of ``b`` in the same row: [len(a)]."""
    x, y = _pair(a, b)
    return to_dense((scale_to_unit(x) * scale_to_unit(y)).sum(-1))


def pairwise_dot_score(a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    """Return the dot product of each vector of ``a`` with the one of ``b`` in the same row: [len(a)]."""
    x, y = _pair(a, b)
    return to_dense((x * y).sum(-1))


def pairwise_euclidean_sim(a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    """Return the negative Euclidean distance of each vector of ``a`` to that of ``b`` in the same row: [len(a)]."""
    difference = _difference(a, b)
    return -(to_dense((difference * difference).sum(-1)) ** 0.5)


def pairwise_manhattan_sim(a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    """Return the negative Manhattan distance of each vector of ``a`` to that of ``b`` in the same row: [len(a)]."""
    return -to_dense(abs(_difference(a, b)).sum(-1))


def pairwise_angle_sim(x: AnyVectors, y: AnyVectors) -> ArrayOrTensor:
    """Return AnglE's similarity (Li and Li 2023, arXiv:2309.12871) of rows of ``x`` and ``y``: [len(x)].

    The first half of a vector's dimensions are real parts of complex numbers, the second half the imaginary ones.
    """
    first, second = (scale_to_unit(_even(to_dense(part))) for part in _pair(x, y))
    half = first.shape[-1] // 2
    cosines = (first * second).sum(-1)
    sines = (first[..., half:] * second[..., :half] - first[..., :half] * second[..., half:]).sum(-1)
    return abs(cosines + sines)


class SimilarityFunction(Enum):
    """The functions by which models compare vectors, by the names in their configuration."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = DOT_PRODUCT
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    MAXSIM = "maxsim"
    MEAN_MAXSIM = "meanmaxsim"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise InputError(
            f"{value!r} is not a valid SimilarityFunction. {nearest(str(value), cls.possible_values())}",
            param="similarity_function",
        )

    @staticmethod
    def to_similarity_fn(similarity_function: str | SimilarityFunction) -> Callable[..., ArrayOrTensor]:
        """Return the function that compares all with all."""
        return _FUNCTIONS[SimilarityFunction(similarity_function)][0]

    @staticmethod
    def to_similarity_pairwise_fn(similarity_function: str | SimilarityFunction) -> Callable[..., ArrayOrTensor]:
        """Return the function that compares row by row."""
        return _FUNCTIONS[SimilarityFunction(similarity_function)][1]

    @staticmethod
    def possible_values() -> list[str]:
        """Return the names of all functions."""
        return [function.value for function in SimilarityFunction]


_FUNCTIONS: dict[SimilarityFunction, tuple[Callable[..., ArrayOrTensor], Callable[..., ArrayOrTensor]]] = {
    SimilarityFunction.COSINE: (cos_sim, pairwise_cos_sim),
    SimilarityFunction.DOT_PRODUCT: (dot_score, pairwise_dot_score),
    SimilarityFunction.EUCLIDEAN: (euclidean_sim, pairwise_euclidean_sim),
    SimilarityFunction.MANHATTAN: (manhattan_sim, pairwise_manhattan_sim),
    SimilarityFunction.MAXSIM: (maxsim, maxsim_pairwise),
    SimilarityFunction.MEAN_MAXSIM: (mean_maxsim, mean_maxsim_pairwise),
}


def _matrices(a: AnyVectors, b: AnyVectors) -> tuple[ArrayOrTensor, ArrayOrTensor]:
    """Return both sides as matrices of one kind, number format and device."""
    x, y = _pair(a, b)
    return as_rows(x), as_rows(y)


def _pair(a: AnyVectors, b: AnyVectors) -> tuple[ArrayOrTensor, ArrayOrTensor]:
    """Return both sides as arrays or tensors of one number format and device."""
    require_known_spaces(a, b)
    x, y = as_array_or_tensor(a), as_array_or_tensor(b)
    if x.ndim and y.ndim and x.shape[-1] != y.shape[-1] and 0 not in (len(x), len(y)):
        raise InputError(
            f"The vectors have {x.shape[-1]} and {y.shape[-1]} dimensions: compare vectors of one model and size."
        )
    if is_tensor(x) and x.dtype != y.dtype:
        dtype = import_torch().promote_types(x.dtype, y.dtype)
        x, y = x.to(dtype), y.to(dtype)
    return (x.to(y.device), y) if is_tensor(x) else (x, y)


def _real(vectors: ArrayOrTensor) -> ArrayOrTensor:
    """Return whole numbers as float32: distances are no whole numbers."""
    if is_tensor(vectors):
        return vectors if vectors.is_floating_point() else vectors.float()
    return vectors if np.issubdtype(vectors.dtype, np.floating) else vectors.astype(np.float32)


def _difference(a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    x, y = map(_real, _pair(a, b))
    if is_sparse(x) != is_sparse(y):
        x, y = (part if is_sparse(part) else part.to_sparse() for part in (x, y))
    return x - y


def _product(x: ArrayOrTensor, y: ArrayOrTensor) -> ArrayOrTensor:
    """Return ``x @ y.T``; torch multiplies a sparse matrix by a dense one only from the left."""
    if is_sparse(y) and not is_sparse(x):
        return (y @ x.T).T
    return to_dense(x @ y.T)


def _square_sums(vectors: ArrayOrTensor) -> ArrayOrTensor:
    return to_dense((vectors * vectors).sum(-1))


def _even(vectors: ArrayOrTensor) -> ArrayOrTensor:
    """Return vectors with a zero more if their number of dimensions is odd."""
    if vectors.shape[-1] % 2 == 0:
        return vectors
    if is_tensor(vectors):
        return import_torch().nn.functional.pad(vectors, (0, 1))
    return np.pad(vectors, [(0, 0)] * (vectors.ndim - 1) + [(0, 1)])


def _euclidean(x: Array, y: Array) -> Array:
    """Return negative distances, without the cancellation of float32 between vectors that are near to each other."""
    result = np.empty((len(x), len(y)), np.result_type(x, y))
    wide = y.astype(np.float64)
    squares = np.einsum("ij,ij->i", wide, wide)
    for rows in _row_blocks(len(x), len(y)):
        part = x[rows].astype(np.float64)
        distances = np.einsum("ij,ij->i", part, part)[:, None] + squares - 2 * (part @ wide.T)
        result[rows] = -np.sqrt(np.maximum(distances, 0))
    return result


def _manhattan(x: Array, y: Array) -> Array:
    result = np.empty((len(x), len(y)), np.result_type(x, y))
    for rows in _row_blocks(len(x), y.size):
        result[rows] = -np.abs(x[rows, None] - y).sum(-1)
    return result


def _sparse_manhattan(x: Any, y: Any) -> Any:
    """Return negative distances of dense blocks, over the columns in which any vector has a value."""
    torch = import_torch()
    x, y = (part.coalesce() if is_sparse(part) else part.to_sparse().coalesce() for part in (x, y))
    columns, places = torch.cat([x.indices()[1], y.indices()[1]]).unique(return_inverse=True)
    left = _with_columns(x, places[: x._nnz()], len(columns))
    right = _with_columns(y, places[x._nnz() :], len(columns))
    result = x.values().new_empty((len(x), len(y)))
    for rows in _row_blocks(len(x), len(columns)):
        block = left.index_select(0, torch.arange(rows.start, rows.stop, device=x.device)).to_dense()
        for others in _row_blocks(len(y), len(columns)):
            other = right.index_select(0, torch.arange(others.start, others.stop, device=x.device)).to_dense()
            result[rows, others] = -torch.cdist(block, other, p=1.0)
    return result


def _with_columns(vectors: Any, columns: Any, count: int) -> Any:
    """Return a sparse tensor whose values are in other columns."""
    torch = import_torch()
    places = torch.stack([vectors.indices()[0], columns])
    return torch.sparse_coo_tensor(places, vectors.values(), (len(vectors), count), check_invariants=False)


def _row_blocks(count: int, width: int) -> list[slice]:
    """Return slices of rows whose size times ``width`` is bounded."""
    step = max(1, _BLOCK // max(1, width))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
