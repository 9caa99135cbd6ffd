"""Similarity functions equal those of sentence-transformers, for arrays, lists and tensors, with and without torch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nearfield.compat.sentence_transformers import util
from nearfield.compat.sentence_transformers.util import maxsim, similarity, tensor, top_matches
from nearfield.errors import InputError, SpaceMismatch
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("sentence_transformers.util")
pytestmark = [
    pytest.mark.slow,
    # Warnings of torch about sparse matrices, in the reference too.
    pytest.mark.filterwarnings("ignore:Sparse (invariant|CSR):UserWarning"),
]

MATRIX = ("cos_sim", "dot_score", "euclidean_sim", "manhattan_sim")
PAIRWISE = tuple(f"pairwise_{name}" for name in MATRIX)
MAXSIM = ("maxsim", "mean_maxsim")


@contextmanager
def without_torch() -> Iterator[None]:
    """Let functions believe that torch is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (tensor, top_matches, maxsim_module()):
            patch.setattr(module, "torch_is_installed", lambda: False)
        yield


def maxsim_module() -> Any:
    """Return the module, which the package's function of the same name hides."""
    return inspect.getmodule(maxsim)


@st.composite
def matrices(draw: st.DrawFn, same_rows: bool = False, rows: int = 6) -> tuple[Any, Any]:
    """Draw two matrices of one width with many equal and zero values, in one number format."""
    width = draw(st.integers(1, 9))
    first = draw(st.integers(1, rows))
    second = first if same_rows else draw(st.integers(1, rows))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    values = st.integers(-24, 24).map(lambda number: number / 8)
    return tuple(draw(arrays.arrays(dtype, (count, width), elements=values)) for count in (first, second))  # type: ignore[return-value]


def forms(matrix: Any) -> list[Any]:
    """Return the forms in which callers pass vectors."""
    dense = torch.from_numpy(matrix)
    return [matrix, list(matrix), matrix.tolist(), dense, list(dense), dense.to_sparse(), matrix.astype(np.float16)]


def close(actual: Any, expected: Any) -> None:
    """Check values; distances by torch lose digits where vectors are nearly equal."""
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=2e-4, atol=3e-3)


@settings(max_examples=40, deadline=None)
@given(matrices(), st.sampled_from(MATRIX), st.integers(0, 6), st.integers(0, 6))
def test_matrices(pair: tuple[Any, Any], name: str, first: int, second: int) -> None:
    expected = getattr(theirs, name)(*(torch.from_numpy(part).double() for part in pair))
    sides = forms(pair[0])[first], forms(pair[1])[second]
    result = getattr(util, name)(*sides)
    assert isinstance(result, torch.Tensor) and not result.is_sparse and result.is_floating_point()
    close(result, expected)
    with without_torch():
        plain = getattr(util, name)(*sides)
        assert type(plain) is np.ndarray
        close(plain, expected)


@settings(max_examples=40, deadline=None)
@given(matrices(same_rows=True), st.sampled_from([*PAIRWISE, "pairwise_angle_sim"]), st.integers(0, 6))
def test_rows(pair: tuple[Any, Any], name: str, form: int) -> None:
    expected = getattr(theirs, name)(*(torch.from_numpy(part).double() for part in pair))
    sides = forms(pair[0])[form], forms(pair[1])[0]
    close(getattr(util, name)(*sides), expected)
    with without_torch():
        close(getattr(util, name)(*sides), expected)


@pytest.mark.parametrize("name", MATRIX)
def test_single_vectors_and_empty_sets(name: str) -> None:
    ours, reference = getattr(util, name), getattr(theirs, name)
    a, b = np.array([1.0, 2.0], np.float32), np.array([[0.5, 1.0], [3.0, -1.0]], np.float32)
    close(ours(a, b), reference(a, b))
    empty = np.zeros((0, 2), np.float32)
    assert ours(empty, b).shape == (0, 2)
    with without_torch():
        assert ours(b, empty).shape == (2, 0)


