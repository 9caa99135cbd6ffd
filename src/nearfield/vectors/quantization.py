"""Quantisation of arrays to float16, int8, uint8 and bits, and back: number formats, ranges, calibration."""

from __future__ import annotations

from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.text_inputs import describe

Precision = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


def unit_ranges(dim: int) -> Array:
    """Return the fixed ranges [2, dim] of int8 and uint8 for unit vectors: plus or minus 6/sqrt(dim), at most 1.

    A unit vector's values have a root mean square of 1/sqrt(dim), so six times that clips next to nothing while
    the step stays fine. The ranges depend on the dimensions alone, so all vectors share one scale.
    """
    limit = min(1.0, 6.0 / float(np.sqrt(dim)))
    return np.tile(np.array([[-limit], [limit]], np.float32), (1, dim))


def calibrate(sample: ArrayLike) -> Array:
    """Return ranges float32 [2, dim], the minimum and maximum of each dimension, from float32 vectors [n, dim].

    Raises:
        InputError: the sample is not of shape [n, dim], or is empty.
    """
    try:
        values = np.asarray(sample, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"sample must be vectors of shape [n, dim], and is {describe(sample)}.", param="sample"
        ) from error
    if values.ndim != 2 or not len(values):
        raise InputError(f"Calibration needs vectors of shape [n, dim], not {values.shape}.", param="ranges")
    return np.stack([values.min(0), values.max(0)])


def to_integers(values: Array, precision: Precision, ranges: Array) -> tuple[Array, int]:
    """Return float32 values [n, dim] as int8 or uint8, and how many of them were outside of the ranges [2, dim].

    Raises:
        InputError: the ranges are not finite, not of shape [2, dim], or a maximum is not above its minimum.
    """
    dim = values.shape[1]
    if ranges.shape != (2, dim) or not (np.isfinite(ranges).all() and (ranges[1] > ranges[0]).all()):
        raise InputError(
            f"ranges must be finite, of shape [2, {dim}], each high above its low; got shape {ranges.shape}.",
            param="ranges",
        )
    low, high = ranges
    steps = np.rint((values - low) * (255.0 / (high - low)))
    clipped = int(((steps < 0) | (steps > 255)).sum())
    data = np.clip(steps, 0, 255).astype(np.uint8)
    return ((data ^ 0x80).view(np.int8) if precision == "int8" else data), clipped


def to_bits(values: Array, precision: Precision) -> Array:
    """Return the signs of values [n, dim] as bytes [n, dim / 8]: int8 for binary, uint8 for ubinary.

    Raises:
        InputError: the number of dimensions is not a multiple of 8.
    """
    if values.shape[1] % 8:
        raise InputError(
            f"{precision} packs eight values to a byte, and {values.shape[1]} is no multiple of 8.", param="precision"
        )
    bits = np.packbits(values > 0, axis=1)
    return (bits ^ 0x80).view(np.int8) if precision == "binary" else bits


def dequantize(data: Array, precision: Precision, dim: int, ranges: Array | None) -> Array:
    """Return float32 values [n, dim] of data in any precision; int8 and uint8 need their ranges [2, dim]."""
    if precision == "float32":
        return data
    if precision == "float16":
        return data.astype(np.float32)
    unsigned = data if precision in ("uint8", "ubinary") else data.view(np.uint8) ^ 0x80
    if precision in ("int8", "uint8"):
        low, high = cast(Array, ranges)
        return (unsigned.astype(np.float32) * ((high - low) / 255.0) + low).astype(np.float32)
    signs = np.unpackbits(cast(Array, unsigned), axis=1).astype(np.float32) * 2 - 1
    return signs / np.float32(np.sqrt(dim))
