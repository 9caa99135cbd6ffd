"""Search, paraphrase mining and clusters equal those of sentence-transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield import Encoder
from nearfield.compat.sentence_transformers import util
from nearfield.compat.sentence_transformers.util import retrieval, top_matches
from nearfield.errors import InputError
from tests.compat.test_util_similarity import without_torch

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("sentence_transformers.util")
pytestmark = [
    pytest.mark.slow,
    # Warnings of torch about sparse matrices, in the reference too.
    pytest.mark.filterwarnings("ignore:Sparse (invariant|CSR):UserWarning"),
]


def random_vectors(seed: int, rows: int, width: int = 6, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(dtype)


def flat(hits: list[list[dict[str, Any]]]) -> list[list[tuple[int, Any]]]:
    return [[(hit["corpus_id"], pytest.approx(hit["score"], abs=1e-5)) for hit in row] for row in hits]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks, although the matrices are small."""
    monkeypatch.setattr(top_matches, "_QUERY_ROWS", 5)
    monkeypatch.setattr(top_matches, "_CORPUS_ROWS", 13)
    monkeypatch.setattr(retrieval, "_BLOCK", 900)


@pytest.mark.parametrize("score", ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"])
@pytest.mark.parametrize("chunks", [(100, 500000), (3, 7)])
@pytest.mark.parametrize("top_k", [1, 4, 200])
def test_semantic_search(score: str, chunks: tuple[int, int], top_k: int) -> None:
    queries, corpus = random_vectors(1, 7), random_vectors(2, 60)
    expected = theirs.semantic_search(
        torch.from_numpy(queries), torch.from_numpy(corpus), top_k=top_k, score_function=getattr(theirs, score)
    )
    for form in (lambda rows: rows, torch.from_numpy, list, lambda rows: torch.from_numpy(rows).to_sparse()):
        result = util.semantic_search(form(queries), form(corpus), *chunks, top_k, getattr(util, score))
        assert flat(result) == [[(hit["corpus_id"], hit["score"]) for hit in row] for row in expected]
    with without_torch():
        result = util.semantic_search(queries, corpus, *chunks, top_k, getattr(util, score))
        assert flat(result) == [[(hit["corpus_id"], hit["score"]) for hit in row] for row in expected]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(0, 40), st.integers(0, 12), st.integers(0, 10**6))