def test_results_have_the_reference_number_format() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        a = torch.eye(3, dtype=dtype)
        assert util.cos_sim(a, a).dtype == theirs.cos_sim(a, a).dtype
    whole = torch.tensor([[1, 2], [3, 4]])
    assert torch.equal(util.dot_score(whole, whole), theirs.dot_score(whole, whole))
    close(util.cos_sim(whole, whole), theirs.cos_sim(whole.float(), whole.float()))


def test_near_vectors_without_torch() -> None:
    a = np.float32(1000) + np.arange(40, dtype=np.float32).reshape(40, 1) * np.float32(0.01) * np.ones(64, np.float32)
    with without_torch():
        result = util.euclidean_sim(a, a)
    exact = -np.linalg.norm(a[:, None].astype(np.float64) - a[None], axis=-1)
    np.testing.assert_allclose(result, exact, atol=1e-3)


def test_blocks_of_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "_BLOCK", 7)
    a, b = np.random.default_rng(0).standard_normal((2, 5, 6)).astype(np.float32)
    sparse = torch.from_numpy(np.where(a > 0.3, a, 0)).to_sparse()
    close(util.manhattan_sim(sparse, b), theirs.manhattan_sim(sparse.to_dense(), torch.from_numpy(b)))
    with without_torch():
        for name in MATRIX:
            close(getattr(util, name)(a, b), getattr(theirs, name)(a, b))


def test_gradients_and_inputs_stay() -> None:
    a, b = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    before = b.clone()
    util.cos_sim(a, b).sum().backward()
    assert a.grad is not None and torch.equal(b, before)


def test_spaces() -> None:
    rows = np.eye(3, dtype=np.float32)
    one, other = (Vectors(rows, fingerprint=f"{name}:3:float32", dim=3) for name in "ab")
    close(util.cos_sim(one, one[:2]), rows[:, :2])
    close(util.cos_sim(one, rows), rows)
    for function in (util.cos_sim, util.pairwise_dot_score, util.semantic_search):
        with pytest.raises(SpaceMismatch):
            function(one, other)
    with pytest.raises(InputError, match="3 and 2 dimensions"):
        util.dot_score(rows, rows[:, :2])


def test_quantized_vectors_are_decoded() -> None:
    signs = np.array([[1.0, -1.0] * 4, [1.0] * 8], np.float32) / np.sqrt(np.float32(8))
    bits = np.packbits(signs > 0, axis=1)
    vectors = Vectors(bits, fingerprint="m:8:ubinary", dim=8, precision="ubinary")
    close(util.cos_sim(vectors, vectors), signs @ signs.T)


def test_sparse_vectors() -> None:
    rows = [(np.array([1, 3]), np.array([0.5, 2.0])), (np.array([], int), np.array([]))]
    vectors = SparseVectors.of(rows, 5, "m:5:sparse")
    close(util.dot_score(vectors, vectors), [[4.25, 0], [0, 0]])
    with without_torch():
        close(util.dot_score(vectors, vectors), [[4.25, 0], [0, 0]])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_maxsim(queries: list[int], documents: list[int]) -> None:
    random = np.random.default_rng(len(queries) + sum(documents))
    a, b = (
        [torch.from_numpy(random.standard_normal((n, 3)).astype(np.float32)) for n in part]
        for part in (queries, documents)
    )
    for name in MAXSIM:
        close(getattr(util, name)(a, b), getattr(theirs, name)(a, b))
        with without_torch():
            close(
                getattr(util, name)([np.asarray(rows) for rows in a], [np.asarray(rows) for rows in b]),
                getattr(theirs, name)(a, b),
            )
    count = min(len(a), len(b))
    for name in ("maxsim_pairwise", "mean_maxsim_pairwise"):
        close(getattr(util, name)(a[:count], b[:count]), getattr(theirs, name)(a[:count], b[:count]))


