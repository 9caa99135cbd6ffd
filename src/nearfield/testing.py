"""A tiny model with fixed random weights for tests: real files, loaded like any other in a few milliseconds."""

from __future__ import annotations

import json
import string
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.encoder import Encoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORDS = ("the", "a", "cat", "dog", "sat", "on", "mat", "query", "passage", "hello", "world", "search", "blue", "red")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_encoder(folder: Path | str | None = None, *, prompts: dict[str, str] | None = None, **options: Any) -> Encoder:
    """Return an encoder of 32 dimensions and at most 64 tokens whose vectors are the same on every run.

    Args:
        folder: where to write its files; a temporary folder by default.
        prompts: prompts by name.
        options: keywords of ``Encoder``.
    """
    home = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="nearfield-tiny-")) / "tiny"
    return Encoder(str(write_tiny_model(home, prompts=prompts)), compile_cache=False, **options)


def write_tiny_model(
    folder: Path,
    *,
    prompts: dict[str, str] | None = None,
    size: int = 32,
    layers: int = 2,
    length: int = 64,
    heads: int = 4,
    inner: int | None = None,
    spread: float = 0.3,
    words: Iterable[str] = WORDS,
) -> Path:
    """Write a sentence-transformers folder (BERT, mean pooling, unit vectors) with seeded random weights; return it.

    Args:
        folder: where to write.
        prompts: prompts by name.
        size: dimensions.
        layers: number of transformer layers.
        length: maximum number of tokens.
        heads: number of attention heads.
        inner: width of the feed-forward blocks; twice ``size`` by default.
        spread: standard deviation of the weights of matrices.
        words: words of the vocabulary that are one token each.
    """
    from safetensors.numpy import save_file

    vocabulary = _vocabulary(words)
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner or 2 * size,
        "hidden_act": "gelu",
        "vocab_size": len(vocabulary),
        "max_position_embeddings": length,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    _json(folder / "config.json", config)
    _json(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    _json(folder / "config_sentence_transformers.json", {"prompts": prompts or {}, "similarity_fn_name": "cosine"})
    _json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": size, "pooling_mode_mean_tokens": True})
    module = "sentence_transformers.models."
    parts = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    stages = [{"idx": i, "name": str(i), "path": path, "type": module + kind} for i, (path, kind) in enumerate(parts)]
    (folder / "modules.json").write_text(json.dumps(stages), encoding="utf-8")
    _tokenizer(vocabulary).save(str(folder / "tokenizer.json"))
    _json(folder / "tokenizer_config.json", {"model_max_length": length})
    save_file(_weights(config, spread), folder / "model.safetensors")
    return folder


def _vocabulary(words: Iterable[str]) -> dict[str, int]:
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    pieces = [*SPECIAL, *letters, *("##" + letter for letter in letters), *(word for word in words if len(word) > 1)]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _weights(config: JsonObject, spread: float) -> dict[str, Array]:
    random, size, inner = np.random.default_rng(7), config["hidden_size"], config["intermediate_size"]
    tensors: dict[str, Array] = {}

    def add(name: str, *shape: int, around: float = 0.0, spread: float = 0.3) -> None:
        tensors[name] = (around + spread * random.standard_normal(shape)).astype(np.float32)

    def norm(name: str) -> None:
        add(f"{name}.weight", size, around=1.0, spread=0.1)
        add(f"{name}.bias", size, spread=0.1)

    def linear(name: str, inputs: int, outputs: int) -> None:
        add(f"{name}.weight", outputs, inputs, spread=spread)
        add(f"{name}.bias", outputs, spread=0.1)

    add("embeddings.word_embeddings.weight", config["vocab_size"], size, spread=1.0)
    add("embeddings.position_embeddings.weight", config["max_position_embeddings"], size)
    add("embeddings.token_type_embeddings.weight", config["type_vocab_size"], size)
    norm("embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}", size, size)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", size, inner)
        linear(f"{layer}.output.dense", inner, size)
        norm(f"{layer}.output.LayerNorm")
    return tensors


def _json(path: Path, value: JsonObject) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
