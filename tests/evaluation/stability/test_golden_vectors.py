"""Golden vectors of a model, and drift of a collection: what is reproduced, and what is not, each by what changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nearfield.corpus.collection import Collection
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.stability import golden_vectors
from nearfield.evaluation.stability.drift import drift
from nearfield.testing import tiny_encoder, write_tiny_model
from tests.parity import multivector, sparse
from tests.support.cli_runner import Ran, run

Run = Callable[..., Ran]
TEXTS = ["a cat sat on the mat", "", "hello blue world"]
DOCUMENTS = [
    {"id": str(at), "text": f"The {word} sat on the mat number {at}."} for at, word in enumerate(["cat", "dog"] * 6)
]


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: run(capsys, monkeypatch, *words)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a tiny model with prompts."""
    return write_tiny_model(tmp_path / "tiny", prompts={"query": "query ", "document": "passage "})


def _open(folder: Path, **options: Any) -> Encoder:
    return Encoder(str(folder), compile_cache=False, precision="float32", **options)


def _nudged(folder: Path, by: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    noise = np.random.default_rng(1).standard_normal(tensors[name].shape).astype(np.float32)
    save_file({**tensors, name: tensors[name] + by * noise}, folder / "model.safetensors")


def test_what_was_saved_is_reproduced(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    with _open(model) as encoder:
        golden_vectors.save(encoder, path, TEXTS)
        rows = golden_vectors.load(path)["vectors"]
        for role in ("query", "document"):
            expected = np.asarray(encoder.encode(TEXTS, role=role))
            # Nine digits keep a float32 whole.
            assert np.array_equal(np.array(rows[role], np.float32)[:, 0], expected)
        told = golden_vectors.check(encoder, golden_vectors.load(path))
    assert told["reproduced"] and told["fingerprint"]["same"] and told["versions"] == {}
    assert told["cosine"]["min"] > 0.9999999 and told["least"] == 0.99999


def test_other_weights_are_told_by_cosine_and_fingerprint(model: Path, tmp_path: Path) -> None:
    with _open(model) as encoder:
        golden_vectors.save(encoder, tmp_path / "golden.json", TEXTS)
    _nudged(model, 0.05)
    with _open(model) as encoder:
        told = golden_vectors.check(encoder, golden_vectors.load(tmp_path / "golden.json"))
    assert not told["reproduced"] and not told["vectors_alike"] and not told["fingerprint"]["same"]
    assert told["cosine"]["min"] == told["worst"][0]["cosine"] < 0.99999
    assert told["worst"][0]["text"] in TEXTS


def test_vectors_that_are_alike_under_another_fingerprint_are_not_reproduced(model: Path, tmp_path: Path) -> None:
    with _open(model) as encoder:
        golden_vectors.save(encoder, tmp_path / "golden.json", TEXTS)
    _nudged(model, 1e-7)
    with _open(model) as encoder:
        told = golden_vectors.check(encoder, golden_vectors.load(tmp_path / "golden.json"))
    assert told["vectors_alike"] and not told["reproduced"]


def test_another_prompt_is_seen_in_its_role_alone(model: Path, tmp_path: Path) -> None:
    with _open(model) as encoder:
        golden_vectors.save(encoder, tmp_path / "golden.json", ["hello blue world"])
    write_tiny_model(model, prompts={"query": "search ", "document": "passage "})
    with _open(model) as encoder:
        told = golden_vectors.check(encoder, golden_vectors.load(tmp_path / "golden.json"), min_cosine=0.999999)
    cosines = {row["role"]: row["cosine"] for row in told["worst"]}
    assert cosines["document"] > 0.999999 > cosines["query"]


@pytest.mark.parametrize(
    ("kind", "write"), [("sparse", sparse.masked("bert")), ("multivector", multivector.own("bert"))]
)
def test_other_kinds_of_vectors_are_kept_too(kind: str, write: Callable[[Path], Path], tmp_path: Path) -> None:
    with _open(write(tmp_path)) as encoder:
        assert encoder.recipe.outputs[0] == kind
        golden_vectors.save(encoder, tmp_path / "golden.json", ["hello world", "a cat"])
        saved = golden_vectors.load(tmp_path / "golden.json")
        told = golden_vectors.check(encoder, saved)
        assert told["reproduced"] and told["cosine"]["min"] > 0.999999
        saved["vectors"]["query"].reverse()
        assert golden_vectors.check(encoder, saved)["cosine"]["min"] < 0.999


def test_a_coarser_precision_has_a_coarser_bound(model: Path, tmp_path: Path) -> None:
    with _open(model) as encoder:
        saved = golden_vectors.save(encoder, tmp_path / "golden.json", ["hello"])
        assert golden_vectors.check(encoder, {**saved, "precision": "bf16"})["least"] == 0.999


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "cannot be read"),
        ("{}", "format, model, fingerprint"),
        ("[]", "format, model"),
        ('{"format": 9, "model": "", "fingerprint": "", "precision": "", "texts": [], "vectors": {}}', "format 1: 9"),
        (
            '{"format": 1, "model": "", "fingerprint": "", "precision": "", "texts": ["a"], "vectors": {"query": []}}',
            "1 texts",
        ),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "golden.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        golden_vectors.load(path)


@pytest.mark.slow
def test_the_commands(nearfield: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    assert nearfield("golden", "save", model, path).code == 0
    assert len(golden_vectors.load(path)["texts"]) == len(golden_vectors.TEXTS) == 13
    again = nearfield("golden", "save", model, path)
    assert again.code == 2 and "--force" in again.err
    good = nearfield("golden", "check", path, "--model", model)
    assert good.code == 0 and "tiny: reproduced" in good.out
    _nudged(model, 0.5)
    bad = nearfield("golden", "check", path, "--model", model, "--json")
    assert bad.code == 1 and not json.loads(bad.out)["reproduced"]
    assert "NOT reproduced" in nearfield("golden", "check", path, "--model", model).out


# -- collections ----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the collection ``pets``, of whole vectors and of signs."""
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    features = {"dense": {"model": str(model)}, "short": {"of": "dense", "dtype": "binary"}}
    with (
        tiny_encoder(model, prompts={"query": "query ", "document": "passage "}) as encoder,
        Collection.create("pets", {"features": features}, encoder_of=lambda _: encoder) as pets,
    ):
        pets.put(DOCUMENTS)
    return tmp_path / "collections"


@pytest.mark.slow
def test_a_collection_is_reproduced(nearfield: Run, home: Path) -> None:
    said = nearfield("verify", "pets", "--sample", 5, "--json")
    told = json.loads(said.out)
    assert said.code == 0 and told["reproduced"] and told["books"] == {"missing": [], "foreign": []}
    for feature in told["features"].values():
        assert feature["sampled"] == 5 and feature["cosine"]["min"] > 0.999 and feature["fingerprint"]["same"]
    assert "Manifest and store: no differences" in nearfield("verify", "pets").out


@pytest.mark.slow
def test_a_collection_of_other_weights_is_not(nearfield: Run, home: Path, model: Path) -> None:
    _nudged(model, 0.5)
    said = nearfield("verify", "pets", "--json")
    told = json.loads(said.out)
    assert said.code == 1 and not told["reproduced"]
    dense = told["features"]["dense"]
    assert not dense["fingerprint"]["same"] and dense["cosine"]["min"] < 0.999 and len(dense["unlike"]) > 0
    assert "(when indexed: " in nearfield("verify", "pets").out


@pytest.mark.slow
def test_a_vector_that_was_changed_in_the_store_is_found(home: Path) -> None:
    with Collection.open("pets") as pets:
        from dataclasses import replace

        from nearfield.corpus.features import table_from_dict

        (placement,) = (each for each in pets.manifest.vector_tables() if each.feature == "dense")
        table = table_from_dict(placement.described)
        (record, *_) = next(pets.store.scan(table, vectors=True))
        pets.store.upsert(table, [replace(record, vector=np.roll(np.asarray(record.vector), 1))])
        told = drift(pets, sample=100)
    assert told["features"]["dense"]["unlike"] == [record.id]
    assert told["features"]["short"]["reproduced"] and not told["reproduced"]


@pytest.mark.slow
def test_a_sample_is_needed(home: Path) -> None:
    with Collection.open("pets") as pets, pytest.raises(InputError, match="at least one"):
        drift(pets, sample=0)
