"""Tiny random models of several kinds of input, written as folders by transformers, with a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.parity.decoder import tokenizer
from tests.support import tiny_models

TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
GEMMA_TEXT = {
    **TEXT,
    "num_hidden_layers": 4,
    "sliding_window_pattern": 2,
    "sliding_window": 3,
    "global_head_dim": 24,
    "num_global_key_value_heads": 1,
    "hidden_size_per_layer_input": 12,
    "embedding_dim": 40,
    "max_position_embeddings": 96,
}
GEMMA_IMAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "patch_size": 4,
    "position_embedding_size": 40,
}
QWEN_TEXT = {
    **TEXT,
    "num_hidden_layers": 3,
    "max_position_embeddings": 96,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2]},
}
QWEN_IMAGE = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "depth": 4,
    "num_heads": 4,
    "patch_size": 4,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 2],
}


def save(folder: Path, model: Any, words: Any | None = None, *, pooling: str = "mean", size: int = 0) -> Path:
    """Write a model with weights far from zero, and where there are ``words`` what sentence-transformers adds."""
    import torch

    torch.manual_seed(7)
    tiny_models.perturb(model)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim > 1:
                tensor.normal_(0, 0.6 if "embed" in name and "projection" not in name else 0.2)
            if name.endswith("layer_scalar"):
                tensor.fill_(0.9)
    model.save_pretrained(folder)
    if words is not None:
        words.save_pretrained(folder)
        own = "sentence_transformers.sentence_transformer.modules"
        kinds = {"": f"{own}.Transformer", "1_Pooling": f"{own}.Pooling", "2_Normalize": f"{own}.Normalize"}
        stages = [{"idx": at, "name": str(at), "path": path, "type": kinds[path]} for at, path in enumerate(kinds)]
        tiny_models.dump(folder / "modules.json", stages)
        (folder / "1_Pooling").mkdir()
        pooled = {"embedding_dimension": size, "pooling_mode": pooling, "include_prompt": True}
        tiny_models.dump(folder / "1_Pooling" / "config.json", pooled)
    return folder


def embedding_gemma2(folder: Path, *, towers: bool = True, **image: Any) -> Path:
    """Write EmbeddingGemma 2 with its vision tower, or the text part alone, as its own architecture."""
    import transformers

    words = tokenizer(begin=True)
    text = {**GEMMA_TEXT, "vocab_size": len(words)}
    config = transformers.EmbeddingGemma2Config(
        text_config=text, vision_config={**GEMMA_IMAGE, **image} if towers else None, audio_config=None
    )
    model = transformers.EmbeddingGemma2Model(config).eval()
    return save(folder, model if towers else model.language_model, words, size=40)


def qwen3_vl(folder: Path, *, head: bool = True, end: bool = True) -> Path:
    """Write Qwen3-VL, with or without the language model's last layer; its names differ between the two."""
    import transformers

    words = tokenizer(end=end)
    config = transformers.Qwen3VLConfig(text_config={**QWEN_TEXT, "vocab_size": len(words)}, vision_config=QWEN_IMAGE)
    kind = transformers.Qwen3VLForConditionalGeneration if head else transformers.Qwen3VLModel
    return save(folder, kind(config).eval(), words, pooling="lasttoken", size=32)
