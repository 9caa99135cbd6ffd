"""Exact search by brute force in blocks: the best matches of each query, in bounded memory.

After the first block few scores exceed a query's worst match. So a block costs its matrix product and one comparison
of each score, and no selection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nearfield.argument_checks import require_count
from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util import similarity
from nearfield.compat.sentence_transformers.util.tensor import (
    AnyVectors,
    ArrayOrTensor,
    as_array,
    as_rows,
    as_tensor,
    is_sparse,
    require_known_spaces,
    scale_to_unit,
)
from nearfield.tensors import array_to_tensor, is_tensor, tensor_to_array, torch_is_installed
from nearfield.vectors.sparse import SparseVectors

#: Compares all rows of one matrix with all rows of another.
ScoreFunction = Callable[[Any, Any], Any]
#: The largest number of queries and of corpus rows whose scores exist at once.
_QUERY_ROWS, _CORPUS_ROWS = 1024, 16_384
#: Candidates for each match from which on the best of a block are selected first.
_CANDIDATES = 8
#: The id of a place that has no match yet.
_NO_ID = np.iinfo(np.int64).max


class TopMatches:
    """The best ``count`` matches of each of ``queries`` queries: ``scores`` and ``ids``, the best first."""

    def __init__(self, queries: int, count: int) -> None:
        self.scores = np.full((queries, count), -np.inf, np.float64)
        self.ids = np.full((queries, count), _NO_ID, np.int64)

    def add(self, first_query: int, scores: Array, ids: Array | None, first_id: int) -> None:
        """Take a block's scores [queries, rows] whose rows follow those of the blocks before.

        ``ids`` [queries, rows] says which rows of the block they are, if they are not all in order.
        """
        rows = slice(first_query, first_query + len(scores))
        count = self.scores.shape[1]
        everything = first_id < count
        mask = np.ones_like(scores, bool) if everything else scores > self.scores[rows, -1:].astype(scores.dtype)
        if ids is None and (everything or np.count_nonzero(mask) > _CANDIDATES * count * len(scores)):
            ids = _largest(scores, min(count, scores.shape[1]))
            scores, mask = (np.take_along_axis(part, ids, 1) for part in (scores, mask))
        owners, columns = np.nonzero(mask)
        places = columns if ids is None else ids[owners, columns]
        self._merge(rows, owners, scores[mask], places + first_id)

    def _merge(self, rows: slice, owners: Array, scores: Array, ids: Array) -> None:
        """Put candidates, in the order of their owners, among the matches of some queries."""
        if not len(owners):
            return
        best, best_ids = self.scores[rows], self.ids[rows]
        queries, count = best.shape
        owners = np.concatenate([np.repeat(np.arange(queries), count), owners])
        scores, ids = np.concatenate([best.ravel(), scores]), np.concatenate([best_ids.ravel(), ids])
        order = np.lexsort((ids, -scores, owners))
        owners = owners[order]
        starts = np.searchsorted(owners, np.arange(queries))
        chosen = order[np.arange(len(owners)) - starts[owners] < count]
        self.scores[rows], self.ids[rows] = scores[chosen].reshape(best.shape), ids[chosen].reshape(best.shape)

    @property
    def filled(self) -> Array:
        """Which places have a match: bool [queries, count]."""
        return self.ids != _NO_ID


def find_top_matches(
    queries: AnyVectors,
    corpus: AnyVectors,
    count: int,
    score_function: ScoreFunction,
    query_rows: int = _QUERY_ROWS,
    corpus_rows: int = _CORPUS_ROWS,
) -> TopMatches:
    """Compare all queries with all of a corpus, and return the ``count`` best of each.

    Args:
        queries: vectors.
        corpus: vectors.
        count: matches of each query, if the corpus has that many.
        score_function: one of ``similarity``, or a function of two matrices, which gets tensors if torch is installed.
        query_rows: the largest number of queries that are compared at once.
        corpus_rows: the largest number of vectors of the corpus that are compared at once.

    Raises:
        SpaceMismatch: the two live in different known spaces.
        InputError: a size is less than 1, or ``count`` less than 0.
    """
    require_count("top_k", count, 0)
    require_count("query_chunk_size", query_rows)
    require_count("corpus_chunk_size", corpus_rows)
    require_known_spaces(queries, corpus)
    x, y = _same_place(as_matrix(queries), as_matrix(corpus))
    prepare, score = _block_functions(score_function, x, y)
    matches = TopMatches(len(x), count)
    query_rows, corpus_rows = min(query_rows, _QUERY_ROWS), min(corpus_rows, _CORPUS_ROWS)
    for first_id in range(0, len(y) if count > 0 else 0, corpus_rows):
        block = prepare(select_rows(y, first_id, corpus_rows))
        for first_query in range(0, len(x), query_rows):
            scores = score(prepare(select_rows(x, first_query, query_rows)), block)
            matches.add(first_query, *_on_cpu(scores, count), first_id)
    return matches


def as_matrix(vectors: AnyVectors) -> ArrayOrTensor:
    """Return vectors as a matrix: an array, or a tensor if they are sparse or on another device than the CPU."""
    if is_tensor(vectors) and (vectors.is_sparse or vectors.device.type != "cpu"):
        return as_rows(as_tensor(vectors))
    rows = vectors if isinstance(vectors, (list, tuple)) else ()
    sparse = isinstance(vectors, SparseVectors) or (bool(rows) and all(map(is_sparse, rows)))
    return as_rows(as_tensor(vectors) if sparse and torch_is_installed() else as_array(vectors))


def select_rows(matrix: ArrayOrTensor, start: int, count: int) -> ArrayOrTensor:
    """Return rows of a matrix, also of a sparse tensor, which torch does not slice."""
    if not is_sparse(matrix):
        return matrix[start : start + count]
    places = np.arange(start, min(start + count, len(matrix)))
    return matrix.index_select(0, array_to_tensor(places).to(matrix.device))


def _same_place(x: ArrayOrTensor, y: ArrayOrTensor) -> tuple[ArrayOrTensor, ArrayOrTensor]:
    """Return both as arrays, or both as tensors on the device of the corpus."""
    if is_tensor(x) != is_tensor(y):
        x, y = as_tensor(x), as_tensor(y)
    return (x.to(y.device), y) if is_tensor(x) else (x, y)


def _block_functions(
    score_function: ScoreFunction, x: ArrayOrTensor, y: ArrayOrTensor
) -> tuple[Callable[[Any], Any], ScoreFunction]:
    """Return what is done with each block first, and what compares two of them."""
    cosine = score_function in (similarity.cos_sim, similarity.pytorch_cos_sim)
    if cosine or score_function is similarity.dot_score:
        dense = not is_tensor(x) or not (x.is_sparse or y.is_sparse)
        product = _dense_product if dense else similarity.dot_score
        return (scale_to_unit if cosine else _unchanged), product
    if torch_is_installed() and not is_tensor(x):
        return _as_contiguous_tensor, score_function
    return _unchanged, score_function


def _dense_product(x: ArrayOrTensor, y: ArrayOrTensor) -> ArrayOrTensor:
    return x @ y.T


def _unchanged(block: ArrayOrTensor) -> ArrayOrTensor:
    return block


def _as_contiguous_tensor(block: Array) -> Any:
    return array_to_tensor(np.ascontiguousarray(block))


def _on_cpu(scores: ArrayOrTensor, count: int) -> tuple[Array, Array | None]:
    """Return a block's scores as an array; of another device the best ones alone, with their columns."""
    if not is_tensor(scores):
        return np.asarray(scores), None
    if scores.device.type == "cpu":
        return tensor_to_array(scores), None
    best = scores.detach().topk(min(count, scores.shape[1]), dim=1)
    return tensor_to_array(best.values), tensor_to_array(best.indices)


def _largest(scores: Array, count: int) -> Array:
    """Return the columns of the largest scores of each row, in any order."""
    if count == scores.shape[1]:
        return np.broadcast_to(np.arange(count), scores.shape)
    return np.argpartition(scores, -count, axis=1)[:, -count:]
