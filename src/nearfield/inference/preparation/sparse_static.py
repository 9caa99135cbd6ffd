"""Query vectors of inference-free sparse models: tokens have fixed weights, and need no pass through a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint import json_file
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer, Tokens
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused


class SparseStaticEmbedding:
    """The weight of each token of the vocabulary (Geng et al. 2024, arXiv:2411.04403). A repeated token counts once.

    Args:
        path: file of the weights: safetensors or JSON.
        tokenizer: the model's tokenizer.
        size: number of tokens of the vocabulary.

    Raises:
        ModelRefused: the file has a weight for a token that the tokenizer does not have.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, size: int) -> None:
        self._tokenizer = tokenizer
        self.weights = _from_json(path, tokenizer, size) if path.suffix == ".json" else _from_weights(path, size)

    def rows(self, tokens: Sequence[Tokens]) -> list[dict[str, tuple[Array, Array]]]:
        """Return the sparse output of tokenised queries. Their special tokens have no weight."""
        return [{"sparse": self._row(item.ids)} for item in tokens]

    def _row(self, ids: list[int]) -> tuple[Array, Array]:
        head, tail = len(self._tokenizer.prefix), len(self._tokenizer.suffix)
        present = np.unique(np.asarray(ids[head : len(ids) - tail], np.int64))
        weights = self.weights[present]
        return present[weights > 0].astype(np.int32), weights[weights > 0]


def _from_weights(path: Path, size: int) -> Array:
    weights = Weights.open(path)
    return weights.tensor("weight", (size,))


def _from_json(path: Path, tokenizer: Tokenizer, size: int) -> Array:
    weights = np.zeros(size, np.float32)
    for token, weight in json_file.read_object(path).items():
        number = tokenizer.backend.token_to_id(token)
        if number is None or not isinstance(weight, (int, float)):
            raise ModelRefused(f"{path} gives the weight {weight!r} to {token!r}, which the tokenizer does not have.")
        if number < size:  # a text with a token beyond the table is refused
            weights[number] = weight
    return weights
