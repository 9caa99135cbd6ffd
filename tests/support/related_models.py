"""A tiny model and a relative of it: the same weights with noise, as a tuned model has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from nearfield.testing import WORDS, write_tiny_model
from tests.support.tiny_language import sentences


def write_relatives(folder: Path, *, noise: float = 0.02) -> tuple[Path, Path]:
    """Write a model and its relative; return their folders."""
    old, new = write_tiny_model(folder / "old", layers=1), folder / "new"
    shutil.copytree(old, new)
    random, weights = np.random.default_rng(11), load_file(new / "model.safetensors")
    changed = {
        name: tensor + noise * random.standard_normal(tensor.shape).astype(np.float32)
        for name, tensor in weights.items()
    }
    save_file(changed, new / "model.safetensors")
    return old, new


def sample(count: int = 400, seed: int = 4) -> list[str]:
    """Return different texts of the tiny model's words."""
    return sentences(count, seed, WORDS)
