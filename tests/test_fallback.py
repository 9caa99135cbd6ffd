"""The fallback through transformers: taken by itself, as strict as our own loading, and never with a model's code."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfield import Encoder
from nearfield.errors import ModelRefused, WeightsError
from nearfield.families import NoFamily
from tests import tiny
from tests.parity.foreign import foreign
from tests.parity.rotary_bert import rewrite, weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return foreign("RoFormerConfig")(tmp_path)


def test_it_is_taken_by_itself(folder: Path) -> None:
    with Encoder(str(folder), precision="float32") as encoder:
        assert encoder.encode(["sun", "river bank"]).shape == (2, 32)


def test_missing_weights_are_not_filled_in(folder: Path) -> None:
    whole = weights(folder)
    rewrite(folder, {name: tensor for name, tensor in whole.items() if "layer.1.attention.self.key" not in name})
    with pytest.raises(WeightsError, match=r"layer\.1\.attention\.self\.key"):
        Encoder(str(folder))


def test_refusals(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.edit(folder / "config.json", auto_map={"AutoModel": "x--y.Z"})
    with pytest.raises(ModelRefused, match="runs no remote code"):
        Encoder(str(folder))
    with pytest.raises(ModelRefused, match="runs no remote code"):
        Encoder(str(folder), backend="transformers")
    tiny.edit(folder / "config.json", auto_map=None)
    monkeypatch.setattr("nearfield.model.find_spec", lambda _: None)
    with pytest.raises(NoFamily, match=r"pip install 'nearfield\[torch\]'"):
        Encoder(str(folder))
