"""Checkpoints that differ from their family's usual ones: run exactly, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.errors import WeightsError
from nearfield.families.t5 import CACHED_LENGTH, T5, _cached_buckets
from tests.parity import bert_kin, cases, sparse, static, t5
from tests.parity.measure import ours
from tests.parity.rotary_bert import rewrite, weights
from tests.support import tiny_models

pytestmark = pytest.mark.slow

TEXTS = ["read the small house", "river bank", "a"]


def untied(folder: Path) -> Path:
    """Write ALBERT's masked language model with a separate last layer, bias included."""
    import torch

    out = sparse.masked("albert")(folder)
    whole = weights(out)
    words = whole["albert.embeddings.word_embeddings.weight"]
    torch.manual_seed(3)
    own = {
        "predictions.decoder.weight": 0.3 * torch.randn(words.shape),
        "predictions.decoder.bias": torch.randn(len(words)),
    }
    rewrite(out, {**whole, **own})
    tiny_models.edit(out / "config.json", tie_word_embeddings=False)
    return out


def test_albert_with_a_last_layer_of_its_own(tmp_path: Path) -> None:
    case = next(case for case in bert_kin.CASES if case.family == "albert" and case.output == "sparse")
    folder = untied(tmp_path)
    found = ours(case, folder, TEXTS, precision="float32")
    np.testing.assert_allclose(found, sparse.expect(folder, TEXTS), atol=5e-5)


@pytest.mark.parametrize(("family", "at"), [("bert", "cls.predictions."), ("roberta", "lm_head.")])
def test_a_last_layer_s_own_bias_counts(family: str, at: str, tmp_path: Path) -> None:
    import torch

    case = next(case for case in cases() if case.family == family and case.output == "sparse")
    folder = sparse.masked(family)(tmp_path)
    whole = weights(folder)
    words = next(tensor for name, tensor in whole.items() if name.endswith("word_embeddings.weight"))
    torch.manual_seed(4)
    own = {f"{at}decoder.weight": 0.3 * torch.randn(words.shape)}
    biases = {f"{at}{name}": torch.randn(len(words)) for name in ("bias", "decoder.bias")}
    rewrite(folder, {**whole, **own, **biases})
    tiny_models.edit(folder / "config.json", tie_word_embeddings=False)
    found = ours(case, folder, TEXTS, precision="float32")
    np.testing.assert_allclose(found, sparse.expect(folder, TEXTS), atol=5e-5)


def test_static_embeddings_without_a_limit(tmp_path: Path) -> None:
    folder = static.distilled(normalize=True, shared=False)(tmp_path)
    text = "river " * 520 + "small house " * 100
    for limit in (None, 7):
        # tiny.edit takes None for leaving a key out, which here means another thing.
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "max_length": limit}))
        with Encoder(str(folder), precision="float32") as encoder:
            found = encoder.encode([text], truncate="right")
        np.testing.assert_allclose(found, static.expect(folder, [text]), atol=1e-5)


def test_t5_with_biases_in_later_layers_is_refused(tmp_path: Path) -> None:
    folder = t5.encoder()(tmp_path)
    whole = weights(folder)
    name = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"
    rewrite(folder, {**whole, name.format(1): whole[name.format(0)] + 1})
    with pytest.raises(WeightsError, match=r"block\.1.*relative_attention_bias"):
        Encoder(str(folder))


def test_t5_keeps_no_buckets_of_long_rows() -> None:
    family = T5({"d_model": 8, "num_heads": 2, "d_kv": 4, "d_ff": 8, "num_layers": 1, "vocab_size": 9})
    _cached_buckets.cache_clear()
    for longest in (CACHED_LENGTH, CACHED_LENGTH + 1):
        found = family.host_inputs(np.arange(longest, dtype=np.int32)[None])["buckets"]
        assert found.shape == (longest, longest)
        assert int(found.max()) == 31
    assert _cached_buckets.cache_info().currsize == 1
