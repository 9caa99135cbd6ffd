"""Decoders as encoders, against sentence-transformers: last token and EOS, both paddings, bounded attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case
from tests.support import tiny_models

REFERENCE = "sentence-transformers"
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "intermediate_size": 48,
    "max_position_embeddings": 96,
    "initializer_range": 0.2,
}
BOTH = ("right", "left")


def tokenizer(begin: bool = False, end: bool = True) -> Any:
    """Make a byte-level tokenizer whose file puts BOS before and EOS after a text."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    vocab, merges = tiny_models._bytelevel_vocab()
    made = Tokenizer(models.BPE(vocab, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = [("<s>", vocab["<s>"])] * begin + [("</s>", vocab["</s>"])] * end
    template = ["<s>"] * begin + ["$A"] + ["</s>"] * end
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=60, **names)


def model(
    config: str, *, begin: bool = False, save: dict[str, Any] | None = None, **fields: Any
) -> Callable[[Path], Path]:
    """Return a writer of a decoder's folder."""

    def write(folder: Path) -> Path:
        import transformers

        words = tokenizer(begin)
        made = getattr(transformers, config)(**{**SIZES, "vocab_size": len(words), **fields})
        options = {"pooling": "lasttoken", "max_seq_length": 60, **(save or {})}
        return tiny_models.save(folder / "model", made, words, **options)

    return write


def expect(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
    """Encode with the reference, all texts in one batch padded on a side."""
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(folder), device="cpu")
    reference.tokenizer.padding_side = padding
    return list(np.asarray(reference.encode(list(texts), batch_size=len(texts))))


def _case(name: str, family: str, config: str, *, begin: bool = False, **fields: Any) -> Case:
    return Case(name, family, REFERENCE, model(config, begin=begin, **fields), expect, paddings=BOTH)


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GEMMA = {
    "pooling": "mean",
    "dense": [
        {"out": 48, "bias": False, "activation": "Identity"},
        {"out": 32, "bias": False, "activation": "Identity"},
    ],
}
WINDOWS: dict[str, Any] = {"sliding_window": 8, "sliding_window_pattern": 2, "query_pre_attn_scalar": 10}
CASES = [
    _case("last token", "llama", "LlamaConfig", begin=True),
    _case("last token, llama3 positions", "llama", "LlamaConfig", rope_parameters=LLAMA3, attention_bias=True),
    _case("last token, window", "mistral", "MistralConfig", begin=True, sliding_window=16),
    _case("last token, no window", "mistral", "MistralConfig", sliding_window=None),
    _case("last token", "qwen2", "Qwen2Config"),
    _case("last token, both directions", "qwen2", "Qwen2Config", is_causal=False),
    _case(
        "last token, upper layers bounded",
        "qwen2",
        "Qwen2Config",
        use_sliding_window=True,
        sliding_window=8,
        max_window_layers=1,
    ),
    _case("last token", "qwen3", "Qwen3Config", tie_word_embeddings=True),
    Case(
        "mean, two Dense modules, both directions",
        "gemma3_text",
        REFERENCE,
        model("Gemma3TextConfig", begin=True, save=GEMMA, use_bidirectional_attention=True, **WINDOWS),
        expect,
        paddings=BOTH,
    ),
    Case(
        "mean, causal",
        "gemma3_text",
        REFERENCE,
        model("Gemma3TextConfig", save=GEMMA, **WINDOWS),
        expect,
        paddings=BOTH,
    ),
]
