"""Qwen3-VL-Reranker: pairs of texts and pictures, against transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Image, Reranker, catalog
from nearfield.errors import InputError, InputTooLong
from tests.support import tiny_multimodal
from tests.support.odd_pictures import smooth

pytestmark = pytest.mark.slow

ENTRY = catalog.find("Qwen/Qwen3-VL-Reranker-2B")
assert ENTRY is not None and ENTRY.answer is not None
#: With words that the tiny tokenizer has as single tokens.
ANSWER = replace(ENTRY.answer, true="ed", false="er")
WIDE, SMALL = smooth(90, 40, 1), smooth(5, 7, 3)
#: Query and document, each a text and pictures.
PAIRS: list[tuple[tuple[str, list[Any]], tuple[str, list[Any]]]] = [
    (("a river", []), ("water and stone", [])),
    (("a river", []), ("", [WIDE])),
    (("a river", []), ("by night", [WIDE, SMALL])),
    (("", [SMALL]), ("a fox", [])),
    (("red", [SMALL]), ("fox", [WIDE])),
    (("", []), ("", [])),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_multimodal.qwen3_vl_embedding(tmp_path_factory.mktemp("qwen") / "model", modules=False)


@pytest.fixture(scope="module")
def reranker(folder: Path) -> Any:
    options: Any = {"answer": ANSWER, "precision": "float32", "compile_cache": False}
    with Reranker(str(folder), **options) as model:
        yield model


def part(text: str, pictures: list[Any]) -> Any:
    return {"text": text, "image": pictures} if pictures else text


def test_scores_are_those_of_transformers(folder: Path, reranker: Reranker) -> None:
    truth = tiny_multimodal.qwen3_vl_scores(folder, PAIRS, ANSWER)
    assert np.ptp(truth) > 0.05
    queries, documents = [part(*query) for query, _ in PAIRS], [part(*document) for _, document in PAIRS]
    np.testing.assert_allclose(reranker.score(queries, documents), truth, atol=2e-5)
    alone = [reranker.score(query, [document])[0] for query, document in zip(queries, documents, strict=True)]
    np.testing.assert_allclose(alone, truth, atol=2e-5)


def test_documents_are_ranked_with_pictures_among_them(reranker: Reranker) -> None:
    documents: list[Any] = ["water", Image(WIDE), {"image": SMALL, "text": "a fox"}, ["a fox", SMALL]]
    ranked = reranker.rank("a river", documents)
    scores = reranker.score("a river", documents)
    assert [one.index for one in ranked] == np.argsort(-np.asarray(scores), kind="stable").tolist()
    assert scores[2] == scores[3] and scores.tokens is not None and scores.tokens[1] > scores.tokens[0]


def test_texts_alone_need_no_tower_and_bad_pictures_are_named(folder: Path) -> None:
    options: Any = {"answer": ANSWER, "backend": "reference", "compile_cache": False}
    with Reranker(str(folder), **options) as model:
        model.score("a", ["b", ""])
        assert model._model.media_is_missing
        with pytest.raises(InputError, match="Pair 1: "):
            model.score("a", ["b", Image(b"no picture")])
        long = {"image": WIDE, "text": "river " * 400}
        dropped = model.score("a", [long]).dropped
        assert dropped is not None and dropped[0] > 0
        with pytest.raises(InputTooLong, match=r"Pair 0: the input has .* tokens"):
            model.score("a", [long], truncate="error")


def test_a_query_is_decoded_once_for_all_documents(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores are those of queries that are decoded each: the same bits."""
    documents: list[Any] = ["water", Image(WIDE), "a fox", "by night"]
    queries = [{"text": "red", "image": Image(WIDE)} for _ in documents]
    expected = reranker.score(queries, documents)
    read, seen = Image.read, []

    def watched(image: Image, *limits: Any) -> Any:
        seen.append(image)
        return read(image, *limits)

    monkeypatch.setattr(Image, "read", watched)
    np.testing.assert_array_equal(reranker.score(queries[0], documents), expected)
    assert len(seen) == 2
    np.testing.assert_array_equal(reranker.score(queries, documents), expected)
    assert len(seen) == 2 + 5
