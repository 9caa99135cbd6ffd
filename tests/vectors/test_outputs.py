"""Outputs of several kinds: one pass, MaxSim and sparse products against loops, late chunking, pieces, ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Classifier, Encoder, MultiVectors, Reranker, SparseVectors, maxsim
from nearfield.errors import InputError, InputTooLong, ModelRefused, SpaceMismatch
from tests.parity import m3, rotary_bert
from tests.parity.multivector import own
from tests.parity.scores import classifier
from tests.parity.sparse import masked
from tests.support import tiny_models

ALL = {"dense", "sparse", "multivector"}
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return m3.write(tmp_path_factory.mktemp("m3"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    with Encoder(str(folder), precision="float32") as model:
        yield model


def test_several_outputs_come_from_one_pass(encoder: Encoder) -> None:
    batches: list[Any] = []
    encoder.engine.observers.append(batches.append)
    outputs = encoder.encode(["river bank"], outputs=ALL)
    encoder.engine.observers.remove(batches.append)
    assert len(batches) == 1 and set(outputs.kinds) == ALL
    for kind in ALL:
        single = encoder.encode(["river bank"], outputs=kind)
        assert set(single.kinds) == {kind} and single[kind].fingerprint == outputs[kind].fingerprint
    np.testing.assert_allclose(outputs.dense, encoder.encode(["river bank"]), atol=2e-6)
    assert list(outputs.tokens) == [4] and list(outputs.dropped) == [0]
    with pytest.raises(InputError, match="'scores' was not requested"):
        outputs["scores"]


def test_requests_of_different_kinds_share_batches(encoder: Encoder) -> None:
    texts = [f"{word} river" for word in tiny_models.WORDS[:40]]
    kinds = [None, "dense", "sparse", ALL]
    tickets = [encoder.submit([text], outputs=kinds[place % 4]) for place, text in enumerate(texts)]
    rows = [ticket.result(30)[0] for ticket in tickets]
    assert [set(row) if isinstance(row, dict) else {"plain"} for row in rows[:4]] == [
        {"plain"},
        {"dense"},
        {"sparse"},
        ALL,
    ]
    np.testing.assert_allclose(
        [rows[place]["dense"] for place in range(3, 40, 4)], encoder.encode(texts[3::4]), atol=2e-5
    )


def test_unknown_outputs_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gives no 'sparce' output. Did you mean 'sparse'"):
        encoder.encode("a", outputs="sparce")
    with pytest.raises(InputError, match="outputs is empty"):
        encoder.encode("a", outputs=[])
    with pytest.raises(InputError, match="precision applies to dense"):
        encoder.encode("a", outputs="sparse", precision="int8")
    with pytest.raises(InputError, match="truncate='chunk'"):
        encoder.encode("a", outputs="sparse", truncate="chunk")
    with pytest.raises(ModelRefused, match=r"load it as nearfield\.Encoder"):
        Reranker(str(tiny_models.tiny_bert(tmp_path / "dense")))
    with pytest.raises(ModelRefused, match=r"load it as nearfield\.Reranker"):
        Encoder(str(classifier("bert")(tmp_path)))


def test_empty_lists_have_the_right_kind(encoder: Encoder) -> None:
    empty = encoder.encode([], outputs=ALL)
    assert len(empty) == 0 and empty.dense.shape == (0, 32) and empty.sparse.size == encoder.recipe.config["vocab_size"]
    assert empty.multivector.data.shape == (0, 32)
    assert empty.multivector.similarity(encoder.encode(["a"], outputs="multivector").multivector).shape == (0, 1)


def test_maxsim_against_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [RANDOM.standard_normal((n, 8)).astype(np.float32) for n in (3, 1, 0, 5)]
    documents = [RANDOM.standard_normal((n, 8)).astype(np.float32) for n in (4, 0, 7, 1, 30, 0)]
    expected = np.array(
        [[float((q @ d.T).max(1).sum()) if len(q) and len(d) else 0.0 for d in documents] for q in queries]
    )
    a, b = MultiVectors.of(queries, 8, "x"), MultiVectors.of(documents, 8, "x")
    np.testing.assert_allclose(maxsim(a, b), expected, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr("nearfield.vectors.multivector._BLOCK", 40)
    np.testing.assert_allclose(a.similarity(b), expected, rtol=1e-5, atol=1e-5)
    mean = MultiVectors.of(queries, 8, "x", average=True).similarity(b)
    np.testing.assert_allclose(mean[0], expected[0] / 3, rtol=1e-5, atol=1e-5)
    with pytest.raises(SpaceMismatch):
        a.similarity(MultiVectors.of(documents, 8, "y"))


def test_sparse_products_against_dense_ones() -> None:
    dense = [np.maximum(RANDOM.standard_normal((n, 50)).astype(np.float32), 0) for n in (5, 4)]
    dense[0][2] = 0
    a, b = (
        SparseVectors.of([(np.flatnonzero(row).astype(np.int32), row[row > 0]) for row in rows], 50, "x")
        for rows in dense
    )
    np.testing.assert_array_equal(np.asarray(a), dense[0])
    np.testing.assert_allclose(a.similarity(b), dense[0] @ dense[1].T, rtol=1e-5)
    assert a.to_dicts()[2] == {} and len(a[-1][0]) == (dense[0][-1] > 0).sum()
    with pytest.raises(IndexError):
        a[5]
    with pytest.raises(SpaceMismatch):
        a.similarity(SparseVectors.of([], 50, "y"))


def test_similarity_by_the_models_own_measure(tmp_path: Path) -> None:
    with Encoder(str(masked("bert")(tmp_path / "s")), precision="float32") as sparse:
        a, b = sparse.encode_query(["river"]), sparse.encode_document(["river bank", "sun"])
        np.testing.assert_allclose(sparse.similarity(a, b), np.asarray(a) @ np.asarray(b).T, rtol=1e-5)
    with Encoder(str(own("bert")(tmp_path / "m")), precision="float32") as late:
        scores = late.similarity(late.encode_query(["river"]), late.encode_document(["river", "sun"]))
        assert scores.shape == (1, 2) and scores[0, 0] > scores[0, 1]


def test_late_chunking_pools_parts_of_one_pass(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = tiny_models.tiny_bert(tmp_path / "b")
    chunks = ["The river bank. ", "The sun and the ", "moon at night."]
    with Encoder(str(folder), precision="float32") as encoder:
        vectors, other = encoder.encode_late([chunks, ["peace ", "and love"]])
        with pytest.raises(InputError, match=r"Chunk 1 contains no token"):
            encoder.encode_late([["a", " ", "b"]])
        with pytest.raises(InputTooLong):
            encoder.encode_late([["river " * 90]])
    assert vectors.shape == (3, 32) and other.shape == (2, 32)
    assert vectors.tokens is not None and list(vectors.tokens) == [4, 4, 4]
    model = SentenceTransformer(str(folder), device="cpu")
    states: Any = model.encode("".join(chunks), output_value="token_embeddings")
    for row, start, stop in zip(vectors, (1, 5, 9), (5, 9, 13), strict=True):
        mean = np.asarray(states[start:stop]).mean(0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=2e-5)


def test_over_long_texts_in_pieces(tmp_path: Path) -> None:
    folder = tiny_models.tiny_bert(tmp_path / "b")
    sentences = [f"The {word} river bank is by the {word} house." for word in tiny_models.WORDS[:12]]
    with Encoder(str(folder), precision="float32", max_length=40) as encoder:
        whole = encoder.encode([" ".join(sentences), "sun", "river " * 100], truncate="chunk")
        parts = [encoder.encode([" ".join(sentences[at : at + 3])])[0] for at in range(0, 12, 3)]
        plain = encoder.encode([" ".join(sentences), "sun"])
    assert list(whole.dropped) == [0, 0, 0] and plain.dropped[0] > 0 and whole.tokens[0] > 40
    mean = np.mean(parts, 0)
    np.testing.assert_allclose(whole[0], mean / np.linalg.norm(mean), atol=2e-3)
    np.testing.assert_allclose(whole[1], plain[1], atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(whole), axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_rank_and_predict(tmp_path: Path) -> None:
    documents = ["river", "sun", "", "bank " * 80, "river"]
    with Reranker(str(classifier("bert")(tmp_path / "r")), precision="float32") as reranker:
        scores = reranker.score("what is it", documents)
        ranked = reranker.rank("what is it", documents, top_k=3)
        assert [document.index for document in ranked] == list(np.argsort(-scores.data, kind="stable")[:3])
        assert scores.dropped is not None
        assert list(scores.dropped > 0) == [False, False, False, True, False] and scores.data[0] == scores.data[4]
        logits = reranker.score("what is it", documents, activation="identity")
        np.testing.assert_allclose(1 / (1 + np.exp(-logits.data)), scores.data, atol=1e-6)
        assert reranker.rank("x", []) == []
        with pytest.raises(InputTooLong, match="pair 3 has"):
            reranker.score("what is it", documents, truncate="error")
        with pytest.raises(InputError, match="2 queries and 1 document"):
            reranker.score(["a", "b"], ["c"])
        with pytest.raises(InputError, match="Pair 0: the second text must be a string, and is the number"):
            reranker.score("a", [3])  # type: ignore[list-item]
        with pytest.raises(InputError, match="takes no instruction"):
            Reranker(str(tmp_path / "r" / "out"), instruction="be kind")
    with Classifier(str(classifier("roberta", 3)(tmp_path / "c")), precision="float32") as labels:
        single, many = labels.predict("river"), labels.predict([("a", "b"), ("c", "d")])
        assert single.label in labels.labels and sum(single.scores.values()) == pytest.approx(1, abs=1e-6)
        assert len(many) == 2 and single.score == max(single.scores.values())
        with pytest.raises(InputError, match="not both at once"):
            labels.predict(["a", ("b", "c")])  # type: ignore[arg-type]


def test_instructions_and_tasks(tmp_path: Path) -> None:
    saved = {"query": "Instruct: find the passage\nQuery:", "document": "", "sorting": "the sorting "}
    with Encoder(str(tiny_models.tiny_bert(tmp_path / "a", prompts=saved)), precision="float32") as encoder:
        np.testing.assert_allclose(
            encoder.encode("sun", instruction="find the star"),
            encoder.encode("sun", prompt="Instruct: find the star\nQuery:"),
            atol=2e-6,
        )
        named, task = encoder.encode("sun", prompt_name="sorting"), encoder.encode("sun", task="sorting")
        np.testing.assert_allclose(named, task, atol=2e-6)
        with pytest.raises(InputError, match=r"has no task 'sorted'\. Did you mean 'sorting'"):
            encoder.encode("sun", task="sorted")
        with pytest.raises(InputError, match="prompt or instruction, not both"):
            encoder.encode("sun", instruction="a", prompt="b")
    with Encoder(str(tiny_models.tiny_bert(tmp_path / "b")), precision="float32") as plain:
        np.testing.assert_allclose(
            plain.encode("sun", instruction="find "), plain.encode("sun", prompt="find "), atol=2e-6
        )


def test_a_role_selects_its_task(tmp_path: Path) -> None:
    """jina-embeddings-v3 has no prompts by role: without its task a query would lack prompt and adapter alike."""
    folder = rotary_bert.tasks(tmp_path)
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        plain = np.asarray(encoder.encode("sun"))
        for role, task in (("query", "retrieval.query"), ("document", "retrieval.passage")):
            vector = encoder.encode("sun", role=role)
            np.testing.assert_array_equal(vector, encoder.encode("sun", task=task))
            assert vector.fingerprint == encoder.encode("sun", task=task).fingerprint
            assert np.abs(np.asarray(vector) - plain).max() > 0.01
        own = encoder.encode("sun", role="query", adapter="separation")
        np.testing.assert_array_equal(own, encoder.encode("sun", adapter="separation"))
