"""Writes a tiny model folder as llama.cpp's converter would write it: its names, its layouts, its keys.

Names come from the gguf package's own table, values from its writer and quantiser; what ``convert_hf_to_gguf.py`` does
to single tensors and vocabularies is written out here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from nearfield.arrays import Array
from tests.support import tiny_models

#: The keys of sizes, by their names in config.json: transformers', or Nomic's own.
_SIZES = {
    "hidden_size": "add_embedding_length",
    "n_embd": "add_embedding_length",
    "num_hidden_layers": "add_block_count",
    "n_layer": "add_block_count",
    "num_attention_heads": "add_head_count",
    "n_head": "add_head_count",
    "num_key_value_heads": "add_head_count_kv",
    "intermediate_size": "add_feed_forward_length",
    "n_inner": "add_feed_forward_length",
    "max_position_embeddings": "add_context_length",
    "n_positions": "add_context_length",
    "head_dim": "add_key_length",
    "layer_norm_eps": "add_layer_norm_eps",
    "layer_norm_epsilon": "add_layer_norm_eps",
    "rms_norm_eps": "add_layer_norm_rms_eps",
    "rope_theta": "add_rope_freq_base",
    "rope_local_base_freq": "add_rope_freq_base_swa",
    "type_vocab_size": "add_token_type_count",
    "rotary_emb_base": "add_rope_freq_base",
    "sliding_window": "add_sliding_window",
    "sliding_window_pattern": "add_sliding_window_pattern",
    "num_experts": "add_expert_count",
    "moe_top_k": "add_expert_used_count",
    "moe_every_n_layers": "add_moe_every_n_layers",
}
_POOLING = {"mean": 1, "cls": 2, "lasttoken": 3, "rank": 4}
_NORMAL, _CONTROL = 1, 3
_ENCODERS = ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2")


def convert(
    folder: Path,
    architecture: str,
    type_name: str = "F16",
    *,
    pooling: str | None = "mean",
    pre: str = "gpt-2",
    dense: bool = False,
    drop: str = "",
    extra: str = "",
    change: Callable[[str, Array], Mapping[str, Array]] | None = None,
    metadata: Mapping[str, Any] = MappingProxyType({}),
    old: bool = False,
) -> Path:
    """Write the GGUF file of a folder beside it.

    Args:
        folder: the model folder, with safetensors and tokenizer.json.
        architecture: llama.cpp's name.
        type_name: how matrices are stored; those that no block fits are F16.
        pooling: the pooling to write.
        pre: the rule by which byte-level BPE splits texts.
        dense: add the Dense modules of a sentence-transformers folder, as EmbeddingGemma's.
        drop, extra: a tensor to leave out, and one to add.
        change: what the converter does to a tensor, to those of another name.
        metadata: further entries.
        old: leave out what older converters did not write of tokenizers.
    """
    import gguf

    path = folder / f"{folder.name}-{type_name}.gguf"
    writer: Any = gguf.GGUFWriter(path, architecture)
    config = _write_sizes(writer, folder)
    if architecture in _ENCODERS:
        writer.add_causal_attention(False)
    if pooling:
        writer.add_pooling_type(gguf.PoolingType(_POOLING[pooling]))
    _write_vocabulary(writer, folder, pre)
    if not old:
        _write_tokenizer_flags(writer, tiny_models.read(folder / "tokenizer.json"))
    for name, value in metadata.items():
        add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, list: writer.add_array}
        add[type(value)](name, value)
    for name, values in _named_tensors(folder, architecture, config, change):
        if name != drop:
            _add_tensor(writer, name, np.ascontiguousarray(values), type_name)
    if extra:
        _add_tensor(writer, extra, np.zeros((2, 32), np.float32), type_name)
    for number, place in enumerate(sorted(folder.glob("*_Dense")) if dense else [], 2):
        from safetensors.numpy import load_file

        layer = load_file(place / "model.safetensors")["linear.weight"]
        writer.add_dense_features_dims(f"dense_{number}", *layer.shape[::-1])
        _add_tensor(writer, f"dense_{number}.weight", layer, "F32")
    return close(writer, path)


def _write_sizes(writer: Any, folder: Path) -> dict[str, Any]:
    """Write a model's sizes, and return its config."""
    config = tiny_models.read(folder / "config.json")
    rope = config.pop("rope_parameters", None) or {}
    config.update(rope.get("full_attention", rope))
    config["rope_local_base_freq"] = rope.get("sliding_attention", {}).get("rope_theta")
    if "roberta" in str(config.get("model_type")):  # whose first positions are left out
        config["max_position_embeddings"] -= config["pad_token_id"] + 1
    for name, method in _SIZES.items():
        if config.get(name) is not None:
            getattr(writer, method)(config[name])
    if config.get("head_dim") is not None:
        writer.add_value_length(config["head_dim"])
        writer.add_rope_dimension_count(config["head_dim"])
    return dict(config)


