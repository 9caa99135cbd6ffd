"""Dense vectors (`Vectors`): truncate, normalise, quantise and compare them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from nearfield.arrays import Array
from nearfield.errors import InputError, nearest
from nearfield.vectors.fingerprint import fingerprint, require_same_space
from nearfield.vectors.quantization import PRECISIONS, Precision, dequantize, to_bits, to_integers, unit_ranges

METRICS = ("cosine", "dot", "euclidean", "manhattan")


@dataclass(frozen=True, eq=False)
class Vectors:
    """A batch of dense vectors with their precision, space and token counts.

    ``data`` is [n, dim] for float32, float16, int8 and uint8, and [n, dim / 8] bytes for binary (int8) and
    ubinary (uint8). ``tokens`` and ``dropped`` count, per input, the tokens read and those
    truncated (of a very long text, an estimate). ``ranges``
    [2, dim] holds the smallest and largest value of each dimension that int8 and uint8 stand for; ``clipped``
    counts values outside of it. ``numpy.asarray`` gives ``data`` ([dim] when a single text was encoded).
    """

    data: Array
    fingerprint: str
    dim: int
    precision: Precision = "float32"
    tokens: Array | None = None
    dropped: Array | None = None
    ranges: Array | None = None
    clipped: int = 0
    single: bool = False

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        data = self.data[0] if self.single else self.data
        if dtype is not None and np.dtype(dtype) != data.dtype:
            return data.astype(dtype)
        return data.copy() if copy else data

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Array]:
        return iter(np.asarray(self))

    def __getitem__(self, key: Any) -> Any:
        """Index like the array: a row gives a numpy array, a slice gives ``Vectors`` of the same space."""
        if self.single or not isinstance(key, slice):
            return np.asarray(self)[key]
        tokens = None if self.tokens is None else self.tokens[key]
        dropped = None if self.dropped is None else self.dropped[key]
        return replace(self, data=self.data[key], tokens=tokens, dropped=dropped)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of ``numpy.asarray(self)``."""
        return cast(tuple[int, ...], np.asarray(self).shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of ``data``."""
        return self.data.dtype

    def decode(self) -> Vectors:
        """Return float32 vectors, as near to the original as the precision allows.

        float16 keeps about 3 decimal digits. int8 and uint8 are off by at most half a step (range / 255) if nothing
        was clipped. binary keeps only the sign, as plus or minus 1/sqrt(dim).
        """
        values = dequantize(self.data, self.precision, self.dim, self.ranges)
        space = self.fingerprint.rsplit(":", 1)[0] + ":float32"
        return replace(self, data=values, precision="float32", ranges=None, clipped=0, fingerprint=space)


def truncate(data: Array, dim: int, *, renormalize: bool) -> Array:
    """Return the first ``dim`` values of each row, with ``renormalize`` scaled to unit length."""
    short = np.ascontiguousarray(data[:, :dim])
    return normalize(short) if renormalize else short


def normalize(data: Array) -> Array:
    """Return rows scaled to unit length; a zero row stays zero."""
    return data / np.maximum(np.linalg.norm(data, axis=1, keepdims=True), 1e-12).astype(data.dtype)


def quantize(vectors: Vectors, precision: str, ranges: ArrayLike | None = None, *, unit: bool = True) -> Vectors:
    """Return float32 vectors in another precision.

    int8 and uint8 map ``ranges`` linearly to 256 steps: uint8 = round((x - low) / (high - low) * 255), and int8
    is that minus 128. ubinary packs ``x > 0`` eight to a byte, most significant bit first; binary is ubinary
    minus 128 as a signed byte (the layout of Cohere, Voyage and Jina).

    Args:
        vectors: float32 vectors.
        precision: float32, float16, int8, uint8, binary or ubinary.
        ranges: calibrated ranges [2, dim] for int8 and uint8; by default those of unit vectors.
        unit: whether the vectors have unit length.

    Raises:
        InputError: unknown precision, a dimension that is no multiple of 8 for bits, ranges of another shape, or
            int8/uint8 without ranges for vectors that are not of unit length.
    """
    if precision not in PRECISIONS:
        raise InputError(f"Unknown precision {precision!r}. {nearest(precision, PRECISIONS)}", param="precision")
    target, space = cast(Precision, precision), vectors.fingerprint.split(":", 1)[0]
    if target in ("int8", "uint8"):
        return _quantize_to_integers(vectors, target, ranges, space, unit)
    if ranges is not None:
        raise InputError(f"ranges apply to int8 and uint8, not to {precision!r}.", param="ranges")
    data = to_bits(vectors.data, target) if target in ("binary", "ubinary") else vectors.data.astype(target)
    return replace(vectors, data=data, precision=target, fingerprint=fingerprint(space, vectors.dim, target))


def _quantize_to_integers(
    vectors: Vectors, precision: Precision, ranges: ArrayLike | None, space: str, unit: bool
) -> Vectors:
    if ranges is None and not unit:
        raise InputError(
            f"{precision} needs calibrated ranges here, because these vectors are not of unit length. Pass "
            "ranges=calibrate(sample), or normalize_embeddings=True.",
            param="ranges",
        )
    calibrated = None if ranges is None else np.ascontiguousarray(ranges, np.float32)
    used = unit_ranges(vectors.dim) if calibrated is None else calibrated
    data, clipped = to_integers(vectors.data, precision, used)
    name = fingerprint(space, vectors.dim, precision, calibrated)
    return replace(vectors, data=data, precision=precision, ranges=used, clipped=clipped, fingerprint=name)


def similarity(a: Vectors, b: Vectors, metric: str = "cosine") -> Array:
    """Compare every vector of ``a`` with every one of ``b``: float32 [len(a), len(b)], larger is nearer.

    cosine and dot as named; euclidean and manhattan are negated distances, as in sentence-transformers.
    Quantised vectors are decoded first.

    Raises:
        SpaceMismatch: the two live in different spaces.
        InputError: there is no such metric.
    """
    require_same_space(a.fingerprint, b.fingerprint)
    if metric not in METRICS:
        raise InputError(f"Unknown similarity {metric!r}. {nearest(metric, METRICS)}", param="metric")
    x, y = a.decode().data, b.decode().data
    if metric == "cosine":
        x, y = normalize(x), normalize(y)
    if metric in ("cosine", "dot"):
        return x @ y.T
    distance = _euclidean(x, y) if metric == "euclidean" else _manhattan(x, y)
    return -distance


def _euclidean(x: Array, y: Array) -> Array:
    squares = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2 * (x @ y.T)
    return np.sqrt(np.maximum(squares, 0))


def _manhattan(x: Array, y: Array) -> Array:
    return np.stack([np.abs(row - y).sum(1) for row in x]) if len(x) else np.empty((0, len(y)), np.float32)
