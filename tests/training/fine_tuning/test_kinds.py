"""Runs of other kinds of models: rerankers, SPLADE, late interaction; each with the same steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import nearfield
from nearfield.training.fine_tuning.torch_training.dev_curve import DevCurve
from nearfield.training.fine_tuning.train import train
from tests.parity.multivector import own
from tests.parity.scores import classifier
from tests.parity.sparse import masked
from tests.support.tiny_training import ranking_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
QUICK: Mapping[str, Any] = {"rate": 1e-3, "batch": 16, "negatives": 0, "measurements": 2, "patience": 9}
Write = Callable[[Path], Path]


@pytest.mark.parametrize(
    ("write", "kind", "loss", "metric"),
    [
        (classifier("bert"), "scores", "bce", "MAP"),
        (masked("bert"), "sparse", "mnrl", "nDCG@10"),
        (own("bert"), "multivector", "mnrl", "nDCG@10"),
    ],
)
def test_each_kind_is_trained_measured_and_written_as_itself(
    write: Write, kind: str, loss: str, metric: str, tmp_path: Path
) -> None:
    base = write(tmp_path / "model")
    result = train(str(base), ranking_rows(80), tmp_path / "tuned", accept_unproved=True, average=1.0, **QUICK)
    assert result["loss"]["name"] == loss
    assert result["base"]["kind"] == kind
    assert result["curve"]["metric"] == metric
    assert result["curve"]["points"][-1]["loss"] > 0
    folder = Path(result["written"] or tmp_path / "tuned.run" / "candidate")
    if folder.exists():  # the dev figure rose
        with nearfield.load(str(folder), kind=kind, compile_cache=False) as model:
            assert model.recipe.outputs[0] == kind


def test_a_sparse_model_that_grows_dense_stops_and_its_step_is_not_taken() -> None:
    curve = DevCurve("nDCG@10", 9)
    curve.add(0, 50.0, None, 0.0)
    assert curve.add(1, 55.0, 1.0, 1.0)
    assert not curve.add(2, 60.0, 1.0, 2.0, usable=False)
    assert curve.best["step"] == 1
    assert curve.stops
