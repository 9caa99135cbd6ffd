"""Inputs of rerankers and classifiers: every kind of list, what is no list, and the number of a wrong pair."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Classifier, Reranker, reranker
from nearfield.errors import InputError
from nearfield.inference.preparation.pair_inputs import check_pairs, pair_up, split_pairs
from tests.parity.scores import classifier

DOCUMENTS = ["a river", "the moon", ""]


@pytest.mark.parametrize(
    "documents",
    [DOCUMENTS, tuple(DOCUMENTS), np.array(DOCUMENTS), np.array(DOCUMENTS, object), iter(DOCUMENTS), dict.fromkeys],
    ids=["list", "tuple", "array", "array of objects", "iterator", "keys"],
)
def test_documents_come_in_any_list(documents: Any) -> None:
    documents = dict.fromkeys(DOCUMENTS).keys() if callable(documents) else documents
    assert pair_up("q", documents) == (["q"] * 3, DOCUMENTS)


def test_columns_of_tables_are_lists() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": DOCUMENTS, "other": [1, 2, 3]})
    assert pair_up("q", table["text"]) == (["q"] * 3, DOCUMENTS)
    with pytest.raises(InputError, match=r"of type DataFrame with the columns text, other.*data\['text'\]"):
        pair_up("q", table)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ("a river", "documents must be a list of texts, and is one text"),
        ({"text": DOCUMENTS}, r"of type dict with the keys text.*data\['text'\]"),
        (b"bytes", "of type bytes, not text: decode it"),
        (np.array("a river"), "documents must be a list of texts, and is one text"),
        (3, "and is the number 3"),
        (None, "and is None"),
    ],
    ids=["text", "mapping", "bytes", "array of no dimension", "number", "none"],
)
def test_what_is_no_list_is_refused(documents: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pair_up("q", documents)


def test_queries_and_documents_are_counted() -> None:
    assert pair_up(np.array(["a", "b"]), ["c", "d"]) == (["a", "b"], ["c", "d"])
    with pytest.raises(InputError, match="2 queries and 1 document"):
        pair_up(["a", "b"], ["c"])


def test_rows_of_arrays_are_pairs() -> None:
    assert split_pairs(np.array([["a", "b"], ["c", "d"]])) == (["a", "c"], ["b", "d"])
    assert split_pairs(iter([("a", "b")])) == (["a"], ["b"])
    assert split_pairs(np.array(["a", "b"])) == (["a", "b"], None)


def test_the_first_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="not both at once: input 2 is a text, and input 0 is a pair"):
        split_pairs([("a", "b"), ["c", "d"], "e"])
    with pytest.raises(InputError, match=r"input 1 is no pair \(tuple\)"):
        split_pairs([("a", "b"), ("c", "d", "e")])
    with pytest.raises(InputError, match="Pair 1: the first text must be a string, and is the number nan"):
        check_pairs(["a", float("nan")], ["b", "c"])
    with pytest.raises(InputError, match="Input 3 must be a string, and is None"):
        check_pairs(["a", "b", "c", None], None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers")
    return classifier("bert")(tmp_path_factory.mktemp("reranker"))


@pytest.mark.slow
def test_a_wrong_pair_is_named_by_its_number_in_the_call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reranker, "_WINDOW", 4)
    surrogate = [*["river"] * 9, "a \ud800", "moon"]
    with Reranker(str(folder), precision="float32") as model:
        with pytest.raises(InputError, match="Pair 9: the second text must be a string, and is the number 3"):
            model.score("q", [*["river"] * 9, 3])  # type: ignore[list-item]
        with pytest.raises(InputError, match="Pair 9: the second text"):
            asyncio.run(model.ascore(["q"] * 10, [*["river"] * 9, None]))  # type: ignore[list-item]
        with pytest.raises(InputError, match="pair 9 is not Unicode"):
            model.score("q", surrogate)
        with pytest.raises(InputError, match="pair 5 has"):
            model.score("q", [*["river"] * 5, "river " * 90], truncate="error")
        documents = ["river", "moon", "river bank"]
        expected = model.score("q", documents).data
        for same in (np.array(documents), iter(documents), tuple(documents)):
            np.testing.assert_array_equal(model.score("q", same).data, expected)


@pytest.mark.slow
def test_a_call_has_its_own_length_and_prompt(folder: Path) -> None:
    long = "river bank by night " * 9
    with (
        Reranker(str(folder), precision="float32") as model,
        Reranker(str(folder), precision="float32", max_length=12) as short,
    ):
        scores = model.score("q", [long], max_length=12)
        assert scores.tokens is not None and scores.dropped is not None
        assert scores.tokens.tolist() == [12] and scores.dropped[0] > 0
        np.testing.assert_allclose(scores.data, short.score("q", [long]).data, atol=1e-6)
        prompted = model.score("q", ["moon"], prompt="search the river: ").data
        np.testing.assert_allclose(prompted, model.score("search the river: q", ["moon"]).data, atol=1e-6)
        assert model.rank("q", ["moon"], max_length=12)[0].index == 0
        with pytest.raises(InputError, match="max_length=3: choose 4 to"):
            model.score("q", [long], max_length=3)


@pytest.mark.slow
def test_calls_without_blocking_take_the_same_keywords(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    documents = ["river " * 90, "moon", "ร้านกาแฟเปิดเวลาเก้าโมงเช้า"]
    options: dict[str, Any] = {"prompt": "search: ", "max_length": 14}
    with Reranker(str(folder), precision="float32") as model:
        scores = model.score("q", documents, **options)
        assert "1 input of 3 (the first is input 2)" in caplog.text
        caplog.clear()
        several = asyncio.run(model.ascore(["q"] * 3, documents, **options))
        assert "1 input of 3 (the first is input 2)" in caplog.text
        np.testing.assert_allclose(several.column(0).data, scores.data, atol=1e-6)
        caplog.clear()
        ranking, same = asyncio.run(model.arank("q", documents, **options))
        assert "1 input of 3 (the first is input 2)" in caplog.text
        assert [one.index for one in ranking] == [one.index for one in model.rank("q", documents, **options)]
        np.testing.assert_allclose(same.data, scores.data, atol=1e-6)
    with Classifier(str(folder), precision="float32") as classes:
        caplog.clear()
        predictions, _ = asyncio.run(classes.apredict(documents, **options))
        assert "1 input of 3 (the first is input 2)" in caplog.text
        expected = [one.score for one in classes.predict(documents, **options)]
        np.testing.assert_allclose([one.score for one in predictions], expected, atol=1e-6)


@pytest.mark.slow
def test_only_scores_become_a_tensor(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    with Reranker(str(folder), precision="float32") as model:
        with pytest.raises(
            InputError, match=r"Reranker\.rank gives a list of documents .* Leave convert_to_tensor out"
        ):
            model.rank("q", ["moon"], convert_to_tensor=True)
        assert len(model.rank("q", ["moon"], convert_to_tensor=False, batch_size=4)) == 1
        ranking, scores = asyncio.run(model.arank("q", ["moon"], convert_to_tensor=True))
        assert isinstance(scores, torch.Tensor) and float(scores[0]) == ranking[0].score
    with Classifier(str(folder), precision="float32") as classes:
        with pytest.raises(InputError, match=r"Classifier\.predict gives labels .* Leave convert_to_tensor out"):
            classes.predict("moon", convert_to_tensor=True)
        predictions, scores = asyncio.run(classes.apredict(["moon"], convert_to_tensor=True))
        assert isinstance(scores, torch.Tensor) and float(scores[0, 0]) == predictions[0].score


@pytest.mark.slow
def test_a_prompt_is_no_text_that_a_model_reads(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Classifier(str(folder), precision="float32") as model:
        model.predict(["ร้านกาแฟ"], prompt="the river bank by the moon ")
        assert "1 input of 1 (the first is input 0)" in caplog.text


@pytest.mark.slow
def test_predictions_take_arrays_of_pairs(folder: Path) -> None:
    pairs = [("a river", "the moon"), ("the sun", "a stone")]
    with Classifier(str(folder), precision="float32") as model:
        assert model.predict(np.array(pairs)) == model.predict(pairs)
        assert model.predict("river " * 90, max_length=8) == model.predict("river " * 6)
        with pytest.raises(InputError, match=r"input is of type dict with the keys text, .* give data\['text'\]"):
            model.predict({"text": "a"})
