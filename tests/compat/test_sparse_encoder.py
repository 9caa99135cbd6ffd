"""`SparseEncoder` beside the original: weights, forms of results, tokens, similarity, and code that people copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from nearfield.compat.sentence_transformers import sparse_embeddings
from nearfield.compat.sentence_transformers.sparse import SparseEncoder
from nearfield.errors import InputError
from nearfield.vectors.sparse import SparseVectors
from tests.compat.comparison import assert_equal
from tests.parity import Case
from tests.parity.sparse import CASES, inference_free, masked
from tests.support.tiny_models import TEXTS

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

#: The library that it compares with takes more than two seconds to import.
pytestmark = pytest.mark.slow

WORDS = ["a river bank by night", "the city", "query of the day", "a fox jumps over the dog"]


def original(folder: Path, **options: Any) -> Any:
    from sentence_transformers import SparseEncoder as Original

    return Original(str(folder), device="cpu", **options)


def dense(embeddings: Any) -> Any:
    """Return sparse tensors, alone or in a list, as dense ones, which can be compared."""
    if isinstance(embeddings, list):
        return [dense(row) for row in embeddings]
    return embeddings.to_dense() if embeddings.is_sparse else embeddings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return masked("bert")(tmp_path_factory.mktemp("splade"))


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[SparseEncoder, Any]:
    return SparseEncoder(str(folder)), original(folder)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.family}: {case.name}" for case in CASES])
def test_weights_are_those_of_the_original(case: Case, tmp_path: Path) -> None:
    place = case.write(tmp_path)
    ours, theirs = SparseEncoder(str(place)), original(place)
    assert ours.max_seq_length == theirs.max_seq_length
    name = f"encode_{case.wanted['role']}" if case.wanted else "encode"
    actual, expected = (getattr(model, name)(list(TEXTS)) for model in (ours, theirs))
    assert actual.is_sparse and actual.is_coalesced()
    assert actual.shape == (len(TEXTS), ours.get_embedding_dimension())
    # Weights below zero of queries without a model are in no index, and not in ours.
    assert_equal(dense(actual), dense(expected).clamp_min(0))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"convert_to_tensor": False},
        {"convert_to_sparse_tensor": False},
        {"convert_to_tensor": False, "convert_to_sparse_tensor": False},
        {"max_active_dims": 5},
        {"prompt": "search: ", "save_to_cpu": True},
        {"processing_kwargs": {"text": {"max_length": 4, "truncation": True}}},
        {"batch_size": 1, "show_progress_bar": False, "chunk_size": 1},
    ],
    ids=lambda options: " ".join(options) or "none",
)
@pytest.mark.parametrize("inputs", [WORDS, WORDS[0], np.array(WORDS), []], ids=["many", "one", "array", "none"])
def test_results_have_the_form_of_the_original(
    inputs: Any, options: dict[str, Any], both: tuple[SparseEncoder, Any]
) -> None:
    actual, expected = (model.encode(inputs, **options) for model in both)
    assert_equal(dense(actual), dense(expected))
    assert [row.is_sparse for row in actual] == [row.is_sparse for row in expected]


def test_roles_have_their_prompts(folder: Path) -> None:
    prompts = {"query": "search the river: ", "passage": "read the stone: "}
    ours, theirs = SparseEncoder(str(folder), prompts=prompts), original(folder, prompts=prompts)
    assert ours.prompts == theirs.prompts
    for call in ("encode_query", "encode_document", "encode"):
        assert_equal(dense(getattr(ours, call)(WORDS)), dense(getattr(theirs, call)(WORDS)))
    assert_equal(dense(ours.encode(WORDS, prompt_name="passage")), dense(theirs.encode(WORDS, prompt_name="passage")))
    for model in (ours, theirs):
        with pytest.raises(ValueError, match="'wrong' not found"):
            model.encode(WORDS, prompt_name="wrong")


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor")
def test_tokens_of_vectors_are_those_of_the_original(both: tuple[SparseEncoder, Any]) -> None:
    ours, theirs = both
    embeddings = theirs.encode(WORDS)
    for part in (embeddings, embeddings[0], embeddings.to_dense(), embeddings.to_dense()[1]):
        for top_k in (None, 3):
            assert_equal(ours.decode(part, top_k=top_k), theirs.decode(part, top_k=top_k))
        assert ours.sparsity(part) == theirs.sparsity(part)
    none = embeddings.to_dense() * 0
    assert ours.decode(none) == theirs.decode(none) == [[]] * len(WORDS)
    assert ours.sparsity(none[:0]) == theirs.sparsity(none[:0])


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_intersections_are_those_of_the_original(both: tuple[SparseEncoder, Any]) -> None:
    ours, theirs = both
    embeddings = theirs.encode(WORDS)
    for other in (embeddings, embeddings[2], embeddings.to_dense()):
        actual, expected = (model.intersection(embeddings[0], other) for model in (ours, theirs))
        assert actual.is_sparse
        assert_equal(dense(actual), dense(expected))
    with pytest.raises(InputError, match="embeddings_1 must be one vector, and is 4"):
        ours.intersection(embeddings, embeddings)
    with pytest.raises(InputError, match="come from different models"):
        ours.intersection(embeddings[0].to_dense()[:4], embeddings)


@pytest.mark.parametrize("measure", SparseEncoder.SUPPORTED_SIMILARITY_FN_NAMES)
def test_similarity_is_that_of_the_original(measure: str, folder: Path) -> None:
    ours, theirs = SparseEncoder(str(folder), similarity_fn_name=measure), original(folder, similarity_fn_name=measure)
    embeddings = theirs.encode(WORDS)
    for a, b in ((embeddings, embeddings), (embeddings.to_dense(), embeddings), (embeddings[0], embeddings)):
        # The original takes a square root of rounding noise where two vectors are equal.
        np.testing.assert_allclose(ours.similarity(a, b), theirs.similarity(a, b), rtol=1e-4, atol=2e-2)
    rows = embeddings.to_dense()
    assert_equal(ours.similarity_pairwise(rows[:2], rows[2:]), theirs.similarity_pairwise(rows[:2], rows[2:]))


def test_settings_of_the_constructor(folder: Path, tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [
        {"max_active_dims": 3},
        {"tokenizer_kwargs": {"model_max_length": 6}},
        {"default_prompt_name": "query", "prompts": {"query": "river "}},
    ]
    for keywords in options:
        ours, theirs = SparseEncoder(str(folder), **keywords), original(folder, **keywords)
        assert ours.max_active_dims == theirs.max_active_dims
        assert_equal(dense(ours.encode(WORDS)), dense(theirs.encode(WORDS)))
    assert SparseEncoder(str(folder)).similarity_fn_name == "dot"
    saved = original(folder, max_active_dims=4, similarity_fn_name="cosine")
    saved.save(str(tmp_path / "saved"))
    ours = SparseEncoder(str(tmp_path / "saved"))
    assert (ours.max_active_dims, ours.similarity_fn_name) == (4, "cosine")
    assert_equal(dense(ours.encode(WORDS)), dense(saved.encode(WORDS)))
    more = SparseEncoder(str(tmp_path / "saved"), max_active_dims=7)
    assert_equal(dense(more.encode(WORDS)), dense(original(folder, max_active_dims=7).encode(WORDS)))
    ours.max_seq_length = saved.max_seq_length = 5
    assert_equal(dense(ours.encode(WORDS)), dense(saved.encode(WORDS)))


def test_wrong_values_are_refused(both: tuple[SparseEncoder, Any]) -> None:
    model = both[0]
    with pytest.raises(InputError, match="no keyword 'normalize'"):
        model.encode(WORDS, normalize=True)
    with pytest.raises(InputError, match="Input 1 is a pair of texts"):
        model.encode(["a text", ("a", "b")])
    with pytest.raises(InputError, match="maxsim"):
        model.similarity_fn_name = "maxsim"
    with pytest.raises(InputError, match="max_active_dims must be a whole number of 1 or more"):
        model.encode([3], max_active_dims=0)  # refused before the inputs are looked at
    with pytest.raises(InputError, match="max_active_dims must be a whole number of 1 or more"):
        SparseEncoder(model._name, max_active_dims=0)
    with pytest.raises(InputError, match="top_k must be a whole number"):
        model.decode(model.encode(WORDS), top_k=0)
    with pytest.raises(TypeError, match="expected a tensor"):
        model.decode([1, 2, 3])
    with pytest.raises(InputError, match="1 or 2 dimensions"):
        model.sparsity(torch.zeros(1, 2, 3))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_without_torch_results_are_sparse_vectors(
    both: tuple[SparseEncoder, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = both
    expected = dense(theirs.encode(WORDS)).numpy()
    monkeypatch.setattr(sparse_embeddings, "torch_is_installed", lambda: False)
    vectors, one = ours.encode(WORDS), ours.encode(WORDS[0])
    assert isinstance(vectors, SparseVectors) and one.single
    assert_equal(np.asarray(vectors), expected)
    assert ours.decode(one) == ours.decode(np.asarray(one))
    # How sums are rounded depends on the shape of a batch.
    beside, alone = dict(cast(Any, ours.decode(vectors)[0])), dict(cast(Any, ours.decode(one)))
    assert beside == pytest.approx(alone, abs=1e-5)
    assert ours.sparsity(vectors) == ours.sparsity(np.asarray(vectors))
    assert_equal(np.asarray(ours.intersection(one, vectors)), dense(theirs.intersection(*_tensors(expected))).numpy())


def _tensors(rows: Any) -> tuple[Any, Any]:
    return torch.from_numpy(rows[0]), torch.from_numpy(rows)


#: Code of documentation pages, with MODEL in place of a name on the Hub; each sets ``result``.
SNIPPETS = [
    """
