"""MaxSim, the score of late interaction (ColBERT), for one vector per token: matrices and row by row.

Scores are float32, on the device of the documents; they are computed by NumPy on the CPU and have no gradient.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.tensor import AnyVectors, ArrayOrTensor, as_array, require_known_spaces
from nearfield.errors import InputError
from nearfield.tensors import array_to_tensor, is_tensor, torch_is_installed
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.multivector import maxsim as score_all

#: The score of a document without tokens: below all others, and finite.
EMPTY_DOCUMENT = -1e9

_log = logging.getLogger(__name__)


def maxsim(
    a: AnyVectors,
    b: AnyVectors,
    a_mask: Any | None = None,
    b_mask: Any | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
    device: Any | None = None,
) -> ArrayOrTensor:
    """Score each query with each document: for each vector of the query its best match, summed.

    Args:
        a: queries: ``MultiVectors``, a list of matrices [tokens, dim], one such matrix, or [n, tokens, dim], in which
            rows of zeros are padding.
        b: documents, as ``a``.
        a_mask: weights of the queries' tokens, zero for padding: [n, tokens], or a list of [tokens].
        b_mask: the same for documents, true or false.
        chunk_elements: has no effect: memory is bounded.
        length_normalize: whether to divide by the number of a query's tokens.
        device: has no effect: the CPU computes.

    Returns:
        Float32 [queries, documents]; -1e9 for a document without tokens.

    Raises:
        InputError: a mask has another number of tokens than the vectors.
        SpaceMismatch: the two live in different spaces.
    """
    del chunk_elements, device
    queries, documents = _sides(a, b, a_mask, b_mask)
    dim = next((rows.shape[1] for rows in [*documents, *queries]), 0)
    scores = score_all(MultiVectors.of(queries, dim, ""), MultiVectors.of(documents, dim, ""))
    scores[:, _without_tokens(documents)] = EMPTY_DOCUMENT
    return _like(_by_length(scores.T, queries).T if length_normalize else scores, a, b)


def maxsim_pairwise(
    a: AnyVectors,
    b: AnyVectors,
    a_mask: Any | None = None,
    b_mask: Any | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
    device: Any | None = None,
) -> ArrayOrTensor:
    """Score each query with the document in the same row: float32 [n]. Arguments as for ``maxsim``.

    Raises:
        InputError: there are more queries than documents, or fewer; or a mask has another number of tokens.
    """
    del chunk_elements, device
    queries, documents = _sides(a, b, a_mask, b_mask)
    if len(queries) != len(documents):
        raise InputError(
            f"Pairs need the same number of items on both sides, got {len(queries)} and {len(documents)}: maxsim "
            "scores all with all."
        )
    pairs = zip(queries, documents, strict=True)
    scores = np.array([(q @ d.T).max(1).sum() if len(d) else EMPTY_DOCUMENT for q, d in pairs], np.float32)
    _without_tokens(documents)
    return _like(_by_length(scores, queries) if length_normalize else scores, a, b)


def mean_maxsim(
    a: AnyVectors,
    b: AnyVectors,
    a_mask: Any | None = None,
    b_mask: Any | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
    device: Any | None = None,
) -> ArrayOrTensor:
    """Return ``maxsim`` divided by the number of a query's tokens."""
    return maxsim(a, b, a_mask, b_mask, chunk_elements, length_normalize, device)


def mean_maxsim_pairwise(
    a: AnyVectors,
    b: AnyVectors,
    a_mask: Any | None = None,
    b_mask: Any | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
    device: Any | None = None,
) -> ArrayOrTensor:
    """Return ``maxsim_pairwise`` divided by the number of a query's tokens."""
    return maxsim_pairwise(a, b, a_mask, b_mask, chunk_elements, length_normalize, device)


def _sides(a: AnyVectors, b: AnyVectors, a_mask: Any, b_mask: Any) -> tuple[list[Array], list[Array]]:
    """Return the vectors of queries, scaled by the weights of their tokens, and those of documents."""
    require_known_spaces(a, b)
    queries = [rows * weights[:, None] for rows, weights in _unmasked(a, a_mask, "a_mask")]
    return queries, [rows for rows, _ in _unmasked(b, b_mask, "b_mask")]


def _unmasked(vectors: AnyVectors, mask: Any, name: str) -> list[tuple[Array, Array]]:
    """Return each input's vectors and weights, without the tokens that are masked."""
    inputs, padded = _inputs(vectors)
    if mask is None:
        masks = [np.asarray(rows.any(-1) if padded else np.ones(len(rows), bool)) for rows in inputs]
    else:
        masks = _masks(mask, inputs, name)
    pairs = zip(inputs, masks, strict=True)
    return [(rows[weights != 0], weights[weights != 0].astype(np.float32)) for rows, weights in pairs]


def _inputs(vectors: AnyVectors) -> tuple[list[Array], bool]:
    """Return the matrix [tokens, dim] of each input in float32, and whether they are padded with rows of zeros."""
    if isinstance(vectors, (list, tuple, MultiVectors)):
        return [as_array(rows).astype(np.float32, copy=False) for rows in vectors], False
    block = as_array(vectors).astype(np.float32, copy=False)
    return list(block[None] if block.ndim == 2 else block), True


def _masks(mask: Any, inputs: Sequence[Array], name: str) -> list[Array]:
    """Return the weights of each input's tokens."""
    if not (isinstance(mask, (list, tuple, np.ndarray)) or is_tensor(mask)):
        raise InputError(f"`{name}` must be an array, a tensor or a list, not {type(mask).__name__}.", param=name)
    rows = [as_array(row) for row in mask] if isinstance(mask, (list, tuple)) else as_array(mask)
    masks = [rows] if getattr(rows, "ndim", 2) == 1 else list(rows)
    masks = masks * len(inputs) if len(masks) == 1 else masks
    width, max_tokens = (max(map(len, part), default=0) for part in (masks, inputs))
    if width != max_tokens:
        raise InputError(f"`{name}` covers {width} tokens, and the vectors have {max_tokens}.", param=name)
    if len(masks) != len(inputs):
        raise InputError(f"`{name}` covers {len(masks)} inputs, and there are {len(inputs)}.", param=name)
    pairs = zip(masks, inputs, strict=True)
    return [np.pad(weights, (0, max_tokens - len(weights)))[: len(rows)] for weights, rows in pairs]


def _without_tokens(documents: Sequence[Array]) -> Array:
    """Return which documents have no tokens; warn once if one has none."""
    empty = np.array([not len(rows) for rows in documents], bool)
    if empty.any():
        _warn_of_empty_documents()
    return empty


@cache
def _warn_of_empty_documents() -> None:
    _log.warning("A document has no tokens to score, and gets the score -1e9, below all others.")


def _by_length(scores: Array, queries: Sequence[Array]) -> Array:
    lengths = np.array([len(rows) for rows in queries], np.float32)
    return scores / np.maximum(lengths, 1)


def _like(scores: Array, a: AnyVectors, b: AnyVectors) -> ArrayOrTensor:
    """Return scores as a tensor on the device of the documents or of the queries, if torch is installed."""
    if not torch_is_installed():
        return scores
    sources = [part[0] if isinstance(part, (list, tuple)) and part else part for part in (b, a)]
    device = next((source.device for source in sources if is_tensor(source)), None)
    return array_to_tensor(np.ascontiguousarray(scores), device)
