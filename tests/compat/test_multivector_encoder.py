"""`MultiVectorEncoder` beside the original: vectors, forms of results, scores, and code that people copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.compat.sentence_transformers.multivector import MultiVectorEncoder
from nearfield.errors import InputError
from tests.compat.comparison import assert_equal
from tests.parity import Case
from tests.parity.multivector import CASES, FIXED, own, pylate
from tests.support import tiny_models
from tests.support.tiny_models import TEXTS

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

#: The library that it compares with takes more than two seconds to import.
pytestmark = pytest.mark.slow

WORDS = ["a river bank by night", "the city", "query of the day, and of the night.", "a fox jumps over the dog"]


def original(folder: Path, **options: Any) -> Any:
    from sentence_transformers import MultiVectorEncoder as Original

    return Original(str(folder), device="cpu", **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own("bert", FIXED)(tmp_path_factory.mktemp("colbert"))


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[MultiVectorEncoder, Any]:
    return MultiVectorEncoder(str(folder)), original(folder)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.family}: {case.name}" for case in CASES])
def test_vectors_are_those_of_the_original(case: Case, tmp_path: Path) -> None:
    place = case.write(tmp_path)
    ours, theirs = MultiVectorEncoder(str(place)), original(place)
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
    assert ours.similarity_fn_name == theirs.similarity_fn_name
    name = f"encode_{case.wanted['role']}"
    assert_equal(getattr(ours, name)(list(TEXTS)), getattr(theirs, name)(list(TEXTS)))
    assert {key: ours.prompts[key] for key in ("query", "document")} == {
        key: theirs.prompts[key] for key in ("query", "document")
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"convert_to_numpy": True},
        {"normalize_embeddings": True},
        {"prompt": "search the river: "},
        {"processing_kwargs": {"text": {"max_length": 6, "truncation": True}}},
        {"batch_size": 1, "show_progress_bar": False, "chunk_size": 1},
    ],
    ids=lambda options: " ".join(options) or "none",
)
@pytest.mark.parametrize("inputs", [WORDS, WORDS[0], np.array(WORDS), []], ids=["many", "one", "array", "none"])
@pytest.mark.parametrize("call", ["encode", "encode_document"])
def test_results_have_the_form_of_the_original(
    call: str, inputs: Any, options: dict[str, Any], both: tuple[MultiVectorEncoder, Any]
) -> None:
    actual, expected = (getattr(model, call)(inputs, **options) for model in both)
    assert_equal(actual, expected)


def test_scores_are_those_of_the_original(both: tuple[MultiVectorEncoder, Any]) -> None:
    ours, theirs = both
    queries, documents = ours.encode_query(WORDS[:2]), ours.encode_document(WORDS)
    assert_equal(ours.similarity(queries, documents), theirs.similarity(queries, documents))
    assert_equal(ours.similarity(queries[0], documents), theirs.similarity(queries[0], documents))
    assert_equal(ours.similarity_pairwise(queries, documents[:2]), theirs.similarity_pairwise(queries, documents[:2]))
    mean = MultiVectorEncoder(ours._name, similarity_fn_name="meanmaxsim")
    np.testing.assert_allclose(mean.similarity(queries, documents) * 16, ours.similarity(queries, documents), rtol=1e-5)


def test_an_object_of_the_original_pools_tokens(both: tuple[MultiVectorEncoder, Any]) -> None:
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    pooling = HierarchicalTokenPooling(pool_factor=2)
    actual, expected = (model.encode_document(WORDS, token_pooling=pooling) for model in both)
    assert_equal(actual, expected)
    assert sum(map(len, actual)) < sum(map(len, both[0].encode_document(WORDS)))


@pytest.mark.parametrize("case", CASES, ids=[f"{case.family}: {case.name}" for case in CASES])
def test_a_saved_model_is_the_same_for_both_libraries(case: Case, tmp_path: Path) -> None:
    ours = MultiVectorEncoder(str(case.write(tmp_path)))
    ours.save(str(tmp_path / "saved"))
    name = f"encode_{case.wanted['role']}"
    expected = getattr(ours, name)(list(TEXTS))
    for again in (MultiVectorEncoder(str(tmp_path / "saved")), original(tmp_path / "saved")):
        assert_equal(getattr(again, name)(list(TEXTS)), expected)
        assert again.similarity_fn_name == ours.similarity_fn_name


def test_a_saved_model_keeps_its_layout_and_its_measure(folder: Path, tmp_path: Path) -> None:
    MultiVectorEncoder(str(folder), similarity_fn_name="meanmaxsim").save(tmp_path / "mean")
    assert MultiVectorEncoder(str(tmp_path / "mean")).similarity_fn_name == "meanmaxsim"
    MultiVectorEncoder(str(tmp_path / "mean")).save(tmp_path / "again")
    assert original(tmp_path / "again").similarity_fn_name == "meanmaxsim"
    place = pylate(tmp_path)
    before = tiny_models.read(place / "config_sentence_transformers.json")
    MultiVectorEncoder(str(place)).save(tmp_path / "copy")
    after = tiny_models.read(tmp_path / "copy" / "config_sentence_transformers.json")
    assert after == {**before, "prompts": {"query": "", "document": ""}, "default_prompt_name": None}


def test_wrong_values_are_refused(both: tuple[MultiVectorEncoder, Any]) -> None:
    model = both[0]
    with pytest.raises(InputError, match="has no `convert_to_tensor`"):
        model.encode(WORDS, convert_to_tensor=True)
    with pytest.raises(InputError, match="output_value must be"):
        model.encode(WORDS, output_value=None)
    with pytest.raises(InputError, match="similarity_fn_name must be maxsim or meanmaxsim"):
        model.similarity_fn_name = "cosine"
    with pytest.raises(InputError, match="no keyword 'normalize'"):
        model.encode_query(WORDS, normalize=True)


def test_code_that_people_copy_gives_the_same(folder: Path) -> None:
    from sentence_transformers import MultiVectorEncoder as Original

    snippet = """
model = MultiVectorEncoder(MODEL)
query_embeddings = model.encode_query(["What is the river?"])
document_embeddings = model.encode_document(["a river by night", "the moon"], batch_size=32, show_progress_bar=False)
scores = model.similarity(query_embeddings, document_embeddings)
result = [scores, [tuple(rows.shape) for rows in document_embeddings], model.encode_query("sun", convert_to_numpy=True)]
"""
    results = []
    for kind in (MultiVectorEncoder, Original):
        names: dict[str, Any] = {"MultiVectorEncoder": kind, "MODEL": str(folder)}
        exec(snippet, names)
        results.append(names["result"])
    assert_equal(*results)
