"""Quantised folders: what they hold and give, when nothing is written, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nearfield
from nearfield import Encoder
from nearfield.checkpoint.weights.quantized.stored_matrices import decoded_tensors, stored_arrays
from nearfield.checkpoint.weights.safetensors_file import read_safetensors
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import InputError, ModelRefused, WeightsError
from nearfield.evaluation.datasets.dataset import Dataset, PairRows, Retrieval
from nearfield.inference.uncompiled_model import read_model
from nearfield.testing import WORDS, write_tiny_model
from nearfield.training.fine_tuning.base_model import open_base
from nearfield.training.light import quantize as module
from nearfield.training.light import quantized_folder
from nearfield.training.light.quantize import quantize
from tests.parity.scores import classifier
from tests.support import gguf_files
from tests.support.cli_runner import run
from tests.support.tiny_training import tiny_late, tiny_splade

PRECISIONS = ("int8", "int4")
TEXTS = [" ".join(WORDS[n : n + 6]) for n in range(60)]
SEARCH = Dataset(
    "words",
    "retrieval",
    Retrieval(
        {str(n): text for n, text in enumerate(TEXTS)}, {"a": TEXTS[0], "b": TEXTS[8]}, {"a": {"0": 1}, "b": {"8": 1}}
    ),
)
KINDS = {"sparse": tiny_splade, "multivector": tiny_late, "scores": classifier("bert", new=False)}
STS = Dataset("words", "sts", PairRows(TEXTS[:-1], TEXTS[1:], list(np.linspace(0, 5, len(TEXTS) - 1))))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("quantize") / "model", size=64)


@pytest.fixture(scope="module")
def folders(model: Path) -> dict[str, Path]:
    """The model in each precision; several files of weights in int4."""
    written = {precision: model.parent / precision for precision in PRECISIONS}
    for precision, folder in written.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(quantized_folder, "_SHARD", 2**30 if precision == "int8" else 20_000)
            report = quantize(model, folder, precision=precision, data=[STS], max_loss=100)
        assert report.refusal is None
    return written


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_folder_gives_the_vectors_of_the_model_in_its_precision(
    model: Path, folders: dict[str, Path], precision: str
) -> None:
    with Encoder(str(model), precision=precision) as quantized, Encoder(str(folders[precision])) as encoder:
        expected, vectors = quantized.encode(TEXTS), encoder.encode(TEXTS)
        assert (np.asarray(vectors) * np.asarray(expected)).sum(axis=1).min() > 0.999
        assert (encoder.precision, encoder.recipe.quantized) == (precision, precision)
        assert encoder.fingerprint != quantized.fingerprint
    with Encoder(str(folders[precision]), backend="reference") as float_encoder:
        cosines = (np.asarray(float_encoder.encode(TEXTS)) * np.asarray(vectors)).sum(axis=1)
        assert cosines.min() > 0.999


def test_a_folder_has_small_files_and_its_report(model: Path, folders: dict[str, Path]) -> None:
    facts = json.loads((folders["int4"] / "nearfield_quantization.json").read_text(encoding="utf-8"))
    report = facts["report"]
    assert (facts["precision"], facts["model"], facts["version"]) == ("int4", "model", 1)
    assert report["cosines"]["texts"] > len(set(TEXTS)) and len(report["cosines"]["worst"]) == 5
    assert report["sets"][0]["dataset"] == "words" and len(report["sets"][0]["interval"]) == 2
    assert report["weights"][1] < report["weights"][0] / 2
    assert len(list(folders["int4"].glob("*.safetensors"))) > 1
    assert (folders["int8"] / "model.safetensors").stat().st_mode & 0o077 == (
        model / "config.json"
    ).stat().st_mode & 0o077
    assert not list(model.parent.glob(".*"))


def test_nothing_is_written_if_too_much_is_lost_or_nothing_was_measured(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_measure", lambda *_, precision=None: module.MeasuredModel(memory=None))
    report = quantize(model, tmp_path / "unmeasured")
    assert report.refusal is not None and "--accept-unmeasured" in report.refusal
    quantize(model, tmp_path / "accepted", accept_unmeasured=True)
    compared = {"dataset": "words", "before": 80.0, "after": 79.0, "metric": "spearman", "interval": [-2, 0], "p": 0.1}
    monkeypatch.setattr(module, "_figures", lambda *_: ((None, None), None, [compared], None))
    report = quantize(model, tmp_path / "loses", precision="int4", max_loss=0.9)
    assert report.refusal is not None and "words loses 1.00 points, and 0.9 may be lost: take int8" in report.refusal
    assert [path.name for path in tmp_path.iterdir()] == ["accepted"]
    result = run(capsys, monkeypatch, "quantize", model, "-o", tmp_path / "loses")
    assert (result.code, "Nothing was written: words loses" in result.out) == (3, True)


def test_the_command_shows_sizes_without_writing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = json.loads(run(capsys, monkeypatch, "quantize", model, "--precision", "int4", "--dry-run", "--json").out)
    assert sizes["bytes_after"] < sizes["bytes_before"] / 3
    assert "Name the folder" in run(capsys, monkeypatch, "quantize", model).err
    (tmp_path / "file").touch()
    assert "not empty" in run(capsys, monkeypatch, "quantize", model, "-o", tmp_path).err


def test_models_that_cannot_be_quantised_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="weights are in int8 already"):
        quantize(folders["int8"], tmp_path / "out")
    with pytest.raises(ModelRefused, match=r"weights are in int4\. Train the model that they are from"):
        open_base(str(folders["int4"]))
    recipe = replace(read_model(str(folders["int8"])).recipe, quantized="")
    static, pictures = replace(recipe, config={"model_type": "static"}), replace(recipe, modality="image")
    reasons = [module.refusal_of(one, has_adapter=False) or "" for one in (recipe, static, pictures)]
    assert reasons[0] == "" and "train static --precision int8" in reasons[1] and "reads image" in reasons[2]
    assert "its folder is an adapter" in (module.refusal_of(recipe, has_adapter=True) or "")
    with pytest.raises(InputError, match="Unknown precision 'int3'"):
        nearfield.quantize(folders["int8"], tmp_path / "out", precision="int3")


def test_weights_in_gguf_are_refused(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    file = gguf_files.convert(model, "bert", "F32").rename(tmp_path / "model.gguf")
    with pytest.raises(ModelRefused, match=r"in a GGUF file.* Take the model that it was converted from"):
        quantize(file, tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_other_kinds_are_measured_by_retrieval(tmp_path: Path, kind: str) -> None:
    folder = KINDS[kind](tmp_path / "model")
    report = quantize(folder, tmp_path / "out", data=[SEARCH], max_loss=100)
    assert report.refusal is None
    assert [row["metric"] for row in report.sets] == ["nDCG@10"]
    with nearfield.load(str(tmp_path / "out")) as quantized:
        assert quantized.recipe.outputs[0] == kind and quantized.recipe.quantized == "int8"


def test_weights_that_are_not_finite_are_refused(model: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in model.iterdir():
        (damaged / path.name).symlink_to(path)
    tensors = load_file(model / "model.safetensors")
    name = next(name for name in tensors if name.endswith("query.weight"))
    tensors[name][3, 5] = np.nan
    (damaged / "model.safetensors").unlink()
    save_file(tensors, damaged / "model.safetensors")
    with pytest.raises(WeightsError, match="infinite or undefined values"):
        quantize(damaged, tmp_path / "out", data=[STS])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_codes_without_fitting_scales_are_refused(tmp_path: Path, precision: str, damage: str) -> None:
    matrix = np.random.default_rng(0).standard_normal((32, 192)).astype(np.float32)
    arrays = stored_arrays("layer.weight", matrix, precision)
    path = tmp_path / "model.safetensors"
    save_file(arrays, path)
    decoded = Weights.open(tmp_path).tensor("layer.weight", (32, 192))
    np.testing.assert_array_equal(decoded, decoded_tensors(read_safetensors(path))["layer.weight"].load())
    scales = f"layer.weight.{precision}_scales"
    lost = "layer.weight" if damage == "missing" else scales
    arrays[lost] = arrays[lost][:7] if damage == "shape" else arrays[lost].astype(np.int16)
    save_file(arrays, path)
    with pytest.raises(WeightsError, match="a part of a quantised matrix"):
        Weights.open(tmp_path)
