"""A tiny image tower of Nomic: its folder, and its vectors in plain torch, written from Nomic's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.support import tiny_models

SIZE, LAYERS, HEADS, INNER, PATCH, EDGE = 32, 2, 4, 256, 8, 4
CONFIG: dict[str, Any] = {
    "model_type": "nomic_bert",
    "architectures": ["NomicVisionModel"],
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicVisionModel"},
    "n_embd": SIZE,
    "n_layer": LAYERS,
    "n_head": HEADS,
    # Rounded up to a multiple of 256.
    "n_inner": 200.0,
    "activation_function": "swiglu",
    "layer_norm_epsilon": 1e-6,
    "img_size": PATCH * EDGE,
    "patch_size": PATCH,
    "num_channels": 3,
    "prenorm": True,
    "norm_mlp": True,
    "use_rotary_pos_emb": True,
    "ref_feat_shape": [EDGE, EDGE],
    "use_pos_embed": True,
    "qkv_proj_bias": True,
    "rotary_emb_fraction": 0,
    "register_tokens": 0,
    "vocab_size": 0,
}


def write_nomic_vision(folder: Path, **changes: Any) -> Path:
    """Write a model of random weights."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(3)

    def layer(name: str, inputs: int, outputs: int) -> dict[str, Any]:
        weight = random.normal(0, 0.3, (outputs, inputs))
        return {f"{name}.weight": weight, f"{name}.bias": random.normal(0, 0.1, outputs)}

    def norm(name: str, size: int) -> dict[str, Any]:
        return {f"{name}.weight": 1 + random.normal(0, 0.1, size), f"{name}.bias": random.normal(0, 0.1, size)}

    def gated(name: str) -> dict[str, Any]:
        rest = layer(f"{name}.fc2", INNER, SIZE)
        return {**layer(f"{name}.fc11", SIZE, INNER), **layer(f"{name}.fc12", SIZE, INNER), **rest}

    tensors = layer("embeddings.proj", 3 * PATCH**2, SIZE)
    tensors["embeddings.cls_token"] = random.normal(0, 0.6, (1, 1, SIZE))
    tensors["embeddings.pos_embed"] = random.normal(0, 0.6, (1, EDGE**2 + 1, SIZE))
    for number in range(LAYERS):
        at = f"layers.{number}."
        tensors |= layer(f"{at}attn.Wqkv", SIZE, 3 * SIZE) | layer(f"{at}attn.out_proj", SIZE, SIZE)
        tensors |= norm(f"{at}norm1", SIZE) | norm(f"{at}norm2", SIZE) | norm(f"{at}mlp.norm", INNER)
        tensors |= gated(f"{at}mlp")
    tensors |= layer("selector.attn.Wq", SIZE, SIZE) | layer("selector.attn.Wkv", SIZE, 2 * SIZE)
    tensors |= layer("selector.attn.out_proj", SIZE, SIZE) | norm("selector.norm1", SIZE) | gated("selector.mlp")
    tensors["selector.attn.latent"] = random.normal(0, 0.6, (1, 1, SIZE))
    folder.mkdir(exist_ok=True)
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, folder / "model.safetensors")
    tiny_models.dump(folder / "config.json", {**CONFIG, **changes})
    return folder


def write_processor(folder: Path) -> None:
    """Write the preparation of pictures of CLIP, which this model has."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    edge = PATCH * EDGE
    processor = CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge})
    processor.save_pretrained(folder)


def nomic_vectors(folder: Path, pixels: Any, grid: int = EDGE) -> Any:
    """Return the vectors [pictures, SIZE] of pixel values [pictures, 3, H, W], not scaled to unit length.

    ``grid`` is the reference grid of the rotations.
    """
    import torch
    from safetensors.torch import load_file
    from torch.nn import functional

    w = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}

    def linear(x: Any, name: str) -> Any:
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(x: Any, name: str, eps: float) -> Any:
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def heads(x: Any) -> Any:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def turned(x: Any, sines: Any, cosines: Any) -> Any:
        half = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
        return x * cosines + half * sines

    cut = torch.as_tensor(pixels, dtype=torch.float64).unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)
    patches = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = linear(patches, "embeddings.proj")
    x = torch.cat([w["embeddings.cls_token"].expand(len(x), 1, -1), x], 1) + w["embeddings.pos_embed"]
    bands = SIZE // HEADS // 4
    frequencies = 10_000.0 ** -(torch.arange(bands, dtype=torch.float64) / bands)
    places = torch.arange(EDGE, dtype=torch.float64) / EDGE * grid
    both = torch.stack(torch.meshgrid(places, places, indexing="ij"), -1).unsqueeze(-1) * frequencies
    angles = both.reshape(EDGE**2, -1).repeat_interleave(2, -1)
    for number in range(LAYERS):
        at = f"layers.{number}."
        q, k, v = (heads(part) for part in linear(norm(x, f"{at}norm1", 1e-6), f"{at}attn.Wqkv").chunk(3, -1))
        q, k = (torch.cat([y[:, :, :1], turned(y[:, :, 1:], angles.sin(), angles.cos())], 2) for y in (q, k))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{at}attn.out_proj")
        y = norm(x, f"{at}norm2", 1e-6)
        y = linear(y, f"{at}mlp.fc11") * functional.silu(linear(y, f"{at}mlp.fc12"))
        x = x + linear(norm(y, f"{at}mlp.norm", 1e-5), f"{at}mlp.fc2")
    query = heads(linear(w["selector.attn.latent"].expand(len(x), -1, -1), "selector.attn.Wq"))
    keys, values = (heads(part) for part in linear(x, "selector.attn.Wkv").chunk(2, -1))
    pooled = functional.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)
    y = norm(linear(pooled, "selector.attn.out_proj"), "selector.norm1", 1e-6)
    y = linear(y, "selector.mlp.fc11") * functional.silu(linear(y, "selector.mlp.fc12"))
    return (x + linear(y, "selector.mlp.fc2"))[:, 0].numpy()
