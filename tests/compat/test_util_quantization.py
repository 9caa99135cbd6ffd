"""Quantisation and searches by faiss and usearch equal those of sentence-transformers."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield.compat.sentence_transformers import quantization as older_place
from nearfield.compat.sentence_transformers import similarity_functions, util
from nearfield.errors import InputError

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("sentence_transformers.util.quantization")
pytestmark = pytest.mark.slow

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


def random_vectors(seed: int, rows: int, width: int = 16) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(1, 20), st.sampled_from(PRECISIONS), st.integers(0, 3), st.integers(0, 10**6))
def test_bytes(rows: int, width: int, precision: Any, source: int, seed: int) -> None:
    vectors = random_vectors(seed, rows, width)
    vectors[:, 0] = 1
    options: dict[str, Any] = {}
    if source == 1:
        options["ranges"] = np.stack([vectors.min(0) / 2, vectors.max(0) / 2])
    if source == 2:
        options["calibration_embeddings"] = random_vectors(seed + 1, 7, width)
    form = torch.from_numpy(vectors) if source == 3 else vectors
    result, expected = (module.quantize_embeddings(form, precision, **options) for module in (util, theirs))
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_forms_of_vectors(precision: Any) -> None:
    vectors, ranges = random_vectors(1, 9), np.stack([-np.ones(16), np.ones(16)])
    expected = theirs.quantize_embeddings(vectors, precision, ranges)
    for form in (list(vectors), torch.from_numpy(vectors), list(torch.from_numpy(vectors))):
        np.testing.assert_array_equal(util.quantize_embeddings(form, precision, ranges), expected)
    np.testing.assert_array_equal(
        util.quantize_embeddings(vectors[0], precision, ranges),
        theirs.quantize_embeddings(vectors[0], precision, ranges),
    )
    halves = torch.from_numpy(vectors).bfloat16()
    np.testing.assert_array_equal(
        util.quantize_embeddings(halves, precision, ranges), theirs.quantize_embeddings(halves, precision, ranges)
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_lists_of_matrices(precision: Any) -> None:
    matrices = [random_vectors(1, 5), np.zeros((0, 16), np.float32), random_vectors(2, 3)]
    pairs = zip(
        util.quantize_embeddings(matrices, precision), theirs.quantize_embeddings(matrices, precision), strict=True
    )
    for result, expected in pairs:
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
    assert util.quantize_embeddings([], precision) == []
    assert util.quantize_embeddings([matrices[1]], precision)[0].shape[0] == 0


def test_refusals(caplog: pytest.LogCaptureFixture) -> None:
    vectors = random_vectors(1, 2)
    with pytest.raises(InputError, match="int4"):
        util.quantize_embeddings(vectors, "int4")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="quantised already"):
        util.quantize_embeddings(vectors.astype(np.int8), "binary")
    with pytest.raises(InputError, match="single embedding"):
        util.quantize_embeddings(vectors[:1], "int8")
    with caplog.at_level(logging.WARNING, "nearfield"):
        util.quantize_embeddings(vectors, "uint8")
    assert "2 vectors" in caplog.text
    assert older_place.quantize_embeddings is util.quantize_embeddings
    assert similarity_functions.SimilarityFunction is util.SimilarityFunction


LIBRARIES = [("faiss", p) for p in ("float32", "uint8", "ubinary")]
LIBRARIES += [("usearch", p) for p in ("float32", "int8", "ubinary", "binary")]


@pytest.mark.parametrize(("library", "precision"), LIBRARIES)
@pytest.mark.parametrize("rescore", [True, False])
@pytest.mark.parametrize("rows", [3, 60])
def test_searches(library: str, precision: Any, rescore: bool, rows: int) -> None:
    pytest.importorskip(library)
    queries, calibration = random_vectors(1, 3), random_vectors(2, 200)
    corpus = util.quantize_embeddings(random_vectors(3, rows), precision, calibration_embeddings=calibration)
    name = f"semantic_search_{library}"
    options = {"corpus_precision": precision, "top_k": 5, "rescore": rescore, "calibration_embeddings": calibration}
    # Of equal distances any are candidates: with as many as there are vectors all are.
    options["rescore_multiplier"] = 20
    result, seconds = getattr(util, name)(queries, corpus, **options)
    expected, _ = getattr(theirs, name)(queries, corpus, **options)
    assert seconds >= 0
    for hits, reference in zip(result, expected, strict=True):
        scores = [hit["score"] for hit in hits]
        assert scores == pytest.approx([hit["score"] for hit in reference], rel=1e-5)
        if len(set(scores)) == len(scores):
            assert [hit["corpus_id"] for hit in hits] == [hit["corpus_id"] for hit in reference]


@pytest.mark.parametrize("library", ["faiss", "usearch"])
def test_index_is_used_again(library: str) -> None:
    pytest.importorskip(library)
    search = getattr(util, f"semantic_search_{library}")
    queries, corpus = random_vectors(1, 3), random_vectors(3, 60)
    first, _, index = search(queries, corpus, rescore=False, output_index=True)
    second, _ = search(queries, corpus_index=index, rescore=False)
    assert first == second
    near, _ = search(queries, corpus, exact=False, rescore=False, top_k=3)
    assert len(near[0]) == 3
    with pytest.raises(InputError, match="not both"):
        search(queries, corpus, index)
    with pytest.raises(InputError, match="neither"):
        search(queries)
    with pytest.raises(InputError, match="corpus_precision"):
        search(queries, corpus, corpus_precision="float16")


def test_queries_that_are_quantised_already(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("faiss")
    corpus = util.quantize_embeddings(random_vectors(3, 60), "ubinary")
    with caplog.at_level(logging.WARNING, "nearfield"):
        result, _ = util.semantic_search_faiss(corpus[:2], corpus, corpus_precision="ubinary", top_k=1)
    assert [hits[0] for hits in result] == [{"corpus_id": 0, "score": 0.0}, {"corpus_id": 1, "score": 0.0}]
    assert "rescore" in caplog.text
    empty, _ = util.semantic_search_faiss(random_vectors(1, 2), corpus[:0], corpus_precision="ubinary")
    assert empty == [[], []]


def test_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(InputError, match="pip install faiss-cpu"):
        util.semantic_search_faiss(random_vectors(1, 2), random_vectors(2, 2))
