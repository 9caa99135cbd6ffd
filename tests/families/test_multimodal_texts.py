"""Texts of models that read pictures too, against transformers: the part that reads texts is loaded alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import catalog, families
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.encoder import Encoder
from nearfield.errors import ModelRefused
from nearfield.inference.processors import load_tokenizer
from nearfield.recipe import TextRules
from tests.support import tiny_multimodal
from tests.support.tiny_models import TEXTS

pytestmark = pytest.mark.slow

BACKENDS = ("reference", "openvino", "torch")
WRITERS: dict[str, Callable[[Path], Path]] = {
    "embedding_gemma2": tiny_multimodal.embedding_gemma2,
    "embedding_gemma2_text": lambda folder: tiny_multimodal.embedding_gemma2(folder, towers=False),
    "qwen3_vl": tiny_multimodal.qwen3_vl,
    "qwen3_vl without a last layer": lambda folder: tiny_multimodal.qwen3_vl(folder, head=False),
}


def expected(folder: Path, texts: Sequence[str]) -> Any:
    """Return what transformers computes, one text after the other, pooled and scaled to unit length."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, words = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode"]
    vectors = []
    with torch.no_grad():
        for text in texts:
            ids = words(text, truncation=True, max_length=60, return_tensors="pt").input_ids
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].numpy()
            vectors.append(hidden[-1] if pooling == "lasttoken" else hidden.mean(0))
    rows = np.stack(vectors)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", WRITERS)
def test_texts_as_in_transformers(name: str, backend: str, tmp_path: Path) -> None:
    folder = WRITERS[name](tmp_path / "model")
    truth = expected(folder, TEXTS)
    assert np.abs(np.corrcoef(truth)[0, 1:6]).max() < 0.99  # texts differ
    with Encoder(str(folder), precision="float32", backend=backend, compile_cache=False) as encoder:
        assert encoder.recipe.modality == "text" and not encoder.recipe.towers
        together = np.asarray(encoder.encode(TEXTS))
        alone = np.stack([np.asarray(encoder.encode(text)) for text in TEXTS[:3]])
    np.testing.assert_allclose(together, truth, atol=1e-5)
    np.testing.assert_allclose(alone, truth[:3], atol=1e-5)


def test_the_size_of_the_output_is_that_of_the_last_projection(tmp_path: Path) -> None:
    folder = tiny_multimodal.embedding_gemma2(tmp_path / "model")
    recipe = read_model_folder(folder)
    assert (recipe.dimensions, recipe.config["hidden_size"], recipe.max_length) == (40, 32, 60)
    assert recipe.config["model_type"] == "embedding_gemma2_text"


def test_a_model_without_a_part_for_texts_is_refused(tmp_path: Path) -> None:
    folder = tiny_multimodal.qwen3_vl(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "text_config": None}))
    with pytest.raises(ModelRefused, match="text_config must be an object"):
        read_model_folder(folder)


def test_the_template_of_qwen3_vl_surrounds_each_text(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tiny_multimodal.qwen3_vl(tmp_path / "model", end=False)
    words = AutoTokenizer.from_pretrained(folder)
    entry = catalog.find("Qwen/Qwen3-VL-Embedding-2B")
    assert entry is not None
    recipe = read_model_folder(folder, entry=entry)
    family = families.resolve(recipe.config)
    tokenizer = load_tokenizer(recipe, family, 96)
    prompt = "<|im_start|>system\nRepresent the user's input.<|im_end|>\n<|im_start|>user\n"
    assert recipe.prompts[recipe.default_prompt_name or ""] == prompt
    tail = words("<|im_end|>\n<|im_start|>assistant\n").input_ids
    whole = tokenizer.encode(["a river"], prompt="system ")[0].ids
    assert whole == words("system a river").input_ids + tail
    # What is dropped of a long text is of the text.
    long = tokenizer.encode(["a river " * 50], max_length=len(tail) + 9)[0].ids
    assert long == words("a river " * 50).input_ids[:9] + tail
    assert tokenizer.digest != load_tokenizer(replace(recipe, text_rules=TextRules()), family).digest
