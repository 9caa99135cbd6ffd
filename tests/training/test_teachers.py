"""Teachers: their scores on one scale, what may be one, and what they leave out of mined negatives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder, Reranker
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, Retrieval
from nearfield.testing import write_tiny_model
from nearfield.training.mining import mine_negatives
from nearfield.training.teachers import ModelTeacher, check_teacher, open_teacher, require_teachable, score_judged
from nearfield.training.training_data import TrainingData
from tests.parity.multivector import own
from tests.parity.scores import classifier

DOCUMENTS = {"d1": "a cat sat on the mat", "d2": "hello blue world", "d3": "the red dog"}
DATA = TrainingData("pets", Retrieval(DOCUMENTS, {"q": "the cat"}, {"q": {"d1": 1, "d2": 0}}))
OPTIONS: dict[str, Any] = {"precision": "float32", "compile_cache": False}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    with Encoder(str(write_tiny_model(tmp_path_factory.mktemp("teacher") / "tiny")), **OPTIONS) as encoder:
        yield encoder


@pytest.fixture(scope="module")
def cross(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reranker]:
    with Reranker(str(classifier("bert")(tmp_path_factory.mktemp("teacher"))), **OPTIONS) as reranker:
        yield reranker


class KnownVectors:
    """Gives each document a vector with a known cosine to all queries."""

    def encode_query(self, texts: list[str]) -> Any:
        return np.tile(np.array([1.0, 0.0]), (len(texts), 1))

    def encode_document(self, texts: list[str]) -> Any:
        cosines = {DOCUMENTS["d1"]: 0.9, DOCUMENTS["d2"]: 0.3, DOCUMENTS["d3"]: 0.5}
        return np.array([[cosines[text], (1 - cosines[text] ** 2) ** 0.5] for text in texts])


def test_a_dense_teacher_gives_cosines_times_20(dense: Encoder) -> None:
    scores = score_judged(DATA, ModelTeacher(dense))
    query, texts = np.asarray(dense.encode_query(["the cat"])), [DOCUMENTS["d1"], DOCUMENTS["d2"]]
    expected = 20 * (query @ np.asarray(dense.encode_document(texts)).T)[0]
    assert list(scores) == ["q"]
    np.testing.assert_allclose(list(scores["q"].values()), expected, atol=1e-4)


def test_documents_of_many_queries_are_encoded_once(dense: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, encoded, encode = ModelTeacher(dense), [], Encoder.encode_document

    def spy(self: Encoder, texts: list[str], **options: Any) -> Any:
        encoded.extend(texts)
        return encode(self, texts, **options)

    monkeypatch.setattr(Encoder, "encode_document", spy)
    teacher.score(["a", "a", "b"], ["one cat", "two dogs", "one cat"])
    teacher.score(["c"], ["one cat"])
    assert encoded == ["one cat", "two dogs"]


def test_a_cross_encoder_gives_logits_whose_margins_are_those_of_probabilities(cross: Reranker) -> None:
    teacher, texts = ModelTeacher(cross), list(DOCUMENTS.values())
    scores = teacher.score(["the cat"] * 3, texts)
    np.testing.assert_allclose(scores, np.asarray(cross.score("the cat", texts, activation="identity")), atol=1e-5)
    np.testing.assert_allclose(teacher.nearness(scores), 1 / (1 + np.exp(-scores)), atol=1e-6)
    assert np.isfinite(teacher.nearness(np.array([-1e4, 1e4]))).all()


def test_a_negative_that_a_teacher_finds_as_good_as_the_answer_is_left_out(dense: Encoder) -> None:
    class Logits(ModelTeacher):
        """Logits by text: the second document is relevant with nearly the probability of the answer."""

        def score(self, query: list[str], documents: list[str], /) -> Any:
            return np.array([{DOCUMENTS["d1"]: 9.0, DOCUMENTS["d3"]: 7.0}.get(text, -4.0) for text in documents])

        def nearness(self, scores: Any) -> Any:
            return 1 / (1 + np.exp(-scores))

    data = TrainingData("pets", Retrieval(DOCUMENTS, {"q": "the cat"}, {"q": {"d1": 1}}))
    options: dict[str, Any] = {"per_query": 2, "relative_margin": 0.05}
    plain = mine_negatives(data, KnownVectors(), **options)
    taught = mine_negatives(data, KnownVectors(), teacher=Logits(dense), **options)
    assert isinstance(plain.data.rows, Retrieval) and isinstance(taught.data.rows, Retrieval)
    assert plain.data.rows.relevant["q"].keys() - taught.data.rows.relevant["q"].keys() == {"d3"}
    assert taught.left_out["teacher"] == 1  # 7 is 22% below 9 in logits, and 0.1% in probability
    assert taught.data.teacher_scores["q"] == {"d1": 9.0, "d2": -4.0}


def test_a_teacher_is_opened_by_its_kind_and_named_by_its_weights(dense: Encoder, cross: Reranker) -> None:
    digests = set()
    for model in (dense, cross):
        folder = str(model.recipe.folder)
        digests.add(check_teacher(folder))
        with open_teacher(folder) as teacher:
            assert type(teacher.model) is type(model)
    assert len(digests) == 2 and all(len(digest) == 64 for digest in digests)


def test_other_kinds_are_no_teachers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="out gives 3 scores"):
        check_teacher(str(classifier("bert", labels=3)(tmp_path / "3")))
    with pytest.raises(InputError, match="out gives multivector vectors"), open_teacher(str(own("bert")(tmp_path))):
        pass


@pytest.mark.parametrize(
    ("data", "negatives", "message"),
    [
        (TrainingData("l", Labelled(("a", "b"), ("x", "y"))), 3, "l has labels: leave the teacher out"),
        (TrainingData("t", DATA.rows, teacher_scores={"q": {"d1": 4.0}}), 3, "has the scores of a teacher already"),
        (DATA, 0, "--negatives, such as 3"),
    ],
)
def test_data_without_pairs_to_score_are_refused(data: TrainingData, negatives: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_teachable(data, negatives)
