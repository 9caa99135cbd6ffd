"""Models on their way to other machines: which files are used, which travel, and what is checked."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.cluster.model_parcel import ModelParcel
from nearfield.errors import ModelNotFound
from nearfield.inference.uncompiled_model import read_model
from nearfield.settings import cache_dir
from nearfield.testing import write_tiny_model


@pytest.fixture
def parcel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelParcel:
    """A model in a folder, as it arrives elsewhere; caches are empty."""
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    folder = write_tiny_model(tmp_path / "model", prompts={"query": "search: "})
    return pickle.loads(pickle.dumps(ModelParcel.pack(read_model(str(folder)))))


def _vectors(parcel: ModelParcel, files: dict[tuple[int, str], bytes] | None = None) -> tuple[Path, np.ndarray]:
    model = parcel.unpack(files)
    assert model is not None
    with Encoder(model, precision="float32", compile_cache=False) as encoder:
        return encoder.recipe.folder, np.asarray(encoder.encode(["a cat"], prompt_name="query"))


def test_files_at_the_same_path_are_used(parcel: ModelParcel, tmp_path: Path) -> None:
    folder, _ = _vectors(parcel)
    assert folder == tmp_path / "model"
    assert not (cache_dir() / "cluster").exists()


def test_files_that_a_machine_lacks_arrive_once_with_the_same_vectors(parcel: ModelParcel, tmp_path: Path) -> None:
    _, expected = _vectors(parcel)
    files = parcel.read_files()
    shutil.rmtree(tmp_path / "model")
    assert parcel.unpack(None) is None
    folder, vectors = _vectors(parcel, files)
    assert folder.is_relative_to(cache_dir()) and folder.name == "model"
    assert (vectors == expected).all()
    again, _ = _vectors(parcel)  # now the cache has them
    assert again == folder


def test_other_files_at_the_same_path_are_not_used(parcel: ModelParcel, tmp_path: Path) -> None:
    files = parcel.read_files()
    write_tiny_model(tmp_path / "model", layers=1)
    assert parcel.unpack(None) is None
    folder, _ = _vectors(parcel, files)
    assert folder != tmp_path / "model"


def test_files_that_arrive_damaged_are_refused(parcel: ModelParcel, tmp_path: Path) -> None:
    files = parcel.read_files()
    shutil.rmtree(tmp_path / "model")
    key = next(key for key in files if key[1].endswith(".safetensors"))
    files[key] = files[key][:-1] + b"?"
    with pytest.raises(ModelNotFound, match="did not arrive as they were sent"):
        parcel.unpack(files)
    assert parcel.unpack(None) is None
