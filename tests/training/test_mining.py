"""Hard negatives: ranks, margins, teacher, and what is left out, on vectors whose scores are known."""

import numpy as np
import pytest

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, Retrieval
from nearfield.training import mining
from nearfield.training.mining import mine_negatives
from nearfield.training.training_data import TrainingData

#: The cosine of each document with the only direction that queries have.
SCORES = {"answer": 0.9, "hidden answer": 0.89, "hard": 0.8, "harder": 0.84, "easy": 0.1, "Answer!": 0.7}


class KnownVectors:
    """Gives each text a vector of unit length with the score above as its first value."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores
        self.blocks: list[int] = []

    def encode_query(self, texts: list[str]) -> Array:
        return np.tile(np.array([1.0, 0.0], np.float32), (len(texts), 1))

    def encode_document(self, texts: list[str]) -> Array:
        self.blocks.append(len(texts))
        return np.array([[self.scores[text], (1 - self.scores[text] ** 2) ** 0.5] for text in texts], np.float32)


class KnownTeacher:
    """Holds one document for as good as the answer."""

    def score(self, query: list[str], documents: list[str]) -> Array:
        return np.array([{"answer": 5.0, "harder": 4.9}.get(text, -3.0) for text in documents])


def ranking(**grades: int) -> TrainingData:
    documents = {name: name for name in SCORES}
    return TrainingData("set", Retrieval(documents, {"q": "a query"}, {"q": {"answer": 1, **grades}}))


def negatives(data: TrainingData) -> list[str]:
    assert isinstance(data.rows, Retrieval)
    return [name for name, grade in data.rows.relevant["q"].items() if grade == 0]


def test_the_best_ranked_are_taken_that_are_below_the_margin() -> None:
    result = mine_negatives(ranking(), KnownVectors(SCORES), per_query=2)
    assert negatives(result.data) == ["harder", "hard"]
    assert (result.mined, result.short_of) == (2, 0)
    assert result.left_out == {"judged": 1, "margin": 1, "equal_text": 1}
    assert result.close_share == pytest.approx(1 / 5)


def test_the_text_of_the_answer_under_another_id_is_no_negative() -> None:
    assert "Answer!" not in negatives(mine_negatives(ranking(), KnownVectors(SCORES), per_query=5).data)


def test_judged_negatives_stay_and_are_not_mined_again() -> None:
    result = mine_negatives(ranking(harder=0), KnownVectors(SCORES), per_query=1)
    assert negatives(result.data) == ["harder", "hard"]


def test_ranks_choose_easier_negatives() -> None:
    result = mine_negatives(ranking(), KnownVectors(SCORES), per_query=1, ranks=(3, 5))
    assert negatives(result.data) == ["hard"]


def test_a_query_without_enough_candidates_is_counted() -> None:
    result = mine_negatives(ranking(), KnownVectors(SCORES), per_query=9)
    assert (result.mined, result.short_of) == (3, 1)


def test_a_teacher_takes_out_what_it_holds_for_an_answer_and_its_scores_stay() -> None:
    result = mine_negatives(ranking(), KnownVectors(SCORES), per_query=2, teacher=KnownTeacher())
    assert negatives(result.data) == ["hard", "easy"]
    assert result.left_out["teacher"] == 1
    assert result.data.teacher_scores["q"] == {"answer": 5.0, "hard": -3.0, "easy": -3.0}


def test_scores_below_zero_keep_the_margin_below_the_positive() -> None:
    scores = {"answer": -0.5, "close": -0.51, "far": -0.6}
    data = TrainingData("set", Retrieval(dict(zip(scores, scores, strict=True)), {"q": "ask"}, {"q": {"answer": 1}}))
    assert negatives(mine_negatives(data, KnownVectors(scores)).data) == ["far"]


def test_blocks_of_documents_give_the_same_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = {f"d{n}": float(score) for n, score in enumerate(rng.uniform(-1, 1, 500))}
    relevant = {f"q{n}": {f"d{n}": 1} for n in range(50)}
    data = TrainingData("set", Retrieval({name: name for name in scores}, {q: f"ask {q}" for q in relevant}, relevant))
    whole = mine_negatives(data, KnownVectors(scores))
    monkeypatch.setattr(mining, "_DOCUMENT_ROWS", 64)
    monkeypatch.setattr(mining, "_QUERY_ROWS", 7)
    encoder = KnownVectors(scores)
    assert mine_negatives(data, encoder).data.digest == whole.data.digest
    assert max(encoder.blocks) == 64


def test_progress_counts_texts() -> None:
    steps: list[tuple[int, int]] = []
    mine_negatives(ranking(), KnownVectors(SCORES), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 7), (7, 7)]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"per_query": 0}, "per_query"), ({"ranks": (5, 1)}, "ranks"), ({"relative_margin": 1.0}, "relative_margin")],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mine_negatives(ranking(), KnownVectors(SCORES), **options)  # type: ignore[arg-type]


def test_classes_have_no_negatives() -> None:
    with pytest.raises(InputError, match="has labels"):
        mine_negatives(TrainingData("set", Labelled(["a", "b"], ["x", "y"])), KnownVectors({}))
