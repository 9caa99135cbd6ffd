"""Whole runs with a teacher, with a guide, and for vectors of several sizes, with tiny models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from nearfield import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.training.fine_tuning.train import prepare_run, train
from nearfield.training.teachers import ModelTeacher
from nearfield.training.training_data import TrainingData
from tests.parity.sparse import masked
from tests.support.tiny_training import labelled_rows, ranking_rows, tiny_base, translated_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
QUICK: Mapping[str, Any] = {
    "rate": 8e-3,
    "batch": 16,
    "epochs": 3,
    "measurements": 5,
    "test_share": 0.3,
    "patience": 20,
    "average": 1.0,
    "accept_unproved": True,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def teacher(base: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that knows the topics: the base, trained on labels."""
    result = train(str(base), labelled_rows(), tmp_path_factory.mktemp("teacher") / "teacher", **QUICK)
    assert result["verdict"]["better"]
    return str(result["written"])


@pytest.mark.parametrize("loss", ["auto", "margin-mse"])
def test_a_teacher_scores_the_mined_negatives_and_its_scores_are_learnt(
    base: Path, teacher: str, tmp_path: Path, loss: str
) -> None:
    lines: list[str] = []
    result = train(
        str(base), ranking_rows(320), tmp_path / "tuned", teacher=teacher, loss=loss, report=lines.append, **QUICK
    )
    assert result["loss"]["name"] == ("kl" if loss == "auto" else loss)
    assert result["mined"]["teacher"] == teacher
    assert result["mined"]["counts"]["left_out"]["teacher"] > 10  # the base takes documents of the topic for wrong
    assert any(f"{teacher} scored" in line for line in lines)
    rows = parquet.read_table(tmp_path / "tuned.run" / "mined.parquet").to_pylist()
    assert result["mined"]["scored"] == len(rows)
    data = ranking_rows(320).rows
    assert isinstance(data, Retrieval)
    with Encoder(teacher) as model:
        pairs = [(data.queries[row["query"]], data.documents[row["document"]]) for row in rows[:40]]
        expected = ModelTeacher(model).score(*map(list, zip(*pairs, strict=True)))
    assert [row["score"] for row in rows[:40]] == pytest.approx(expected.tolist(), abs=0.2)


@pytest.fixture(scope="module")
def translator(base: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that knows the translations: the base, trained on other texts of the same words."""
    place = tmp_path_factory.mktemp("translator") / "translator"
    result = train(str(base), translated_rows(seed=7), place, negatives=0, **QUICK)
    assert result["verdict"]["better"], result["verdict"]
    return str(result["written"])


def test_judged_negatives_are_scored_where_there_are_some_and_the_teacher_is_learnt(
    base: Path, translator: str, tmp_path: Path
) -> None:
    rows = translated_rows().rows
    assert isinstance(rows, Retrieval)
    keys = list(rows.documents)
    relevant = {
        query: {**grades, **{keys[(number + step) % len(keys)]: 0 for step in (1, 2, 3)}}
        for number, (query, grades) in enumerate(rows.relevant.items())
    }
    data = TrainingData("judged", Retrieval(rows.documents, rows.queries, relevant))
    result = train(str(base), data, tmp_path / "tuned", teacher=translator, negatives=3, **QUICK)
    assert result["loss"]["name"] == "kl"
    assert result["mined"]["rows"] == 0
    assert result["mined"]["scored"] > 4 * 100
    assert gain(result) > 10
    assert result["verdict"]["better"], result["verdict"]


def gain(result: Mapping[str, Any]) -> float:
    """Return by how many points the dev figure rose."""
    points = result["curve"]["points"]
    return float(max(point["dev"] for point in points) - points[0]["dev"])


def test_the_dry_run_knows_the_loss_before_the_scores_are_there(base: Path, teacher: str) -> None:
    from nearfield.training.fine_tuning.estimate import estimate_run

    estimate = estimate_run(prepare_run(str(base), ranking_rows(), teacher=teacher))
    assert estimate["loss"]["name"] == "kl"
    assert estimate["steps"] > 0


def test_a_guide_chooses_gist(base: Path, translator: str, tmp_path: Path) -> None:
    result = train(str(base), translated_rows(), tmp_path / "tuned", guide=translator, negatives=0, **QUICK)
    assert result["loss"]["name"] == "gist"
    assert gain(result) > 10
    alone = train(str(base), translated_rows(), tmp_path / "alone", loss="gist", negatives=0, **QUICK)
    losses = [[point["loss"] for point in run["curve"]["points"]] for run in (result, alone)]
    assert losses[0] != losses[1]


def test_a_folder_that_was_trained_for_smaller_sizes_is_truncated_to_them(base: Path, tmp_path: Path) -> None:
    result = train(str(base), labelled_rows(), tmp_path / "tuned", config=sizes(tmp_path, 16, 8), **QUICK)
    assert result["written"], result["verdict"]
    stated = json.loads((tmp_path / "tuned" / "config_sentence_transformers.json").read_text())
    assert stated["matryoshka_dimensions"] == [16, 8]
    with Encoder(result["written"], truncate_dim=8, compile_cache=False) as encoder:
        assert encoder.encode(["ba de"]).shape == (1, 8)
    with pytest.raises(InputError, match="was not trained to be cut to 4 dimensions"):
        Encoder(result["written"], truncate_dim=4, compile_cache=False)


def sizes(folder: Path, *values: int) -> Path:
    path = folder / "train.toml"
    path.write_text(f"matryoshka = {list(values)}\n", encoding="utf-8")
    return path


def test_what_cannot_be_trained_is_refused_before_any_work(base: Path, teacher: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"matryoshka = \[64, 16\]: sizes up to 32"):
        prepare_run(str(base), labelled_rows(), config=sizes(tmp_path, 64, 16))
    with pytest.raises(InputError, match="A guide masks false negatives of the loss 'gist'"):
        prepare_run(str(base), labelled_rows(), guide=teacher)
    with pytest.raises(InputError, match="A guide gives dense vectors, and out gives sparse"):
        prepare_run(str(base), ranking_rows(), guide=str(masked("bert")(tmp_path / "splade")))
    with pytest.raises(InputError, match="topics has labels: leave the teacher out"):
        prepare_run(str(base), labelled_rows(), teacher=teacher)


def test_another_teacher_in_the_same_place_is_refused(base: Path, teacher: str, tmp_path: Path) -> None:
    options = {**QUICK, "epochs": 1}
    train(str(base), ranking_rows(), tmp_path / "tuned", teacher=teacher, **options)
    with pytest.raises(InputError, match=r"another run \(digests\.teacher"):
        train(str(base), ranking_rows(), tmp_path / "tuned", teacher=str(base), **options)
