"""``open_clip_config.json`` of open_clip's own CLIP as the config.json that transformers would write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfield.checkpoint import json_file
from nearfield.checkpoint.json_file import JsonDict, JsonObject
from nearfield.errors import ModelRefused

OPEN_CLIP_CONFIG = "open_clip_config.json"
#: Settings with one supported value: that of a setting which is left out.
_ONLY: Mapping[str, Mapping[str, Any]] = {
    "vision_cfg": {
        "timm_model_name": None,
        "ls_init_value": None,
        "attentional_pool": False,
        "no_ln_pre": False,
        "pool_type": "tok",
        "final_ln_after_pool": False,
        "pos_embed_type": "learnable",
        "global_average_pool": False,
        "input_patchnorm": False,
    },
    "text_cfg": {
        "hf_model_name": None,
        "ls_init_value": None,
        "no_causal_mask": False,
        "pool_type": "argmax",
        "proj_bias": False,
        "proj_type": "linear",
        "final_ln_after_pool": False,
        "embed_cls": False,
        "tokenizer_kwargs": {},
    },
}
#: Settings that are read here, and those of training and of the tokenizer, which change no vector.
_READ: Mapping[str, frozenset[str]] = {
    "vision_cfg": frozenset({"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "norm_kwargs"})
    | {"patch_dropout", "output_tokens"},
    "text_cfg": frozenset({"context_length", "vocab_size", "layers", "width", "heads", "mlp_ratio", "norm_kwargs"})
    | {"hf_tokenizer_name", "output_tokens", "pad_id", "eos_id"},
}
_MODEL = frozenset({"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale"})


def read_open_clip_config(folder: Path) -> JsonDict:
    """Return the config of a folder of open_clip; an architecture other than its own CLIP is refused.

    Raises:
        ModelRefused: a setting is not known, or has a value that is not supported.
    """
    path = folder / OPEN_CLIP_CONFIG
    model = json_file.read_object(path).get("model_cfg")
    if not isinstance(model, dict) or not all(isinstance(model.get(part), dict) for part in _ONLY):
        raise ModelRefused(f"{path} has no model_cfg with vision_cfg and text_cfg")
    unknown = sorted(model.keys() - _MODEL)
    if unknown:
        raise ModelRefused(f"{path}: the setting {unknown[0]!r} of model_cfg is not supported")
    vision, text = (_checked(path, part, model[part]) for part in _ONLY)
    activation = {"hidden_act": "quick_gelu" if model.get("quick_gelu") else "gelu"}
    heads = {"num_attention_heads": int(vision.get("width", 768)) // int(vision.get("head_width", 64))}
    image = {"image_size": vision.get("image_size", 224), "patch_size": vision.get("patch_size", 16)}
    words = {
        "vocab_size": text.get("vocab_size", 49408),
        "max_position_embeddings": text.get("context_length", 77),
        "num_attention_heads": text.get("heads", 8),
    }
    return {
        "model_type": "clip",
        "projection_dim": model.get("embed_dim"),
        "vision_config": {**activation, **_sizes(vision, 768), **heads, **image},
        "text_config": {**activation, **_sizes(text, 512), **words},
    }


def _sizes(part: JsonObject, width: int) -> JsonDict:
    size = int(part.get("width", width))
    return {
        "hidden_size": size,
        "intermediate_size": int(size * float(part.get("mlp_ratio", 4.0))),
        "num_hidden_layers": part.get("layers", 12),
        "layer_norm_eps": (part.get("norm_kwargs") or {}).get("eps", 1e-5),
    }


def _checked(path: Path, part: str, settings: JsonObject) -> JsonObject:
    for name, value in settings.items():
        supported = name in _READ[part] or (name in _ONLY[part] and (value is None or value == _ONLY[part][name]))
        if not supported or (name == "layers" and not isinstance(value, int)):
            raise ModelRefused(f"{path} sets {name} of {part} to {value!r}, which is not supported")
    return settings