def test_maxsim_of_padded_and_masked_inputs() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 3, 4, generator=generator), torch.randn(3, 5, 4, generator=generator)
    a[0, 2], b[1, 3:] = 0, 0
    masks = {"a_mask": torch.tensor([[1, 1, 0], [1, 0, 1.0]]), "b_mask": torch.ones(3, 5, dtype=torch.bool)}
    for name in (*MAXSIM, "maxsim"):
        close(getattr(util, name)(a, b), getattr(theirs, name)(a, b))
        close(getattr(util, name)(a, b, **masks), getattr(theirs, name)(a, b, **masks))
    close(util.maxsim(a[0], b[0]), theirs.maxsim(a[0], b[0]))
    with pytest.raises(ValueError, match="b_mask"):
        util.maxsim(a, b, b_mask=torch.ones(3, 4))
    with pytest.raises(InputError, match="covers 2 inputs"):
        util.maxsim(a, b, b_mask=torch.ones(2, 5))
    with pytest.raises(InputError, match="a_mask"):
        util.maxsim(a, b, a_mask="yes")
    with pytest.raises(ValueError, match="same number"):
        util.maxsim_pairwise(a, b)


def test_maxsim_without_tokens_or_inputs() -> None:
    query, empty = torch.ones(2, 3), torch.zeros(0, 3)
    assert util.maxsim([query], [empty, query]).tolist() == theirs.maxsim([query], [empty, query]).tolist()
    assert util.maxsim([query], []).shape == (1, 0)
    vectors = MultiVectors.of([np.ones((2, 3), np.float32)], 3, "m:3:multivector")
    close(util.maxsim(vectors, vectors), [[6.0]])


def test_similarity_function() -> None:
    assert util.SimilarityFunction.possible_values() == theirs.SimilarityFunction.possible_values()
    for member in theirs.SimilarityFunction:
        ours = util.SimilarityFunction(member.value)
        assert ours.name == member.name
        for method in ("to_similarity_fn", "to_similarity_pairwise_fn"):
            names = [
                getattr(kind, method)(member.value).__name__
                for kind in (util.SimilarityFunction, theirs.SimilarityFunction)
            ]
            assert names[0] == names[1]
    assert util.SimilarityFunction("dot") is util.SimilarityFunction.DOT
    with pytest.raises(InputError, match="cosine"):
        util.SimilarityFunction("cosin")


def test_single_sets() -> None:
    matrix = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    dense = torch.from_numpy(matrix)
    close(util.normalize_embeddings(dense), theirs.normalize_embeddings(dense))
    close(
        util.normalize_embeddings(dense.to_sparse()).to_dense(),
        theirs.normalize_embeddings(dense.to_sparse()).to_dense(),
    )
    close(util.normalize_embeddings(dense[0].to_sparse()).to_dense(), [0.6, 0.8])
    assert type(util.normalize_embeddings(matrix)) is np.ndarray
    assert util.truncate_embeddings(matrix, 1).shape == (2, 1) and util.truncate_embeddings(dense, None) is not None
    values = torch.tensor([[3.0, -1.0, 2.0, 0.5]])
    for count in (1, 2, 9):
        assert torch.equal(util.select_max_active_dims(values, count), theirs.select_max_active_dims(values, count))
        with without_torch():
            close(util.select_max_active_dims(np.asarray(values), count), theirs.select_max_active_dims(values, count))
    assert util.select_max_active_dims(matrix, None) is matrix
    with pytest.raises(InputError, match="max_active_dims"):
        util.select_max_active_dims(values, 0)
    batch = {"ids": values, "text": "a"}
    assert util.batch_to_device(batch, "cpu") is batch and batch["text"] == "a"


def test_signatures_and_tables() -> None:
    for name in util.__all__:
        own = getattr(util, name)
        if not inspect.isfunction(own):
            continue
        signature = inspect.signature(own)
        module = theirs.quantization if "faiss" in name or "usearch" in name else theirs
        expected = inspect.signature(getattr(module, name))
        values = [(p.name, p.default, p.kind) for p in signature.parameters.values()]
        reference = [(p.name, _own_default(p.default), p.kind) for p in expected.parameters.values()]
        assert values == reference, name
        if name != "information_retrieval":
            assert list(util.ARGUMENTS[name]) and set(util.ARGUMENTS[name]) == set(signature.parameters), name


def _own_default(value: Any) -> Any:
    return util.cos_sim if value is theirs.cos_sim else value
