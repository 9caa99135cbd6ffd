"""Jobs over folders of vectors, collections and stdin: vectors that exist are used, and no others are mixed in."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Collection, Encoder, classify, find_topics, next_to_label, read_job_items, recommend
from nearfield.errors import InputError, SpaceMismatch, TooLarge
from nearfield.jobs import job_vectors
from nearfield.jobs.sources.collection_items import collection_items
from nearfield.testing import tiny_encoder
from tests.support import cli_runner
from tests.support.cli_runner import Ran

pytest.importorskip("sklearn", reason="the extra 'jobs' is not installed")

SUBJECTS = ("the cat sat on the mat", "a blue world", "hello search query")
ROWS = [{"id": f"d{n}", "text": f"{SUBJECTS[n % 3]} {n // 3}", "team": f"t{n % 3}"} for n in range(24)]
TEXTS = [row["text"] for row in ROWS]
Run = Callable[..., Ran]


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: cli_runner.run(capsys, monkeypatch, *words)


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def shards(nearfield: Run, rows_file: Path, tiny: Encoder) -> Callable[..., Path]:
    """Embed the rows into a folder of shards."""

    def embed(name: str, *flags: str) -> Path:
        folder = rows_file.parent / name
        if not folder.is_dir():
            words = ("embed", rows_file, "-o", f"{folder}/", "--model", tiny.recipe.folder, "--id-field", "id")
            ran = nearfield(*words, "--keep", "text", "--keep", "team", "--shard-rows", 10, *flags)
            assert ran.code == 0, ran.err
        return folder

    return embed


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory, tiny: Encoder) -> Collection:
    """A collection of the rows, with a document of two passages, and one that is the same as another."""
    pytest.importorskip("lancedb")
    config = {"features": {"dense": {"model": "tiny"}}, "fields": {"team": "str"}}
    home = tmp_path_factory.mktemp("collections")
    collection = Collection.create("notes", config, home=home, encoder_of=lambda _: tiny)
    collection.put([*ROWS, {"id": "same", "text": TEXTS[0]}])
    return collection


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each job fail that would compute a vector of an item."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("vectors are computed again")

    monkeypatch.setattr(job_vectors, "embed_texts", refuse)


@pytest.mark.parametrize(
    ("form", "dtype"), [("parquet", "float32"), ("npy", "float16"), ("jsonl", "float32"), ("parquet", "int8")]
)
def test_a_folder_of_vectors_is_what_the_model_computes(
    shards: Callable[..., Path], tiny: Encoder, form: str, dtype: str
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    items = read_job_items(shards(f"{form}-{dtype}", "--shard-format", form, "--dtype", dtype), columns=["team"])
    expected = np.asarray(tiny.encode(TEXTS))
    assert items.vectors is not None and items.model == tiny.name
    decoded = job_vectors.check_vectors(items.vectors, 24)
    np.testing.assert_allclose(decoded.rows, expected, atol=0.02)  # the command computes in bf16
    assert decoded.fingerprint == tiny.encode([]).fingerprint
    assert items.texts == TEXTS and items.ids == [row["id"] for row in ROWS]
    assert items.columns == {"team": [row["team"] for row in ROWS]}


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize(
    "words",
    [
        ("topics", "--count", 3, "--json"),
        ("outliers", "--count", 2, "--json"),
        ("recommend", "--like", "d0", "--json"),
        ("map", "--count", 3, "-o", "map.html", "--colour-by", "team"),
        ("dedupe", "--format", "json"),
    ],
    ids=lambda words: words[0],
)
def test_each_command_uses_the_vectors_of_a_folder(
    nearfield: Run, shards: Callable[..., Path], words: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shards("jsonl-float32", "--shard-format", "jsonl", "--dtype", "float32")
    monkeypatch.chdir(tmp_path)
    ran = nearfield(words[0], folder, *words[1:])
    assert ran.code == 0, ran.err
    items = read_job_items(folder)
    if words[0] == "topics":
        expected = find_topics(TEXTS, vectors=items.vectors, count=3)
        found = [json.loads(line)["topic"] for line in ran.out.splitlines()[1:]]
        assert found == expected.assignments.tolist()
    if words[0] == "recommend":
        chosen = [item["id"] for item in json.loads(ran.out)["items"]]
        assert chosen == [item.id for item in recommend(TEXTS, ["d0"], ids=items.ids, vectors=items.vectors)]


def test_labels_and_drift_of_a_folder(
    nearfield: Run, shards: Callable[..., Path], rows_file: Path, tiny: Encoder
) -> None:
    folder, model = shards("jsonl-float32", "--shard-format", "jsonl", "--dtype", "float32"), tiny.recipe.folder
    ran = nearfield("classify", folder, "--labels", "cat,blue,hello", "--json", "--model", model)
    labels = [json.loads(line)["label"] for line in ran.out.splitlines()]
    assert len(labels) == 24, ran.err
    items = read_job_items(folder)
    predictions = classify(items.texts, ["cat", "blue", "hello"], vectors=items.vectors, model=tiny)
    same = [prediction.label == label for prediction, label in zip(predictions, labels, strict=True)]
    assert sum(same) >= 20  # the command computes labels in bf16
    assert set(next_to_label(items.texts, 3, vectors=items.vectors, model=tiny)) <= set(range(24))
    ran = nearfield("outliers", rows_file, "--reference", folder, "--model", model, "--json")
    assert not json.loads(ran.out)["drifted"], ran.err


def test_what_is_no_folder_of_vectors_for_a_job(
    nearfield: Run, shards: Callable[..., Path], rows_file: Path, tiny: Encoder, tmp_path: Path
) -> None:
    folder = shards("jsonl-float32", "--shard-format", "jsonl", "--dtype", "float32")
    with pytest.raises(InputError, match="read them in two runs"):
        read_job_items([folder, rows_file])
    with pytest.raises(InputError, match="has no column 'day': embed with --keep day"):
        read_job_items(folder, columns=["day"])
    assert len(read_job_items([folder], field="other").texts) == 24
    assert "reads texts, and this folder has vectors alone" in nearfield("dedupe", folder, "--field", "other").err
    other = shards("float16", "--shard-format", "jsonl", "--dtype", "float16")
    with pytest.raises(SpaceMismatch):
        read_job_items([folder, other])
    manifest = json.loads((folder / "_manifest.json").read_text())
    broken = tmp_path / "broken"
    broken.mkdir()
    for change, message in (({"state": "partial"}, "is not complete"), ({}, "cannot be read")):
        (broken / "_manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(InputError, match=message):
            read_job_items(broken)
    items = read_job_items(folder)
    with tiny_encoder(tmp_path / "another", prompts={"clustering": "the "}) as another, pytest.raises(SpaceMismatch):
        find_topics(items.texts, vectors=items.vectors, count=3).assign(["x"] * 3, model=another)


def test_a_collection_has_its_documents_with_their_vectors(notes: Collection, tiny: Encoder) -> None:
    items = collection_items(notes, ["team"])
    assert [str(key).rpartition("#")[2] for key in items.ids] == sorted([*(row["id"] for row in ROWS), "same"])
    places = {str(key).rpartition("#")[2]: place for place, key in enumerate(items.ids)}
    order = [places[row["id"]] for row in ROWS]
    assert [items.texts[place] for place in order] == TEXTS
    assert [items.columns["team"][place] for place in order] == [row["team"] for row in ROWS]
    assert items.vectors is not None and items.vectors.fingerprint == tiny.encode([]).fingerprint
    np.testing.assert_allclose(items.vectors[order], tiny.encode(TEXTS, role="document"), atol=1e-3)
    np.testing.assert_allclose(items.vectors[places["same"]], items.vectors[places["d0"]], atol=1e-6)
    with pytest.raises(TooLarge, match="has 25 documents, and a job over HTTP reads at most 10"):
        collection_items(notes, max_documents=10)
    with pytest.raises(InputError, match="has no field 'day'"):
        collection_items(notes, ["day"])


@pytest.mark.usefixtures("nothing_computed")
def test_commands_over_a_collection(nearfield: Run, notes: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(notes.folder.path.parent))
    ran = nearfield("topics", "collection:notes", "--count", 3, "--json")
    items = collection_items(notes)
    expected = find_topics(items.texts, vectors=items.vectors, count=3)
    found = [json.loads(line)["topic"] for line in ran.out.splitlines()[1:]]
    assert found == expected.assignments.tolist(), ran.err
    ran = nearfield("dedupe", "collection:notes", "--format", "json")
    assert json.loads(ran.out)["copies"]["exact"] == 1, ran.err
    assert "no collection 'note'" in nearfield("outliers", "collection:note").err
    assert "one collection, or files" in nearfield("outliers", "collection:notes", "-").err


@pytest.mark.parametrize(
    "lines",
    [
        "".join(json.dumps(row) + "\n" for row in ROWS),
        "id,text,team\n" + "".join(f"{row['id']},{row['text']},x\n" for row in ROWS),
        "id\ttext\n" + "".join(f"{row['id']}\t{row['text']}\n" for row in ROWS),
        "".join(f"{text}\n" for text in TEXTS),
    ],
    ids=["jsonl", "csv", "tsv", "txt"],
)
@pytest.mark.parametrize("peeks", [True, False])
def test_the_format_of_stdin_is_recognised(lines: str, peeks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO(lines.encode())
    reader: Any = io.BufferedReader(stream) if peeks else stream
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(reader))
    items = read_job_items("-")
    assert list(items.texts) == TEXTS


def test_columns_are_not_read_from_stdin(nearfield: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "a"}\n')))
    ran = nearfield("map", "-", "-o", tmp_path / "map.html", "--colour-by", "team")
    assert ran.code == 2 and "'team' cannot be read from stdin" in ran.err
