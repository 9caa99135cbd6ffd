"""Results of `SparseEncoder` in the forms of sentence-transformers: sparse or dense tensors, tokens with weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.tensor import as_tensor
from nearfield.errors import InputError
from nearfield.tensors import array_to_tensor, is_tensor, tensor_to_array, torch_is_installed
from nearfield.vectors.rows import row_bounds
from nearfield.vectors.sparse import SparseVectors


def strongest(vectors: SparseVectors, count: int) -> SparseVectors:
    """Return vectors of which at most ``count`` values, 1 or more, stay in each: those of largest magnitude."""
    places_of_rows = [_largest(vectors, row, count) for row in range(len(vectors))]
    places = np.concatenate([*places_of_rows, np.zeros(0, np.int64)])
    bounds = row_bounds([len(part) for part in places_of_rows])
    return replace(vectors, indices=vectors.indices[places], values=vectors.values[places], indptr=bounds)


def _largest(vectors: SparseVectors, row: int, count: int) -> Array:
    """Return the places of a row's values of largest magnitude, in ascending order."""
    start, stop = vectors.indptr[row], vectors.indptr[row + 1]
    if stop - start <= count:
        return np.arange(start, stop)
    order = np.argsort(-np.abs(vectors.values[start:stop]), kind="stable")[:count]
    return start + np.sort(order)


def to_requested_form(vectors: SparseVectors, as_one: bool, as_sparse: bool, device: str | None = None) -> Any:
    """Return vectors as a tensor, or as a list of tensors; without torch, they stay unchanged.

    Args:
        vectors: the vectors; if they are those of a single input, its vector is the result.
        as_one: one tensor for all, otherwise a list.
        as_sparse: sparse tensors (COO), otherwise dense ones.
        device: the device of tensors; None for the CPU.
    """
    if not torch_is_installed():
        return vectors
    if not len(vectors):
        empty = array_to_tensor(np.zeros(0, np.float32), device)
        return (empty.to_sparse() if as_sparse else empty) if as_one else []
    whole = as_tensor(vectors)
    whole = whole if device is None else whole.to(device)
    whole = whole if as_sparse else whole.to_dense()
    result = whole if as_one else list(whole)
    return result[0] if vectors.single else result


def as_sparse_vectors(embeddings: Any, names: str = "embeddings") -> SparseVectors:
    """Return tensors, arrays or ``SparseVectors`` as ``SparseVectors``; of dense ones, the values that are not zero.

    Raises:
        TypeError: it is none of these.
        InputError: it has neither one nor two dimensions.
    """
    if isinstance(embeddings, SparseVectors):
        return embeddings
    if not is_tensor(embeddings) and not isinstance(embeddings, np.ndarray):
        kind = type(embeddings).__name__
        raise TypeError(f"{names}: expected a tensor, an array or SparseVectors, not {kind}.")
    if embeddings.ndim not in (1, 2):
        raise InputError(f"{names} must have 1 or 2 dimensions, and has {embeddings.ndim}.", param=names)
    places, values = _entries(embeddings)
    single = embeddings.ndim == 1
    rows = np.zeros(len(values), np.int64) if single else places[0]
    count = 1 if single else embeddings.shape[0]
    bounds = row_bounds(np.bincount(rows, minlength=count).tolist())
    indices = places[-1].astype(np.int32)
    return SparseVectors(indices, values, bounds, int(embeddings.shape[-1]), "", single=single)


def _entries(embeddings: Any) -> tuple[Array, Array]:
    """Return the places [dimensions, n], in the order of rows, and the values [n] of what is not zero."""
    if is_tensor(embeddings) and embeddings.is_sparse:
        plain = embeddings.detach().cpu().coalesce()
        return np.asarray(plain.indices()), tensor_to_array(plain.values())
    dense = tensor_to_array(embeddings) if is_tensor(embeddings) else embeddings
    places = np.nonzero(dense)
    return np.stack(places), np.asarray(dense[places])


def measure_sparsity(embeddings: Any) -> dict[str, float]:
    """Return the mean number of values that are not zero (``active_dims``), and the share of zeros."""
    vectors = as_sparse_vectors(embeddings)
    if not len(vectors) or not vectors.size:
        return {"active_dims": 0.0, "sparsity_ratio": 1.0}
    active = float(np.diff(vectors.indptr).astype(np.float32).mean())
    return {"active_dims": active, "sparsity_ratio": 1.0 - active / vectors.size}


def intersect(embeddings_1: Any, embeddings_2: Any) -> Any:
    """Return the products of one vector with another one, or with each of several, where both are positive.

    Raises:
        InputError: the first is not a single vector, or the sizes differ.
    """
    first, second = as_sparse_vectors(embeddings_1, "embeddings_1"), as_sparse_vectors(embeddings_2, "embeddings_2")
    if not first.single:
        raise InputError(f"embeddings_1 must be one vector, and is {len(first)}.", param="embeddings_1")
    if first.size != second.size:
        raise InputError(
            f"embeddings_1 has {first.size} dimensions, and embeddings_2 has {second.size}: they come from different "
            "models.",
            param="embeddings_2",
        )
    weights = np.zeros(first.size, np.result_type(first.values, second.values))
    weights[first.indices] = first.values
    products = second.values * weights[second.indices]
    shared = products > 0
    owners = np.repeat(np.arange(len(second)), np.diff(second.indptr))[shared]
    bounds = row_bounds(np.bincount(owners, minlength=len(second)).tolist())
    result = replace(second, indices=second.indices[shared], values=products[shared], indptr=bounds)
    return to_requested_form(result, as_one=True, as_sparse=True)


def decode_tokens(
    vectors: SparseVectors, token_of: Callable[[int], str | None], top_k: int | None
) -> list[list[tuple[str, float]]]:
    """Return for each vector its tokens with their weights, by falling weight, at most ``top_k``."""
    return [_tokens_of_row(*row, token_of, top_k) for row in vectors]


def _tokens_of_row(
    indices: Array, values: Array, token_of: Callable[[int], str | None], top_k: int | None
) -> list[tuple[str, float]]:
    order = np.argsort(-values, kind="stable")[:top_k]
    return [(token_of(int(indices[place])) or "", float(values[place])) for place in order]
