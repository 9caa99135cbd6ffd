"""The traps that make a model load without a word and give wrong vectors: each is seen here, and none springs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder, catalog, families
from nearfield.errors import ModelRefused, WeightsError
from nearfield.families.jina_bert import JinaBert
from nearfield.families.rotary_bert import JinaV3
from tests.parity import decoder, jina_bert, rotary_bert, t5
from tests.parity.rotary_bert import rewrite, weights
from tests.support import tiny_models

#: The libraries that it compares with take more than two seconds to import.
pytestmark = pytest.mark.slow

TEXTS = ["The quick brown fox jumps.", "river bank water " * 40, "sun"]


def test_models_that_pose_as_others(tmp_path: Path) -> None:
    posing = {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "position_embedding_type": "alibi"}
    sizes = {"num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 9, "max_position_embeddings": 16}
    assert isinstance(families.resolve({**posing, **sizes, "feed_forward_type": "geglu"}), JinaBert)
    as_xlm = {**posing, **sizes, "model_type": "xlm-roberta", "position_embedding_type": "rotary"}
    assert isinstance(families.resolve(as_xlm), JinaV3)
    with pytest.raises(ModelRefused, match="position_embedding_type 'relative_key'"):
        families.resolve({**posing, **sizes, "position_embedding_type": "relative_key"})
    with pytest.raises(ModelRefused, match="asks for the model's own code"):
        families.resolve({**posing, **sizes, "position_embedding_type": "absolute", "auto_map": {"AutoModel": "x.Y"}})
    # The weights of one under the other's config lack what it needs.
    folder = jina_bert.write(normed=False)(tmp_path)
    tiny_models.edit(folder / "config.json", position_embedding_type="absolute", auto_map=None)
    with pytest.raises(WeightsError, match="position_embeddings"):
        Encoder(str(folder))


@pytest.mark.parametrize("begin", [False, True])
def test_an_end_that_only_the_settings_ask_for(tmp_path: Path, begin: bool) -> None:
    """e5-mistral: the reference, given tokenizer.json, forgets EOS, and reads the last word's vector instead."""
    whole = decoder.model("MistralConfig", begin=begin)(tmp_path / "whole")
    bare = decoder.model("MistralConfig", begin=begin)(tmp_path / "bare")
    file = bare / "tokenizer.json"
    tokenizer = tiny_models.read(file)
    kept = [part for part in tokenizer["post_processor"]["single"] if part.get("SpecialToken", {}).get("id") != "</s>"]
    tokenizer["post_processor"]["single"] = kept
    tiny_models.dump(file, tokenizer)
    with Encoder(str(bare), precision="float32") as without:
        assert without.tokenize(["sun"])[0].ids[-1] != 2
    tiny_models.edit(bare / "tokenizer_config.json", add_eos_token=True, add_bos_token=begin, tokenizer_class=None)
    with Encoder(str(bare), precision="float32") as encoder, Encoder(str(whole), precision="float32") as other:
        read = encoder.tokenize(TEXTS)
        assert [item.ids[-1] for item in read] == [2, 2, 2] and [item.ids[0] == 0 for item in read] == [begin] * 3
        assert len(read[1].ids) == 60 and read[1].dropped > 0
        np.testing.assert_allclose(encoder.encode(TEXTS), other.encode(TEXTS), atol=2e-6)
    np.testing.assert_allclose(other.encode(TEXTS), decoder.expect(whole, TEXTS), atol=2e-5)


