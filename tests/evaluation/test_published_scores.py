"""The real all-MiniLM-L6-v2 on public data, and the page that shows its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import quality
from nearfield.encoder import Encoder
from nearfield.errors import SourceUnavailable
from nearfield.evaluation.datasets.dataset import Classification, Dataset, Labelled
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.evaluate import evaluate
from tests.support.paths import ROOT
from tests.support.requirements import missing

DATA = ROOT.parent / "shared" / "data"
KEPT = ROOT / "benchmarks" / "results" / "avx2" / "latest.json"


@pytest.fixture(scope="module")
def encoder() -> Iterator[Encoder]:
    """The model, in float32."""
    try:
        made = Encoder("all-MiniLM-L6-v2", precision="float32")
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
    with made:
        yield made


def _data(name: str) -> Path:
    path = DATA / name
    return path if path.exists() else missing(f"the evaluation data is not here ({path})")


@pytest.mark.slow
def test_stsb_is_what_is_published(encoder: Encoder) -> None:
    found = evaluate(encoder, _data("stsb"))
    assert found["score"] == pytest.approx(82.03, abs=0.05)
    assert found["truncated"] == 0
    low, high = found["interval"]
    assert low < 82.03 < high
    assert high - low < 6


@pytest.mark.slow
def test_a_part_of_banking77_is_told_apart(encoder: Encoder) -> None:
    """Eight of the 77 intents, and few texts of each: by chance one in eight would be right."""
    whole = load_dataset(_data("banking77")).rows
    assert isinstance(whole, Classification)
    names = sorted(set(whole.train.labels))[::10]
    sides = [_part(whole.train, names, 20), _part(whole.test, names, 10)]
    found = evaluate(encoder, Dataset("part", "classification", Classification(*sides)), samples=100)
    assert found["dataset"]["labels"] == 8
    assert found["score"] > 90


def _part(side: Labelled, names: list[str], count: int) -> Labelled:
    """Return the first texts of some labels."""
    kept = [at for name in names for at in [n for n, label in enumerate(side.labels) if label == name][:count]]
    return Labelled([side.texts[at] for at in kept], [side.labels[at] for at in kept])


def test_the_page_shows_the_figures_that_were_measured() -> None:
    told = json.loads(KEPT.read_text(encoding="utf-8"))["quality"]
    page = quality.DOCUMENT.read_text(encoding="utf-8")
    assert quality.table(told["rows"]) in page, "run: python -m benchmarks --only quality --out benchmarks/results/avx2"
    known = [row for row in told["rows"] if row["published"] is not None]
    assert {row["set"] for row in known} >= {"stsb", "scifact", "banking77"}
    assert all(abs(row["difference"]) <= quality.ALLOWED for row in known)
    assert [row["set"] for row in told["rows"]] == [name for name, _, _ in quality.SETS]