def close(writer: Any, path: Path) -> Path:
    """Write what a writer has, and return the file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# Files of tensors alone


def write_tensors(path: Path, tensors: Mapping[str, Array], type_name: str = "F32", *, raw: bool = False) -> Path:
    """Write a file of the architecture bert with nothing but tensors; ``raw`` ones are in blocks already."""
    import gguf

    writer: Any = gguf.GGUFWriter(path, "bert")
    kind = gguf.GGMLQuantizationType[type_name]
    for name, values in tensors.items():
        writer.add_tensor(name, values if raw else gguf.quants.quantize(values, kind), raw_dtype=kind)
    return close(writer, path)


def rounded(values: Array, type_name: str) -> Array:
    """Return values as they are after they were stored in a type."""
    import gguf

    return values_of(gguf.quants.quantize(values, gguf.GGMLQuantizationType[type_name]), type_name)


def values_of(stored: Array, type_name: str) -> Array:
    """Return the values that the gguf package reads of what is stored."""
    import gguf

    return np.asarray(gguf.quants.dequantize(stored, gguf.GGMLQuantizationType[type_name]))


def random_blocks(type_name: str, *, rows: int, seed: int) -> Array:
    """Return two random blocks a row of a type that the gguf package only reads; their float16 scales are small."""
    import gguf

    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name]]
    blocks = np.random.default_rng(seed).integers(0, 256, (rows, 2, size), np.uint8)
    scales = slice(-2, None) if type_name == "Q6_K" else slice(0, 4)
    blocks[:, :, scales] = np.tile(np.array([0.01], np.float16).view(np.uint8), 1 if type_name == "Q6_K" else 2)
    return blocks.reshape(rows, -1)


def sixths(values: Array, _: Any = None) -> Array:
    """Return values [..., columns] in Q6_K, which the gguf package only reads: bytes [..., stored].

    A block has 256 values in six bits each, less 32, scales of 16 values each as int8, and their scale as float16.
    """
    parts = values.reshape(-1, 16, 16).astype(np.float32)
    scales = np.abs(parts).max(2) / 31
    step = np.maximum(scales.max(1, keepdims=True) / 127, 1e-6).astype(np.float16)
    scales = np.maximum(np.rint(scales / step), 1).astype(np.int8)
    codes = np.rint(parts / (scales * step.astype(np.float32))[..., None])
    codes = (np.clip(codes, -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low, high = (codes & 15).reshape(-1, 2, 2, 64), codes >> 4
    bits = (low[:, :, 0] | low[:, :, 1] << 4, sum(high[:, :, at] << 2 * at for at in range(4)), scales, step)
    blocks = [np.ascontiguousarray(part).view(np.uint8).reshape(len(codes), -1) for part in bits]
    return np.concatenate(blocks, axis=1).reshape(*values.shape[:-1], -1)


def _named_tensors(
    folder: Path,
    architecture: str,
    config: Mapping[str, Any],
    change: Callable[[str, Array], Mapping[str, Array]] | None,
) -> Iterator[tuple[str, Array]]:
    """Yield the tensors of a folder by llama.cpp's names."""
    import gguf
    from safetensors.numpy import load_file

    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.get("num_hidden_layers") or config["n_layer"])
    for name, values in load_file(folder / "model.safetensors").items():
        if name.startswith("pooler.") or name.endswith(("position_ids", "experts.bias")):
            continue
        for changed, tensor in (change or _unchanged)(name.removeprefix("roberta."), values).items():
            yield names.get_name(changed, try_suffixes=(".weight", ".bias")) or changed, tensor


def _unchanged(name: str, values: Array) -> Mapping[str, Array]:
    return {name: values}


def _add_tensor(writer: Any, name: str, values: Array, type_name: str) -> None:
    import gguf

    if values.ndim == 1 or name in ("token_types.weight", "position_embd.weight", "cls.output.weight"):
        writer.add_tensor(name, np.atleast_1d(values.squeeze()).astype(np.float32))
        return
    kind = gguf.GGMLQuantizationType[type_name]
    if values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = gguf.GGMLQuantizationType.F16
    quantize = sixths if kind.name == "Q6_K" else gguf.quants.quantize
    writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)


def _write_vocabulary(writer: Any, folder: Path, pre: str) -> None:
    tokenizer = tiny_models.read(folder / "tokenizer.json")
    settings = tiny_models.read(folder / "tokenizer_config.json")
    model, added = tokenizer["model"], {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    kind = model.get("type")
    pairs = model["vocab"] if kind == "Unigram" else [(token, 0.0) for token in _by_id({**model["vocab"], **added})]
    tokens, control = [token for token, _ in pairs], set(added)
    if kind == "WordPiece":
        tokens = [_phantom(token, token in control) for token in tokens]
    writer.add_tokenizer_model({"WordPiece": "bert", "BPE": "gpt2", "Unigram": "t5"}[kind])
    writer.add_tokenizer_pre("default" if kind != "BPE" else pre)
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in control else _NORMAL for token in tokens])
    if kind == "Unigram":
        writer.add_token_scores([float(score) for _, score in pairs])
        charsmap = next(iter(_charsmaps(tokenizer["normalizer"])), None)
        if charsmap:
            writer.add_precompiled_charsmap(charsmap)
    if kind == "BPE":
        writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    _write_special_tokens(writer, settings, {**added, **{token: at for at, token in enumerate(tokens)}})


