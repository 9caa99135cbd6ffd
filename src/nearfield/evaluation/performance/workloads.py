"""Reproducible workloads: English texts of three lengths, no two of them equal: equal ones are computed once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

#: Mean words, and the number of texts in a full and a quick run.
SIZES = {"short": (12, 2000, 300), "mixed": (60, 600, 80), "long": (180, 200, 32)}


@lru_cache(maxsize=1)
def words() -> tuple[str, ...]:
    """Return the words of a novel, in order."""
    text = files("nearfield").joinpath("cli/data/demo.txt").read_text(encoding="utf-8")
    return tuple(re.findall(r"\S+", text))


def texts(name: str, *, quick: bool = False, seed: int = 0) -> list[str]:
    """Return runs of consecutive words of a novel: short (8 to 16), mixed (log-normal, mean 60), long (170 to 190)."""
    random = np.random.default_rng([seed, len(name)])
    _, full, small = SIZES[name]
    count = small if quick else full
    lengths: dict[str, Callable[[], Any]] = {
        "short": lambda: random.integers(8, 17, count),
        # A log-normal of sigma 0.6 has the mean exp(mu + 0.18).
        "mixed": lambda: np.clip(random.lognormal(np.log(60) - 0.18, 0.6, count), 5, 200).astype(int),
        "long": lambda: random.integers(170, 191, count),
    }
    every = words()
    starts = _places(random, len(every) - 200, count)
    return [" ".join(every[start : start + length]) for start, length in zip(starts, lengths[name](), strict=True)]


def texts_of_tokens(tokenizer: Any, tokens: int, count: int = 64) -> list[str]:
    """Return runs of words of about ``tokens`` tokens, special tokens included."""
    every = words()
    encoded = tokenizer.encode([" ".join(every[:400])])[0]
    rate = 400 / max(1, len(encoded.ids) + encoded.dropped)
    size = max(1, min(len(every) - 1, round(max(1, tokens - 2) * rate)))
    starts = _places(np.random.default_rng(tokens), len(every) - size, count)
    return [" ".join(every[start : start + size]) for start in starts]


def more_texts(texts: Sequence[str], times: int) -> list[str]:
    """Return ``times`` as many texts: the others have the same words in other orders."""
    random = np.random.default_rng(len(texts))
    shuffled = (" ".join(random.permutation(text.split())) for _ in range(times - 1) for text in texts)
    return [*texts, *shuffled]


def _places(random: np.random.Generator, places: int, count: int) -> Iterable[int]:
    """Return ``count`` of the places, each at most once where there are so many."""
    chosen: list[int] = random.choice(places, count, replace=count > places).tolist()
    return chosen
