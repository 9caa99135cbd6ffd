"""nearfield train mine: from pairs to a folder that training reads."""

import json
from pathlib import Path

import pytest

from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.training.data.loaders import load_training_data
from tests.support.cli_runner import run
from tests.support.tiny_models import tiny_bert

TEXTS = ("the capital of france is paris", "a dog sleeps in the sun", "rain falls on the hills", "she wrote two books")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("mine") / "tiny-bert")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"query": text[:9], "positive": text}) + "\n" for text in TEXTS))
    return path


def test_negatives_are_written_beside_the_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path, pairs: Path
) -> None:
    folder = pairs.parent / "mined"
    ran = run(capsys, monkeypatch, "train", "mine", pairs, "--model", model, "--relative-margin", 0, "-o", folder)
    assert ran.code == 0, ran.err
    assert "left out: 4 judged for this query" in ran.out
    rows = load_training_data(folder).rows
    assert isinstance(rows, Retrieval)
    assert sorted(rows.documents.values()) == sorted(TEXTS)
    for query, grades in rows.relevant.items():
        positives = [rows.documents[name] for name, grade in grades.items() if grade > 0]
        assert [text[:9] for text in positives] == [rows.queries[query]]


def test_counts_are_printed_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path, pairs: Path
) -> None:
    ran = run(capsys, monkeypatch, "train", "mine", pairs, "--model", model, "-o", pairs.parent / "mined", "--json")
    result = json.loads(ran.out)
    assert result["mined"] + sum(count for reason, count in result["left_out"].items() if reason != "judged") == 12
    assert (result["queries"], result["left_out"]["judged"]) == (4, 4)


@pytest.mark.parametrize("ranks", ["5", "a-b", "9-3"])
def test_ranks_that_are_none_are_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path, pairs: Path, ranks: str
) -> None:
    folder = pairs.parent / "mined"
    ran = run(capsys, monkeypatch, "train", "mine", pairs, "--model", model, "--ranks", ranks, "-o", folder)
    assert ran.code == 2 and "ranks" in ran.err
    assert not folder.exists()


def test_a_folder_with_files_is_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    ran = run(capsys, monkeypatch, "train", "mine", "none.jsonl", "--model", "none", "-o", tmp_path)
    assert ran.code == 2 and "is there already, and is not empty" in ran.err
    ran = run(capsys, monkeypatch, "train", "mine", "none.jsonl", "--model", "none", "-o", tmp_path / "new")
    assert ran.code == 2 and "no training data" in ran.err
    assert not (tmp_path / "new").exists()
