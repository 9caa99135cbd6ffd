"""Quantised weights in a temporary file: the same vectors, arrays that outlive the file, full disks."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.backends import weight_file
from nearfield.backends.weight_file import WeightFile
from nearfield.checkpoint.weights.safetensors_file import read_safetensors
from tests.support.tiny_models import tiny_bert

TEXTS = ["the cat sat on the mat", "a small house of stone by the river", "rain"]


def vectors(folder: Path, precision: str) -> np.ndarray:
    with Encoder(str(folder), precision=precision, compile_cache=False) as encoder:
        gc.collect()
        return np.asarray(encoder.encode(TEXTS))


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_vectors_are_those_of_weights_in_memory(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny_bert(tmp_path / "model", hidden_size=128, intermediate_size=256)
    in_memory = vectors(folder, precision)
    monkeypatch.setattr(weight_file, "_MIN_BYTES", 1024)
    files: list[WeightFile] = []
    begin = WeightFile.__enter__

    def enter(file: WeightFile) -> WeightFile:
        files.append(file)
        return begin(file)

    monkeypatch.setattr(WeightFile, "__enter__", enter)
    assert np.array_equal(vectors(folder, precision), in_memory)
    assert len(files) == 1 and len(files[0].mapped) > 5

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert np.array_equal(vectors(folder, precision), in_memory)
    assert caplog.text.count("stay in memory") == 1 and "No space left" in caplog.text


def test_the_file_has_no_name_and_its_arrays_stay_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_file, "_MIN_BYTES", 1)
    monkeypatch.setattr(weight_file, "_PART_BYTES", 2**16)
    random = np.random.default_rng(0)
    arrays = [random.integers(-9, 9, (size, 3), np.int8) for size in (3, 1000, 30_000, 10_000, 20_000)]
    with WeightFile(tmp_path / "cache") as file:
        mapped = [file.store(array) for array in arrays]
        assert not list((tmp_path / "cache").iterdir())
    del file
    gc.collect()
    assert all(np.array_equal(cast(np.ndarray, one), two) for one, two in zip(mapped, arrays, strict=True))


def test_pages_that_were_read_are_let_go_and_come_back(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "model", hidden_size=128, intermediate_size=256)
    for name, tensor in read_safetensors(folder / "model.safetensors").items():
        before = np.array(tensor.load())
        tensor.release()
        assert np.array_equal(tensor.load(), before), name