def test_search_with_equal_scores(queries: int, rows: int, top_k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    q, corpus = (random.integers(-1, 2, (count, 2)).astype(np.float64) for count in (queries, rows))
    scores = q @ corpus.T
    for row, hits in zip(
        scores, util.semantic_search(q, corpus, top_k=top_k, score_function=util.dot_score), strict=True
    ):
        # The order of equal scores is that of the corpus.
        best = np.argsort(-row, kind="stable")[:top_k]
        assert sorted(hit["score"] for hit in hits) == sorted(row[best].tolist())
        assert [row[hit["corpus_id"]] for hit in hits] == [hit["score"] for hit in hits]
        assert len({hit["corpus_id"] for hit in hits}) == len(hits) == min(top_k, rows)


def test_search_where_every_block_is_better_than_those_before() -> None:
    corpus = np.arange(1, 400, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    hits = util.semantic_search(np.ones(2, np.float32), corpus, top_k=3, score_function=util.dot_score)
    assert [hit["corpus_id"] for hit in hits[0]] == [398, 397, 396]


def test_search_edges() -> None:
    queries, corpus = random_vectors(1, 2), random_vectors(2, 5)
    assert util.semantic_search(queries, corpus[:0]) == [[], []]
    assert util.semantic_search(queries[:0], corpus) == []
    assert util.semantic_search(queries, corpus, top_k=0) == [[], []]
    assert len(util.semantic_search(queries[0], corpus)) == 1
    assert util.information_retrieval(queries, corpus) == util.semantic_search(queries, corpus)
    with pytest.raises(InputError, match="corpus_chunk_size"):
        util.semantic_search(queries, corpus, corpus_chunk_size=0)


#: Calls with a number that makes no sense, by its name.
WRONG: dict[str, Any] = {
    "top_k": lambda value: util.semantic_search(np.eye(3), np.eye(3), top_k=value),
    "query_chunk_size": lambda value: util.semantic_search(np.eye(3), np.eye(3), query_chunk_size=value),
    "corpus_chunk_size": lambda value: util.semantic_search(np.eye(3), np.eye(3), corpus_chunk_size=value),
    "paraphrases: top_k": lambda value: util.paraphrase_mining_embeddings(np.eye(3), top_k=value),
    "paraphrases: query_chunk_size": lambda value: util.paraphrase_mining_embeddings(np.eye(3), query_chunk_size=value),
    "paraphrases: corpus_chunk_size": lambda value: util.paraphrase_mining_embeddings(
        np.eye(3), corpus_chunk_size=value
    ),
    "paraphrases: max_pairs": lambda value: util.paraphrase_mining_embeddings(np.eye(3), max_pairs=value),
    "clusters: batch_size": lambda value: util.community_detection(np.eye(3), batch_size=value),
    "clusters: min_community_size": lambda value: util.community_detection(np.eye(3), min_community_size=value),
    "faiss: top_k": lambda value: util.semantic_search_faiss(np.eye(3), np.eye(3), top_k=value),
    "faiss: rescore_multiplier": lambda value: util.semantic_search_faiss(
        np.eye(3), np.eye(3), rescore_multiplier=value
    ),
    "usearch: top_k": lambda value: util.semantic_search_usearch(np.eye(3), np.eye(3), top_k=value),
}


@pytest.mark.parametrize("value", [-1, 1.5, "many", None])
@pytest.mark.parametrize("call", WRONG)
def test_numbers_that_make_no_sense(call: str, value: Any) -> None:
    name = call.rpartition(": ")[2]
    with pytest.raises(InputError, match=f"{name} must be a whole number of [01] or more, and is"):
        WRONG[call](value)


@pytest.mark.parametrize("call", [name for name in WRONG if "size" in name and "community" not in name])
def test_sizes_of_zero(call: str) -> None:
    with pytest.raises(InputError, match="must be a whole number of 1 or more, and is the number 0"):
        WRONG[call](0)


def test_search_by_a_function_of_the_caller() -> None:
    seen = []

    def negative(a: Any, b: Any) -> Any:
        seen.append(type(a))
        return -(a @ b.T)

    queries, corpus = random_vectors(1, 3), random_vectors(2, 30)
    expected = theirs.semantic_search(torch.from_numpy(queries), torch.from_numpy(corpus), score_function=negative)
    assert set(seen) == {torch.Tensor}
    assert flat(util.semantic_search(queries, corpus, score_function=negative)) == [
        [(hit["corpus_id"], hit["score"]) for hit in row] for row in expected
    ]
    with without_torch():
        util.semantic_search(queries, corpus, score_function=negative)
    assert set(seen) == {torch.Tensor, np.ndarray}


@pytest.mark.parametrize(
    ("max_pairs", "top_k", "chunks"), [(10**6, 100, (5000, 10**5)), (25, 4, (7, 9)), (3, 1, (4, 40))]
)
def test_paraphrase_mining(max_pairs: int, top_k: int, chunks: tuple[int, int]) -> None:
    vectors = random_vectors(3, 60)
    options: dict[str, Any] = {"max_pairs": max_pairs, "top_k": top_k}
    expected = theirs.paraphrase_mining_embeddings(torch.from_numpy(vectors), **options)
    result = util.paraphrase_mining_embeddings(vectors, *chunks, **options)
    assert [(i, j) for _, i, j in result] == [(i, j) for _, i, j in expected]
    np.testing.assert_allclose([row[0] for row in result], [row[0] for row in expected], atol=1e-5)


def test_paraphrases_of_equal_vectors() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    pairs = util.paraphrase_mining_embeddings(vectors, top_k=3)
    best = {(i, j) for score, i, j in pairs if score > 0.99}
    assert best == {(i, j) for i in range(12) for j in range(i + 1, 12) if i // 4 == j // 4}
    assert util.paraphrase_mining_embeddings(vectors[:1]) == []


def test_paraphrase_mining_with_an_encoder(tiny: Encoder) -> None:
    texts = ["the cat sat", "a blue dog", "the cat sat on", "search query"]
    vectors = np.asarray(tiny.encode(texts))
    assert util.paraphrase_mining(tiny, texts) == util.paraphrase_mining_embeddings(vectors)


def _as_sets(clusters: list[list[int]]) -> list[tuple[int, set[int]]]:
    return [(cluster[0], set(cluster)) for cluster in clusters]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 70),
    st.integers(1, 5),
    st.sampled_from([0.3217, 0.6543, 0.9137]),
    st.integers(1, 4),
    st.integers(0, 10**6),
)
def test_clusters(rows: int, width: int, threshold: float, size: int, seed: int) -> None:
    vectors = random_vectors(seed, rows, width)
    expected = theirs.community_detection(torch.from_numpy(vectors), threshold, size)
    assert _as_sets(util.community_detection(vectors, threshold, size)) == _as_sets(expected)
    assert _as_sets(util.community_detection(torch.from_numpy(vectors), threshold, size, batch_size=7)) == _as_sets(
        expected
    )


def test_clusters_by_falling_cosine() -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [0.8, 0.3], [0, 1], [0.1, 1]], np.float32)
    assert util.community_detection(vectors, 0.8, 2) == [[0, 1, 2], [3, 4]]
    assert util.community_detection(np.ones((200, 16), np.float32), 1.0, 5, batch_size=16) == [list(range(200))]
    assert util.community_detection([], 0.5, 1) == []
    assert util.community_detection(torch.from_numpy(vectors).to_sparse(), 0.8, 2, show_progress_bar=True)
