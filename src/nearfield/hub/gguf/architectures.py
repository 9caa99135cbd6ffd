"""The architectures of llama.cpp that are read: what they call the tensors and sizes of a Hugging Face model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nearfield.errors import ModelRefused, nearest
from nearfield.hub.gguf.header import GgufHeader

#: ``pooling_type``: what makes one vector, or a score, of the tokens' states.
POOLING = {0: "none", 1: "mean", 2: "cls", 3: "lasttoken", 4: "rank"}
RANK = "rank"
#: The layer that gives a reranker's scores. Its converter names no pooling for encoders that have it.
CLASS_HEAD = "cls.output"
#: The setting with the names of its scores; for language models they are the words that are asked for.
OUTPUT_LABELS = "classifier.output_labels"
#: Layers after the pooling of EmbeddingGemma; in a model folder each is a module.
DENSE_LAYERS = ("dense_2", "dense_3")
_LAYER = re.compile(r"^blk\.(\d+)\.")

_BERT_EMBEDDINGS = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "position_embd": "embeddings.position_embeddings",
}
_BERT_ATTENTION = {
    "token_embd_norm": "embeddings.LayerNorm",
    "blk.{}.attn_q": "encoder.layer.{}.attention.self.query",
    "blk.{}.attn_k": "encoder.layer.{}.attention.self.key",
    "blk.{}.attn_v": "encoder.layer.{}.attention.self.value",
    "blk.{}.attn_output": "encoder.layer.{}.attention.output.dense",
    "blk.{}.attn_output_norm": "encoder.layer.{}.attention.output.LayerNorm",
}
_BERT = {
    **_BERT_EMBEDDINGS,
    **_BERT_ATTENTION,
    "blk.{}.ffn_up": "encoder.layer.{}.intermediate.dense",
    "blk.{}.ffn_down": "encoder.layer.{}.output.dense",
    "blk.{}.layer_output_norm": "encoder.layer.{}.output.LayerNorm",
    "cls": "pooler.dense",
    CLASS_HEAD: "classifier",
}
_NOMIC = {
    **_BERT_EMBEDDINGS,
    "token_embd_norm": "emb_ln",
    "blk.{}.attn_qkv": "encoder.layers.{}.attn.Wqkv",
    "blk.{}.attn_output": "encoder.layers.{}.attn.out_proj",
    "blk.{}.attn_output_norm": "encoder.layers.{}.norm1",
    "blk.{}.layer_output_norm": "encoder.layers.{}.norm2",
    "blk.{}.ffn_down": "encoder.layers.{}.mlp.fc2",
}
_NOMIC_GATED = {
    **_NOMIC,
    "blk.{}.ffn_up": "encoder.layers.{}.mlp.fc11",
    "blk.{}.ffn_gate": "encoder.layers.{}.mlp.fc12",
}
_NOMIC_EXPERTS = {
    **_NOMIC,
    "blk.{}.ffn_up": "encoder.layers.{}.mlp.fc1",
    "blk.{}.ffn_gate_inp": "encoder.layers.{}.mlp.router.layer",
    "blk.{}.ffn_up_exps.weight": "encoder.layers.{}.mlp.experts.mlp.w1",
    "blk.{}.ffn_down_exps.weight": "encoder.layers.{}.mlp.experts.mlp.w2",
}
_JINA = {
    **_BERT_EMBEDDINGS,
    **_BERT_ATTENTION,
    "blk.{}.ffn_up": "encoder.layer.{}.mlp.gated_layers",
    "blk.{}.ffn_down": "encoder.layer.{}.mlp.wo",
    "blk.{}.layer_output_norm": "encoder.layer.{}.mlp.layernorm",
}
#: What older converters stored apart, gate and what it gates.
_JINA_HALVES = {"blk.{}.ffn_gate": "encoder.layer.{}.mlp.gate", "blk.{}.ffn_up": "encoder.layer.{}.mlp.up"}
#: The models for code, German and Spanish.
_JINA_NORMED = {
    **_JINA,
    "blk.{}.attn_q_norm": "encoder.layer.{}.attention.self.layer_norm_q",
    "blk.{}.attn_k_norm": "encoder.layer.{}.attention.self.layer_norm_k",
    "blk.{}.attn_norm_2": "encoder.layer.{}.layer_norm_1",
    "blk.{}.ffn_up": "encoder.layer.{}.mlp.up_gated_layer",
    "blk.{}.ffn_down": "encoder.layer.{}.mlp.down_layer",
    "blk.{}.layer_output_norm": "encoder.layer.{}.layer_norm_2",
}
_DECODER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    CLASS_HEAD: "score",
    **{f"blk.{{}}.attn_{name}": f"model.layers.{{}}.self_attn.{name}_proj" for name in "qkv"},
    "blk.{}.attn_output": "model.layers.{}.self_attn.o_proj",
    "blk.{}.attn_q_norm": "model.layers.{}.self_attn.q_norm",
    "blk.{}.attn_k_norm": "model.layers.{}.self_attn.k_norm",
    "blk.{}.attn_norm": "model.layers.{}.input_layernorm",
    "blk.{}.ffn_norm": "model.layers.{}.post_attention_layernorm",
    **{f"blk.{{}}.ffn_{name}": f"model.layers.{{}}.mlp.{name}_proj" for name in ("gate", "up", "down")},
}
_GEMMA = {
    **_DECODER,
    "blk.{}.post_attention_norm": "model.layers.{}.post_attention_layernorm",
    "blk.{}.ffn_norm": "model.layers.{}.pre_feedforward_layernorm",
    "blk.{}.post_ffw_norm": "model.layers.{}.post_feedforward_layernorm",
    **{name: f"{name}.linear" for name in DENSE_LAYERS},
}


def _size(header: GgufHeader, name: str) -> int:
    value = header.setting(name)
    if type(value) is not int or value < 1:
        raise ModelRefused(f"{header.path}: {header.architecture}.{name} is {value!r}, and must be a positive number.")
    return value


def _rows(header: GgufHeader, tensor: str) -> int:
    """Return the rows of a table; converters drop the axis of a single one."""
    entry = header.tensors.get(f"{tensor}.weight")
    return 0 if entry is None else entry.shape[0] if len(entry.shape) == 2 else 1


def _sizes(header: GgufHeader) -> dict[str, Any]:
    return {
        "hidden_size": _size(header, "embedding_length"),
        "num_hidden_layers": _size(header, "block_count"),
        "num_attention_heads": _size(header, "attention.head_count"),
        "intermediate_size": _size(header, "feed_forward_length"),
        "vocab_size": _rows(header, "token_embd"),
        "type_vocab_size": _rows(header, "token_types"),
        "layer_norm_eps": header.setting("attention.layer_norm_epsilon", 1e-12),
        "max_position_embeddings": _size(header, "context_length"),
    }


def _bert(header: GgufHeader) -> dict[str, Any]:
    """RoBERTa and its kin too: the converter drops the rows before the first position, and names layers alike."""
    return {**_sizes(header), "model_type": "bert", "max_position_embeddings": _rows(header, "position_embd")}


def _jina(header: GgufHeader) -> dict[str, Any]:
    own = {"position_embedding_type": "alibi", "feed_forward_type": "geglu"}
    return {**_sizes(header), "model_type": "bert", **own}


def _nomic(header: GgufHeader) -> dict[str, Any]:
    sizes = _sizes(header)
    renamed = {
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "layer_norm_epsilon": "layer_norm_eps",
        "n_positions": "max_position_embeddings",
        "max_trained_positions": "max_position_embeddings",
    }
    own = {name: sizes[usual] for name, usual in renamed.items()}
    shared = {name: sizes[name] for name in ("hidden_size", "vocab_size", "type_vocab_size")}
    experts = header.setting("expert_count", 0)
    return {
        **own,
        **shared,
        "model_type": "nomic_bert",
        "rotary_emb_base": header.setting("rope.freq_base", 1000.0),
        "activation_function": "gelu" if experts else "swiglu",
        "num_experts": experts,
        "moe_top_k": header.setting("expert_used_count", 0),
        "moe_every_n_layers": header.setting("moe_every_n_layers", 0),
        **dict.fromkeys(("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias"), bool(experts)),
    }


def _decoder(header: GgufHeader) -> dict[str, Any]:
    if "rope_freqs.weight" in header.tensors:
        raise ModelRefused(
            f"{header.path} stores factors of its positions (rope_freqs), which are not read. Load the model from its "
            "safetensors files."
        )
    sizes = _sizes(header)
    heads = sizes["num_attention_heads"]
    config = {
        **sizes,
        "model_type": header.architecture,
        "num_key_value_heads": header.setting("attention.head_count_kv", heads),
        "head_dim": header.setting("attention.key_length", sizes["hidden_size"] // heads),
        "rms_norm_eps": header.setting("attention.layer_norm_rms_epsilon", 1e-6),
        "rope_theta": header.setting("rope.freq_base", 10_000.0),
        "attention_bias": "blk.0.attn_output.bias" in header.tensors,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "architectures": [f"{header.architecture.capitalize()}ForCausalLM"],
    }
    if header.setting("attention.causal", True) is False:
        config["is_causal"] = False
    scaling = header.setting("rope.scaling.type", "none")
    if scaling != "none":
        config["rope_scaling"] = {"rope_type": scaling, "factor": header.setting("rope.scaling.factor", 1.0)}
    return config


def _gemma(header: GgufHeader) -> dict[str, Any]:
    missing = [name for name in DENSE_LAYERS if f"{name}.weight" not in header.tensors]
    if missing:
        raise ModelRefused(
            f"{header.path} lacks the layers {' and '.join(missing)}, which EmbeddingGemma's vectors pass through: it "
            "would give other vectors than the model. Convert it again with llama.cpp's option "
            "--sentence-transformers-dense-modules, or load google/embeddinggemma-300m."
        )
    config = _decoder(header)
    return {
        **config,
        "model_type": "gemma3_text",
        "rope_theta": header.setting("rope.freq_base", 1_000_000.0),
        "use_bidirectional_attention": True,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": config["head_dim"],
        "sliding_window": _size(header, "attention.sliding_window"),
        "sliding_window_pattern": header.setting("attention.sliding_window_pattern", 6),
        "rope_local_base_freq": header.setting("rope.freq_base_swa", 10_000.0),
    }


@dataclass(frozen=True)
class GgufArchitecture:
    """What a Hugging Face folder calls the tensors of an architecture, and its ``config.json``."""

    names: Mapping[str, str]
    config: Callable[[GgufHeader], dict[str, Any]]
    #: Whether language models have this architecture too.
    decoder: bool = False


ARCHITECTURES: Mapping[str, GgufArchitecture] = {
    "bert": GgufArchitecture(_BERT, _bert),
    "nomic-bert": GgufArchitecture(_NOMIC_GATED, _nomic),
    "nomic-bert-moe": GgufArchitecture(_NOMIC_EXPERTS, _nomic),
    "jina-bert-v2": GgufArchitecture(_JINA, _jina),
    "llama": GgufArchitecture(_DECODER, _decoder, decoder=True),
    "qwen2": GgufArchitecture(_DECODER, _decoder, decoder=True),
    "qwen3": GgufArchitecture(_DECODER, _decoder, decoder=True),
    "gemma-embedding": GgufArchitecture(_GEMMA, _gemma, decoder=True),
}


def find_architecture(header: GgufHeader) -> GgufArchitecture:
    """Return the architecture of a file.

    Raises:
        ModelRefused: it is none that is read.
    """
    architecture = ARCHITECTURES.get(header.architecture)
    if architecture is None:
        raise ModelRefused(
            f"{header.path} holds a model of the architecture {header.architecture!r}, which is not read from GGUF. "
            f"{nearest(header.architecture, ARCHITECTURES)} Load the model from its safetensors files."
        )
    if header.architecture != "jina-bert-v2":
        return architecture
    names = _JINA_NORMED if "blk.0.attn_q_norm.weight" in header.tensors else _JINA
    halves = _JINA_HALVES if "blk.0.ffn_gate.weight" in header.tensors else {}
    return GgufArchitecture({**names, **halves}, architecture.config)


def vector_size(header: GgufHeader) -> int:
    """Return the number of dimensions of a file's vectors; 1 for scores, as in the catalogue."""
    if pooling_of(header) == RANK:
        return 1
    last = header.tensors.get(f"{DENSE_LAYERS[-1]}.weight")
    return _size(header, "embedding_length") if last is None else last.shape[0]


def pooling_of(header: GgufHeader) -> str | None:
    """Return the pooling that a file names, ``rank`` for a reranker (named or not, it has a head), or None."""
    name = POOLING.get(header.setting("pooling_type", 0))
    if name == "none":
        return RANK if f"{CLASS_HEAD}.weight" in header.tensors else None
    return name


def rename_tensor(name: str, names: Mapping[str, str]) -> str | None:
    """Return what a Hugging Face folder calls a tensor, or None if that is not known."""
    layer = _LAYER.match(name)
    number, pattern = (layer[1], _LAYER.sub("blk.{}.", name)) if layer else ("", name)
    if pattern in names:
        return names[pattern].format(number)
    stem, _, part = pattern.rpartition(".")
    return f"{names[stem].format(number)}.{part}" if stem in names else None
