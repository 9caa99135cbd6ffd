"""Dense vectors (`Vectors`): truncate, normalise and quantise them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from nearfield.arrays import Array
from nearfield.errors import InputError, nearest
from nearfield.vectors.annotated_array import AnnotatedArray, RowCounts, to_plain
from nearfield.vectors.fingerprint import fingerprint
from nearfield.vectors.quantization import PRECISIONS, Precision, dequantize, to_bits, to_integers, unit_ranges


@dataclass(frozen=True, eq=False)
class VectorFacts(RowCounts):
    """What is known of dense vectors: counts, space, dimensions and number format, as `Vectors` documents them."""

    fingerprint: str = ""
    dim: int = 0
    precision: Precision = "float32"
    ranges: Array | None = None
    clipped: int | None = 0

    def select(self, rows: Any) -> VectorFacts:
        """Return the facts about some rows. How many values of them were clipped is known only if none was."""
        facts = cast(VectorFacts, super().select(rows))
        return replace(facts, clipped=None) if facts.clipped else facts

    def join(self, others: Sequence[VectorFacts]) -> VectorFacts | None:
        """Return the facts about these vectors followed by others; None unless all are of one known space."""
        if not self.fingerprint or any(other.fingerprint != self.fingerprint for other in others):
            return None
        facts = cast(VectorFacts, super().join(others))
        clipped = [part.clipped for part in (self, *others)]
        total = None if None in clipped else sum(cast(Sequence[int], clipped))
        return replace(facts, clipped=total)


class Vectors(AnnotatedArray):
    """Dense vectors: a NumPy array [n, dim], or [dim] for a single text, with space and token counts.

    It is an ``ndarray`` wherever one is needed. What is known of the vectors stays with rows, slices, masks and lists
    of rows, copies, ``numpy.concatenate``, ``vstack`` and ``stack`` of vectors of one space, and pickles. Results of
    arithmetic and of all other functions are plain arrays, and vectors that were written to (``vectors *= 2``) have no
    fingerprint any more.

    Args:
        data: [n, dim] for float32, float16, int8 and uint8, and [n, dim / 8] bytes for binary (int8) and ubinary
            (uint8).
        fingerprint: the name of the space; empty if it is not known.
        dim: the dimensions.
        precision: the number format.
        tokens: tokens read of each input.
        dropped: tokens of each input that were truncated; of a very long text, an estimate.
        ranges: [2, dim], the smallest and largest value of each dimension that int8 and uint8 stand for.
        clipped: number of values outside of the ranges.
        single: whether ``data`` is one row that becomes an array [dim].
        unknown: tokens read of each input that the model does not know.
    """

    __slots__ = ()
    batch_ndim = 2

    def __new__(
        cls,
        data: ArrayLike,
        fingerprint: str,
        dim: int,
        precision: Precision = "float32",
        tokens: Array | None = None,
        dropped: Array | None = None,
        ranges: Array | None = None,
        clipped: int | None = 0,
        single: bool = False,
        unknown: Array | None = None,
    ) -> Vectors:
        array = np.asarray(data)
        if array.ndim not in (1, 2):
            raise InputError(f"Vectors have the shape [n, dimensions], not {array.shape}.", param="data")
        facts = VectorFacts(tokens, dropped, unknown, fingerprint, dim, precision, ranges, clipped)
        return cast(Vectors, cls.annotate(array[0] if single and array.ndim == 2 else array, facts))

    @property
    def data(self) -> Array:  # type: ignore[override]
        """The values as a plain array [n, width], also of a single text."""
        return np.atleast_2d(to_plain(self))

    @property
    def single(self) -> bool:
        """Whether these are the values of one vector, [dim]."""
        return self.ndim == 1

    @property
    def fingerprint(self) -> str:
        """The name of the vectors' space; empty if it is not known."""
        return self._known.fingerprint

    @property
    def dim(self) -> int:
        """The dimensions of a vector."""
        return self._known.dim

    @property
    def precision(self) -> Precision:
        """The number format: float32, float16, int8, uint8, binary or ubinary."""
        return self._known.precision

    @property
    def ranges(self) -> Array | None:
        """The values [2, dim] that the smallest and largest int8 or uint8 of each dimension stand for."""
        return self._known.ranges

    @property
    def clipped(self) -> int | None:
        """The number of values outside of ``ranges``; None if it is not known, as for a part of the vectors."""
        return self._known.clipped

    @property
    def _known(self) -> VectorFacts:
        facts = cast("VectorFacts | None", self.facts)
        # Of vectors that were written to, the type of the numbers is what is left to go by.
        return facts or VectorFacts(dim=self.shape[-1], precision=cast(Precision, self.dtype.name), clipped=None)

    def with_data(self, data: Array, **changes: Any) -> Vectors:
        """Return other values [n, width] of the same inputs, with these facts but for ``changes``."""
        facts = replace(self._known, **changes)
        return cast(Vectors, Vectors.annotate(data[0] if self.single else data, facts))

    def decode(self) -> Vectors:
        """Return float32 vectors, as near to the original as the precision allows.

        float16 keeps about 3 decimal digits. int8 and uint8 are off by at most half a step (range / 255) if nothing
        was clipped. binary keeps only the sign, as plus or minus 1/sqrt(dim).

        Raises:
            InputError: it is not known which values the numbers stand for.
        """
        known, data = self._known, self.data
        if self.facts is None and self.dtype.kind != "f":
            raise InputError(
                f"These {self.dtype} values were changed, so that it is not known which vectors they stand for. Call "
                "decode() before changing them.",
                param="vectors",
            )
        coding = "float32" if self.facts is None else known.precision
        values = dequantize(data.astype(np.float32) if self.facts is None else data, coding, known.dim, known.ranges)
        return self.with_data(values, precision="float32", ranges=None, clipped=0, fingerprint=_renamed(known))

    def _repr_facts(self) -> Mapping[str, object]:
        return {"fingerprint": self.fingerprint} if self.fingerprint else {}


def _renamed(known: VectorFacts, precision: str = "float32", ranges: Array | None = None) -> str:
    """Return the name of the vectors' space in another number format; empty if it is not known."""
    if not known.fingerprint:
        return ""
    # A space may contain colons: that of a server's vectors is a URL.
    return fingerprint(known.fingerprint.rsplit(":", 2)[0], known.dim, precision, ranges)


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
    target = cast(Precision, precision)
    if target in ("int8", "uint8"):
        return _quantize_to_integers(vectors, target, ranges, unit)
    if ranges is not None:
        raise InputError(f"ranges apply to int8 and uint8, not to {precision!r}.", param="ranges")
    data = to_bits(vectors.data, target) if target in ("binary", "ubinary") else vectors.data.astype(target)
    return vectors.with_data(data, precision=target, fingerprint=_renamed(vectors._known, target))


def _quantize_to_integers(vectors: Vectors, precision: Precision, ranges: ArrayLike | None, unit: bool) -> Vectors:
    if ranges is None and not unit:
        raise InputError(
            f"{precision} needs calibrated ranges here, because these vectors are not of unit length. Pass "
            "ranges=calibrate(sample), or normalize_embeddings=True.",
            param="ranges",
        )
    calibrated = None if ranges is None else np.ascontiguousarray(ranges, np.float32)
    used = unit_ranges(vectors.dim) if calibrated is None else calibrated
    data, clipped = to_integers(vectors.data, precision, used)
    name = _renamed(vectors._known, precision, calibrated)
    return vectors.with_data(data, precision=precision, ranges=used, clipped=clipped, fingerprint=name)
