"""Rewordings among training rows and test rows: near vectors count if words and numbers agree."""

from pathlib import Path

import numpy as np
import pytest

from nearfield.errors import InputError, SourceUnavailable
from nearfield.evaluation.datasets.dataset import Dataset, Labelled, PairRows
from nearfield.training.fine_tuning.base_model import open_base
from nearfield.training.fine_tuning.options import TrainOptions
from nearfield.training.fine_tuning.preparation import PreparedRun, prepare
from nearfield.training.leaks import find_leaks
from nearfield.training.overlap import leak_vectors
from nearfield.training.overlap.leak_vectors import LeakVectorSource
from nearfield.training.overlap.rewordings import SharedWords, rewordings
from nearfield.training.training_data import TrainingData
from tests.support.requirements import missing
from tests.support.tiny_training import WORDS, labelled_rows, tiny_base

FIRST = ["how do I cancel my stolen card", "transfer 50 euros to Rome", "what is the weather"]
SECOND = ["my card was stolen, how do I cancel it", "transfer 70 euros to Rome", "who wrote this book"]


def rows(*cosines: float) -> np.ndarray:
    """Return unit vectors whose products with the axes are these."""
    return np.array([[cosine if place == axis else 0.0 for axis in range(3)] for place, cosine in enumerate(cosines)])


def matches(*cosines: float) -> list[tuple[int, int]]:
    return [pair[:2] for pair in rewordings(FIRST, SECOND, rows(*cosines), np.eye(3))]


def test_near_vectors_count_if_words_and_numbers_agree() -> None:
    assert matches(0.95, 0.95, 0.95) == [(0, 0)]


def test_very_near_vectors_count_alone_and_far_ones_do_not() -> None:
    assert matches(0.98, 0.98, 0.5) == [(0, 0), (1, 1)]
    assert matches(0.89, 0.5, 0.5) == []


def test_a_text_is_compared_with_several_near_ones() -> None:
    left = np.array([[0.96, 0.91, 0.0]])
    (pair,) = rewordings(FIRST[:1], [SECOND[2], SECOND[0]], left, np.eye(3)[:2])
    assert pair[1] == 1


def test_rare_words_weigh_more_than_common_ones() -> None:
    words = SharedWords([*(f"what is the price of item{n}" for n in range(200)), *FIRST, *SECOND])
    assert words.confirm(FIRST[0], SECOND[0])
    assert not words.confirm("what is the price of rubies", "what is the price of velvet")


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base") / "base")


def planted(base: Path, mode: object) -> PreparedRun:
    """Prepare a run whose test has the words of a training row in another order."""
    data = labelled_rows()
    assert isinstance(data.rows, Labelled)
    text = " ".join(WORDS[::18])
    reworded = " ".join(WORDS[::18][::-1])
    train = TrainingData("topics", Labelled([*data.rows.texts, text], [*data.rows.labels, data.rows.labels[0]]))
    fresh = [f"sentence {n * 7} about number {n}" for n in range(12)]
    test = Dataset("test", "sts", PairRows([*fresh, reworded], [*fresh[::-1], "other"], [n % 3 for n in range(13)]))
    return prepare(open_base(str(base)), train, TrainOptions(leak_vectors=mode), test=test)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["auto", True])
def test_a_reworded_row_of_the_test_is_refused(base: Path, mode: object) -> None:
    with pytest.raises(InputError, match=r"1 row of the training data.*\n?.*translations or rewordings"):
        planted(base, mode)


def test_without_vectors_it_is_trained_on(base: Path) -> None:
    rows = planted(base, False).data.rows
    assert isinstance(rows, Labelled)
    assert " ".join(WORDS[::18]) in rows.texts


def test_large_sets_are_compared_on_request_alone(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leak_vectors, "CHEAP_TEXTS", 100)
    notes = planted(base, "auto").notes
    assert any("were not compared by vectors" in note and "--leak-vectors" in note for note in notes)
    with pytest.raises(InputError, match="1 row of the training data"):
        planted(base, True)


def test_a_paraphrase_of_a_test_question_is_found_by_a_real_model() -> None:
    train = ["How many people live in the city of Lisbon?", "When was the telephone invented?", "Who painted Guernica?"]
    test = ["What number of people live in Lisbon city?", "When was the television invented?", "Who painted Salome?"]
    pair = [TrainingData(name, Labelled(texts, ["a", "b", "a"])) for name, texts in (("a", train), ("b", test))]
    try:
        with LeakVectorSource("all-MiniLM-L6-v2", is_dense=True, mode=True) as source:
            vectors = source.vectors(*pair)
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
    (leak,) = find_leaks(*pair, vectors=vectors)
    assert (leak.kind, leak.left_key, leak.right_key) == ("parallel", "0", "0")
    assert find_leaks(*pair) == []