model = SparseEncoder(MODEL)
sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
embeddings = model.encode(sentences)
similarities = model.similarity(embeddings, embeddings)
stats = SparseEncoder.sparsity(embeddings)
result = [tuple(embeddings.shape), similarities, stats["sparsity_ratio"]]
""",
    """
model = SparseEncoder(MODEL, trust_remote_code=True)
query_embedding = model.encode_query("What is the river?")
document_embeddings = model.encode_document(["a river", "the moon"], batch_size=16, show_progress_bar=False)
scores = model.similarity(query_embedding, document_embeddings)
ids = document_embeddings.coalesce().indices()[1].tolist()
result = [scores, ids, model.decode(query_embedding, top_k=10)]
""",
    """
model = SparseEncoder(MODEL, max_active_dims=8)
embedding = model.encode("a river", convert_to_sparse_tensor=False, convert_to_tensor=True)
indices = embedding.nonzero().squeeze().tolist()
result = [indices, embedding[indices].tolist(), model.get_sentence_embedding_dimension()]
""",
]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor", "ignore:The .get_sentence_embedding_dimension:FutureWarning")
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_code_that_people_copy_gives_the_same(snippet: str, folder: Path) -> None:
    from sentence_transformers import SparseEncoder as Original

    results = []
    for kind in (SparseEncoder, Original):
        names: dict[str, Any] = {"SparseEncoder": kind, "MODEL": str(folder)}
        exec(snippet, names)
        results.append(names["result"])
    assert_equal(*results)


def test_queries_without_a_model_have_roles(tmp_path: Path) -> None:
    place = inference_free(tmp_path)
    ours = SparseEncoder(str(place))
    query, document = ours.encode_query(WORDS[0]), ours.encode_document(WORDS[0])
    assert query._nnz() < document._nnz()
    assert {token for token, _ in ours.decode(query)} <= set(ours.tokenizer.tokenize(WORDS[0])) | {"[CLS]", "[SEP]"}
