"""Evaluators of sentence-transformers on models of ours: the figures are those of the original's models."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nearfield.compat.sentence_transformers as ours
from tests.parity.scores import classifier
from tests.parity.sparse import masked
from tests.support.tiny_models import TINY

pytest.importorskip("torch")
originals = pytest.importorskip("sentence_transformers")

#: The library that it compares with takes more than two seconds to import.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")]

QUERIES = {"q": "how many people live in the city", "r": "the river by night"}
CORPUS = {"1": "The city has many people.", "2": "A fox jumps over a dog.", "3": "River bank by night."}
RELEVANT = {"q": {"1"}, "r": {"3"}}
FIRST, SECOND = ["a river", "the city", "a fox"], ["the river bank", "a city by night", "the dog"]


def embedding_similarity() -> Any:
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    return EmbeddingSimilarityEvaluator(FIRST, SECOND, [0.9, 0.4, 0.1])


def triplet() -> Any:
    from sentence_transformers.sentence_transformer.evaluation import TripletEvaluator

    return TripletEvaluator(FIRST, SECOND, ["a dog", "night", "people"])


def information_retrieval() -> Any:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    return InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)


def several() -> Any:
    from sentence_transformers.sentence_transformer.evaluation import SequentialEvaluator

    return SequentialEvaluator([triplet(), embedding_similarity()])


def reranking() -> Any:
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

    samples = [{"query": text, "positive": [CORPUS["1"]], "negative": [CORPUS["2"]]} for text in QUERIES.values()]
    return CrossEncoderRerankingEvaluator(samples)


def sparse_retrieval() -> Any:
    from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator

    return SparseInformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)


EVALUATORS: dict[str, tuple[str, Callable[[Path], Path], Callable[[], Any]]] = {
    "embedding similarity": ("SentenceTransformer", TINY["bert"], embedding_similarity),
    "triplets": ("SentenceTransformer", TINY["bert"], triplet),
    "information retrieval": ("SentenceTransformer", TINY["bert"], information_retrieval),
    "several": ("SentenceTransformer", TINY["bert"], several),
    "reranking": ("CrossEncoder", classifier("bert"), reranking),
    "sparse retrieval": ("SparseEncoder", masked("bert"), sparse_retrieval),
}


@pytest.mark.parametrize("name", EVALUATORS)
def test_figures_are_those_of_the_original(name: str, tmp_path: Path) -> None:
    kind, write, evaluator = EVALUATORS[name]
    folder = write(tmp_path / "model")
    model = getattr(ours, kind)(str(folder), device="cpu")
    expected = getattr(originals, kind)(str(folder), device="cpu").evaluate(evaluator(), str(tmp_path / "theirs"))
    figures = model.evaluate(evaluator(), str(tmp_path / "ours"))
    assert figures == pytest.approx(expected, abs=1e-5)
    assert [file.name for file in (tmp_path / "ours").rglob("*")] == [
        file.name for file in (tmp_path / "theirs").rglob("*")
    ]
    stored = list(model.model_card_data.eval_results_dict.values())[-1]
    assert stored and stored.items() <= figures.items()
    assert len(pickle.loads(pickle.dumps(model)).model_card_data.eval_results_dict)


def test_a_card_of_the_original_is_used(tmp_path: Path) -> None:
    card = originals.SentenceTransformerModelCardData(language="en")
    model = ours.SentenceTransformer(str(TINY["bert"](tmp_path / "model")), model_card_data=card)
    figures = model.evaluate(triplet())
    assert list(card.eval_results_dict.values()) == [figures]
