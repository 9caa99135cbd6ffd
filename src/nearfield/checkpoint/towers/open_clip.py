"""``open_clip_config.json`` as the config that transformers has for the same architecture: CLIP or SigLIP.

The towers of open_clip have many switches. A key or value that is not known here is refused, since it may change
vectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfield.checkpoint import json_file
from nearfield.checkpoint.json_file import JsonDict, JsonObject
from nearfield.checkpoint.towers.nomic_vision import is_nomic_vision, read_nomic_vision
from nearfield.checkpoint.weights.open_clip import CONFIG, is_open_clip
from nearfield.errors import ModelRefused, nearest

#: Keys of both towers that change no vector, or say what the code is to do in training.
_HARMLESS = frozenset(
    {
        *("patch_dropout", "output_tokens", "hf_tokenizer_name", "timm_model_pretrained", "hf_model_pretrained"),
        *("timm_drop", "timm_drop_path", "pad_id", "attn_pooler_queries", "attn_pooler_heads", "timm_proj_bias"),
    }
)
#: Switches with the values that are those of the towers here, besides null.
_PLAIN: Mapping[str, tuple[object, ...]] = {
    **dict.fromkeys(("ls_init_value", "attentional_pool", "no_ln_pre", "final_ln_after_pool", "embed_cls"), (False,)),
    **dict.fromkeys(("global_average_pool", "input_patchnorm"), (False,)),
    **dict.fromkeys(("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn"), (False,)),
    "scale_fc": (False,),
    "block_type": ("default",),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
    "hf_model_name": (),
    "tokenizer_mode": (),
}
_SIZES = frozenset({"width", "layers", "heads", "mlp_ratio", "context_length", "vocab_size", "image_size"})
_TEXT = _SIZES | {"pool_type", "no_causal_mask", "proj_bias", "eos_id", "norm_kwargs", "act_kwargs", "tokenizer_kwargs"}
_VISION = _SIZES | {"patch_size", "head_width", "pool_type", "norm_kwargs", "act_kwargs"}
_TIMM = frozenset({"image_size", "timm_model_name", "timm_pool", "timm_proj"})
_MODEL = frozenset({"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "nonscalar_logit_scale"})
#: Width, layers, heads and inner size of timm's vision transformers of SigLIP.
_SIGLIP_SIZES = {
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "so400m": (1152, 27, 16, 4304),
    "giantopt": (1536, 40, 16, 6144),
}
#: Those that timm gives the tanh approximation of gelu; the others have the exact one.
_TANH = re.compile(r"vit_(base_patch32_siglip_256|large_patch16_siglip_512|(so400m|giantopt)_patch16_siglip_\d+)")


def read_tower_config(folder: Path) -> JsonDict:
    """Return the content of config.json, or what it would be for a folder in open_clip's layout; empty without either.

    That of Nomic's image tower is returned in the names of the others.

    Raises:
        ModelRefused: the file of open_clip describes another architecture, or has an unknown key or value.
    """
    if not is_open_clip(folder):
        config = json_file.read_optional(folder / "config.json")
        return read_nomic_vision(folder / "config.json", config) if is_nomic_vision(config) else config
    model = json_file.read_object(folder / CONFIG).get("model_cfg")
    if not isinstance(model, dict):
        raise ModelRefused(f"{folder / CONFIG} has no model_cfg, which describes the towers")
    return _Converter(folder / CONFIG, model).convert()


class _Converter:
    """Reads one file. ``model`` is its ``model_cfg``."""

    def __init__(self, path: Path, model: JsonObject) -> None:
        self.path, self.model = path, model
        self.text, self.vision = (self._part(name) for name in ("text_cfg", "vision_cfg"))

    def convert(self) -> JsonDict:
        """Return the config of the model in transformers' names."""
        siglip = self.vision.get("timm_model_name") is not None
        self._check(self.model, {*_MODEL, "init_logit_scale", "init_logit_bias", "output_dict"}, {})
        self._check(self.text, _TEXT, _PLAIN)
        plain = {"pool_type": ("last",) if siglip else ("argmax", "eos")}
        self._require(self.text, {**plain, "no_causal_mask": (siglip,), "proj_bias": (siglip,)})
        kind, vision = ("siglip", self._siglip_vision()) if siglip else ("clip", self._clip_vision())
        return {"model_type": kind, "text_config": self._text(siglip), "vision_config": vision}

    def _text(self, siglip: bool) -> JsonDict:
        sizes = {"width": 512, "heads": 8, "layers": 12, "context_length": 77, "vocab_size": 49408, **self.text}
        clean = self._cleaning(siglip)
        return {
            "hidden_size": sizes["width"],
            "num_hidden_layers": sizes["layers"],
            "num_attention_heads": sizes["heads"],
            "intermediate_size": int(sizes["width"] * sizes.get("mlp_ratio", 4.0)),
            "max_position_embeddings": sizes["context_length"],
            "vocab_size": sizes["vocab_size"],
            "hidden_act": self._activation(self.text),
            "layer_norm_eps": self._eps(self.text),
            **({"text_cleaning": clean} if clean else {}),
        }

    def _clip_vision(self) -> JsonDict:
        self._check(self.vision, _VISION, _PLAIN)
        self._require(self.vision, {"pool_type": ("tok",)})
        sizes = {"width": 768, "layers": 12, "head_width": 64, "patch_size": 16, "image_size": 224, **self.vision}
        if not isinstance(sizes["layers"], int):
            raise ModelRefused(f"{self.path}: its image tower is a ResNet, which is not supported")
        return {
            "hidden_size": sizes["width"],
            "num_hidden_layers": sizes["layers"],
            "num_attention_heads": sizes["width"] // sizes["head_width"],
            "intermediate_size": int(sizes["width"] * sizes.get("mlp_ratio", 4.0)),
            "patch_size": sizes["patch_size"],
            "image_size": sizes["image_size"],
            "hidden_act": self._activation(self.vision),
            "layer_norm_eps": self._eps(self.vision),
        }

    def _siglip_vision(self) -> JsonDict:
        self._check(self.vision, _TIMM, {})
        self._require(self.vision, {"timm_pool": ("map",), "timm_proj": ("none",)})
        name = str(self.vision["timm_model_name"])
        match = re.fullmatch(r"vit_(\w+?)_patch(\d+)_siglip_(\d+)(\.\w+)?", name)
        if match is None or match[1] not in _SIGLIP_SIZES:
            raise ModelRefused(f"{self.path}: timm's model {name!r} is not supported; SigLIP's image towers are")
        width, layers, heads, inner = _SIGLIP_SIZES[match[1]]
        return {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": inner,
            "patch_size": int(match[2]),
            "image_size": self.vision.get("image_size", int(match[3])),
            "hidden_act": "gelu_pytorch_tanh" if _TANH.match(name) else "gelu",
            "layer_norm_eps": 1e-6,
        }

    def _cleaning(self, siglip: bool) -> str | None:
        """Return what open_clip does to a text before its tokenizer: CLIP's own tokenizer lower-cases by itself."""
        settings = self.text.get("tokenizer_kwargs") or {}
        if not isinstance(settings, Mapping) or set(settings) - {"clean"}:
            raise ModelRefused(f"{self.path}: tokenizer_kwargs {settings!r} are not supported; clean is")
        clean = settings.get("clean", "whitespace" if siglip else "lower")
        known = ("canonicalize", "lower", "whitespace") if siglip else ("lower",)
        if clean not in known:
            raise ModelRefused(f"{self.path}: clean is {clean!r}, which is not supported. {nearest(str(clean), known)}")
        return str(clean) if siglip else None

    def _activation(self, part: JsonObject) -> str:
        settings = part.get("act_kwargs") or {}
        if settings not in ({}, {"approximate": "none"}, {"approximate": "tanh"}):
            raise ModelRefused(f"{self.path}: act_kwargs {settings!r} are not supported")
        if self.model.get("quick_gelu"):
            return "quick_gelu"
        return "gelu_pytorch_tanh" if settings.get("approximate") == "tanh" else "gelu"

    def _eps(self, part: JsonObject) -> float:
        settings = part.get("norm_kwargs") or {}
        if not isinstance(settings, Mapping) or set(settings) - {"eps"}:
            raise ModelRefused(f"{self.path}: norm_kwargs {settings!r} are not supported; eps is")
        return float(settings.get("eps", 1e-5))

    def _part(self, name: str) -> JsonObject:
        part = self.model.get(name)
        if not isinstance(part, dict):
            raise ModelRefused(f"{self.path}: {name} must be an object, not {part!r}")
        return {key: value for key, value in part.items() if value is not None}

    def _check(
        self, part: JsonObject, known: frozenset[str] | set[str], plain: Mapping[str, tuple[object, ...]]
    ) -> None:
        for key, value in part.items():
            if key in plain and value is not None and value not in plain[key]:
                raise ModelRefused(f"{self.path} sets {key} to {value!r}, which is not supported")
            if key not in known and key not in plain and key not in _HARMLESS:
                raise ModelRefused(f"{self.path} has the key {key!r}, which is not understood. {nearest(key, known)}")

    def _require(self, part: JsonObject, values: Mapping[str, tuple[Any, ...]]) -> None:
        """Refuse other values than these; the first is open_clip's default where it is false or CLIP's."""
        defaults = {"pool_type": {"text": "argmax"}.get("text" if part is self.text else "", "tok")}
        for key, known in values.items():
            value = part.get(key, defaults.get(key, False))
            if value not in known:
                raise ModelRefused(f"{self.path} sets {key} to {value!r}, which is not supported for these towers")
