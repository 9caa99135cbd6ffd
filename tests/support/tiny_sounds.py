"""Whole tiny models of texts and sounds, as transformers writes them: weights, tokenizer and feature extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nearfield.arrays import Array
from tests.support.tiny_clap import FULL, save_clap

RATE = 48_000
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u0120")


def write_clap(folder: Path, fused: bool = False) -> Path:
    """Write CLAP whose tokens are characters."""
    from transformers import ClapFeatureExtractor, RobertaTokenizer

    save_clap(folder, **FULL, enable_fusion=fused)
    extractor = ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc", padding="repeatpad")
    extractor.save_pretrained(folder)
    tokens = [*_SPECIAL, *map(chr, range(33, 110))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    RobertaTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return folder


def clap_vectors(folder: Path, texts: list[str], sounds: list[Array]) -> tuple[Any, Any]:
    """Return the vectors of texts, and of sounds of at most ten seconds at ``RATE``, that transformers gives."""
    return clap_text_vectors(folder, texts), clap_sound_vectors(folder, sounds)


def clap_text_vectors(folder: Path, texts: list[str]) -> Any:
    """Return the vectors of texts that transformers gives."""
    import torch
    from transformers import ClapModel, RobertaTokenizer

    model = ClapModel.from_pretrained(folder).eval()
    tokens = RobertaTokenizer.from_pretrained(folder)(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        return model.get_text_features(**tokens).pooler_output.numpy()


def clap_sound_vectors(folder: Path, sounds: list[Array]) -> Any:
    """Return the vectors of sounds of at most ten seconds at ``RATE`` that transformers gives."""
    import torch
    from transformers import ClapFeatureExtractor, ClapModel

    model = ClapModel.from_pretrained(folder).eval()
    features = ClapFeatureExtractor.from_pretrained(folder)(sounds, sampling_rate=RATE, return_tensors="pt")
    if "is_longer" in features:  # the reference marks one sound of a batch at random
        features["is_longer"] = torch.zeros_like(features["is_longer"])
    with torch.no_grad():
        return model.get_audio_features(**features).pooler_output.numpy()


def reference_scale(folder: Path) -> float:
    """Return the scale of the scores of sounds, from the model's weights."""
    from safetensors.numpy import load_file

    return float(np.exp(load_file(folder / "model.safetensors")["logit_scale_a"]))


def tone(seconds: float, pitch: float, rate: int = RATE) -> Array:
    """Return a sine wave of half the full scale, float32."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)
