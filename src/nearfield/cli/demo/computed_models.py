"""Models of pictures and sounds whose weights are computed: cosines, which nothing was trained on.

They compare what a picture looks like and how a sound is coloured, and understand neither. Both are folders of known
architectures, so that a collection treats them like any other model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.arrays import Array

#: Pixels of a side of a picture, and waves of a side of its brightness and of each of its two colours.
_PIXELS, _BRIGHTNESS, _COLOUR = 32, 8, 4
#: Brightness and the differences of blue and red from it, from red, green and blue (ITU-R BT.601).
_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
#: Mel bins, and the waves of their spectrum: its shape, and how it changes in as many frames.
_BINS, _CEPSTRUM, _CHANGES = 16, 16, 3
#: Patches of a window of the layer that changes nothing, and pairs of their distances.
_WINDOW, _DISTANCES = 2, 9


def write_pixel_model(folder: Path) -> Path:
    """Write a model whose vector of a picture has its lowest frequencies of brightness and colours; return the folder.

    It is DINOv2 with one patch, the whole picture. Its patch embedding is the cosine transform that perceptual hashes
    use; its only layer passes the patch on to the vector. Brightness and contrast do not count.
    """
    kernel = _picture_waves()
    size = len(kernel)
    config = {
        "model_type": "dinov2", "hidden_size": size, "num_hidden_layers": 1, "num_attention_heads": 1, "mlp_ratio": 1,
        "image_size": _PIXELS, "patch_size": _PIXELS, "qkv_bias": True, "layer_norm_eps": 1e-6, "hidden_act": "gelu",
    }  # fmt: skip
    edges = {"height": _PIXELS, "width": _PIXELS}
    processor = {
        "image_processor_type": "BitImageProcessor", "size": edges, "do_center_crop": False, "resample": 2,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    weights = {
        "embeddings.cls_token": np.zeros((1, 1, size)),
        "embeddings.position_embeddings": np.zeros((1, 2, size)),
        **_linear("embeddings.patch_embeddings.projection", kernel),
        **_norm("layernorm", size),
        **_picture_layer("encoder.layer.0.", size),
    }
    return _write(folder, config, processor, weights)


def write_spectrum_model(folder: Path) -> Path:
    """Write a model whose vector of a sound has the mean shape of its spectrum, as in mel cepstra; return the folder.

    It is CLAP's tower of sounds with patches of all mel bins, and a layer that changes nothing.
    """
    kernel = _spectrum_waves()
    size = len(kernel)
    audio = {
        "model_type": "clap_audio_model", "hidden_size": size, "patch_embeds_hidden_size": size, "depths": [1],
        "num_attention_heads": [1], "spec_size": _BINS**2, "num_mel_bins": _BINS, "patch_size": _BINS,
        "patch_stride": [_BINS, _BINS], "window_size": _WINDOW, "mlp_ratio": 1.0, "enable_patch_layer_norm": False,
    }  # fmt: skip
    processor = {
        "feature_extractor_type": "ClapFeatureExtractor",
        "feature_size": _BINS,
        "truncation": "rand_trunc",
        "padding": "repeatpad",
    }
    weights = {
        **_linear("audio_model.audio_encoder.patch_embed.proj", kernel),
        **_batch_norm("audio_model.audio_encoder.batch_norm", _BINS),
        **_norm("audio_model.audio_encoder.norm", size),
        **_sound_layer("audio_model.audio_encoder.layers.0.blocks.0.", size),
        **_projection("audio_projection", size),
    }
    return _write(folder, {"model_type": "clap", "audio_config": audio}, processor, weights)


def _picture_waves() -> Array:
    """Return the patch embedding [waves, 3, pixels, pixels], without the mean brightness."""
    parts = [
        _plane_waves(_PIXELS, (waves, waves))[:, None] * row[None, :, None, None]
        for row, waves in zip(_YCBCR, (_BRIGHTNESS, _COLOUR, _COLOUR), strict=True)
    ]
    return np.concatenate([parts[0][1:], *parts[1:]])


def _spectrum_waves() -> Array:
    """Return the patch embedding [waves, 1, bins, frames], without the mean loudness."""
    return _plane_waves(_BINS, (_CEPSTRUM, _CHANGES))[1:, None]


def _plane_waves(side: int, counts: tuple[int, int]) -> Array:
    """Return the first cosines of a square in both directions [waves, side, side].

    Those of high frequency are louder, since pictures and sounds have less of them.
    """
    steps = (np.arange(side) + 0.5) / side
    down, across = (np.cos(np.pi * np.arange(count)[:, None] * steps) for count in counts)
    weight = np.hypot(*np.ogrid[: counts[0], : counts[1]]) + 1
    planes = np.einsum("ux,vy,uv->uvxy", down, across, weight) / side**2
    return planes.reshape(-1, side, side)


def _picture_layer(name: str, size: int) -> dict[str, Array]:
    attention = f"{name}attention.attention."
    return {
        **_norm(f"{name}norm1", size),
        **_norm(f"{name}norm2", size),
        **_linear(f"{attention}query", np.zeros((size, size))),
        **_linear(f"{attention}key", np.zeros((size, size))),
        **_linear(f"{attention}value", np.eye(size)),
        **_linear(f"{name}attention.output.dense", np.eye(size)),
        **_linear(f"{name}mlp.fc1", np.zeros((size, size))),
        **_linear(f"{name}mlp.fc2", np.zeros((size, size))),
        f"{name}layer_scale1.lambda1": np.ones(size),
        f"{name}layer_scale2.lambda1": np.zeros(size),
    }


def _sound_layer(name: str, size: int) -> dict[str, Array]:
    linears = (*(f"attention.self.{part}" for part in ("query", "key", "value")), "attention.output.dense",
               "intermediate.dense", "output.dense")  # fmt: skip
    layers = [_linear(f"{name}{part}", np.zeros((size, size))) for part in linears]
    table = {f"{name}attention.self.relative_position_bias_table": np.zeros((_DISTANCES, 1))}
    return {
        **_norm(f"{name}layernorm_before", size),
        **_norm(f"{name}layernorm_after", size),
        **{key: value for layer in layers for key, value in layer.items()},
        **table,
    }


def _projection(name: str, size: int) -> dict[str, Array]:
    """Return two layers with ReLU between them that change nothing: what is below zero goes its own way."""
    halves = np.zeros((2 * size, 2 * size))
    halves[:size] = np.concatenate([np.eye(size), -np.eye(size)], axis=1)
    return {
        **_linear(f"{name}.linear1", np.concatenate([np.eye(size), -np.eye(size)])),
        **_linear(f"{name}.linear2", halves),
    }


def _linear(name: str, weight: Array) -> dict[str, Array]:
    return {f"{name}.weight": weight, f"{name}.bias": np.zeros(len(weight))}


def _norm(name: str, size: int) -> dict[str, Array]:
    return {f"{name}.weight": np.ones(size), f"{name}.bias": np.zeros(size)}


def _batch_norm(name: str, size: int) -> dict[str, Array]:
    """Return a norm of decibels: digital silence is -100, and full scale near 0."""
    return {
        **_norm(name, size),
        f"{name}.running_mean": np.full(size, -50.0),
        f"{name}.running_var": np.full(size, 400.0),
    }


def _write(folder: Path, config: Mapping[str, Any], processor: Mapping[str, Any], weights: Mapping[str, Array]) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, values in (("config.json", config), ("preprocessor_config.json", processor)):
        (folder / name).write_text(json.dumps(values, indent=1), encoding="utf-8")
    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder
