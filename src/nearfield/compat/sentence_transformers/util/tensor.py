"""Vectors of any kind as arrays or tensors of one form, and operations on one set of them.

A function that compares vectors computes with torch where torch is installed, as sentence-transformers does, and with
NumPy elsewhere. One that returns lists computes with NumPy, unless it gets sparse tensors or tensors of another device.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from nearfield.argument_checks import require_count
from nearfield.arrays import Array
from nearfield.tensors import array_to_tensor, import_torch, is_tensor, tensor_to_array, torch_is_installed
from nearfield.vectors.fingerprint import require_same_space
from nearfield.vectors.sparse import SparseVectors

#: Vectors as callers pass them: an array, ``Vectors`` or ``SparseVectors``, a tensor, or a list of these or of numbers.
AnyVectors: TypeAlias = Any
#: An array where torch is not installed, else a tensor.
ArrayOrTensor: TypeAlias = Any
#: The smallest length that a vector is divided by.
EPSILON = 1e-12


def require_known_spaces(a: AnyVectors, b: AnyVectors) -> None:
    """Raise SpaceMismatch if the spaces of both are known, and differ."""
    names = [getattr(vectors, "fingerprint", None) for vectors in (a, b)]
    if all(name and isinstance(name, str) for name in names):
        require_same_space(*map(str, names))


def as_array(vectors: AnyVectors) -> Array:
    """Return vectors as a dense array; quantised ones are decoded, and halves and numbers of lists are float32."""
    if is_tensor(vectors):
        return _without_halves(tensor_to_array(vectors))
    if isinstance(vectors, (list, tuple)):
        return _stack(vectors)
    if getattr(vectors, "precision", "float32") not in ("float32", "float16") and hasattr(vectors, "decode"):
        vectors = vectors.decode()
    return _without_halves(np.asarray(vectors))


def as_tensor(vectors: AnyVectors) -> Any:
    """Return vectors as a tensor; see ``as_array``. Sparse ones stay sparse, in float32."""
    if isinstance(vectors, (list, tuple)) and len(vectors) and all(map(is_tensor, vectors)):
        torch = import_torch()
        vectors = torch.stack([row.coalesce() if row.is_sparse else row for row in vectors])
    if isinstance(vectors, SparseVectors):
        return _sparse_tensor(vectors)
    if not is_tensor(vectors):
        return array_to_tensor(np.ascontiguousarray(as_array(vectors)))
    if vectors.is_sparse or (vectors.is_floating_point() and vectors.element_size() < 4):
        return vectors.float()
    return vectors


def as_array_or_tensor(vectors: AnyVectors) -> ArrayOrTensor:
    """Return vectors as a tensor if torch is installed, else as an array."""
    return as_tensor(vectors) if torch_is_installed() else as_array(vectors)


def as_rows(vectors: ArrayOrTensor) -> ArrayOrTensor:
    """Return a single vector as a matrix of one row."""
    return vectors[None] if vectors.ndim == 1 else vectors


def is_sparse(vectors: ArrayOrTensor) -> bool:
    """Return whether it is a sparse tensor."""
    return is_tensor(vectors) and bool(vectors.is_sparse)


def to_dense(vectors: ArrayOrTensor) -> ArrayOrTensor:
    """Return a sparse tensor with its zeros; all else is returned unchanged."""
    return vectors.to_dense() if is_sparse(vectors) else vectors


def scale_to_unit(vectors: ArrayOrTensor) -> ArrayOrTensor:
    """Return vectors, of an array or tensor, scaled to unit length; zeros stay zeros."""
    if is_sparse(vectors):
        return _scale_sparse(vectors)
    if is_tensor(vectors):
        real = vectors if vectors.is_floating_point() else vectors.float()
        return import_torch().nn.functional.normalize(real, dim=-1)
    real = vectors if np.issubdtype(vectors.dtype, np.floating) else vectors.astype(np.float32)
    lengths = np.sqrt(np.einsum("...i,...i->...", real, real))
    return real / np.maximum(lengths, EPSILON).astype(real.dtype)[..., None]


def normalize_embeddings(embeddings: AnyVectors) -> ArrayOrTensor:
    """Return vectors scaled to unit length: a tensor for tensors, also sparse ones, and an array for all else."""
    return scale_to_unit(embeddings if is_tensor(embeddings) else as_array(embeddings))


def truncate_embeddings(embeddings: AnyVectors, truncate_dim: int | None) -> Any:
    """Return the first ``truncate_dim`` values of each vector, without scaling; all of them if it is None."""
    return embeddings[..., :truncate_dim]


def select_max_active_dims(embeddings: AnyVectors, max_active_dims: int | None) -> Any:
    """Return vectors of which only the values of largest magnitude stay, and all others are zero.

    Args:
        embeddings: vectors; they are not changed.
        max_active_dims: how many values of each vector stay; None returns the vectors unchanged.

    Raises:
        InputError: ``max_active_dims`` is less than 1.
    """
    if max_active_dims is None:
        return embeddings
    require_count("max_active_dims", max_active_dims)
    values = as_array_or_tensor(embeddings)
    count = min(max_active_dims, values.shape[-1])
    if is_tensor(values):
        places = values.abs().topk(count, dim=-1).indices
        return import_torch().zeros_like(values).scatter(-1, places, values.gather(-1, places))
    places = np.argsort(-np.abs(values), axis=-1, kind="stable")[..., :count]
    selected = np.zeros_like(values)
    np.put_along_axis(selected, places, np.take_along_axis(values, places, -1), -1)
    return selected


def batch_to_device(batch: dict[str, Any], target_device: Any) -> dict[str, Any]:
    """Move the tensors of a dictionary to a device, within the dictionary, and return it."""
    batch.update({key: value.to(target_device) for key, value in batch.items() if is_tensor(value)})
    return batch


def _stack(rows: list[Any] | tuple[Any, ...]) -> Array:
    """Return a list of vectors, or of numbers, as an array."""
    if any(isinstance(row, np.ndarray) or is_tensor(row) for row in rows):
        return _without_halves(np.stack([as_array(row) for row in rows]))
    array = np.asarray(rows)
    return array.astype(np.float32) if array.dtype == np.float64 else _without_halves(array)


def _without_halves(array: Array) -> Array:
    """Return float16 and booleans as float32: products of halves are rounded to them."""
    return array.astype(np.float32) if array.dtype in (np.float16, np.bool_) else array


def _sparse_tensor(vectors: SparseVectors) -> Any:
    rows = np.repeat(np.arange(len(vectors)), np.diff(vectors.indptr))
    places = np.stack([rows, vectors.indices.astype(np.int64)])
    size = (len(vectors), vectors.size)
    return _coalesced(array_to_tensor(places), array_to_tensor(vectors.values), size)


def _scale_sparse(vectors: Any) -> Any:
    torch = import_torch()
    vectors = vectors.coalesce()
    places, values = vectors.indices(), vectors.values()
    real = values.float() if values.element_size() < 4 or not values.is_floating_point() else values
    owners = places[0] if vectors.dim() > 1 else torch.zeros_like(places[0])
    rows = vectors.shape[0] if vectors.dim() > 1 else 1
    lengths = real.new_zeros(rows).index_add(0, owners, real * real).sqrt().clamp_min(EPSILON)
    scaled = (real / lengths[owners]).to(values.dtype if values.is_floating_point() else real.dtype)
    return _coalesced(places, scaled, vectors.shape)


def _coalesced(places: Any, values: Any, size: Any) -> Any:
    # Stated, since torch warns of its default: places are those of a valid matrix.
    return import_torch().sparse_coo_tensor(places, values, size, check_invariants=False, is_coalesced=True)
