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


def mapped_space(space: str, digest: str) -> str:
    """Return the name of the space of vectors that a map has moved into a space, such as ``3f1c…~9ab04c12``.

    Such vectors are compared with those of the space itself, and are none of them: they are never stored among them.
    """
    return f"{space}~{digest[:8]}"


def unmapped(fingerprint: str) -> str:
    """Return the fingerprint of the space that vectors are compared in: without the digest of a map."""
    space, mark, rest = fingerprint.partition(":")
    return space.partition("~")[0] + mark + rest


def require_same_space(a: str, b: str) -> None:
    """Raise SpaceMismatch unless vectors of two spaces can be compared.

    They can if the spaces are equal, or if a map has moved those of one side into the space of the other.
    """
    if a != b and not (unmapped(a) == unmapped(b) and unmapped(a) in (a, b)):
        raise SpaceMismatch(
            f"These vectors live in different spaces ({a} and {b}), so comparing them means nothing. Encode both with "
            "the same model, dimensions and precision."
        )
