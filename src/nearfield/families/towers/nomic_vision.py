"""Nomic's image tower: a vision transformer whose patches have both learned positions and rotations.

Rotations go by row in the first half of a head and by column in the second, in pairs of neighbouring features, as in
EVA-02 (Fang et al. 2023, arXiv:2303.11331). Nussbaum et al. 2024, arXiv:2406.18587.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import ModelRefused
from nearfield.families.bert import size_of
from nearfield.families.towers.prenorm import BlockNames, PrenormBlocks, known_activation
from nearfield.families.towers.vision import VisionTransformer, grid_of
from nearfield.features import Features
from nearfield.ops import AttentionMask, Ops, T

_THETA = 10_000.0
#: The norm inside of a feed-forward is torch's, with its default.
_INNER_EPS = 1e-5
_NAMES = BlockNames(
    layer="layers.{}",
    out="attn.out_proj",
    attention_norm="norm1",
    feed_norm="norm2",
    gate="mlp.fc12",
    up="mlp.fc11",
    down="mlp.fc2",
)


class NomicBlocks(PrenormBlocks):
    """Blocks with one layer for queries, keys and values, and a norm inside of the gated feed-forward."""

    def _attention(
        self, ops: Ops[T], weights: Weights, x: T, mask: AttentionMask[T] | None, rope: tuple[T, T] | None
    ) -> T:
        names, size = self.names, self.size
        x = ops.layer_norm(x, weights.norm(names.attention_norm, size), self.eps)
        query, key, value = weights.linear("attn.Wqkv", size, 3 * size).parts(3)
        layers = (_in_halves(query, self.heads), _in_halves(key, self.heads), value)
        q, k, v = (ops.split(ops.linear(x, layer), self.heads) for layer in layers)
        if rope is not None:
            q, k = (ops.rope(y, *rope) for y in (q, k))
        return ops.linear(ops.attention(q, k, v, mask), weights.linear(names.out, size, size))

    def _feed(self, ops: Ops[T], weights: Weights, x: T) -> T:
        names, size, inner = self.names, self.size, self.intermediate_size
        x = ops.layer_norm(x, weights.norm(names.feed_norm, size), self.eps)
        gate, up = (weights.linear(name, size, inner) for name in (names.gate, names.up))
        h = ops.multiply(ops.activation(ops.linear(x, gate), self.activation), ops.linear(x, up))
        h = ops.layer_norm(h, weights.norm("mlp.norm", inner), _INNER_EPS)
        return ops.linear(h, weights.linear(names.down, inner, size))


class NomicVision(VisionTransformer):
    """Nomic's vision transformer."""

    inputs = ("patches", "segments", "positions", "rope.cos", "rope.sin")
    weight_prefixes = ("",)
    unused_weights = (*VisionTransformer.unused_weights, r"^selector\.")

    def __init__(self, config: JsonObject) -> None:
        super().__init__(config)
        self.reference_grid = config.get("reference_grid")
        if isinstance(self.reference_grid, int):
            self.reference_grid = (self.reference_grid, self.reference_grid)

    def _blocks(self, config: JsonObject) -> PrenormBlocks:
        return NomicBlocks(
            names=_NAMES,
            layers=size_of(config, "num_hidden_layers"),
            size=self.hidden_size,
            heads=size_of(config, "num_attention_heads"),
            intermediate_size=size_of(config, "intermediate_size"),
            activation=known_activation(config),
            eps=self.eps,
        )

    def _grid(self, config: JsonObject, trained: int) -> tuple[int, int]:
        size = config.get("input_size") or [trained * self.patch] * 2
        if any(int(side) // self.patch != trained for side in size):
            raise ModelRefused(
                f"The processor gives pictures of {size[0]} x {size[1]} pixels, and the model's positions are those of "
                f"{trained * self.patch} x {trained * self.patch}."
            )
        return trained, trained

    @property
    def sizes(self) -> Mapping[str, int]:
        head = self.hidden_size // self.blocks.heads
        return {"patches": 3 * self.patch**2, "rope.cos": head, "rope.sin": head}

    def feature_arrays(self, features: Features) -> Mapping[str, Array]:
        head = self.hidden_size // self.blocks.heads
        grid = grid_of(features)
        cos, sin = _rotations(grid, tuple(self.reference_grid or grid), self.lead, head)
        return {**features.arrays(), "rope.cos": cos, "rope.sin": sin}

    def _patch_layer(self, weights: Weights) -> Linear:
        return weights.linear(self.flags.patch, 3 * self.patch**2, self.hidden_size)


def _in_halves(layer: Linear, heads: int) -> Linear:
    """Return a layer whose outputs are such that feature i is rotated with feature i + D/2 in place of its neighbour.

    The same order for queries and keys changes none of their products.
    """
    order = np.arange(len(layer.weight)).reshape(heads, -1, 2).transpose(0, 2, 1).ravel()
    lora = layer.lora and replace(layer.lora, up=layer.lora.up[order])
    return Linear(layer.weight[order], None if layer.bias is None else layer.bias[order], lora)


@lru_cache(maxsize=64)
def _rotations(grid: tuple[int, int], trained: tuple[int, ...], lead: int, head: int) -> tuple[Array, Array]:
    """Return cosines and sines float32 [lead + rows x columns, head]; places are counted as on the trained grid."""
    down, across = (np.arange(size) * reference / size for size, reference in zip(grid, trained, strict=True))
    places = np.stack(np.meshgrid(down, across, indexing="ij"), -1).reshape(-1, 2)
    frequencies = _THETA ** -(np.arange(head // 4) / (head // 4))
    angles = (places[:, :, None] * frequencies).reshape(len(places), -1)
    angles = np.concatenate([np.zeros((lead, head)), np.tile(angles, 2)])
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