def test_padding_and_truncation_baked_into_the_tokenizer(tmp_path: Path) -> None:
    plain = tiny_models.tiny_bert(tmp_path / "plain")
    baked = tiny_models.tiny_bert(tmp_path / "baked")
    tokenizer = tiny_models.read(baked / "tokenizer.json")
    tokenizer["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    tokenizer["padding"] = {
        "strategy": {"Fixed": 32},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    tiny_models.dump(baked / "tokenizer.json", tokenizer)
    with Encoder(str(plain), precision="float32") as one, Encoder(str(baked), precision="float32") as other:
        np.testing.assert_allclose(one.encode(TEXTS), other.encode(TEXTS), atol=1e-6)


def test_prompts_of_which_only_passage_is_saved(tmp_path: Path) -> None:
    """sentence-transformers' encode_document looks for ``document`` alone, and finds its own empty one."""
    folder = tiny_models.tiny_bert(tmp_path / "e5", prompts={"query": "the query ", "passage": "the passage "})
    with Encoder(str(folder), precision="float32") as encoder:
        expected = encoder.encode(TEXTS, prompt="the passage ")
        np.testing.assert_allclose(encoder.encode_document(TEXTS), expected, atol=1e-6)
        assert np.abs(np.asarray(encoder.encode_document(TEXTS)) - np.asarray(encoder.encode(TEXTS))).max() > 1e-3


def test_instructor_in_a_local_folder(tmp_path: Path) -> None:
    """Only the Hub's own ids make the reference leave the instruction out of the mean."""
    folder = t5.instructor(tmp_path)
    with Encoder(str(folder), precision="float32") as encoder:
        assert encoder.recipe.origins["include_prompt"] == "catalogue"
        found = np.asarray(encoder.encode(TEXTS, instruction=t5.PROMPT))
    np.testing.assert_allclose(found, t5.expect_instructed(folder, TEXTS), atol=2e-5)
    from sentence_transformers import SentenceTransformer

    silent: Any = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, prompt=t5.PROMPT)
    assert (found * silent).sum(1).min() < 0.999


def test_a_layer_norm_before_the_cut(tmp_path: Path) -> None:
    """nomic-embed-text-v1.5: mean, layer norm over all of it, then the cut; its modules do not say so."""
    import torch
    from sentence_transformers import SentenceTransformer

    folder = tiny_models.tiny_nomic(tmp_path / "nomic")
    known = catalog.find("nomic-embed-text-v1.5")
    assert known is not None
    from nearfield.checkpoint import model_folder as reader

    recipe = reader.read_model_folder(folder, entry=dataclasses.replace(known, dimensions=32, matryoshka=(32, 16, 8)))
    assert recipe.centre
    with Encoder(str(folder), precision="float32") as encoder:
        encoder.recipe = encoder._model.recipe = recipe
        found = np.asarray(encoder.encode(TEXTS, truncate_dim=8))
    model = SentenceTransformer(str(folder), device="cpu")
    pooled: Any = model[1](model[0](model.preprocess(TEXTS)))["sentence_embedding"]
    cut = torch.nn.functional.layer_norm(pooled, (32,))[:, :8]
    np.testing.assert_allclose(found, torch.nn.functional.normalize(cut, dim=-1).detach().numpy(), atol=2e-5)


@pytest.mark.parametrize(
    ("write", "part"),
    [
        (decoder.model("Qwen3Config"), "k_proj"),
        (rotary_bert.experts, "router"),
        (lambda folder: tiny_models.tiny_modernbert(folder / "m"), "layers.1.attn.Wqkv"),
        (lambda folder: tiny_models.tiny_deberta(folder / "d"), "rel_embeddings"),
        (lambda folder: tiny_models.tiny_albert(folder / "a"), "embedding_hidden_mapping_in.weight"),
    ],
    ids=["qwen3", "nomic", "modernbert", "deberta", "albert"],
)
def test_missing_and_surplus_weights(tmp_path: Path, write: Any, part: str) -> None:
    folder = write(tmp_path)
    whole = weights(folder)
    rewrite(folder, {name: tensor for name, tensor in whole.items() if part not in name})
    with pytest.raises(WeightsError, match="lacks the weight"):
        Encoder(str(folder))
    one = next(iter(whole.values()))
    rewrite(folder, {**whole, "layers.9.unknown.weight": one.clone()})
    with pytest.raises(WeightsError, match=r"layers\.9\.unknown"):
        Encoder(str(folder))
