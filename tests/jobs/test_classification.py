"""Classification of texts: by names, by examples, as a folder that is served, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from nearfield import Classifier, Encoder, classify, next_to_label, train_classifier
from nearfield.errors import InputError, NearfieldError
from nearfield.jobs.classification.classify import apply_classifier
from nearfield.jobs.classification.training import ClassifierReport
from tests.support import cli_runner
from tests.support.cli_runner import Ran
from tests.support.serving import serving

pytest.importorskip("sklearn", reason="the extra 'jobs' is not installed")

FILLERS = ("the", "a", "on", "sat", "mat", "hello")
WORDS = {"animal": "cat", "colour": "blue", "place": "world"}
#: Twelve texts of each label, which have its word and two others.
ROWS = [
    (f"{first} {word} {second}", label)
    for label, word in WORDS.items()
    for number, first in enumerate(FILLERS)
    for second in (FILLERS[(number + 1) % 6], FILLERS[(number + 2) % 6])
]
TEXTS, LABELS = [text for text, _ in ROWS], [label for _, label in ROWS]
#: The same texts with lists of labels: of some both, of some none.
BOTH = [("the cat blue", ["animal", "colour"]), ("a blue cat", ["animal", "colour"]), ("hello mat", []), ("a mat", [])]
Run = Callable[..., Ran]


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: cli_runner.run(capsys, monkeypatch, *words)


@pytest.fixture(scope="module")
def trained(tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> tuple[ClassifierReport, Path]:
    """A classifier of the tiny model, and its folder."""
    folder = tmp_path_factory.mktemp("classifier") / "labels"
    return train_classifier((TEXTS, LABELS), folder, model=tiny, test=(TEXTS[:9], LABELS[:9])), folder


def test_a_head_learns_labels_and_says_how_well(trained: tuple[ClassifierReport, Path]) -> None:
    report, _ = trained
    assert report.figures is not None and report.test is not None
    low, high = report.figures["interval"]
    assert 33 < low < report.figures["accuracy"] <= high <= 100
    assert report.figures["examples"] == 36 and report.figures["folds"] == 5
    assert [row["examples"] for row in report.figures["labels"]] == [12, 12, 12]
    assert report.test["accuracy"] == 100
    assert report.warnings == [
        "9 of 9 texts of the test are among the examples: the figures of the test are too good. Take them out."
    ]
    assert "36 examples of 3 labels" in report.to_text() and json.dumps(report.to_dict())


def test_the_folder_gives_the_probabilities_of_the_head(trained: tuple[ClassifierReport, Path], tiny: Encoder) -> None:
    report, folder = trained
    direct = classify(TEXTS[::5], examples=(TEXTS, LABELS), model=tiny)
    with Classifier(str(folder), precision="float32", compile_cache=False) as classifier:
        assert classifier.labels == report.head.labels == ("animal", "colour", "place")
        predictions = classifier.predict(TEXTS[::5])
        with serving([classifier]) as url:
            reply = httpx.post(f"{url}/classify", json={"model": classifier.name, "input": TEXTS[:1]}).json()
    assert reply["results"][0]["label"] == LABELS[0]
    assert [prediction.label for prediction in predictions] == LABELS[::5]
    first, second = ([list(row.scores.values()) for row in rows] for rows in (direct, predictions))
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_a_folder_that_was_edited_is_refused(trained: tuple[ClassifierReport, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained[1], tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a", "1": "b"}}))
    with pytest.raises(NearfieldError, match="names 2 labels"):
        Classifier(str(folder))
    facts = json.loads((folder / "classifier.json").read_text())
    edits: list[object] = [[], {"sure": {"threshold": "high"}}, {"sure": None}]
    for edited in edits:
        (folder / "classifier.json").write_text(json.dumps(facts | {"cross_validation": edited}))
        with pytest.raises(NearfieldError, match="threshold is no number"):
            apply_classifier(["cat"], folder)


@pytest.mark.slow
def test_sentence_transformers_reads_the_folder(trained: tuple[ClassifierReport, Path]) -> None:
    cross_encoder = pytest.importorskip("sentence_transformers").CrossEncoder
    model = cross_encoder(str(trained[1]), device="cpu")
    with Classifier(str(trained[1]), precision="float32", compile_cache=False) as classifier:
        expected = [list(row.scores.values()) for row in classifier.predict(TEXTS[:3], activation="identity")]
    np.testing.assert_allclose([model.predict(text) for text in TEXTS[:3]], expected, atol=2e-3)


def test_texts_have_several_labels_or_none(tiny: Encoder, tmp_path: Path) -> None:
    rows = [(text, [label]) for text, label in ROWS[:24]] + BOTH * 3
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text, "labels": labels}) + "\n" for text, labels in rows))
    report = train_classifier(path, tmp_path / "out", model=tiny, several=True)
    assert report.figures is not None and report.figures["accuracy"] > 60
    predictions = classify([text for text, _ in BOTH], examples=path, model=tiny, several=True)
    assert [list(prediction.chosen) for prediction in predictions] == [labels for _, labels in BOTH]
    with Classifier(str(tmp_path / "out"), precision="float32", compile_cache=False) as classifier:
        assert list(classifier.predict("a blue cat").scores.values()) == pytest.approx(
            list(predictions[1].scores.values()), abs=1e-3
        )


@pytest.mark.parametrize("labels", [["blue", "cat"], {"colour": "blue", "animal": "cat"}], ids=["names", "described"])
def test_labels_without_examples(tiny: Encoder, labels: list[str] | dict[str, str]) -> None:
    sure, unsure = classify(["cat", "the the"], labels, model=tiny)
    assert sure.label == list(labels)[1] and sure.score == pytest.approx(1, abs=1e-4) and not sure.unsure
    assert set(unsure.scores) == {*labels}


def test_few_examples_that_are_all_right_do_not_make_further_texts_certain(tiny: Encoder) -> None:
    texts, labels = ["the cat", "a cat", "cat", "the blue", "a blue", "blue"], ["animal"] * 3 + ["colour"] * 3
    for prediction in classify(["cat", "cat world"], examples=(texts, labels), model=tiny):
        assert prediction.label == "animal" and 0.6 < prediction.score < 0.97


def test_texts_to_label_next_are_unlike_each_other_and_unsure(tiny: Encoder) -> None:
    pool = ["cat"] * 30 + ["cat blue", "blue cat the", "world", "mat sat"] + ["blue"] * 30
    first = next_to_label(pool, 3, model=tiny)
    assert len(set(first)) == 3 and len({pool[number] for number in first}) == 3
    chosen = next_to_label(pool, 4, examples=(TEXTS[:24], LABELS[:24]), model=tiny)
    assert {"cat", "blue"}.isdisjoint(pool[number] for number in chosen[:2])


REFUSED: list[tuple[dict[str, object], str]] = [
    ({}, "Give either labels or examples"),
    ({"labels": ["a"], "examples": (TEXTS, LABELS)}, "Give either labels or examples"),
    ({"labels": []}, "labels is empty"),
    ({"labels": ["a", " "]}, "A name in labels is empty"),
    ({"examples": (["a", "b"], ["x", ""])}, "A label of the examples is empty"),
    ({"labels": {"a": " ", "b": "x"}}, "description of 'a' is empty"),
    ({"examples": (["a", "b", "c"], ["x", "x", "x"])}, "3 texts with the label 'x' alone"),
    ({"examples": (["a", "b"], ["x"])}, "2 texts and labels of 1"),
    ({"examples": (["a", "b"], [["x", "y"], ["x"]])}, "several=True"),
    ({"examples": (["a"] * 5001, [str(number) for number in range(5001)])}, "5,001 labels"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_refused(tiny: Encoder, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        classify(["cat"], model=tiny, **arguments)  # type: ignore[arg-type]


def test_few_examples_are_not_measured_and_a_folder_is_not_overwritten(tiny: Encoder, tmp_path: Path) -> None:
    report = train_classifier((["cat", "blue", "world"], ["x", "y", "y"]), model=tiny)
    assert report.figures is None and "not measured" in report.to_text()
    unlearnable = train_classifier((["cat"] * 8, ["x", "y"] * 4), model=tiny)
    assert "sure: none; there is no probability from which on 95%" in unlearnable.to_text()
    assert "warning: an accuracy of" in unlearnable.to_text() and len(unlearnable.to_dict()["warnings"]) == 1
    (tmp_path / "file").write_text("")
    for output, test, message in (
        (tmp_path, None, "is there already"),
        (None, (["cat", "sat"], ["animal", "z"]), "'z', of which there is no example"),
    ):
        with pytest.raises(NearfieldError, match=message):
            train_classifier((TEXTS, LABELS), output, model=tiny, test=test)


def test_the_commands(nearfield: Run, trained: tuple[ClassifierReport, Path], tmp_path: Path) -> None:
    tiny_folder = trained[1].parent / "none"
    labelled, texts = tmp_path / "labelled.tsv", tmp_path / "texts.jsonl"
    labelled.write_text("".join(f"{label}\t{text}\n" for text, label in ROWS))
    texts.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS[::9])))
    assert nearfield("train", "classifier", labelled, "--model", tiny_folder).code == 2
    ran = nearfield("classify", texts, "--model", trained[1], "--json", "--id-field", "id")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["label"] for row in rows] == LABELS[::9] and rows[1]["id"] == 1, ran.err
    ran = nearfield("classify", "a blue \x1b[2J hat", "--model", trained[1])
    assert ran.code == 0 and "colour" in ran.out and "\x1b" not in ran.out
    for words, message in (
        (("a cat",), "Name --labels, --examples, or a classifier"),
        (("missing.jsonl", "--labels", "a,b"), "There is no file 'missing.jsonl'"),
        ((texts, "a cat", "--labels", "a,b"), "files alone, or texts alone"),
        (("photo.png", "--examples", labelled), "by --labels alone"),
        (("a cat", "--labels", "a,,b"), "A name in labels is empty"),
    ):
        ran = nearfield("classify", *words)
        assert ran.code == 2 and message in ran.err
