"""Sparse heads: a weight for each of a text's tokens, or for each token of the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nearfield import recipe
from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import Weights
from nearfield.families import Family
from nearfield.heads import Head, HeadInput
from nearfield.ops import Ops, T
from nearfield.packing import PackedRows

#: Columns of the vocabulary whose logits exist at once: all of them, for all tokens, would be the peak of memory.
PIECE = 2048


class LexicalHead(Head):
    """bge-m3's lexical weights (Chen et al. 2024, arXiv:2402.03216): for each token id the largest of its weights."""

    output = "sparse"

    def __init__(self, spec: recipe.Lexical) -> None:
        self.spec = spec

    def build(self, ops: Ops[T], hidden: T, inputs: Mapping[str, T], family: Family, weights: Weights) -> T:
        """Return [B, L, 1]."""
        own = weights.top if self.spec.layer else Weights.open(self.spec.weights)
        layer = own.linear(self.spec.layer, family.hidden_size, 1)
        return ops.activation(ops.linear(hidden, layer), "relu")

    def split_results(self, values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> list[tuple[Array, Array]]:
        """Return ids (int32, ascending) and weights (float32, positive) of each input."""
        flat = values[packed.flat][:, 0]
        ends = np.cumsum([item.length for item in items])
        return [
            self._largest(item.features.arrays()["ids"], part)
            for item, part in zip(items, np.split(flat, ends[:-1]), strict=True)
        ]

    def _largest(self, ids: Array, weights: Array) -> tuple[Array, Array]:
        counted = (weights > 0) & ~np.isin(ids, self.spec.skipped)
        unique, place = np.unique(ids[counted], return_inverse=True)
        largest = np.zeros(len(unique), np.float32)
        np.maximum.at(largest, place, weights[counted])
        return unique.astype(np.int32), largest


class SpladeHead(Head):
    """SPLADE (Formal et al. 2021, arXiv:2109.10086): the language model's logits, pooled over tokens.

    ``log1p(relu(x))`` grows with x, so the largest logit is taken first and transformed once.
    """

    output = "sparse"
    packable = False
    inputs = ("pool.max",)

    def __init__(self, spec: recipe.Splade) -> None:
        self.spec = spec

    def build(self, ops: Ops[T], hidden: T, inputs: Mapping[str, T], family: Family, weights: Weights) -> T:
        """Return [B, 1, vocabulary]."""
        x, layer = family.vocabulary(ops, weights, hidden)
        size = len(layer.weight)
        pieces = [layer.part(start, min(start + PIECE, size)) for start in range(0, size, PIECE)]
        return ops.concat([self._pool(ops, ops.linear(x, piece), inputs["pool.max"]) for piece in pieces])

    def _pool(self, ops: Ops[T], logits: T, mask: T) -> T:
        if self.spec.pooling == "max":
            return self._rise(ops, ops.expand(ops.masked_max(logits, mask), 1))
        return ops.matmul(ops.expand(mask, 1), self._rise(ops, logits))

    def _rise(self, ops: Ops[T], x: T) -> T:
        x = ops.activation(x, "relu")
        for _ in range(self.spec.log1p):
            x = ops.activation(x, "log1p")
        return x

    def split_results(self, values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> list[tuple[Array, Array]]:
        """Return ids (int32, ascending) and weights (float32, positive) of each input."""
        rows = values[packed.layout.row, 0]
        return [(np.flatnonzero(row > 0).astype(np.int32), row[row > 0]) for row in rows]
