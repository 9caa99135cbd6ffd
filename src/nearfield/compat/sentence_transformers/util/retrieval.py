"""Search, paraphrase mining and clusters over vectors in memory: exact, in blocks, on the CPU by NumPy.

Tensors on another device are compared there. All return plain lists. Equal scores keep the order of the corpus.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nearfield.argument_checks import require_count, require_number
from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.similarity import cos_sim
from nearfield.compat.sentence_transformers.util.tensor import AnyVectors, ArrayOrTensor, scale_to_unit, to_dense
from nearfield.compat.sentence_transformers.util.top_matches import (
    ScoreFunction,
    TopMatches,
    as_matrix,
    find_top_matches,
    select_rows,
)
from nearfield.progress import Progress
from nearfield.tensors import is_tensor, tensor_to_array

#: Similarities that exist at once in ``community_detection`` (float32: 256 MB).
_BLOCK = 64_000_000


def semantic_search(
    query_embeddings: AnyVectors,
    corpus_embeddings: AnyVectors,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500000,
    top_k: int = 10,
    score_function: ScoreFunction = cos_sim,
) -> list[list[dict[str, int | float]]]:
    """Return the nearest vectors of a corpus for each query: ``corpus_id`` and ``score``, the best first.

    Args:
        query_embeddings: vectors, or a single one.
        corpus_embeddings: vectors.
        query_chunk_size: the largest number of queries that are compared at once; fewer are, if memory asks for it.
        corpus_chunk_size: the same for vectors of the corpus.
        top_k: matches of each query.
        score_function: a function of two matrices, which gets tensors if torch is installed.

    Raises:
        SpaceMismatch: the two live in different known spaces.
        InputError: a size is less than 1, or ``top_k`` less than 0.
    """
    matches = find_top_matches(
        query_embeddings, corpus_embeddings, top_k, score_function, query_chunk_size, corpus_chunk_size
    )
    rows = zip(matches.ids.tolist(), matches.scores.tolist(), matches.filled.sum(1).tolist(), strict=True)
    return [
        [{"corpus_id": number, "score": score} for number, score in zip(ids[:count], scores[:count], strict=True)]
        for ids, scores, count in rows
    ]


def information_retrieval(*args: Any, **kwargs: Any) -> list[list[dict[str, int | float]]]:
    """Return ``semantic_search``: its older name."""
    return semantic_search(*args, **kwargs)


def paraphrase_mining(
    model: Any,
    sentences: list[str],
    show_progress_bar: bool = False,
    batch_size: int = 32,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """Encode sentences and return the nearest pairs as [score, i, j]; see ``paraphrase_mining_embeddings``.

    ``model`` is a ``SentenceTransformer`` or a ``nearfield.Encoder``. ``batch_size`` has no effect.
    """
    del batch_size
    options = {"truncate_dim": truncate_dim, "prompt_name": prompt_name, "prompt": prompt}
    embeddings = model.encode(sentences, show_progress_bar=show_progress_bar, **options)
    return paraphrase_mining_embeddings(
        embeddings, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function
    )


def paraphrase_mining_embeddings(
    embeddings: AnyVectors,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
) -> list[list[float | int]]:
    """Return the nearest pairs of vectors as [score, i, j] with i < j, the nearest first.

    Args:
        embeddings: vectors.
        query_chunk_size: how many vectors search their neighbours at a time; memory holds ``top_k`` of each.
        corpus_chunk_size: the largest number of vectors that they are compared with at once.
        max_pairs: the largest number of pairs.
        top_k: neighbours of each vector that are considered.
        score_function: a symmetric function of two matrices, which gets tensors if torch is installed.

    Raises:
        InputError: a size is less than 1, or a number less than 0.
    """
    require_count("query_chunk_size", query_chunk_size)
    require_count("top_k", top_k, 0)
    require_count("max_pairs", max_pairs, 0)
    matrix = as_matrix(embeddings)
    pairs = _BestPairs(max_pairs)
    for start in range(0, len(matrix), query_chunk_size):
        numbers = np.arange(start, min(start + query_chunk_size, len(matrix)))
        rows = select_rows(matrix, start, query_chunk_size)
        matches = find_top_matches(rows, matrix, top_k + 1, score_function, corpus_rows=corpus_chunk_size)
        pairs.add(numbers, matches, top_k)
    return pairs.to_list()


def community_detection(
    embeddings: AnyVectors,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Return clusters of vectors whose cosine to a central vector is at least ``threshold``, the largest first.

    The first number of a cluster is its centre; the others follow by falling cosine. No vector is in two clusters:
    the centre with the most neighbours takes its own first.

    Args:
        embeddings: vectors.
        threshold: the smallest cosine to the centre.
        min_community_size: clusters of fewer vectors are left out.
        batch_size: the largest number of vectors that are compared with all at once.
        show_progress_bar: whether to show a progress bar.

    Raises:
        InputError: a number has a value that makes no sense.
    """
    require_count("batch_size", batch_size)
    require_count("min_community_size", min_community_size, 0)
    require_number("threshold", threshold)
    matrix = to_dense(as_matrix(embeddings)) if len(embeddings) else np.zeros((0, 1), np.float32)
    if not len(matrix) or len(matrix) < min_community_size:
        return []
    unit = scale_to_unit(matrix)
    limit = float(np.float32(threshold))
    step = max(1, min(batch_size, _BLOCK // len(unit)))
    counts = _count_neighbours(unit, limit, step, show_progress_bar)
    centres = np.argsort(-counts, kind="stable")[: int((counts >= min_community_size).sum())]
    clusters = _separate_clusters(unit, centres, limit, step, min_community_size)
    return sorted(clusters, key=len, reverse=True)


class _BestPairs:
    """The pairs of the highest scores among those added, once each."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._threshold = -np.inf
        #: The smaller number of each pair times 2**32, plus the larger one.
        self._codes = np.zeros(0, np.uint64)
        self._scores = np.zeros(0, np.float64)

    def add(self, numbers: Array, matches: TopMatches, top_k: int) -> None:
        """Take the matches of some vectors; of each the nearest ``top_k``, without itself."""
        others = matches.filled & (matches.ids != numbers[:, None])
        others &= others.cumsum(1) <= top_k
        others &= matches.scores > self._threshold
        owners = numbers[np.nonzero(others)[0]]
        neighbours = matches.ids[others]
        low, high = (choose(owners, neighbours).astype(np.uint64) for choose in (np.minimum, np.maximum))
        codes = np.concatenate([self._codes, low << np.uint64(32) | high])
        scores = np.concatenate([self._scores, matches.scores[others]])
        # The first score of a pair stays: that of the other direction may differ in the last bit.
        self._codes, first = np.unique(codes, return_index=True)
        self._scores = scores[first]
        if len(self._codes) > self._limit:
            self._prune()

    def _prune(self) -> None:
        best = np.lexsort((self._codes, -self._scores))[: self._limit]
        self._codes, self._scores = self._codes[best], self._scores[best]
        self._threshold = float(self._scores[-1]) if self._limit else np.inf

    def to_list(self) -> list[list[float | int]]:
        """Return [score, i, j] of each pair, by falling score."""
        order = np.lexsort((self._codes, -self._scores))
        codes = self._codes[order]
        low, high = (codes >> np.uint64(32)).tolist(), (codes & np.uint64(2**32 - 1)).tolist()
        return [list(pair) for pair in zip(self._scores[order].tolist(), low, high, strict=True)]


def _count_neighbours(unit: ArrayOrTensor, limit: float, step: int, show_progress_bar: bool) -> Array:
    """Return how many vectors are near each vector, itself included."""
    counts = np.zeros(len(unit), np.int64)
    with Progress(len(unit), label="Finding clusters", unit="vectors", shown=show_progress_bar) as progress:
        for start in range(0, len(unit), step):
            near = (unit[start : start + step] @ unit.T >= limit).sum(1)
            counts[start : start + step] = tensor_to_array(near) if is_tensor(near) else near
            progress.advance(len(near), 0)
    return counts


def _separate_clusters(
    unit: ArrayOrTensor, centres: Array, limit: float, step: int, min_community_size: int
) -> list[list[int]]:
    """Return the cluster of each centre that is in none before; similarities are computed again, to bound memory."""
    clusters = []
    free = np.ones(len(unit), bool)
    for start in range(0, len(centres), step):
        block = [number for number in centres[start : start + step].tolist() if free[number]]
        if not block:
            continue
        scores = unit[block] @ unit.T
        for centre, row in zip(block, tensor_to_array(scores) if is_tensor(scores) else scores, strict=True):
            members = np.flatnonzero((row >= limit) & free) if free[centre] else np.zeros(0, np.int64)
            if len(members) >= max(1, min_community_size):
                order = members[np.argsort(-row[members], kind="stable")]
                clusters.append([centre, *order[order != centre].tolist()])
                free[clusters[-1]] = False
    return clusters
