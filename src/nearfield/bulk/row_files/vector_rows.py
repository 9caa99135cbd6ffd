"""Vectors as bulk embedding writes them: one for each input, or several of late interaction, end to end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.inference.encode_options import EncodeKeywords, resolve_outputs
from nearfield.inference.preparation.refused_inputs import OnRefused
from nearfield.inference.preparation.unread_inputs import UnreadInputs
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors

DENSE, MULTIVECTOR = "dense", "multivector"
#: Kinds of output that can be written.
OUTPUT_KINDS = (DENSE, MULTIVECTOR)
#: Number types of multi-vectors.
_TOKEN_TYPES = ("float32", "float16")
#: Inputs that are encoded together: a page has some thousand vectors, 0.5 MB.
_MULTIVECTOR_WINDOW = 256


@dataclass(frozen=True, eq=False)
class VectorRows:
    """Vectors of n inputs: ``data`` [n, width], or [total, width] with ``lengths``, int64 [n], of multi-vectors."""

    data: Array
    lengths: Array | None = None

    def __len__(self) -> int:
        return len(self.data if self.lengths is None else self.lengths)

    @property
    def width(self) -> int:
        """Numbers of one vector as it is stored."""
        return int(self.data.shape[1])

    @property
    def offsets(self) -> Array:
        """Int64 [n + 1]: where the vectors of each input begin."""
        lengths = np.ones(len(self), np.int64) if self.lengths is None else self.lengths
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])

    def items(self, dtype: type[np.generic] | None = None) -> list[Array]:
        """Return an array for each input, [width] or [vectors, width], copied from a mapped file."""
        data = np.array(self.data, dtype)
        return list(data) if self.lengths is None else np.split(data, self.offsets[1:-1]) if len(self) else []


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Vectors of some inputs, with what is known of them.

    Attributes:
        rows: the vectors.
        counts: int64 [n, 2], (tokens, dropped) of each input.
        fingerprint: the name of their space.
        dim: the dimensions.
        precision: the number type.
        ranges: [2, dim] of int8 and uint8, as `Vectors` has them.
        average: of multi-vectors, as `MultiVectors` has it.
    """

    rows: VectorRows
    counts: Array
    fingerprint: str
    dim: int
    precision: str
    ranges: Array | None = None
    average: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def facts(self) -> dict[str, object]:
        """What files of multi-vectors state besides what those of dense vectors do; empty for dense vectors."""
        return {} if self.rows.lengths is None else {"kind": MULTIVECTOR, "average": self.average}


def text_facts(blank: EncodedRows) -> dict[str, str]:
    """Return the facts of multi-vectors as texts, for the metadata of Parquet."""
    return {name: json.dumps(value).strip('"') for name, value in blank.facts.items()}


def output_kind(encoder: Encoder, options: EncodeKeywords) -> str:
    """Return the kind of vectors that a run writes: the one of ``outputs``, or the model's main output.

    Raises:
        InputError: the model does not give it, there is more than one, or files cannot hold it.
    """
    kinds = resolve_outputs(encoder.recipe, options.get("outputs"))
    if len(kinds) == 1 and kinds[0] in OUTPUT_KINDS:
        return kinds[0]
    possible = [kind for kind in encoder.recipe.outputs if kind in OUTPUT_KINDS]
    remedy = f"Choose {' or '.join(possible)}." if possible else f"{encoder.name} gives none of these."
    raise InputError(
        f"Files hold dense vectors or multi-vectors of a model, not {' and '.join(kinds)} output. {remedy}",
        param="outputs",
    )


def encoding_options(encoder: Encoder, options: EncodeKeywords) -> EncodeKeywords:
    """Return the options of ``Encoder.encode``; the number type of multi-vectors is applied to what it returns.

    Raises:
        InputError: multi-vectors cannot have the number type.
    """
    if output_kind(encoder, options) == DENSE:
        return options
    _token_type(options)
    return cast(EncodeKeywords, {name: value for name, value in options.items() if name != "precision"})


def encode_nothing(encoder: Encoder, options: EncodeKeywords) -> EncodedRows:
    """Return the rows of no inputs, with shape, type and facts of all rows of a run.

    Raises:
        InputError: an option is wrong.
    """
    return _to_rows(encoder.encode([], **encoding_options(encoder, options)), options)


def stream_rows(
    encoder: Encoder,
    inputs: Iterable[Any],
    options: EncodeKeywords,
    unread: UnreadInputs,
    *,
    steady: bool = False,
    on_refused: OnRefused | None = None,
) -> Iterator[EncodedRows]:
    """Encode inputs window by window, as ``Encoder.stream`` does."""
    sizes: dict[str, Any] = {} if on_refused is None else {"on_refused": on_refused}
    if output_kind(encoder, options) == MULTIVECTOR:
        sizes["window"] = _MULTIVECTOR_WINDOW
    calls = encoding_options(encoder, options)
    for window in encoder.stream(inputs, unread=unread, steady=steady, **sizes, **calls):
        yield _to_rows(window, options)


def _to_rows(result: Any, options: EncodeKeywords) -> EncodedRows:
    """Return a result of ``Encoder.encode``, which has several kinds if the options name them."""
    vectors = result if isinstance(result, (Vectors, MultiVectors)) else next(iter(result.kinds.values()))
    if isinstance(vectors, MultiVectors):
        return _of_multivectors(vectors, _token_type(options))
    rows, counts = VectorRows(vectors.data), _counts(vectors)
    return EncodedRows(rows, counts, vectors.fingerprint, vectors.dim, vectors.precision, vectors.ranges)


def _of_multivectors(vectors: MultiVectors, dtype: str) -> EncodedRows:
    rows = VectorRows(vectors.data.astype(dtype, copy=False), np.diff(vectors.indptr).astype(np.int64))
    return EncodedRows(rows, _counts(vectors), vectors.fingerprint, vectors.dim, dtype, average=vectors.average)


def _token_type(options: EncodeKeywords) -> str:
    dtype = options.get("precision", "float32")
    if dtype not in _TOKEN_TYPES:
        raise InputError(
            f"Multi-vectors are written as {' or '.join(_TOKEN_TYPES)}, not {dtype!r}. {nearest(dtype, _TOKEN_TYPES)}",
            param="precision",
        )
    return dtype


def _counts(vectors: Vectors | MultiVectors) -> Array:
    """Return (tokens, dropped), int64 [n, 2]."""
    if vectors.tokens is None or vectors.dropped is None:
        return np.zeros((len(vectors), 2), np.int64)
    return np.stack([vectors.tokens, vectors.dropped], 1).astype(np.int64)
