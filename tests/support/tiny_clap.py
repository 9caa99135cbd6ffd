"""Tiny CLAP models with random weights, as transformers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Sizes of a tower of sounds: as in published models but for widths and depths, and a small one.
FULL: dict[str, Any] = {"patch_embeds_hidden_size": 8, "depths": [2, 2, 2, 1], "num_attention_heads": [1, 2, 2, 4]}
SMALL: dict[str, Any] = {
    "patch_embeds_hidden_size": 16,
    "depths": [2, 3],
    "num_attention_heads": [2, 4],
    "spec_size": 64,
    "num_mel_bins": 16,
    "window_size": 4,
}


def save_clap(folder: Path, **audio: Any) -> Any:
    """Save a model whose tower of sounds has these settings; return it, a ``transformers.ClapModel``."""
    import torch
    from transformers import ClapConfig, ClapModel

    hidden = audio["patch_embeds_hidden_size"] << (len(audio["depths"]) - 1)
    sounds = {"hidden_size": hidden, "projection_dim": 24, "num_hidden_layers": len(audio["depths"]), **audio}
    texts = {"vocab_size": 90, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ClapConfig(
        projection_dim=24, audio_config=sounds, text_config={**texts, "intermediate_size": 32, "projection_dim": 24}
    )
    torch.manual_seed(5)
    model = ClapModel(config).eval()
    _randomize(model)
    model.save_pretrained(folder)
    return model


def _randomize(model: Any) -> None:
    """Draw all weights and running statistics: those of a new model hide what is not read."""
    import torch

    for name, parameter in model.named_parameters():
        scales = parameter.ndim == 1 and name.endswith("weight")
        torch.nn.init.normal_(parameter, 1.0 if scales else 0.0, 0.15 if parameter.ndim > 1 else 0.2)
    for name, buffer in model.named_buffers():
        decibels = name.endswith(("audio_encoder.batch_norm.running_mean", "audio_encoder.batch_norm.running_var"))
        if name.endswith("running_mean"):
            buffer.copy_(10 * torch.randn_like(buffer) - 40 if decibels else 0.3 * torch.randn_like(buffer))
        elif name.endswith("running_var"):
            buffer.copy_((400 if decibels else 2) * torch.rand_like(buffer) + 0.5)
