"""Hard negatives equal those that sentence-transformers mines, with the same model and options."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from nearfield import Encoder, Reranker
from nearfield.compat.sentence_transformers import SentenceTransformer, util
from nearfield.errors import InputError
from tests.support import tiny_models

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("sentence_transformers.util")
datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.slow

QUERIES = [f"query {number}" for number in range(8)]
POSITIVES = [f"text {number}" for number in range(8)]
CORPUS = [f"other {number}" for number in range(25)]


class TableModel:
    """Gives each text another vector, and compares by dot product."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="table")

    def __init__(self) -> None:
        self.calls: list[str] = []

    def encode_query(self, texts: Any, **_: Any) -> Any:
        self.calls.append("query")
        return self._vectors(texts)

    def encode_document(self, texts: Any, **_: Any) -> Any:
        self.calls.append("document")
        return self._vectors(texts)

    def _vectors(self, texts: Any) -> Any:
        rows = [np.random.default_rng(crc32(text.encode())).standard_normal(12) for text in texts]
        vectors = np.array(rows, np.float32) + 0.4
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def similarity(self, a: Any, b: Any) -> Any:
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(1)


class PairScores:
    """Scores a pair by its letters."""

    def predict(self, pairs: Any, **_: Any) -> Any:
        return torch.tensor([crc32(f"{a}|{b}".encode()) / 2**32 for a, b in pairs])


def dataset(repeats: int = 1) -> Any:
    texts = [f"text {(number * 3 + shift) % 11}" for shift in range(repeats) for number in range(8)]
    return datasets.Dataset.from_dict({"query": QUERIES * repeats, "passage": texts})


OPTIONS: list[dict[str, Any]] = [
    {},
    {"range_min": 2, "range_max": 9, "num_negatives": 2},
    {"relative_margin": 0.05},
    {"absolute_margin": 0.1, "max_score": 0.5},
    {"min_score": 0.2, "max_score": 0.45},
    {"include_positives": True, "range_max": 5, "output_format": "n-tuple"},
    {"range_max": 60, "num_negatives": 10},
    {"use_faiss": False, "faiss_batch_size": 3},
    {"cross_encoder": PairScores(), "max_score": 0.8, "relative_margin": 0.01},
]


@pytest.mark.parametrize("output_format", ["triplet", "n-tuple", "labeled-pair", "labeled-list"])
@pytest.mark.parametrize("output_scores", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "defaults")
@pytest.mark.parametrize("repeats", [1, 3])
def test_rows(output_format: Any, output_scores: bool, options: dict[str, Any], repeats: int) -> None:
    arguments = {"output_format": output_format, "output_scores": output_scores, "verbose": False, **options}
    results = [
        mine(dataset(repeats), TableModel(), corpus=CORPUS, **arguments).to_dict()
        for mine in (util.mine_hard_negatives, theirs.mine_hard_negatives)
    ]
    assert list(results[0]) == list(results[1])
    for name, column in results[0].items():
        assert _rounded(column) == _rounded(results[1][name]), name


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return pytest.approx(value, abs=1e-6) if isinstance(value, float) else value


def test_random_sample_is_that_of_the_reference() -> None:
    results = []
    for mine in (util.mine_hard_negatives, theirs.mine_hard_negatives):
        random.seed(5)
        options: dict[str, Any] = {"sampling_strategy": "random", "range_max": 12, "verbose": False}
        results.append(mine(dataset(), TableModel(), corpus=CORPUS, **options).to_dict())
    assert results[0] == results[1]


def test_forms_of_datasets() -> None:
    pandas = pytest.importorskip("pandas")
    columns = dataset().to_dict()
    expected = util.mine_hard_negatives(dataset(), TableModel(), verbose=False).to_dict()
    assert util.mine_hard_negatives(columns, TableModel(), verbose=False) == expected
    frame = util.mine_hard_negatives(pandas.DataFrame(columns), TableModel(), verbose=False)
    assert isinstance(frame, pandas.DataFrame) and frame.to_dict("list") == expected
    pairs = util.mine_hard_negatives(list(zip(*columns.values(), strict=True)), TableModel(), verbose=False)
    assert list(pairs.values()) == list(expected.values()) and list(pairs) == ["anchor", "positive", "negative"]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert util.mine_hard_negatives(rows, TableModel(), verbose=False) == expected
    named = util.mine_hard_negatives(
        {"id": [1] * 8, **columns}, TableModel(), "query", "passage", verbose=False, output_format="triplet"
    )
    assert named == expected


