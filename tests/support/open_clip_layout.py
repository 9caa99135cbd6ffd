"""Models of transformers, written in open_clip's layout: names and shapes as its state dictionaries have them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

#: Names of transformers in open_clip, CLIP's own first, then those of timm's vision transformer (SigLIP).
_CLIP = {
    r"vision_model\.embeddings\.patch_embedding\.weight": "visual.conv1.weight",
    r"vision_model\.embeddings\.class_embedding": "visual.class_embedding",
    r"vision_model\.embeddings\.position_embedding\.weight": "visual.positional_embedding",
    r"vision_model\.pre_layrnorm\.(.*)": r"visual.ln_pre.\1",
    r"vision_model\.post_layernorm\.(.*)": r"visual.ln_post.\1",
    r"vision_model\.encoder\.layers\.(.*)": r"visual.transformer.resblocks.\1",
    r"visual_projection\.weight": "visual.proj",
}
_TIMM = {
    r"vision_model\.embeddings\.patch_embedding\.(.*)": r"visual.trunk.patch_embed.proj.\1",
    r"vision_model\.embeddings\.position_embedding\.weight": "visual.trunk.pos_embed",
    r"vision_model\.post_layernorm\.(.*)": r"visual.trunk.norm.\1",
    r"vision_model\.encoder\.layers\.(.*)": r"visual.trunk.blocks.\1",
    r"vision_model\.head\.probe": "visual.trunk.attn_pool.latent",
    r"vision_model\.head\.attention\.out_proj\.(.*)": r"visual.trunk.attn_pool.proj.\1",
    r"vision_model\.head\.layernorm\.(.*)": r"visual.trunk.attn_pool.norm.\1",
    r"vision_model\.head\.mlp\.(.*)": r"visual.trunk.attn_pool.mlp.\1",
}
_TEXT = {
    r"text_model\.embeddings\.token_embedding\.weight": "token_embedding.weight",
    r"text_model\.embeddings\.position_embedding\.weight": "positional_embedding",
    r"text_model\.final_layer_norm\.(.*)": r"ln_final.\1",
    r"text_model\.encoder\.layers\.(.*)": r"transformer.resblocks.\1",
    r"text_projection\.weight": "text_projection",
    r"text_model\.head\.(.*)": r"text_projection.\1",
}
_CLIP_PARTS = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_TIMM_PARTS = {"self_attn.out_proj": "attn.proj", "layer_norm1": "norm1", "layer_norm2": "norm2"}


def write_open_clip(source: Path, folder: Path, *, clean: str | None = None, **model: Any) -> Path:
    """Write the model of a folder of transformers in open_clip's layout, its tokenizer files included."""
    import torch
    from safetensors.torch import load_file, save_file

    config = json.loads((source / "config.json").read_text())
    siglip = config["model_type"] == "siglip"
    tensors = _renamed(load_file(source / "model.safetensors"), siglip)
    folder.mkdir(exist_ok=True)
    if model.pop("torch_file", False):
        torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(tensors, folder / "open_clip_model.safetensors")
    text, image = config["text_config"], config["vision_config"]
    vision: dict[str, Any] = {
        "image_size": image["image_size"],
        "layers": image["num_hidden_layers"],
        "width": image["hidden_size"],
        "patch_size": image["patch_size"],
        "head_width": image["hidden_size"] // image["num_attention_heads"],
        "mlp_ratio": image["intermediate_size"] / image["hidden_size"],
    }
    if siglip:
        vision = {
            "image_size": image["image_size"],
            "timm_model_name": "vit_large_patch8_siglip_32",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        }
    own: dict[str, Any] = {
        "width": text["hidden_size"],
        "layers": text["num_hidden_layers"],
        "heads": text["num_attention_heads"],
        "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        "context_length": text["max_position_embeddings"],
        "vocab_size": text["vocab_size"],
    }
    if siglip:
        own |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
        own |= {"tokenizer_kwargs": {"clean": clean}, "act_kwargs": {"approximate": "tanh"}}
    pixels = {"size": image["image_size"], "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}
    stored = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": own, "custom_text": siglip, **model}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": stored, "preprocess_cfg": pixels}))
    for file in source.glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def _renamed(tensors: dict[str, Any], siglip: bool) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        image = name.startswith("vision_model.")
        parts = _TIMM_PARTS if siglip and image else _CLIP_PARTS
        patterns = {**(_TIMM if siglip else _CLIP), **_TEXT}
        target = next((re.sub(old, new, name) for old, new in patterns.items() if re.fullmatch(old, name)), name)
        for old, new in parts.items() if ".layers." in name else ():
            target = target.replace(old, new)
        turned = target in ("visual.proj", "text_projection")
        target = f"text.{target}" if siglip and not image and "logit" not in name else target
        added = target == "visual.trunk.pos_embed"
        found[target] = tensor.T.contiguous() if turned else tensor[None] if added else tensor
    for name in [name for name in found if "self_attn.q_proj" in name]:
        joined = "attn.qkv." if "trunk" in name else "attn.in_proj_"
        stacked = torch.cat([found.pop(name.replace("q_proj", f"{letter}_proj")) for letter in "qkv"])
        found[name.replace("self_attn.q_proj.", joined)] = stacked
    for end in ("weight", "bias") if siglip else ():
        both = found.pop(f"vision_model.head.attention.in_proj_{end}")
        size = len(both) // 3
        found[f"visual.trunk.attn_pool.q.{end}"] = both[:size].contiguous()
        found[f"visual.trunk.attn_pool.kv.{end}"] = both[size:].contiguous()
    return found
