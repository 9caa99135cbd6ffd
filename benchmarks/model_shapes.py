"""Models with the shapes of well-known ones and random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import decoder
from tests.support import tiny_models

#: Tokens that a model reads of a text.
_LENGTH = 512
#: Sizes of models: BERT-base's are those of most; ``initializer_range`` keeps random ones from overflowing.
BASE = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_hidden_layers": 4,
    "initializer_range": 0.02,
    "max_position_embeddings": 514,
}
SHAPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "MiniLM": ("bert", {**BASE, "hidden_size": 384, "intermediate_size": 1536}),
    "BERT-base": ("bert", BASE),
    "bge-m3": ("xlm-roberta", {**BASE, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}),
    "ModernBERT": (
        "modernbert",
        {
            **BASE,
            "intermediate_size": 1152,
            "local_attention": 128,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        },
    ),
    "Qwen3-0.6B": (
        "qwen3",
        {
            **BASE,
            "hidden_size": 1024,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 3072,
        },
    ),
    "DeBERTa-base": ("deberta-v2", {**BASE, "position_buckets": 256, "max_relative_positions": 512}),
}
#: Layers of the models; four are enough to see where time goes.
LAYERS = {"MiniLM": 6, "BERT-base": 12, "bge-m3": 24, "ModernBERT": 22, "Qwen3-0.6B": 28, "DeBERTa-base": 12}
#: Tokens of their vocabularies.
_VOCABULARY = {
    "MiniLM": 30_522,
    "BERT-base": 30_522,
    "bge-m3": 250_002,
    "ModernBERT": 50_368,
    "Qwen3-0.6B": 151_936,
    "DeBERTa-base": 128_100,
}


def write_model(shape: str, folder: Path, *, layers: int = 4, whole_vocabulary: bool = False) -> Path:
    """Write a folder with the sizes of a model and random weights; its tokenizer is a small one.

    Args:
        shape: a name of ``SHAPES``.
        folder: where to write it.
        layers: its number of layers.
        whole_vocabulary: give its table of embeddings as many rows as the model's; the tokenizer uses the first ones.
    """
    kind, sizes = SHAPES[shape]
    sizes = {**sizes, "num_hidden_layers": layers}
    if "layer_types" in sizes:
        sizes["layer_types"] = [sizes["layer_types"][at % 4] for at in range(layers)]
    if kind == "qwen3":
        out = decoder.model("Qwen3Config", save={"max_seq_length": _LENGTH}, **sizes)(folder)
    else:
        out = tiny_models.TINY[kind](folder / "model", max_seq_length=_LENGTH, **sizes)
    if whole_vocabulary:
        _extend_table(out, _VOCABULARY[shape])
    return out


def _extend_table(folder: Path, rows: int) -> None:
    """Repeat the rows of a table of embeddings until there are so many."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = next(
        name
        for name in tensors
        if name.endswith(("word_embeddings.weight", "embed_tokens.weight", "tok_embeddings.weight"))
    )
    tensors[name] = np.resize(tensors[name], (rows, tensors[name].shape[1]))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tiny_models.edit(folder / "config.json", vocab_size=rows)