def test_models_of_nearfield(tiny: Encoder, fleet: dict[str, Any]) -> None:
    pairs = [("the cat", "cat on mat"), ("blue dog", "a dog is blue"), ("search", "query and search")]
    result = util.mine_hard_negatives(pairs, tiny, num_negatives=1, verbose=False, output_scores=True)
    vectors = {text: np.asarray(tiny.encode_query(text)) for text, _ in pairs}
    vectors |= {text: np.asarray(tiny.encode_document(text)) for _, text in pairs}
    for query, positive, negative, scores in zip(*result.values(), strict=True):
        assert negative != positive
        expected = [vectors[query] @ vectors[text] for text in (positive, negative)]
        assert scores == pytest.approx(expected, abs=1e-5)
    reranker: Reranker = fleet["reranker"]
    options: dict[str, Any] = {"cross_encoder": reranker, "min_score": 0.0, "num_negatives": 1, "output_scores": True}
    rescored = util.mine_hard_negatives(pairs, tiny, verbose=False, **options)
    for query, positive, negative, scores in zip(*rescored.values(), strict=True):
        assert scores == pytest.approx(np.asarray(reranker.score(query, [positive, negative])).tolist(), abs=1e-5)


def test_cross_encoder_with_several_labels(tiny: Encoder) -> None:
    model = SimpleNamespace(predict=lambda pairs, **_: np.zeros((len(pairs), 3)))
    with pytest.raises(InputError, match="3 scores"):
        util.mine_hard_negatives([("a", "b"), ("c", "d")], tiny, cross_encoder=model, max_score=1, verbose=False)


def test_cache(tmp_path: Path) -> None:
    first, second = TableModel(), TableModel()
    options: dict[str, Any] = {"cache_folder": str(tmp_path / "vectors"), "verbose": False}
    results = [util.mine_hard_negatives(dataset(), model, **options).to_dict() for model in (first, second)]
    assert results[0] == results[1]
    assert (first.calls, second.calls) == (["query", "document"], [])
    util.mine_hard_negatives(dataset(), second, query_prompt="q: ", **options)
    assert second.calls == ["query"]


def test_vectors_of_another_model_are_not_read_from_the_cache(tmp_path: Path) -> None:
    folders = [tiny_models.tiny_bert(tmp_path / str(scale), initializer_range=scale) for scale in (0.2, 0.4)]
    options: dict[str, Any] = {"cache_folder": str(tmp_path / "vectors"), "verbose": False}
    cached, plain = [], []
    for folder in folders:
        model = SentenceTransformer(str(folder))
        for length in (16, 4):
            model.max_seq_length = length
            cached.append(util.mine_hard_negatives(dataset(), model, output_scores=True, **options).to_dict())
            plain.append(util.mine_hard_negatives(dataset(), model, output_scores=True, verbose=False).to_dict())
    assert cached == plain
    assert len(list((tmp_path / "vectors").iterdir())) == 8


def test_a_model_without_a_name_has_no_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = TableModel()
    model.model_card_data = SimpleNamespace(base_model=None)
    util.mine_hard_negatives(dataset(), model, verbose=False, cache_folder=str(tmp_path / "vectors"))
    assert "no name" in caplog.text and not (tmp_path / "vectors").exists()


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    util.mine_hard_negatives(dataset(), TableModel(), corpus=CORPUS, max_score=0.0, range_min=1, range_max=5)
    text = capsys.readouterr().out
    assert "Count" in text and "due to max_score=0.0" in text
    assert "Could not find enough negatives" in text and "range_max, range_min and max_score parameters" in text
    util.mine_hard_negatives(dataset(), TableModel(), max_score=-2)
    assert "range_max and max_score" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": 0}, "num_negatives must be a whole number of 1 or more"),
        ({"range_min": -1}, "range_min must be a whole number of 0 or more"),
        ({"range_min": 4, "range_max": 4}, "range_min must be smaller than range_max"),
        ({"range_max": 2, "num_negatives": 3}, "only 2 candidates remain"),
        ({"output_format": "pairs"}, "output_format"),
        ({"sampling_strategy": "best"}, "sampling_strategy"),
        ({"faiss_batch_size": 0}, "faiss_batch_size"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        util.mine_hard_negatives(dataset(), TableModel(), verbose=False, **options)


def test_refused_datasets() -> None:
    with pytest.raises(InputError, match="empty"):
        util.mine_hard_negatives([], TableModel())
    with pytest.raises(InputError, match="two columns"):
        util.mine_hard_negatives({"query": ["a"]}, TableModel())


def test_older_arguments() -> None:
    new = util.mine_hard_negatives(dataset(), TableModel(), absolute_margin=0.1, output_format="n-tuple", verbose=False)
    old = util.mine_hard_negatives(dataset(), TableModel(), margin=0.1, as_triplets=False, verbose=False)
    assert new.to_dict() == old.to_dict()
    scored: Any = "n-tuple-scores"
    assert (
        "scores" in util.mine_hard_negatives(dataset(), TableModel(), output_format=scored, verbose=False).column_names
    )
