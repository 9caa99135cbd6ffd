"""The config of Nomic's image tower, nomic-embed-vision, in the names of the other towers.

It has the ``model_type`` and the classes of NomicBERT, whose settings mean something else for texts (Nussbaum et al.
2024, arXiv:2406.18587).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfield.checkpoint.json_file import JsonDict, JsonObject
from nearfield.errors import ModelRefused

#: Settings with the values that are known here; the first is what a config means that leaves the setting out.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "activation_function": ("gelu_new", "swiglu"),
    "prenorm": (False, True),
    "use_rotary_pos_emb": (False, True),
    "norm_mlp": (False, True),
    "patch_embed_bias": (True,),
    "qkv_proj_bias": (True,),
    "mlp_fc1_bias": (True,),
    "mlp_fc2_bias": (True,),
    "use_pos_embed": (True,),
    **dict.fromkeys(("no_embed_class", "no_cls_token", "sinusoidal_pos_embedding", "mask_token"), (False,)),
    **dict.fromkeys(("causal", "use_rms_norm", "parallel_block", "layer_scale", "prepre_layernom"), (False,)),
    "rotary_emb_fraction": (0,),
    "register_tokens": (0,),
    "num_heads_kv": (None,),
    "global_pool": (None, "", "token"),
    "num_channels": (3,),
}
#: The code's defaults, where those are another architecture.
_NEEDED = {"activation_function": "swiglu", "prenorm": True, "use_rotary_pos_emb": True, "norm_mlp": True}
#: The width of a gated layer is a multiple of it.
_MULTIPLE = 256


def is_nomic_vision(config: JsonObject) -> bool:
    """Whether config.json is that of Nomic's image tower; its texts' towers have no size of pictures."""
    return config.get("model_type") == "nomic_bert" and "img_size" in config


def read_nomic_vision(path: Path, config: JsonObject) -> JsonDict:
    """Return the config in the names of the other towers.

    Raises:
        ModelRefused: a setting has a value that is not supported.
    """
    for name, (default, *others) in _FIXED.items():
        value = default if config.get(name) is None else config[name]
        if value not in (default, *others) or (name in _NEEDED and value != _NEEDED[name]):
            raise ModelRefused(f"{path} sets {name} to {value!r}, which is not supported for a tower of pictures")
    size = int(config.get("n_embd", 768))
    inner = config.get("n_inner")
    inner = int(8 * size / 3) if inner is None else int(inner)
    return {
        "model_type": "nomic_vision",
        "hidden_size": size,
        "num_hidden_layers": config.get("n_layer", 12),
        "num_attention_heads": config.get("n_head", 12),
        "intermediate_size": -(-inner // _MULTIPLE) * _MULTIPLE,
        "layer_norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "hidden_act": "silu",
        "image_size": config["img_size"],
        "patch_size": config.get("patch_size", 16),
        "reference_grid": config.get("ref_feat_shape"),
    }
