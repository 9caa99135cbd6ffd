"""Folders that are called like a model of the catalogue: they are loaded as if their paths were passed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearfield import catalog
from nearfield.compat.sentence_transformers.load_options import model_name
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.errors import InputError, LicenceRefused, ModelNotFound, SourceUnavailable
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.inference.uncompiled_model import adapter_folder, read_model
from nearfield.testing import write_tiny_model

NON_COMMERCIAL = "naver/splade-cocondenser-ensembledistil"


@pytest.mark.parametrize("name", ["minilm", "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_a_folder_has_its_own_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_model(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with Encoder(name, compile_cache=False) as encoder, Encoder(f"./{name}", compile_cache=False) as by_path:
        assert encoder.name == by_path.name == name.rpartition("/")[2]
        assert encoder.fingerprint == by_path.fingerprint
        assert encoder.recipe.licence is None
        np.testing.assert_array_equal(encoder.encode("a cat"), by_path.encode("a cat"))


@pytest.mark.parametrize("name", [NON_COMMERCIAL, "splade"])
def test_a_licence_of_the_catalogue_is_not_that_of_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = catalog.find(name)
    assert entry is not None and entry.id == NON_COMMERCIAL and not entry.commercial
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)  # it has no model
    with pytest.raises(LicenceRefused, match=NON_COMMERCIAL):
        read_model(name)
    write_tiny_model(tmp_path / name)
    assert read_model(name).recipe.folder == (tmp_path / name).resolve()


def test_another_source_is_not_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_model(tmp_path / "splade")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LicenceRefused, match=NON_COMMERCIAL):
        read_model("splade", source="hub")
    with pytest.raises(SourceUnavailable, match="offline"):
        read_model("splade", source="hub", accept_license=True)


@pytest.mark.parametrize(
    "name",
    ["x" * 300, f"owner/{'x' * 300}", "/" + "y" * 300, "./" + "z" * 5000, "a/" * 3000, "~nobody-here/model", "a\0b"],
    ids=lambda name: name[:8].replace("\0", "0"),
)
def test_names_that_no_path_can_have(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((ModelNotFound, SourceUnavailable), match="folder: "):
        read_model(name)
    assert catalog.find_unless_folder(name) is None


#: Too long for a file, the home of an unknown user, and a zero byte.
NO_PATHS = ["x" * 5000, "~nobody-here/x", "a\0b"]


@pytest.mark.parametrize("name", NO_PATHS, ids=["long", "home", "zero"])
def test_other_names_that_no_path_can_have(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((ModelNotFound, SourceUnavailable)):
        adapter_folder(name)
    with pytest.raises(InputError, match="There is no data set"):
        load_dataset(name)
    with pytest.raises(InputError, match="There is no file or folder"):
        parse_source(name)
    with pytest.raises(InputError, match="There is no file or folder"):
        parse_source(f"{name}.csv")
    assert model_name(name, "owner").endswith(name)


@pytest.mark.parametrize(("adapter", "description"), [(None, "None"), ("", "''"), (1, "the number 1")])
def test_what_names_no_adapter(adapter: str, description: str) -> None:
    with pytest.raises(InputError, match=f"adapter must be a folder or an id on the Hub, and is .*{description}"):
        adapter_folder(adapter)
