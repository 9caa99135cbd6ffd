"""Workloads: real English of three lengths, the same on every run."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np

#: Mean words, and the number of texts in a full and a quick run.
SIZES = {"short": (12, 2000, 300), "mixed": (60, 600, 80), "long": (180, 200, 32)}


def texts(name: str, *, quick: bool = False, seed: int = 0) -> list[str]:
    """Return runs of consecutive words of a novel: short (8 to 16), mixed (log-normal, mean 60), long (170 to 190)."""
    random = np.random.default_rng([seed, len(name)])
    words = re.findall(r"\S+", files("nearfield.cli").joinpath("demo.txt").read_text(encoding="utf-8"))
    _, full, small = SIZES[name]
    count = small if quick else full
    lengths: dict[str, Callable[[], Any]] = {
        "short": lambda: random.integers(8, 17, count),
        # A log-normal of sigma 0.6 has the mean exp(mu + 0.18).
        "mixed": lambda: np.clip(random.lognormal(np.log(60) - 0.18, 0.6, count), 5, 200).astype(int),
        "long": lambda: random.integers(170, 191, count),
    }
    starts = random.integers(0, len(words) - 200, count)
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths[name](), strict=True)]
