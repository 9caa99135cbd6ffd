"""Fingerprints: names of vector spaces, compared before vectors are."""

from __future__ import annotations

import hashlib

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import SpaceMismatch


def fingerprint(space: str, dim: int, precision: str, ranges: Array | None = None) -> str:
    """Return the name of a vector space: model, dimensions and quantisation, such as ``3f1c…:256:int8``.

    Args:
        space: the model's space, a digest of weights, tokenizer and settings.
        dim: number of dimensions.
        precision: number format, or the kind of output for sparse and token vectors.
        ranges: calibrated ranges [2, dim] of int8 and uint8.
    """
    suffix = "" if ranges is None else "-" + hashlib.sha256(np.ascontiguousarray(ranges).tobytes()).hexdigest()[:8]
    return f"{space}:{dim}:{precision}{suffix}"


def require_same_space(a: str, b: str) -> None:
    """Raise SpaceMismatch unless two fingerprints are equal."""
    if a != b:
        raise SpaceMismatch(
            f"These vectors live in different spaces ({a} and {b}), so comparing them means nothing. Encode both with "
            "the same model, dimensions and precision."
        )
