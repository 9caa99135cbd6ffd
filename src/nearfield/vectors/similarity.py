"""Compare vectors, all pairs or row by row: results of encoders, saved arrays, lists of numbers and tensors."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError, nearest
from nearfield.message_text import count_of
from nearfield.tensors import array_to_tensor, is_tensor, tensor_to_array
from nearfield.text_inputs import describe
from nearfield.vectors.dense import Vectors, normalize
from nearfield.vectors.fingerprint import require_same_space
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors

METRICS = ("cosine", "dot", "euclidean", "manhattan")
#: Vectors in any form: ``Vectors``, an array, numbers in lists, a tensor; also sparse vectors and multi-vectors.
VectorsLike: TypeAlias = Any
_KINDS = {Vectors: "dense vectors", SparseVectors: "sparse vectors", MultiVectors: "multi-vectors"}
_RESULTS = (Vectors, SparseVectors, MultiVectors, Outputs)


def similarity(a: VectorsLike, b: VectorsLike, metric: str = "cosine") -> Any:
    """Compare every vector of ``a`` with every one of ``b``: float32 [len(a), len(b)], larger is nearer.

    Each side is the result of an encoder, an array of floating-point numbers [n, dim] or [dim], such lists, or a
    tensor. cosine and dot as named; euclidean and manhattan are negated distances, as in sentence-transformers.
    Quantised vectors are decoded first. Sparse vectors and multi-vectors have one measure, their dot product and
    MaxSim. The result is a tensor if one of the sides is.

    Raises:
        SpaceMismatch: both spaces are known, and differ.
        InputError: there is no such metric, a side is no vectors, or their dimensions differ.
    """
    return like_tensor(compare(require_vectors(a, "a"), require_vectors(b, "b"), metric), a, b)


def similarity_pairwise(a: VectorsLike, b: VectorsLike, metric: str = "cosine") -> Any:
    """Compare each vector of ``a`` with the one of ``b`` in the same place: float32 [n]. Otherwise as ``similarity``.

    Raises:
        SpaceMismatch: both spaces are known, and differ.
        InputError: as for ``similarity``, or the numbers of vectors differ.
    """
    return like_tensor(compare_pairwise(require_vectors(a, "a"), require_vectors(b, "b"), metric), a, b)


# -- forms of vectors --------------------------------------------------------------------------------------------------


def read_vectors(value: VectorsLike) -> Any:
    """Return vectors as the result of an encoder, of an unknown space if it is none; None for what is no vectors.

    Texts and token ids are no vectors: an array is one of vectors if its numbers are floating-point.

    Raises:
        InputError: the shape is not that of vectors, or the rows have different lengths.
    """
    if isinstance(value, _RESULTS):
        return _single_kind(value) if isinstance(value, Outputs) else value
    if isinstance(value, (list, tuple)):
        return _read_list(value)
    if is_tensor(value):
        return _from_array(tensor_to_array(value))
    if not hasattr(value, "__array__"):
        return None
    array = np.asarray(value)
    return _read_list(list(array)) if array.dtype.kind == "O" and array.ndim == 1 else _from_array(array)


def require_vectors(value: VectorsLike, name: str) -> Any:
    """Return vectors as ``read_vectors`` does; ``name`` is that of the argument.

    Raises:
        InputError: it is no vectors.
    """
    vectors = read_vectors(value)
    if vectors is None:
        dtype = getattr(value, "dtype", None)
        what = describe(value) if dtype is None else f"{type(value).__name__} of {dtype}"
        raise InputError(
            f"{name} must be vectors of floating-point numbers, and is {what}. Texts are compared by "
            "Encoder.similarity, quantised vectors as the Vectors that encode returned, or after Vectors.decode().",
            param=name,
        )
    return vectors


def refuse_quantized(value: Any, widths: Collection[int]) -> None:
    """Raise InputError for an array, or a list of arrays, of whole numbers that are saved vectors and no token ids.

    ``widths`` are the numbers of values that vectors of the model have.
    """
    several = isinstance(value, (list, tuple)) or str(getattr(value, "dtype", "")) == "object"
    first = next(iter(value), None) if several and getattr(value, "shape", None) != () else value
    array = tensor_to_array(first) if is_tensor(first) else first
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        return
    if array.ndim > 1 or array.itemsize == 1 or array.shape in {(width,) for width in widths}:
        raise InputError(
            f"An array of {array.dtype} of shape {array.shape} has whole numbers, and may be quantised vectors, whose "
            "precision is not known: compare the Vectors that encode returned (pickle saves them whole), or those of "
            "Vectors.decode(). Token ids are compared as lists: array.tolist().",
            param="vectors",
        )


def like_tensor(scores: Array, *sides: object) -> Any:
    """Return scores as a tensor if one of the sides is one, or a list of them, on its device."""
    firsts = (side[0] if isinstance(side, (list, tuple)) and side else side for side in sides)
    tensor: Any = next((side for side in firsts if is_tensor(side)), None)
    return scores if tensor is None else array_to_tensor(scores, str(tensor.device))


def _single_kind(outputs: Outputs) -> Any:
    if len(outputs.kinds) != 1:
        raise InputError(f"Choose one of the outputs: {', '.join(outputs.kinds)}.", param="outputs")
    return next(iter(outputs.kinds.values()))


def _read_list(values: list[Any] | tuple[Any, ...]) -> Vectors | None:
    """Return numbers in lists, or a list of vectors, as vectors; None for texts, token ids and an empty list."""
    first: Any = values
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if not isinstance(first, (float, int, np.number, np.ndarray)) and not is_tensor(first):
        return None
    rows = [tensor_to_array(row) if is_tensor(row) else row for row in values]
    _check_spaces(rows)
    if all(isinstance(row, np.ndarray) and row.ndim == 1 for row in rows):
        if all(row.dtype.kind in "iu" for row in rows):
            return None
        _check_lengths(rows)
        stacked = np.stack(rows)
        return stacked if isinstance(stacked, Vectors) else _from_array(stacked)
    return _read_numbers(rows)


def _read_numbers(rows: list[Any]) -> Vectors | None:
    try:
        return _from_array(np.asarray(rows))
    except ValueError:  # rows of different lengths: token ids, or vectors of several models
        if any(isinstance(value, float) for row in rows if isinstance(row, (list, tuple)) for value in row):
            _check_lengths(rows)
        return None


def _check_lengths(rows: list[Any]) -> None:
    """Raise InputError for vectors of different lengths; token ids may have any."""
    lengths = sorted({len(row) for row in rows if not (isinstance(row, np.ndarray) and row.dtype.kind in "iu")})
    if len(lengths) > 1:
        raise InputError(
            f"The vectors of a list have {lengths[0]} and {lengths[-1]} values: compare vectors of one model.",
            param="vectors",
        )


def _check_spaces(rows: list[Any]) -> None:
    """Raise SpaceMismatch for a list with vectors of two known spaces."""
    names = [row.fingerprint for row in rows if isinstance(row, Vectors) and row.fingerprint]
    for name in names[1:]:
        require_same_space(names[0], name)


def _from_array(array: Array) -> Vectors | None:
    if array.dtype.kind != "f" or array.shape == (0,):
        return None
    if array.ndim not in (1, 2):
        raise InputError(f"Vectors have the shape [n, dimensions], not {array.shape}.", param="vectors")
    return Vectors(array.astype(np.float32, copy=False), "", array.shape[-1])


# -- measures ----------------------------------------------------------------------------------------------------------


def compare(a: Any, b: Any, metric: str) -> Array:
    """Return the similarities of all pairs; arguments are results of encoders."""
    if isinstance(a, (SparseVectors, MultiVectors)):
        return a.similarity(_same_kind(a, b))
    x, y = _comparable(a, b, metric)
    if metric in ("cosine", "dot"):
        return x @ y.T
    distance = _euclidean(x, y) if metric == "euclidean" else _manhattan(x, y)
    return -distance


def compare_pairwise(a: Any, b: Any, metric: str) -> Array:
    """Return the similarity of each row with the row in the same place; arguments are results of encoders."""
    counts = [1 if isinstance(side, Vectors) and side.single else len(side) for side in (a, b)]
    if counts[0] != counts[1]:
        raise InputError(
            f"similarity_pairwise compares row by row: there are {counts[0]:,} and {count_of(counts[1], 'vector')}.",
            param="b",
        )
    if isinstance(a, (SparseVectors, MultiVectors)):
        return a.similarity_pairwise(_same_kind(a, b))
    x, y = _comparable(a, b, metric)
    if metric in ("cosine", "dot"):
        return np.einsum("ij,ij->i", x, y)
    difference = x - y
    return -(np.linalg.norm(difference, axis=1) if metric == "euclidean" else np.abs(difference).sum(1))


def _same_kind(a: Any, b: Any) -> Any:
    if type(a) is not type(b):
        kinds = [_KINDS[type(side)] for side in (a, b)]
        raise InputError(f"{kinds[0].capitalize()} cannot be compared with {kinds[1]}.", param="b")
    return b


def _comparable(a: Vectors, b: Vectors, metric: str) -> tuple[Array, Array]:
    """Return the values of dense vectors that a product or a distance compares.

    Raises:
        SpaceMismatch: both spaces are known, and differ.
        InputError: there is no such metric, or the dimensions differ.
    """
    _same_kind(a, b)
    if a.fingerprint and b.fingerprint:
        require_same_space(a.fingerprint, b.fingerprint)
    if metric not in METRICS:
        raise InputError(f"Unknown similarity {metric!r}. {nearest(metric, METRICS)}", param="metric")
    x, y = a.decode().data, b.decode().data
    if x.shape[1] != y.shape[1]:
        raise InputError(
            f"Vectors of {x.shape[1]} and of {y.shape[1]} values cannot be compared: encode both sides with the same "
            "model and dimensions.",
            param="b",
        )
    return (normalize(x), normalize(y)) if metric == "cosine" else (x, y)


def _euclidean(x: Array, y: Array) -> Array:
    squares = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2 * (x @ y.T)
    return np.sqrt(np.maximum(squares, 0))


def _manhattan(x: Array, y: Array) -> Array:
    return np.stack([np.abs(row - y).sum(1) for row in x]) if len(x) else np.empty((0, len(y)), np.float32)