def _write_special_tokens(writer: Any, settings: Any, ids: Mapping[str, int]) -> None:
    """Write the ids of special tokens."""
    for role in ("bos", "eos", "unk", "sep", "pad", "mask"):
        usual = {"bos": settings.get("cls_token"), "eos": settings.get("sep_token")}.get(role)
        token = settings.get(f"{role}_token") or usual
        token = str(token["content"] if isinstance(token, dict) else token)
        if token in ids:
            getattr(writer, f"add_{role}_token_id")(ids[token])


def _write_tokenizer_flags(writer: Any, tokenizer: Mapping[str, Any]) -> None:
    """Write what WordPiece does to case and accents, and whether BOS, EOS and SEP are put around a text."""
    normalizer = tokenizer["normalizer"] or {}
    for name in ("lowercase", "strip_accents"):
        if normalizer.get(name) is not None:
            writer.add_bool(f"tokenizer.ggml.normalizer.{name}", normalizer[name])
    frame = tokenizer.get("post_processor") or {}
    if frame.get("type") == "RobertaProcessing":
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(True)
        writer.add_add_sep_token(True)
    if frame.get("type") == "TemplateProcessing":
        writer.add_add_bos_token("SpecialToken" in frame["single"][0])
        writer.add_add_eos_token("SpecialToken" in frame["single"][-1])


def _by_id(vocab: Mapping[str, int]) -> list[str]:
    return sorted(vocab, key=lambda token: vocab[token])


def _phantom(token: str, control: bool) -> str:
    """Mark the start of a word, not what continues one."""
    if control:
        return token
    return token[2:] if token.startswith("##") else f"\u2581{token}"


def _charsmaps(normalizer: Any) -> list[bytes]:
    steps = (normalizer or {}).get("normalizers", [normalizer] if normalizer else [])
    return [base64.b64decode(step["precompiled_charsmap"]) for step in steps if step["type"] == "Precompiled"]


# What the converter changes


def cut_positions(name: str, values: Array) -> Mapping[str, Array]:
    """Drop the rows before RoBERTa's first position."""
    return {name: values[2:] if name == "embeddings.position_embeddings.weight" else values}


def turn_heads(heads: int, shared: int) -> Callable[[str, Array], Mapping[str, Array]]:
    """Return Llama's change: the features that are turned together lie side by side."""

    def change(name: str, values: Array) -> Mapping[str, Array]:
        count = {"q_proj": heads, "k_proj": shared}.get(name.split(".")[-2])
        if count is None:
            return {name: values}
        pairs = values.reshape(count, 2, len(values) // count // 2, *values.shape[1:])
        return {name: pairs.swapaxes(1, 2).reshape(values.shape)}

    return change


def keep_answers(numbers: list[int], *, tied: bool) -> Callable[[str, Array], Mapping[str, Array]]:
    """Return the change of a language model that scores pairs: of its last layer it keeps the rows of some tokens."""
    layer = "model.embed_tokens.weight" if tied else "lm_head.weight"

    def run(name: str, values: Array) -> Mapping[str, Array]:
        rows = {"cls.output.weight": values[numbers]} if name == layer else {}
        return {**rows, **({name: values} if tied or not rows else {})}

    return run


def shift_norms(name: str, values: Array) -> Mapping[str, Array]:
    """Add what Gemma's norms add."""
    return {name: values + np.float32(1) if name.endswith("norm.weight") else values}


def split_experts(count: int) -> Callable[[str, Array], Mapping[str, Array]]:
    """Return Nomic's change: a matrix for each expert, the second of them transposed."""

    def change(name: str, values: Array) -> Mapping[str, Array]:
        if not name.endswith((".w1", ".w2")):
            return {name: values}
        matrices = values.reshape(count, -1, values.shape[-1])
        return {f"{name}.weight": matrices if name.endswith(".w1") else matrices.transpose(0, 2, 1)}

    return change


def split_gates(name: str, values: Array) -> Mapping[str, Array]:
    """Store Jina's gates apart, as older converters did."""
    first, second = np.split(values, 2) if "gated_layer" in name else (values, values)
    if "up_gated_layer" in name:
        name = name.replace("up_gated_layer", "gated_layers")
        return {
            name.replace("gated_layers", "gated_layers_v"): first,
            name.replace("gated_layers", "gated_layers_w"): second,
        }
    if "gated_layers" in name:
        return {
            name.replace("gated_layers", "gated_layers_w"): first,
            name.replace("gated_layers", "gated_layers_v"): second,
        }
    return {name: values}
