"""Published values of real models, checked where their weights are on the machine; nothing is downloaded."""

from __future__ import annotations

import numpy as np
import pytest

from nearfield import Encoder, catalog, hub
from nearfield.errors import ModelNotFound, SourceUnavailable

QUESTIONS = ["What is BGE M3?", "Defination of BM25"]
ANSWERS = [
    "BGE M3 is an embedding model supporting dense retrieval, lexical matching and multi-vector interaction.",
    (
        "BM25 is a bag-of-words retrieval function that ranks a set of documents based on the query terms appearing in "
        "each document"
    ),
]
#: From the model's card (https://huggingface.co/BAAI/bge-m3).
DENSE = [[0.6265, 0.3477], [0.3499, 0.678]]
SPARSE = 0.1955
COLBERT = [0.7797, 0.4620]
LEXICAL = {"What": 0.08356, "is": 0.0814, "B": 0.1296, "GE": 0.252, "M": 0.1702, "3": 0.2695, "?": 0.04092}


def test_bge_m3() -> None:
    entry = catalog.find("bge-m3")
    assert entry is not None
    try:
        hub.locate("BAAI/bge-m3", pin=entry.pin, fetch=False)
    except (SourceUnavailable, ModelNotFound):
        pytest.skip("the weights of BAAI/bge-m3 are not on this machine")
    with Encoder("bge-m3", precision="float32") as encoder:
        kinds = ("dense", "sparse", "multivector")
        queries, answers = (encoder.encode(texts, outputs=kinds) for texts in (QUESTIONS, ANSWERS))
        np.testing.assert_allclose(encoder.similarity(queries.dense, answers.dense), DENSE, atol=2e-3)
        assert queries.sparse.similarity(answers.sparse)[0, 0] == pytest.approx(SPARSE, abs=2e-3)
        np.testing.assert_allclose(queries.multivector.similarity(answers.multivector)[0], COLBERT, atol=2e-3)
        words = {encoder.tokenizer.backend.id_to_token(number): w for number, w in queries.sparse.to_dicts()[0].items()}
    weights = {str(word).lstrip("▁"): weight for word, weight in words.items()}
    assert weights == pytest.approx(LEXICAL, abs=2e-3)
