"""nearfield train --dry-run: what a run would do, before it does it."""

import json
from pathlib import Path

import pytest

from nearfield.evaluation.datasets.dataset import Labelled
from tests.support.cli_runner import run
from tests.support.tiny_training import labelled_rows, tiny_base


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    rows = labelled_rows().rows
    assert isinstance(rows, Labelled)
    path = tmp_path / "labels.jsonl"
    pairs = zip(rows.texts, rows.labels, strict=True)
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in pairs))
    return path


def test_the_sizes_of_all_parts_are_shown_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, labels: Path
) -> None:
    model = tiny_base(tmp_path / "base")
    before = sorted(tmp_path.iterdir())
    ran = run(capsys, monkeypatch, "train", model, "--data", labels, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    test = json.loads(ran.out)["test"]
    ran = run(capsys, monkeypatch, "train", model, "--data", labels, "--dry-run")
    assert (
        f"Test:   {test['name']}, classification: {test['train']} train, {test['test']} test, {test['labels']} labels"
        in ran.out
    )
    assert "Dev:    labels (dev), retrieval: " in ran.out
    assert "No guard set (--guard)" in ran.out
    assert sorted(tmp_path.iterdir()) == before
