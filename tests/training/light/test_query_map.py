"""Query maps: a language that can be learnt is, noise is refused, and so is what proves nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.datasets.beir import write_beir
from nearfield.evaluation.datasets.dataset import Dataset, Labelled, Retrieval
from nearfield.evaluation.evaluate import evaluate
from nearfield.testing import tiny_encoder
from nearfield.training.light.map_folder import write_map
from nearfield.training.light.query_map import MapSettings, fit_query_map
from nearfield.training.training_data import TrainingData
from tests.support.cli_runner import run
from tests.support.tiny_language import sentences, translate, translations


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("model") / "tiny")


def as_test(data: TrainingData) -> Dataset:
    assert not isinstance(data.rows, Labelled)
    return Dataset("test", "retrieval", data.rows)


@pytest.mark.parametrize("method", ["meaning", "ranking"])
def test_a_language_that_can_be_learnt_makes_a_better_map(encoder: Encoder, method: str) -> None:
    proof = fit_query_map(encoder, translations(300), settings=MapSettings(method))  # type: ignore[arg-type]
    assert proof.is_better
    assert proof.comparison["interval"][0] > 0
    assert proof.choice["method"] == method
    assert proof.query_map.source == proof.query_map.target == encoder.fingerprint
    assert proof.query_map.facts["comparison"] == proof.comparison


def test_the_figures_are_those_of_an_encoder_with_the_map(encoder: Encoder, tmp_path: Path) -> None:
    test = as_test(translations(40, seed=9))
    proof = fit_query_map(encoder, translations(120), test=test, settings=MapSettings(allow_leaks=True))
    write_map(proof.query_map, tmp_path / "map", proof.to_text())
    mapped = Encoder(str(encoder.recipe.folder), query_map=tmp_path / "map", compile_cache=False)
    assert evaluate(mapped, test)["score"] == pytest.approx(proof.after["score"], abs=0.2)
    assert evaluate(encoder, test)["score"] == pytest.approx(proof.before["score"], abs=0.2)
    card = (tmp_path / "map" / "README.md").read_text()
    assert proof.query_map.digest in card
    assert encoder.name in card


def test_pairs_that_belong_to_nothing_make_no_map(encoder: Encoder) -> None:
    for method in ("meaning", "ranking"):
        settings = MapSettings(method)
        assert not fit_query_map(encoder, translations(100, shuffled=True), settings=settings).is_better


def test_the_same_seed_gives_the_same_map_and_another_one_another(encoder: Encoder) -> None:
    digests = [
        fit_query_map(encoder, translations(80), settings=MapSettings(seed=seed)).query_map.digest for seed in (1, 1, 2)
    ]
    assert digests[0] == digests[1] != digests[2]


def questions(count: int) -> TrainingData:
    """Return short queries for long documents."""
    texts = sentences(count)
    documents = {f"d{number}": " ".join([text] * 6) for number, text in enumerate(texts)}
    queries = {f"q{number}": translate(text).rpartition(" ")[2] for number, text in enumerate(texts)}
    return TrainingData(
        "questions", Retrieval(documents, queries, {f"q{number}": {f"d{number}": 1} for number in range(count)})
    )


def several(data: TrainingData) -> TrainingData:
    """Return the data with one more document for a query."""
    assert isinstance(data.rows, Retrieval)
    relevant = {**data.rows.relevant, "q0": {"d0": 1, "d1": 1}}
    return replace(data, rows=replace(data.rows, relevant=relevant))


@pytest.mark.parametrize(
    ("data", "method"),
    [(translations(60), "meaning"), (questions(60), "ranking"), (several(translations(60)), "ranking")],
)
def test_queries_are_never_regressed_onto_answers_unless_requested(
    encoder: Encoder, data: TrainingData, method: str
) -> None:
    assert fit_query_map(encoder, data).choice["method"] == method


def equal_texts(count: int) -> TrainingData:
    data = translations(count)
    assert isinstance(data.rows, Retrieval)
    queries = {f"q{number}": text for number, text in enumerate(data.rows.documents.values())}
    return replace(data, rows=replace(data.rows, queries=queries))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (translations(49), "49 queries with a document of another text. At least 50"),
        (equal_texts(60), "equal their documents"),
        (TrainingData("classes", Labelled(["a", "b"], ["x", "y"])), "labels"),
    ],
)
def test_data_that_cannot_make_a_map_are_refused(encoder: Encoder, data: TrainingData, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        fit_query_map(encoder, data)


def test_a_test_that_is_in_the_data_is_refused(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="The test is in the data"):
        fit_query_map(encoder, translations(60), test=as_test(translations(30)))


def test_a_model_with_a_map_is_refused(encoder: Encoder) -> None:
    proof = fit_query_map(encoder, translations(80))
    mapped = Encoder(str(encoder.recipe.folder), query_map=proof.query_map, compile_cache=False)
    with pytest.raises(InputError, match="has a query map already"):
        fit_query_map(mapped, translations(80))


def test_vectors_with_values_that_are_no_numbers_are_refused(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Encoder.encode

    def encode(self: Encoder, texts: list[str], **options: object) -> object:
        outputs = original(self, texts, **options)  # type: ignore[arg-type]
        if len(texts):
            outputs["dense"].data[-1, 0] = np.nan
        return outputs

    monkeypatch.setattr(Encoder, "encode", encode)
    with pytest.raises(InputError, match="no numbers"):
        fit_query_map(encoder, translations(60))


@pytest.mark.parametrize("values", [{"method": "guess"}, {"dev_share": 0.9}, {"test_share": 0}])
def test_settings_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        MapSettings(**values)  # type: ignore[arg-type]


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_writes_a_map_that_an_encoder_loads(
    encoder: Encoder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_beir(as_test(translations(300)), tmp_path / "pairs")
    arguments = ("train", "map", encoder.recipe.folder, "--data", tmp_path / "pairs", "-o", tmp_path / "map")
    ran = run(capsys, monkeypatch, *arguments)
    assert ran.code == 0, ran.err
    assert ": better" in ran.out
    loaded = Encoder(str(encoder.recipe.folder), query_map=tmp_path / "map", compile_cache=False)
    assert loaded.query_map is not None
    again = run(capsys, monkeypatch, *arguments, "--json")
    assert json.loads(again.out)["choice"] == loaded.query_map.facts["choice"]


def test_a_map_that_is_not_better_is_not_written_and_the_status_says_so(
    encoder: Encoder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_beir(as_test(translations(80, shuffled=True)), tmp_path / "pairs")
    arguments = ("train", "map", encoder.recipe.folder, "--data", tmp_path / "pairs", "-o", tmp_path / "map")
    ran = run(capsys, monkeypatch, *arguments)
    assert ran.code == 3
    assert "Nothing was written" in ran.out
    assert not (tmp_path / "map").exists()


def test_a_folder_with_other_files_is_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    ran = run(capsys, monkeypatch, "train", "map", "no-model", "--data", "no-data", "-o", tmp_path)
    assert ran.code == 2
    assert "has other files" in ran.err
