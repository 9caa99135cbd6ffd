"""Vectors: what an encoder gives back, and the arithmetic on it: cut, quantise, decode, compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np

from nearfield.errors import InputError, SpaceMismatch, nearest

Array = np.ndarray[Any, np.dtype[Any]]
Precision = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
METRICS = ("cosine", "dot", "euclidean", "manhattan")


@dataclass(frozen=True, eq=False)
class Vectors:
    """A batch of vectors and what is true of them.

    ``data`` is [n, dim] for float32, float16, int8 and uint8, and [n, dim / 8] bytes for binary (int8) and
    ubinary (uint8). ``tokens`` and ``dropped`` count, per input, the tokens read and those cut off. ``ranges``
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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
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
        """The type in which the values are stored."""
        return self.data.dtype

    def decode(self) -> Vectors:
        """Return float32 vectors, as near to the original as the precision allows.

        float16 keeps about 3 decimal digits; int8 and uint8 are off by at most half a step (range / 255) where
        nothing was clipped; binary keeps the sign alone, as plus or minus 1/sqrt(dim).
        """
        values = _DECODERS[self.precision](self)
        print_ = self.fingerprint.rsplit(":", 1)[0] + ":float32"
        return replace(self, data=values, precision="float32", ranges=None, clipped=0, fingerprint=print_)


def fingerprint(space: str, dim: int, precision: str, ranges: Array | None = None) -> str:
    """Name the space that vectors live in: model, dimensions and quantisation, such as ``3f1c…:256:int8``."""
    suffix = "" if ranges is None else "-" + hashlib.sha256(np.ascontiguousarray(ranges).tobytes()).hexdigest()[:8]
    return f"{space}:{dim}:{precision}{suffix}"


def require_same_space(a: Vectors, b: Vectors) -> None:
    """Raise SpaceMismatch unless both sides may be compared."""
    if a.fingerprint != b.fingerprint:
        raise SpaceMismatch(
            f"These vectors live in different spaces ({a.fingerprint} and {b.fingerprint}), so comparing them means "
            "nothing. Encode both with the same model, dimensions and precision."
        )


def truncate(data: Array, dim: int, *, renormalize: bool) -> Array:
    """Keep the first ``dim`` values of each row, scaled back to unit length where the whole vector had it."""
    short = np.ascontiguousarray(data[:, :dim])
    return normalize(short) if renormalize else short


def normalize(data: Array) -> Array:
    """Scale rows to unit length; a zero row stays zero."""
    return data / np.maximum(np.linalg.norm(data, axis=1, keepdims=True), 1e-12).astype(data.dtype)


def unit_ranges(dim: int) -> Array:
    """Return the fixed range for int8 and uint8 of unit vectors: plus or minus 6/sqrt(dim), at most 1.

    A unit vector's values have a root mean square of 1/sqrt(dim), so six times that clips next to nothing while
    the step stays fine. It depends on the dimensions alone: never on the batch, so all vectors share one scale.
    """
    limit = min(1.0, 6.0 / float(np.sqrt(dim)))
    return np.tile(np.array([[-limit], [limit]], np.float32), (1, dim))


def calibrate(sample: Any) -> Array:
    """Return ranges [2, dim] (smallest and largest per dimension) from a sample of float32 vectors."""
    values = np.asarray(sample, np.float32)
    if values.ndim != 2 or not len(values):
        raise InputError(f"Calibration needs vectors of shape [n, dim], not {values.shape}.", param="ranges")
    return np.stack([values.min(0), values.max(0)])


