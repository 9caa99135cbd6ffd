"""Quantisation as in sentence-transformers, and search over quantised vectors by faiss or usearch.

Steps are rounded down there, and the ranges come from the vectors themselves: the same bytes come out here. Nearfield's
``encode(precision=...)`` rounds to the nearest step, in fixed ranges.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np

from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.index_search import (
    FaissSearch,
    IndexSearch,
    IndexSearchOptions,
    UsearchSearch,
    search_index,
)
from nearfield.compat.sentence_transformers.util.tensor import AnyVectors
from nearfield.errors import InputError
from nearfield.tensors import is_tensor, tensor_to_array
from nearfield.vectors.multivector import MultiVectors

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
#: Vectors below which ranges depend much on chance.
_FEW = 100

__all__ = ["quantize_embeddings", "semantic_search_faiss", "semantic_search_usearch"]

_log = logging.getLogger(__name__)


def quantize_embeddings(
    embeddings: AnyVectors,
    precision: Literal["float32", "int8", "uint8", "binary", "ubinary"],
    ranges: Array | None = None,
    calibration_embeddings: Array | None = None,
) -> Any:
    """Return vectors in another number format, as an array.

    Args:
        embeddings: float vectors; or a list of matrices, which share their ranges and give a list.
        precision: float32; int8 or uint8 (256 steps between the ranges); binary or ubinary (signs, eight to a byte).
        ranges: the smallest and the largest value of each dimension, [2, dim].
        calibration_embeddings: vectors to take the ranges from; by default the vectors themselves.

    Raises:
        InputError: an unknown precision, vectors of integers, or ranges of a single vector.
    """
    if isinstance(embeddings, (list, MultiVectors)):
        rows = [_plain(row) for row in embeddings]
        if not rows or rows[0].ndim == 2:
            return _quantize_matrices(rows, precision, ranges, calibration_embeddings)
        embeddings = np.array(rows)
    values = _plain(embeddings)
    if precision not in PRECISIONS:
        raise InputError(f"Precision {precision!r} is not supported: use {', '.join(PRECISIONS)}.", param="precision")
    if values.dtype in (np.uint8, np.int8):
        raise InputError("Embeddings to quantize must be float, and these are quantised already.", param="embeddings")
    if precision == "float32":
        return values.astype(np.float32)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(values > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 0x80).view(np.int8)
    return _to_steps(values, precision, ranges, calibration_embeddings)


def semantic_search_faiss(
    query_embeddings: Array,
    corpus_embeddings: Array | None = None,
    corpus_index: Any | None = None,
    corpus_precision: Literal["float32", "uint8", "ubinary"] = "float32",
    top_k: int = 10,
    ranges: Array | None = None,
    calibration_embeddings: Array | None = None,
    rescore: bool = True,
    rescore_multiplier: int = 2,
    exact: bool = True,
    output_index: bool = False,
) -> Any:
    """Search by faiss, which must be installed (``pip install faiss-cpu``).

    If the corpus is quantised and the queries are not, ``rescore_multiplier`` times ``top_k`` matches are searched and
    compared again with the queries as they were.

    Args:
        query_embeddings: vectors [n, dim].
        corpus_embeddings: vectors of ``corpus_precision``, or
        corpus_index: a faiss index of them.
        corpus_precision: float32, uint8 or ubinary.
        top_k: matches of each query.
        ranges: those with which the corpus was quantised to uint8, [2, dim].
        calibration_embeddings: vectors to take ``ranges`` from; by default the queries.
        rescore: whether to compare again.
        rescore_multiplier: how many times more matches are searched for it.
        exact: whether to search all vectors, and not a graph of neighbours (HNSW).
        output_index: whether to return the index too.

    Returns:
        A list of ``{"corpus_id", "score"}`` for each query, the seconds, and with ``output_index`` the index.

    Raises:
        InputError: faiss is not installed, or an argument does not fit.
    """
    options = IndexSearchOptions(
        corpus_precision, top_k, ranges, calibration_embeddings, rescore, rescore_multiplier, exact
    )
    return _search(FaissSearch, query_embeddings, corpus_embeddings, corpus_index, options, output_index)


def semantic_search_usearch(
    query_embeddings: Array,
    corpus_embeddings: Array | None = None,
    corpus_index: Any | None = None,
    corpus_precision: Literal["float32", "int8", "ubinary", "binary"] = "float32",
    top_k: int = 10,
    ranges: Array | None = None,
    calibration_embeddings: Array | None = None,
    rescore: bool = True,
    rescore_multiplier: int = 2,
    exact: bool = True,
    output_index: bool = False,
) -> Any:
    """Search by usearch, which must be installed (``pip install usearch``); see ``semantic_search_faiss``.

    ``corpus_precision`` is float32, int8, binary or ubinary. Without a second comparison, scores are usearch's
    distances.
    """
    options = IndexSearchOptions(
        corpus_precision, top_k, ranges, calibration_embeddings, rescore, rescore_multiplier, exact
    )
    return _search(UsearchSearch, query_embeddings, corpus_embeddings, corpus_index, options, output_index)


def _search(
    kind: type[IndexSearch], queries: Any, corpus: Any, index: Any, options: IndexSearchOptions, output_index: bool
) -> Any:
    search = kind.create(None if corpus is None else _plain(corpus), index, options)
    values = _plain(queries)
    quantized = values.dtype in (np.uint8, np.int8)
    rescore = options.rescore and not quantized and search.is_quantized
    ranges = options.ranges
    if rescore and ranges is None and options.precision in ("int8", "uint8"):
        ranges = ranges_of(values, options.precision, options.calibration)
    if options.rescore and not rescore:
        side = "queries are quantised already" if quantized else "corpus is not quantised"
        _log.warning("rescore=True has no effect: the %s.", side)
    if not quantized:
        # float64 is no format of an index.
        quantise_to: Any = options.precision
        codes = quantize_embeddings(values, quantise_to, ranges, options.calibration)
    results, seconds = search_index(search, values if quantized else codes, values if rescore else None, ranges)
    return (results, seconds, search.index) if output_index else (results, seconds)


def ranges_of(embeddings: Array, precision: str, calibration: Array | None) -> Array:
    """Return the smallest and the largest value of each dimension, [2, dim].

    Raises:
        InputError: they would be those of a single vector.
    """
    if calibration is not None:
        values = _plain(calibration)
        return np.stack([values.min(0), values.max(0)])
    if embeddings.ndim == 1 or len(embeddings) == 1:
        raise InputError(
            f"Cannot compute {precision} quantization ranges from a single embedding: pass ranges, or "
            "calibration_embeddings with vectors like those that you will store.",
            param="ranges",
        )
    if len(embeddings) < _FEW:
        _log.warning(
            "The ranges of %s come from %d vectors. They are more stable with calibration_embeddings, or with ranges "
            "of more vectors.",
            precision,
            len(embeddings),
        )
    return np.stack([embeddings.min(0), embeddings.max(0)])


def _plain(vectors: Any) -> Array:
    """Return vectors as a plain array in the number format that they have."""
    return tensor_to_array(vectors) if is_tensor(vectors) else np.asarray(vectors)


def _quantize_matrices(
    matrices: list[Array], precision: Any, ranges: Array | None, calibration: Array | None
) -> list[Array]:
    if precision in ("int8", "uint8") and ranges is None and matrices:
        sample = np.concatenate(matrices) if calibration is None else _plain(calibration)
        ranges = ranges_of(sample, precision, calibration) if len(sample) else None
    return [quantize_embeddings(matrix, precision, ranges, calibration) for matrix in matrices]


def _to_steps(values: Array, precision: str, ranges: Array | None, calibration: Array | None) -> Array:
    if values.ndim == 2 and not len(values):
        return np.zeros(values.shape, precision)
    limits = ranges_of(values, precision, calibration) if ranges is None else _plain(ranges)
    low, high = limits.astype(np.float32, copy=False)
    steps = (high - low) / 255
    codes = np.clip(np.floor((values - low) / np.where(steps == 0, 1, steps)), 0, 255).astype(np.uint8)
    return codes if precision == "uint8" else (codes ^ 0x80).view(np.int8)
