"""Leaks and guard sets by name: sets of one name do not hide each other."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Dataset, Labelled, PairRows
from nearfield.training.fine_tuning.base_model import open_base
from nearfield.training.fine_tuning.options import TrainOptions
from nearfield.training.fine_tuning.preparation import prepare
from tests.support.tiny_training import labelled_rows, tiny_base


def scores(path: Path, texts: Sequence[str]) -> str:
    rows = [{"sentence1": text, "sentence2": f"other {text}", "score": n % 3} for n, text in enumerate(texts)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_guard_sets_of_one_name_are_all_measured_and_none_takes_the_place_of_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fresh = [f"sentence about {n} {n * 7}" for n in range(12)]
    paths = [scores(tmp_path / name / "sts.jsonl", fresh) for name in ("a", "b")]
    scores(tmp_path / "test" / "test.jsonl", fresh)
    options = TrainOptions(guard=(*paths, paths[0], "test/test.jsonl"))
    prepared = prepare(open_base(str(tiny_base(tmp_path / "base"))), labelled_rows(), options)
    assert list(prepared.guards) == ["sts", paths[1], "test/test.jsonl"]


def test_leaks_are_found_in_each_of_two_sets_of_one_name(tmp_path: Path) -> None:
    data = labelled_rows()
    assert isinstance(data.rows, Labelled)
    texts = list(data.rows.texts[:12])
    test = Dataset("sts", "sts", PairRows(texts, [f"other {n} {n * 7}" for n in range(12)], [n % 3 for n in range(12)]))
    guard = scores(tmp_path / "sts.jsonl", [f"sentence about {n} {n * 7}" for n in range(12)])
    base = open_base(str(tiny_base(tmp_path / "base")))
    with pytest.raises(InputError, match="12 rows of the training data are in a set"):
        prepare(base, data, TrainOptions(guard=(guard,)), test=test)
