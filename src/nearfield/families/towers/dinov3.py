"""DINOv3: a vision transformer whose positions are rotations by row and column (Siméoni et al. 2025, arXiv:2508.10104).

The centre of a patch has coordinates from -1 to 1 in both directions, whatever the size of the picture. Class and
register tokens are not rotated.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.families.bert import size_of
from nearfield.families.towers.prenorm import BlockNames, PrenormBlocks, known_activation
from nearfield.families.towers.vision import VisionTransformer, grid_of
from nearfield.features import Features


class Dinov3(VisionTransformer):
    """DINOv3's vision transformer."""

    inputs = ("patches", "segments", "positions", "rope.cos", "rope.sin")

    def __init__(self, config: JsonObject) -> None:
        super().__init__(config)
        self.theta = float(config.get("rope_theta", 100.0))

    def _blocks(self, config: JsonObject) -> PrenormBlocks:
        names = BlockNames(
            layer="layer.{}",
            query="attention.q_proj",
            key="attention.k_proj",
            value="attention.v_proj",
            out="attention.o_proj",
            attention_norm="norm1",
            attention_scale="layer_scale1.lambda1",
            feed_norm="norm2",
            feed_scale="layer_scale2.lambda1",
            gate="mlp.gate_proj" if config.get("use_gated_mlp") else "",
            up="mlp.up_proj",
            down="mlp.down_proj",
        )
        query, key, value = (bool(config.get(f"{name}_bias", name != "key")) for name in ("query", "key", "value"))
        return PrenormBlocks(
            names=names,
            layers=size_of(config, "num_hidden_layers"),
            size=self.hidden_size,
            heads=size_of(config, "num_attention_heads"),
            intermediate_size=size_of(config, "intermediate_size"),
            activation=known_activation(config),
            eps=self.eps,
            biases=(query, key, value),
            out_bias=bool(config.get("proj_bias", True)),
            feed_bias=bool(config.get("mlp_bias", True)),
        )

    @property
    def sizes(self) -> Mapping[str, int]:
        head = self.hidden_size // self.blocks.heads
        return {"patches": 3 * self.patch**2, "rope.cos": head, "rope.sin": head}

    def host_inputs(self, places: Array) -> dict[str, Array]:
        # All patches share the last row of the table, which is zero.
        return {"positions": np.minimum(places, np.int32(self.lead))}

    def feature_arrays(self, features: Features) -> Mapping[str, Array]:
        head = self.hidden_size // self.blocks.heads
        cos, sin = _rotations(grid_of(features), self.lead, head, self.theta)
        return {**features.arrays(), "rope.cos": cos, "rope.sin": sin}

    def _position_table(self, weights: Weights, layer: Linear) -> Array:
        """Return the vectors of class and register tokens, and a row of zeros for the patches."""
        size = self.hidden_size
        shapes = {self.flags.class_token: (1, 1, size), self.flags.registers: (1, self.registers, size)}
        own = [weights.tensor(name, shape)[0] for name, shape in shapes.items()]
        bias = 0 if layer.bias is None else layer.bias
        return np.concatenate([*(rows - bias for rows in own), np.zeros((1, size), np.float32)])


@lru_cache(maxsize=256)
def _rotations(grid: tuple[int, int], lead: int, head: int, theta: float) -> tuple[Array, Array]:
    """Return cosines and sines float32 [lead + rows x columns, head] of a grid's patches."""
    down, across = (2 * (np.arange(size) + 0.5) / size - 1 for size in grid)
    centres = np.stack(np.meshgrid(down, across, indexing="ij"), -1).reshape(-1, 2)
    frequencies = theta ** -np.arange(0, 1, 4 / head)
    angles = (2 * np.pi * centres[:, :, None] * frequencies).reshape(len(centres), -1)
    angles = np.concatenate([np.zeros((lead, head)), np.tile(angles, 2)])
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
