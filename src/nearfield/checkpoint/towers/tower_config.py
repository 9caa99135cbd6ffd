"""The configs of a model's towers, complete with the defaults that files may leave out, each with its modality."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from nearfield.checkpoint import json_file
from nearfield.checkpoint.json_file import JsonDict, JsonObject
from nearfield.errors import ModelRefused

#: The two parts of each two-tower architecture.
_TWO_TOWERS: Mapping[str, tuple[str, str]] = {
    **{
        name: (f"{name}_text_model", f"{name}_vision_model")
        for name in ("clip", "siglip", "siglip2", "chinese_clip", "altclip")
    },
    "clap": ("clap_text_model", "clap_audio_model"),
}
#: What each tower reads, by the ``model_type`` of its config.
MODALITIES: Mapping[str, str] = {
    **dict.fromkeys((text for text, _ in _TWO_TOWERS.values()), "text"),
    **dict.fromkeys((vision for _, vision in _TWO_TOWERS.values()), "image"),
    "clap_audio_model": "audio",
    "dinov2": "image",
    "dinov2_with_registers": "image",
    "dinov3_vit": "image",
    "nomic_vision": "image",
}
_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_CLIP_VISION = {**_BASE, **_CLIP, "image_size": 224, "patch_size": 32}
_SIGLIP = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_SIGLIP_TEXT = {**_BASE, **_SIGLIP, "vocab_size": 32000, "max_position_embeddings": 64}
_DINO = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 14, "image_size": 224}
#: What the reference's configs mean where a file leaves a field out: Google's own files state differences alone.
DEFAULTS: Mapping[str, JsonObject] = {
    "clip_text_model": {
        **_CLIP,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "eos_token_id": 49407,
    },
    "clip_vision_model": _CLIP_VISION,
    "chinese_clip_text_model": {
        **_BASE,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    },
    "chinese_clip_vision_model": _CLIP_VISION,
    "altclip_text_model": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "vocab_size": 250002,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "pad_token_id": 1,
    },
    "altclip_vision_model": _CLIP_VISION,
    "clap_audio_model": {"hidden_size": 768},
    "clap_text_model": {
        **_BASE,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "projection_hidden_act": "relu",
    },
    "siglip_text_model": _SIGLIP_TEXT,
    "siglip_vision_model": {**_BASE, **_SIGLIP, "image_size": 224, "patch_size": 16, "vision_use_head": True},
    "siglip2_text_model": _SIGLIP_TEXT,
    "siglip2_vision_model": {**_BASE, **_SIGLIP, "patch_size": 16, "num_patches": 256, "vision_use_head": True},
    "dinov2": {**_DINO, "hidden_act": "gelu", "mlp_ratio": 4, "layer_norm_eps": 1e-6, "qkv_bias": True},
    "dinov2_with_registers": {
        **_DINO,
        "hidden_act": "gelu",
        "mlp_ratio": 4,
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "num_register_tokens": 4,
    },
    "dinov3_vit": {
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "image_size": 224,
        "patch_size": 16,
        "num_register_tokens": 0,
    },
    "nomic_vision": {},
    "gemma4_vision": {
        **_BASE,
        "num_hidden_layers": 16,
        "num_key_value_heads": 12,
        "head_dim": 64,
        "hidden_activation": "gelu_pytorch_tanh",
        "patch_size": 16,
        "pooling_kernel_size": 3,
        "position_embedding_size": 10240,
    },
    "gemma4_audio": {
        "hidden_size": 1024,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "hidden_act": "silu",
        "subsampling_conv_channels": [128, 32],
        "conv_kernel_size": 5,
        "attention_chunk_size": 12,
        "attention_context_left": 13,
        "output_proj_dims": 1536,
    },
}


def is_tower(config: JsonObject) -> bool:
    """Whether config.json is that of a two-tower model, or of one tower."""
    return config.get("model_type") in _TWO_TOWERS.keys() | MODALITIES.keys()


def tower_configs(folder: Path, config: JsonObject, names: Collection[str]) -> Iterator[JsonDict]:
    """Yield the complete config of each tower of which there are weights, text first.

    ``names`` are those of the weights. ``input_size`` of an image tower, rows and columns in pixels, is what the
    folder's image processor gives, where it always gives the same.
    """
    kind = str(config.get("model_type"))
    if kind in MODALITIES:
        yield _complete(folder, kind, config)
        return
    fields = ("text_config", "audio_config" if kind == "clap" else "vision_config")
    for part, field in zip(_TWO_TOWERS[kind], fields, strict=True):
        if any(name.startswith(f"{field.removesuffix('_config')}_model.") for name in names):
            yield _complete(folder, part, _nested(folder, config, field))


def _nested(folder: Path, config: JsonObject, field: str) -> JsonObject:
    """Return a part of config.json; what older files repeat under ``…_config_dict`` overrules it."""
    parts = [config.get(name) or {} for name in (field, f"{field}_dict")]
    for part in parts:
        if not isinstance(part, dict):
            raise ModelRefused(f"{folder / 'config.json'}: {field} must be an object, not {part!r}")
    return {**parts[0], **{key: value for key, value in parts[1].items() if value is not None}}


def count_patches(config: JsonObject) -> int:
    """Return the largest number of rows that an image tower reads: patches, class token and registers."""
    if "num_patches" in config:
        return int(config["max_num_patches"])
    patch, lead = int(config["patch_size"]), 0 if config["model_type"] == "siglip_vision_model" else 1
    rows, columns = config.get("input_size") or [_edge(config["image_size"])] * 2
    return (rows // patch) * (columns // patch) + lead + int(config.get("num_register_tokens") or 0)


def _complete(folder: Path, kind: str, config: JsonObject) -> JsonDict:
    complete = {**DEFAULTS[kind], **config, "model_type": kind}
    if MODALITIES[kind] != "image":
        return complete
    processor = _processor(folder)
    if "num_patches" in complete:
        return {**complete, "max_num_patches": processor.get("max_num_patches", 256)}
    size = _input_size(processor)
    return complete if size is None else {**complete, "input_size": size}


def _processor(folder: Path) -> JsonObject:
    stated = json_file.read_optional(folder / "preprocessor_config.json")
    nested = json_file.read_optional(folder / "processor_config.json").get("image_processor")
    return stated or (nested if isinstance(nested, dict) else {})


def _input_size(processor: JsonObject) -> list[int] | None:
    """Return rows and columns of pixels of every prepared picture, or None where the processor's file does not say."""
    size = processor.get("size")
    if processor.get("crop_size") is not None and processor.get("do_center_crop") is not False:
        size = processor["crop_size"]
    if isinstance(size, int) and not isinstance(size, bool):
        return [size, size]
    if isinstance(size, dict) and all(isinstance(size.get(side), int) for side in ("height", "width")):
        return [size["height"], size["width"]]
    return None


def _edge(size: Any) -> int:
    return int(size[0] if isinstance(size, (list, tuple)) else size)
