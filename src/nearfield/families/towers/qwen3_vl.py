"""The vision tower of Qwen3-VL: patches of two frames, two kinds of positions, and rows of joined patches.

Pictures keep their aspect, so that the table is interpolated for each grid. Four neighbouring patches become one row.
Each row has the last states, and those after some blocks (DeepStack), each through another projection. The equations
are those of transformers' ``Qwen3VLVisionModel``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.bert import size_of
from nearfield.families.towers.position_tables import block_places, linear_taps
from nearfield.families.towers.prenorm import BlockNames, PrenormBlocks, known_activation, refuse_odd_heads
from nearfield.families.towers.vision import grid_of
from nearfield.features import Features, PatchLayout
from nearfield.ops import Ops, T

_NAMES = BlockNames(
    layer="blocks.{}",
    joined="attn.qkv",
    out="attn.proj",
    attention_norm="norm1",
    feed_norm="norm2",
    up="mlp.linear_fc1",
    down="mlp.linear_fc2",
)
#: Of all layer norms; no file says it.
_EPS = 1e-6
_TAPS = tuple(f"taps.{number}" for number in range(4))
#: Sizes that files may leave out.
_DEFAULTS: JsonObject = {
    "depth": 27,
    "hidden_size": 1152,
    "hidden_act": "gelu_pytorch_tanh",
    "intermediate_size": 4304,
    "num_heads": 16,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 3584,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [8, 16, 24],
}


class Qwen3VlVision(Family):
    """Qwen3-VL's vision tower. ``hidden_size`` is that of its rows, ``width`` that of its blocks."""

    inputs = ("patches", "segments", *_TAPS, "taps.weights", "rope.cos", "rope.sin")
    weight_prefixes = ("model.visual.", "visual.", "")
    unused_weights = (r"^(model\.)?language_model\.", r"^lm_head\.", r"^score\.", r"(^|\.)rotary_pos_emb\.inv_freq$")
    vocab_size = 0
    #: The processor bounds the number of patches, and nothing else does.
    positions = 1_000_000

    def __init__(self, config: JsonObject) -> None:
        config = {**_DEFAULTS, **{name: value for name, value in config.items() if value is not None}}
        self.width, self.hidden_size = size_of(config, "hidden_size"), size_of(config, "out_hidden_size")
        self.merge = size_of(config, "spatial_merge_size")
        self.patches_per_row = self.merge**2
        self.layout = self.patch_layout = PatchLayout(
            size_of(config, "patch_size"), merge=self.merge, temporal=size_of(config, "temporal_patch_size")
        )
        heads, layers = size_of(config, "num_heads"), size_of(config, "depth")
        refuse_odd_heads(self.width, heads)
        self.head = self.width // heads
        self.table = size_of(config, "num_position_embeddings")
        self.deep = _deep_blocks(config, layers)
        self.row_slots = 1 + len(self.deep)
        self.theta = rotation_base(config)
        self.blocks = PrenormBlocks(
            names=_NAMES,
            layers=layers,
            size=self.width,
            heads=heads,
            intermediate_size=size_of(config, "intermediate_size"),
            activation=known_activation(config),
            eps=_EPS,
        )
        if config.get("in_channels", 3) != 3:
            raise ModelRefused(f"config.json: in_channels is {config['in_channels']!r}; pictures have 3 channels here.")

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"patches": self.layout.width, "taps.weights": 4, "rope.cos": self.head, "rope.sin": self.head}

    def host_inputs(self, places: Array) -> dict[str, Array]:
        return {}

    def feature_arrays(self, features: Features) -> Mapping[str, Array]:
        grid = grid_of(features)
        taps, weights = linear_taps(round(self.table**0.5), grid, self.merge)
        cos, sin = block_rotations(grid, self.merge, self.head, self.theta)
        numbers = {name: taps[:, number] for number, name in enumerate(_TAPS)}
        return {**features.arrays(), **numbers, "taps.weights": weights, "rope.cos": cos, "rope.sin": sin}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = ops.add(ops.linear(inputs["patches"], self._patch_layer(weights)), self._positions(ops, weights, inputs))
        mask, rope, rows = self.attention_mask(inputs), (inputs["rope.cos"], inputs["rope.sin"]), []
        for number in range(self.blocks.layers):
            x = self.blocks.block(ops, weights.scope(_NAMES.layer.format(number)), x, mask, rope)
            if number in self.deep:
                own = weights.scope(f"deepstack_merger_list.{self.deep.index(number)}")
                rows.append((self.deep.index(number), self._rows(ops, own, x, joined_norm=True)))
        first = self._rows(ops, weights.scope("merger"), x, joined_norm=False)
        return ops.concat([first, *(row for _, row in sorted(rows, key=lambda pair: pair[0]))])

    def _patch_layer(self, weights: Weights) -> Linear:
        """Return the patch embedding as a linear layer: its kernel is as large as its stride."""
        layout = self.layout
        kernel = weights.tensor("patch_embed.proj.weight", (self.width, 3, layout.temporal, layout.patch, layout.patch))
        return Linear(kernel.reshape(self.width, -1), weights.tensor("patch_embed.proj.bias", (self.width,)))

    def _positions(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        """Return the position vectors [B, L, H]: four rows of the table, weighted."""
        table = weights.tensor("pos_embed.weight", (self.table, self.width))
        total: T | None = None
        for number, name in enumerate(_TAPS):
            column = np.eye(4, dtype=np.float32)[number : number + 1]
            share = ops.affine(inputs["taps.weights"], column, None)
            part = ops.multiply(ops.rows(table, inputs[name]), share)
            total = part if total is None else ops.add(total, part)
        assert total is not None
        return total

    def _rows(self, ops: Ops[T], own: Weights, x: T, *, joined_norm: bool) -> T:
        """Join the states of neighbouring patches, and project them to rows: [rows, hidden_size]."""
        wide = self.width * self.patches_per_row
        if not joined_norm:
            x = ops.layer_norm(x, own.norm("norm", self.width), _EPS)
        x = ops.reshape(x, wide)
        if joined_norm:
            x = ops.layer_norm(x, own.norm("norm", wide), _EPS)
        h = ops.activation(ops.linear(x, own.linear("linear_fc1", wide, wide)), "gelu")
        return ops.linear(h, own.linear("linear_fc2", wide, self.hidden_size))


def _deep_blocks(config: JsonObject, layers: int) -> tuple[int, ...]:
    """Return the blocks whose states give a further vector of each row."""
    numbers = config["deepstack_visual_indexes"]
    if not isinstance(numbers, (list, tuple)) or not all(
        isinstance(number, int) and 0 <= number < layers for number in numbers
    ):
        raise ModelRefused(
            f"config.json: deepstack_visual_indexes must be numbers of {layers} blocks, not {numbers!r}."
        )
    return tuple(numbers)


def rotation_base(config: JsonObject) -> float:
    """Return the base of a tower's rotary positions."""
    parameters = config.get("rope_parameters") or {}
    if parameters.get("rope_type", "axial") not in ("axial", "default"):
        raise ModelRefused(f"config.json: rope_type {parameters['rope_type']!r} of a vision tower is not known here.")
    return float(parameters.get("rope_theta") or 10_000.0)


@lru_cache(maxsize=16)
def block_rotations(grid: tuple[int, int], merge: int, head: int, theta: float) -> tuple[Array, Array]:
    """Return cosines and sines float32 [rows x columns, head] of a grid's patches, block after block.

    A quarter of the features turns by the row, the next by the column, and so again.
    """
    frequencies = theta ** -(np.arange(0, head // 2, 2) / (head // 2))
    angles = np.concatenate([places[:, None] * frequencies for places in block_places(grid, merge)], axis=1)
    angles = np.tile(angles, 2)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
