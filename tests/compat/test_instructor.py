"""InstructorEmbedding's `INSTRUCTOR` against sentence-transformers, whose pooling leaves out the instruction.

``python -m tools.instructor`` compares with InstructorEmbedding itself, which needs an old sentence-transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.compat import instructor as ours
from nearfield.errors import InputError
from tests.parity import t5

#: torch and sentence-transformers take more than two seconds to import.
pytestmark = pytest.mark.slow

QUERY, DOCUMENT = "Represent the question: ", "Represent the small document for the king; "
PAIRS = [
    [QUERY, "what is the river"],
    [DOCUMENT, "the stone of the city "],
    [QUERY, "  who keeps the light?"],
    ["", "no instruction at all"],
    [QUERY, ""],
    [DOCUMENT, "read the song of the old king, and " * 20],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that does not say that pooling leaves out the instruction."""
    save: dict[str, Any] = {"dense": [{"out": 24, "bias": False, "activation": "Identity"}], "normalize": False}
    return t5.encoder(save)(tmp_path_factory.mktemp("instructor") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> ours.INSTRUCTOR:
    return ours.INSTRUCTOR(str(folder))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(folder), device="cpu")
    reference.set_pooling_include_prompt(False)
    return reference


def _expect(reference: Any, pairs: list[list[str]], **options: Any) -> np.ndarray:
    rows = []
    for instruction, text in pairs:
        space = instruction[len(instruction.rstrip()) :]
        rows.append(reference.encode((space + text.strip()).rstrip(), prompt=instruction.strip(), **options))
    return np.stack(rows)


def test_vectors_leave_out_the_instruction(model: ours.INSTRUCTOR, reference: Any) -> None:
    vectors = model.encode(PAIRS)
    assert type(vectors) is np.ndarray and vectors.dtype == np.float32
    assert vectors.shape == (len(PAIRS), model.get_sentence_embedding_dimension())
    np.testing.assert_allclose(vectors, _expect(reference, PAIRS), atol=5e-5)
    assert not np.allclose(vectors[0], model.encode([["", f"{QUERY}{PAIRS[0][1]}"]])[0], atol=1e-3)


def test_unit_length(model: ours.INSTRUCTOR, reference: Any) -> None:
    vectors = model.encode(PAIRS, normalize_embeddings=True, batch_size=2, show_progress_bar=False)
    np.testing.assert_allclose(vectors, _expect(reference, PAIRS, normalize_embeddings=True), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_tensors(model: ours.INSTRUCTOR) -> None:
    import torch

    truth = model.encode(PAIRS)
    tensor = model.encode(PAIRS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), truth)
    listed = model.encode(PAIRS, convert_to_numpy=False)
    assert isinstance(listed, list) and all(isinstance(row, torch.Tensor) for row in listed)
    np.testing.assert_array_equal(torch.stack(listed).numpy(), truth)


def test_vectors_of_tokens(model: ours.INSTRUCTOR, reference: Any) -> None:
    rows = model.encode(PAIRS, output_value="token_embeddings", normalize_embeddings=True)
    for row, (instruction, text) in zip(rows, PAIRS, strict=True):
        joined = (instruction + text.strip()).strip()
        truth = reference.encode(joined, output_value="token_embeddings")
        np.testing.assert_allclose(row.numpy(), truth.numpy(), atol=5e-5)


def test_fewer_tokens_than_the_model_reads(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = ours.INSTRUCTOR(str(folder))
    assert model.get_max_seq_length() == model.max_seq_length == 60
    reference = SentenceTransformer(str(folder), device="cpu")
    reference.set_pooling_include_prompt(False)
    # Instructions that are longer than that too.
    model.max_seq_length = reference.max_seq_length = 12
    np.testing.assert_allclose(model.encode(PAIRS), _expect(reference, PAIRS), atol=5e-5)


def test_other_forms_of_pairs(model: ours.INSTRUCTOR) -> None:
    truth = model.encode(PAIRS)
    np.testing.assert_array_equal(model.encode([tuple(pair) for pair in PAIRS]), truth)
    named = [{"instruction": instruction, "text": text} for instruction, text in PAIRS]
    np.testing.assert_array_equal(model.encode(named), truth)
    assert model.encode([]).shape == (0, 24)


@pytest.mark.parametrize(
    "sentences",
    [
        "one text",
        [QUERY, "what is the river"],
        [[QUERY]],
        [[QUERY, "a", "b"]],
        {"instruction": QUERY, "text": "a"},
        [1],
    ],
)
def test_what_is_no_pair_is_refused(model: ours.INSTRUCTOR, sentences: Any) -> None:
    with pytest.raises(InputError, match=r"\['', text\]"):
        model.encode(sentences)


def test_refusals_say_what_to_do(folder: Path, model: ours.INSTRUCTOR) -> None:
    with pytest.raises(InputError, match="token_embeddings"):
        model.encode(PAIRS, output_value=None)
    with pytest.raises(InputError, match="folder"):
        ours.INSTRUCTOR(modules=[])
    with pytest.raises(InputError, match="HF_TOKEN"):
        ours.INSTRUCTOR(str(folder), token="hf_x")


def test_the_readme(model: ours.INSTRUCTOR) -> None:
    """The first examples of InstructorEmbedding's README, with the import changed."""
    from sklearn.metrics.pairwise import cosine_similarity

    text_instruction_pairs = [
        {"instruction": "Represent the title:", "text": "3D maps of the city"},
        {"instruction": "Represent the sentence for retrieving a duplicate sentence:", "text": "Recent work"},
    ]
    texts_with_instructions = []
    for pair in text_instruction_pairs:
        texts_with_instructions.append([pair["instruction"], pair["text"]])
    customized_embeddings = model.encode(texts_with_instructions)
    for pair, embedding in zip(text_instruction_pairs, customized_embeddings, strict=True):
        assert embedding.shape == (24,) and pair["text"]
    similarities = cosine_similarity(customized_embeddings, customized_embeddings)
    np.testing.assert_allclose(np.diag(similarities), 1, atol=1e-5)
