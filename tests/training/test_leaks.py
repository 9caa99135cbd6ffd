"""Leaks: planted ones of each kind are found, clean splits raise no alarm."""

import numpy as np
import pytest

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Classification, Dataset, Labelled, PairRows, Retrieval
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.training.data.loaders import load_training_data
from nearfield.training.leaks import describe_leaks, drop_leaked, find_leaks, leak_texts
from nearfield.training.splitting import select_rows, split_by_source
from nearfield.training.training_data import TrainingData
from tests.support.paths import SHARED_FOLDER

LONG = (
    "The committee met for the last time in 1962 in Huntsville, where Wernher von Braun and Nicholas Golovin spoke at "
    "length about the reasons for which a landing by way of an orbit around the moon would be the cheapest of all."
)
GERMAN = (
    "Zum letzten Mal traf sich der Ausschuss 1962 in Huntsville; Wernher von Braun und Nicholas Golovin begründeten "
    "dort ausführlich, warum eine Landung über eine Umlaufbahn des Mondes am wenigsten Geld kosten werde."
)
OTHERS = [f"An unrelated sentence about thing number {n} and its colour." for n in range(20)]

needs_data = pytest.mark.skipif(not SHARED_FOLDER.is_dir(), reason="the folder of public data is not there")


def labelled(texts: list[str], sources: dict[str, str] | None = None) -> TrainingData:
    return TrainingData("set", Labelled(texts, [f"class {n % 2}" for n in range(len(texts))]), sources or {})


def kinds(train: list[str], test: list[str]) -> list[str]:
    return [leak.kind for leak in find_leaks(labelled(train), labelled(test))]


@pytest.mark.parametrize("copy", [LONG, LONG.upper(), f"  {LONG}!", LONG.replace(",", " -"), LONG.replace("o", "ｏ")])
def test_an_equal_text_is_found_whatever_its_case_width_and_signs(copy: str) -> None:
    assert kinds([*OTHERS, LONG], ["something else", copy]) == ["exact"]


@pytest.mark.parametrize("copy", [LONG + " Really.", LONG.replace("length", "great length"), LONG[:-9]])
def test_a_nearly_equal_text_is_found(copy: str) -> None:
    assert kinds([*OTHERS, LONG], ["something else", copy]) == ["near"]


def test_a_translation_is_found_by_its_names_and_numbers() -> None:
    (leak,) = find_leaks(labelled([*OTHERS, LONG]), labelled(["something else", GERMAN]))
    assert (leak.kind, leak.left_key, leak.right_key, leak.right_text) == ("parallel", "20", "1", GERMAN)


def test_a_translation_without_names_is_found_by_its_vector() -> None:
    train, test = labelled(["a dog sleeps", "a cat runs"]), labelled(["il gatto corre", "piove"])
    vectors = (np.eye(4, dtype=np.float32)[:2], np.eye(4, dtype=np.float32)[[1, 3]])
    (leak,) = find_leaks(train, test, vectors=vectors)
    assert (leak.kind, leak.left_text, leak.right_text, leak.score) == ("parallel", "a cat runs", "il gatto corre", 1.0)


def test_rows_of_one_document_are_found() -> None:
    train, test = labelled(["first", "second"], {"1": "page 7"}), labelled(["third", "fourth"], {"0": "page 7"})
    (leak,) = find_leaks(train, test)
    assert (leak.kind, leak.left_key, leak.right_key, leak.left_text) == ("source", "1", "0", "page 7")


def test_a_query_that_is_a_document_of_the_test_is_a_leak() -> None:
    train = TrainingData("set", Retrieval({"d": "text"}, {"q": LONG}, {"q": {"d": 1}}))
    test = Dataset("test", "retrieval", Retrieval({"x": LONG}, {"y": "who spoke?"}, {"y": {"x": 1}}))
    (leak,) = find_leaks(train, test)
    assert (leak.kind, leak.left_key, leak.right_key) == ("exact", "q", "y")


def test_documents_that_are_only_searched_are_no_leaks() -> None:
    corpus = {"d1": LONG, "d2": "Another text."}
    train = TrainingData("set", Retrieval(corpus, {"q": "who?"}, {"q": {"d1": 1, "d2": 0}}))
    test = Dataset("test", "retrieval", Retrieval(corpus, {"y": "what?"}, {"y": {"d2": 1}}))
    assert find_leaks(train, test) == []


def test_of_a_classification_the_test_side_counts() -> None:
    rows = Classification(Labelled([LONG, "b"], ["x", "y"]), Labelled(["c", "d"], ["x", "y"]))
    assert [text.text for text in leak_texts(Dataset("test", "classification", rows))] == ["c", "d"]
    assert find_leaks(labelled([LONG, "e"]), Dataset("test", "classification", rows)) == []


def test_leaked_rows_can_be_dropped() -> None:
    pairs = TrainingData("set", PairRows(["a b c", LONG, "x"], ["d", "e", "f"], [0.0, 0.5, 1.0]))
    leaks = find_leaks(pairs, TrainingData("test", PairRows([LONG, "g"], ["h", "i"], [0.0, 1.0])))
    rest = drop_leaked(pairs, leaks)
    assert isinstance(rest.rows, PairRows)
    assert list(rest.rows.first) == ["a b c", "x"]
    assert find_leaks(rest, TrainingData("test", PairRows([LONG, "g"], ["h", "i"], [0.0, 1.0]))) == []


def test_a_test_that_is_the_training_set_leaves_nothing() -> None:
    same = labelled(["a first text", "a second text"])
    with pytest.raises(InputError, match="all rows are in the test too"):
        drop_leaked(same, find_leaks(same, same))


def test_vectors_of_another_number_of_texts_are_refused() -> None:
    with pytest.raises(InputError, match="2 and 2 texts have 1 and 2 vectors"):
        find_leaks(labelled(["a", "b"]), labelled(["c", "d"]), vectors=(np.ones((1, 2)), np.ones((2, 2))))


def test_the_description_shows_examples_and_counts() -> None:
    text = describe_leaks(find_leaks(labelled([*OTHERS, LONG]), labelled(OTHERS)))
    assert text.startswith("20 pairs: equal texts\n  'An unrelated sentence about thing number 0")
    assert len(text.splitlines()) < 12


@needs_data
def test_questions_of_squad_are_found_in_xquad() -> None:
    squad = load_training_data(SHARED_FOLDER / "data" / "squad-dev")
    xquad = load_dataset(SHARED_FOLDER / "data" / "xquad" / "en")
    assert isinstance(squad.rows, Retrieval) and isinstance(xquad.rows, Retrieval)
    part = select_rows(squad, set(sorted(squad.rows.queries)[::20]))
    assert isinstance(part.rows, Retrieval)
    shared = {key for key, text in part.rows.queries.items() if text in set(xquad.rows.queries.values())}
    assert len(shared) > 30
    assert shared <= {leak.left_key for leak in find_leaks(part, xquad) if leak.kind == "exact"}


@needs_data
def test_a_split_of_squad_by_article_is_clean_and_german_translations_of_it_are_found() -> None:
    _, part = split_by_source(load_training_data(SHARED_FOLDER / "data" / "squad-dev"), 0.08, seed=1)
    one, other = split_by_source(part, 0.4, seed=1)
    assert find_leaks(one, other) == []
    german = load_dataset(SHARED_FOLDER / "data" / "xquad" / "de")
    assert {leak.kind for leak in find_leaks(part, german)} == {"parallel"}
