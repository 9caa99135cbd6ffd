"""A second language for the tiny model: each word has another one in it, so that a map can be learnt."""

from __future__ import annotations

import numpy as np

from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.testing import WORDS
from nearfield.training.training_data import TrainingData

#: Words of texts, and of their translations: the same number of other words.
WORDS_HERE = ("cat", "dog", "sat", "mat", "hello", "blue")
WORDS_THERE = ("query", "passage", "search", "red", "world", "the")
assert {*WORDS_HERE, *WORDS_THERE} <= {*WORDS}


def sentences(count: int, seed: int = 1, words: tuple[str, ...] = WORDS_HERE) -> list[str]:
    """Return different texts of four to six words."""
    random = np.random.default_rng(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[" ".join(random.choice(words, int(random.integers(4, 7))))] = None
    return list(texts)


def translate(text: str) -> str:
    """Return a text in the other language."""
    return " ".join(dict(zip(WORDS_HERE, WORDS_THERE, strict=True))[word] for word in text.split())


def translations(count: int, *, shuffled: bool = False, seed: int = 1) -> TrainingData:
    """Return pairs of a translation (query) and its text (document); shuffled, they belong to nothing."""
    texts = sentences(count, seed)
    queries = [translate(text) for text in texts]
    order = np.random.default_rng(seed).permutation(count) if shuffled else np.arange(count)
    rows = Retrieval(
        {f"d{number}": text for number, text in enumerate(texts)},
        {f"q{number}": text for number, text in enumerate(queries)},
        {f"q{number}": {f"d{order[number]}": 1} for number in range(count)},
    )
    return TrainingData("translations", rows)