def quantize(vectors: Vectors, precision: str, ranges: Any = None, *, unit: bool = True) -> Vectors:
    """Quantise float32 vectors.

    int8 and uint8 map ``ranges`` linearly to 256 steps: uint8 = round((x - low) / (high - low) * 255), and int8
    is that minus 128. ubinary packs ``x > 0`` eight to a byte, most significant bit first; binary is ubinary
    minus 128 as a signed byte (the layout of Cohere, Voyage and Jina).

    Raises:
        InputError: unknown precision, a dimension that is no multiple of 8 for bits, ranges of another shape, or
            int8/uint8 without ranges for vectors that are not of unit length.
    """
    if precision not in PRECISIONS:
        raise InputError(f"Unknown precision {precision!r}. {nearest(precision, PRECISIONS)}", param="precision")
    space = vectors.fingerprint.split(":", 1)[0]
    if precision in ("int8", "uint8"):
        return _to_bytes(vectors, cast(Precision, precision), ranges, space, unit)
    if ranges is not None:
        raise InputError(f"ranges apply to int8 and uint8, not to {precision!r}.", param="ranges")
    data = _to_bits(vectors, precision) if precision.endswith("binary") else vectors.data.astype(precision)
    mark = fingerprint(space, vectors.dim, precision)
    return replace(vectors, data=data, precision=cast(Precision, precision), fingerprint=mark)


def _to_bytes(vectors: Vectors, precision: Precision, ranges: Any, space: str, unit: bool) -> Vectors:
    if ranges is None and not unit:
        raise InputError(
            f"{precision} needs calibrated ranges here, because these vectors are not of unit length. Pass "
            "ranges=calibrate(sample), or normalize_embeddings=True.",
            param="ranges",
        )
    given = None if ranges is None else np.ascontiguousarray(ranges, np.float32)
    span = unit_ranges(vectors.dim) if given is None else given
    if span.shape != (2, vectors.dim) or not (np.isfinite(span).all() and (span[1] > span[0]).all()):
        raise InputError(
            f"ranges must be finite, of shape [2, {vectors.dim}], each high above its low; got shape {span.shape}.",
            param="ranges",
        )
    low, high = span
    steps = np.rint((vectors.data - low) * (255.0 / (high - low)))
    clipped = int(((steps < 0) | (steps > 255)).sum())
    data = np.clip(steps, 0, 255).astype(np.uint8)
    if precision == "int8":
        data = (data ^ 0x80).view(np.int8)
    mark = fingerprint(space, vectors.dim, precision, given)
    return replace(vectors, data=data, precision=precision, ranges=span, clipped=clipped, fingerprint=mark)


def _to_bits(vectors: Vectors, precision: str) -> Array:
    if vectors.dim % 8:
        raise InputError(
            f"{precision} packs eight values to a byte, and {vectors.dim} is no multiple of 8.", param="precision"
        )
    bits = np.packbits(vectors.data > 0, axis=1)
    return (bits ^ 0x80).view(np.int8) if precision == "binary" else bits


def _from_bytes(vectors: Vectors) -> Array:
    data = vectors.data if vectors.precision == "uint8" else vectors.data.view(np.uint8) ^ 0x80
    low, high = cast(Array, vectors.ranges)
    return (data.astype(np.float32) * ((high - low) / 255.0) + low).astype(np.float32)


def _from_bits(vectors: Vectors) -> Array:
    bits = vectors.data if vectors.precision == "ubinary" else vectors.data.view(np.uint8) ^ 0x80
    signs = np.unpackbits(cast(Array, bits), axis=1).astype(np.float32) * 2 - 1
    return signs / np.float32(np.sqrt(vectors.dim))


_DECODERS = {
    "float32": lambda vectors: vectors.data,
    "float16": lambda vectors: vectors.data.astype(np.float32),
    "int8": _from_bytes,
    "uint8": _from_bytes,
    "binary": _from_bits,
    "ubinary": _from_bits,
}


def similarity(a: Vectors, b: Vectors, metric: str = "cosine") -> Array:
    """Compare every vector of ``a`` with every one of ``b``: float32 [len(a), len(b)], larger is nearer.

    cosine and dot as named; euclidean and manhattan are negated distances, as in sentence-transformers.
    Quantised vectors are decoded first.

    Raises:
        SpaceMismatch: the two live in different spaces.
    """
    require_same_space(a, b)
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
