"""Runs of other kinds of models: rerankers, SPLADE, late interaction; each gets better, and is written as itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import nearfield
from nearfield.training.fine_tuning.torch_training.dev_curve import DevCurve
from nearfield.training.fine_tuning.train import train
from nearfield.training.training_data import TrainingData
from tests.parity.scores import classifier
from tests.support.tiny_models import WORDS
from tests.support.tiny_training import WORDS as SYLLABLES
from tests.support.tiny_training import marked_rows, tiny_late, tiny_splade, translated_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
QUICK: Mapping[str, Any] = {"batch": 16, "measurements": 6, "patience": 20, "test_share": 0.3}


class KindCase(NamedTuple):
    """A kind of model, what it learns from, and what a run of it reports."""

    kind: str
    write: Callable[[Path], Path]
    rows: Callable[[], TrainingData]
    rate: float
    epochs: int
    loss: str
    metric: str


CASES = [
    KindCase("scores", classifier("bert"), lambda: marked_rows(WORDS), 3e-3, 4, "bce", "MAP"),
    KindCase("sparse", tiny_splade, translated_rows, 3e-3, 6, "mnrl", "nDCG@10"),
    KindCase("multivector", tiny_late, translated_rows, 8e-3, 4, "mnrl", "nDCG@10"),
]


def results(folder: Path, kind: str) -> np.ndarray:
    """Return what a model gives for some texts, in one array."""
    words = WORDS if kind == "scores" else SYLLABLES
    texts = [" ".join(words[start : start + 5]) for start in range(0, 40, 5)]
    options: dict[str, Any] = {"kind": kind, "precision": "float32", "compile_cache": False}
    model: Any
    with nearfield.load(str(folder), **options) as model:
        assert model.recipe.outputs[0] == kind
        if kind == "scores":
            return np.asarray(model.score(texts, texts[::-1], activation="identity"))
        encoded = model.encode(texts, role="document")
        return np.asarray(encoded if kind == "sparse" else encoded.data)


@pytest.mark.parametrize("case", CASES, ids=[case.kind for case in CASES])
def test_each_kind_gets_better_and_is_written_as_itself(case: KindCase, tmp_path: Path) -> None:
    base = case.write(tmp_path / "model")
    options = {**QUICK, "rate": case.rate, "epochs": case.epochs, "average": 1.0}
    options["negatives"] = 3 if case.kind == "scores" else 0
    result = train(str(base), case.rows(), tmp_path / "tuned", **options)
    points = [(point["step"], round(point["dev"], 2)) for point in result["curve"]["points"]]
    assert result["verdict"]["better"], (result["verdict"]["reasons"], points)
    assert result["loss"]["name"] == case.loss
    assert result["base"]["kind"] == case.kind
    assert result["curve"]["metric"] == case.metric
    assert result["comparisons"]["test"]["difference"] > 5
    assert min(result["average"]["read"].values()) >= 0.9999
    before, after = (results(folder, case.kind) for folder in (base, Path(result["written"])))
    assert before.shape == after.shape
    assert np.abs(before - after).max() > 0.01


def test_a_sparse_model_that_grows_dense_stops_and_its_step_is_not_taken() -> None:
    curve = DevCurve("nDCG@10", 9)
    curve.add(0, 50.0, None, 0.0)
    assert curve.add(1, 55.0, 1.0, 1.0)
    assert not curve.add(2, 60.0, 1.0, 2.0, usable=False)
    assert curve.best["step"] == 1
    assert curve.stops
