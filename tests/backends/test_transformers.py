"""The fallback through transformers: taken by itself, as strict as our own loading, and never with a model's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.errors import InputError, ModelRefused, WeightsError
from nearfield.families import NoFamily
from tests.parity import dense
from tests.parity.foreign import foreign
from tests.parity.rotary_bert import rewrite, weights
from tests.support import tiny_models

pytestmark = pytest.mark.slow


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


def test_weights_of_other_shapes_are_not_filled_in(folder: Path) -> None:
    whole = weights(folder)
    name = next(name for name in whole if name.endswith("layer.1.attention.self.key.weight"))
    rewrite(folder, {**whole, name: whole[name][:, :-1].contiguous()})
    with pytest.raises(WeightsError, match=r"other shapes.*layer\.1\.attention\.self\.key"):
        Encoder(str(folder))


def test_padding_that_leaks_into_states_is_avoided(tmp_path: Path) -> None:
    """FNet mixes all positions of a row: beside a longer text, sentence-transformers itself gives another vector."""
    folder = foreign("FNetConfig", tpu_short_seq_length=64, pooling="mean")(tmp_path)
    texts = ["sun", "the small house by the river bank", "read"]
    with Encoder(str(folder), precision="float32") as encoder:
        found = encoder.encode(texts)
    alone = [dense.expect(folder, [text])[0] for text in texts]
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert np.abs(dense.expect(folder, texts)[0] - alone[0]).max() > 1e-2


def test_low_precision_leaves_rotary_frequencies_alone(tmp_path: Path) -> None:
    """Rounded to bf16, frequencies turn far positions by angles that are plainly wrong."""
    import torch

    from nearfield.backends.transformers import load

    folder = foreign("StableLmConfig", num_key_value_heads=4, pooling="mean")(tmp_path)
    exact, rounded = load(folder), load(folder, torch.bfloat16)
    assert {weight.dtype for weight in rounded.parameters()} == {torch.bfloat16}
    for name, frequencies in exact.named_buffers():
        torch.testing.assert_close(rounded.get_buffer(name), frequencies)
    with Encoder(str(folder), precision="float32") as encoder:
        np.testing.assert_allclose(encoder.encode(["sun"]), dense.expect(folder, ["sun"]), atol=1e-5)


def test_a_table_of_positions_is_a_limit(tmp_path: Path) -> None:
    """Counted from the padding id on, as RoBERTa's are, positions end before the config's number."""
    folder = foreign("XLMRobertaXLConfig", max_position_embeddings=40, pooling="mean")(tmp_path)
    with Encoder(str(folder), precision="float32") as encoder:
        assert encoder.encode(["river " * 50]).dropped[0] > 0
    with pytest.raises(InputError, match="from 1 to 39"):
        Encoder(str(folder), max_length=40)


def test_refusals(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.edit(folder / "config.json", auto_map={"AutoModel": "x--y.Z"})
    with pytest.raises(ModelRefused, match="runs no remote code"):
        Encoder(str(folder))
    with pytest.raises(ModelRefused, match="runs no remote code"):
        Encoder(str(folder), backend="transformers")
    tiny_models.edit(folder / "config.json", auto_map=None)
    monkeypatch.setattr("nearfield.inference.compiled_model.find_spec", lambda _: None)
    with pytest.raises(NoFamily, match=r"pip install 'nearfield\[torch\]'"):
        Encoder(str(folder))
