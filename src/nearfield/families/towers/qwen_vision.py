"""Vision towers of Qwen2-VL and Qwen2.5-VL: patches of pictures of any grid become rows of the language model's width.

Wang et al. 2024, arXiv:2409.12191; Bai et al. 2025, arXiv:2502.13923. Positions are rotations by row and column. At the
end, each block of neighbouring patches becomes one row. In Qwen2.5-VL most blocks attend within square windows, and
patches run window after window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.bert import size_of
from nearfield.families.towers.prenorm import BlockNames, PrenormBlocks, known_activation, refuse_odd_heads
from nearfield.families.towers.qwen3_vl import block_rotations, rotation_base
from nearfield.families.towers.vision import grid_of
from nearfield.features import Features, PatchLayout
from nearfield.ops import AttentionMask, Ops, T

#: Of all norms; no file says it.
_EPS = 1e-6
_NAMES = BlockNames(layer="blocks.{}", joined="attn.qkv", out="attn.proj", attention_norm="norm1", feed_norm="norm2")
_GATED = BlockNames(
    layer="blocks.{}",
    joined="attn.qkv",
    out="attn.proj",
    attention_norm="norm1",
    feed_norm="norm2",
    gate="mlp.gate_proj",
    up="mlp.up_proj",
    down="mlp.down_proj",
)


@dataclass(frozen=True)
class QwenVisionFlags:
    """What a kind of tower has: names of its sizes in the config, and whether it is that of Qwen2.5-VL.

    That one has norms without a mean, a gated feed-forward, and windows.
    """

    size: str
    out: str
    newer: bool = False


FLAGS = {
    "qwen2_vl_vision": QwenVisionFlags("embed_dim", "hidden_size"),
    "qwen2_5_vl_vision": QwenVisionFlags("hidden_size", "out_hidden_size", newer=True),
}


class QwenVision(Family):
    """One class for both; ``model_type`` sets the flags. ``hidden_size`` is that of its rows."""

    inputs: tuple[str, ...] = ("patches", "segments", "rope.cos", "rope.sin")
    weight_prefixes: ClassVar[tuple[str, ...]] = ("vlm.model.visual.", "vlm.visual.", "model.visual.", "visual.", "")
    unused_weights: ClassVar[tuple[str, ...]] = (
        r"^(vlm\.)?(model\.)?(language_model\.|layers\.|embed_tokens\.|norm\.|lm_head\.)",
        r"^(embedding_proj_layer|custom_text_proj)\.",
    )
    vocab_size = 0
    #: The processor bounds the number of patches, and nothing else does.
    positions = 1_000_000

    def __init__(self, config: JsonObject) -> None:
        self.flags = FLAGS[str(config["model_type"])]
        self.width, self.hidden_size = size_of(config, self.flags.size), size_of(config, self.flags.out)
        self.merge = size_of(config, "spatial_merge_size")
        self.patches_per_row = self.merge**2
        self.patch_layout = self.layout = PatchLayout(
            size_of(config, "patch_size"), merge=self.merge, temporal=size_of(config, "temporal_patch_size")
        )
        self.blocks = self._blocks(config)
        self.head = self.width // self.blocks.heads
        self.theta = rotation_base(config)
        if self.head % 4:
            raise ModelRefused(f"config.json: heads of {self.head} values cannot be rotated in two directions.")
        if self.flags.newer:
            self._read_windows(config)

    def _blocks(self, config: JsonObject) -> PrenormBlocks:
        heads, newer = size_of(config, "num_heads"), self.flags.newer
        refuse_odd_heads(self.width, heads)
        inner = config.get("intermediate_size") if newer else int(self.width * config.get("mlp_ratio", 4))
        return PrenormBlocks(
            names=_GATED if newer else _NAMES,
            layers=size_of(config, "depth"),
            size=self.width,
            heads=heads,
            intermediate_size=size_of({"intermediate_size": inner}, "intermediate_size"),
            activation=known_activation(config),
            eps=_EPS,
            centred=not newer,
        )

    def _read_windows(self, config: JsonObject) -> None:
        """Read the rows of a window's edge, and which blocks attend to the whole picture."""
        full, edge = config.get("fullatt_block_indexes"), size_of(config, "window_size")
        self.window = edge // self.merge // self.layout.patch
        if not isinstance(full, list | tuple) or not self.window:
            raise ModelRefused(
                f"config.json: window_size {edge} and fullatt_block_indexes {full!r} do not say what blocks attend to."
            )
        self.full = frozenset(full)
        self.inputs = (*self.inputs, "windows")
        # Windows are numbered within a picture: those of another one in the same row would have the same numbers.
        self.packable = False

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"patches": self.layout.width, "rope.cos": self.head, "rope.sin": self.head}

    def host_inputs(self, places: Array) -> dict[str, Array]:
        return {}

    def feature_arrays(self, features: Features) -> Mapping[str, Array]:
        grid = grid_of(features)
        cos, sin = block_rotations(grid, self.merge, self.head, self.theta)
        arrays = {**features.arrays(), "rope.cos": cos, "rope.sin": sin}
        if not self.flags.newer:
            return arrays
        numbers, order = _windows(grid, self.merge, self.window)
        patches = (order[:, None] * self.patches_per_row + np.arange(self.patches_per_row)).reshape(-1)
        return {
            **{name: array[patches] for name, array in arrays.items()},
            "windows": np.repeat(numbers, self.patches_per_row),
        }

    def order_rows(self, features: Features, rows: Array) -> Array:
        if not self.flags.newer:
            return rows
        ordered = np.empty_like(rows)
        ordered[_windows(grid_of(features), self.merge, self.window)[1]] = rows
        return ordered

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        layout = self.layout
        shape = (self.width, 3, layout.temporal, layout.patch, layout.patch)
        kernel = weights.tensor("patch_embed.proj.weight", shape).reshape(self.width, -1)
        x, rope = ops.affine(inputs["patches"], kernel, None), (inputs["rope.cos"], inputs["rope.sin"])
        whole = self.attention_mask(inputs)
        near = AttentionMask(inputs["windows"]) if self.flags.newer else whole
        for number in range(self.blocks.layers):
            mask = near if self.flags.newer and number not in self.full else whole
            x = self.blocks.block(ops, weights.scope(self.blocks.names.layer.format(number)), x, mask, rope)
        return self._rows(ops, weights.scope("merger"), x)

    def _rows(self, ops: Ops[T], own: Weights, x: T) -> T:
        """Join the states of neighbouring patches, and project them to rows: [rows, hidden_size]."""
        wide = self.width * self.patches_per_row
        x = ops.reshape(self.blocks.normed(ops, own, x, "ln_q"), wide)
        h = ops.activation(ops.linear(x, own.linear("mlp.0", wide, wide)), "gelu")
        return ops.linear(h, own.linear("mlp.2", wide, self.hidden_size))


@lru_cache(maxsize=16)
def _windows(grid: tuple[int, int], merge: int, window: int) -> tuple[Array, Array]:
    """Return the rows of the output window after window: the number of each one's window, from 1 on, and its place.

    A window's edge counts rows of the output. Backends may rely on it that what attends to each other lies together.
    """
    row, column = (axis.reshape(-1) // window for axis in np.indices((grid[0] // merge, grid[1] // merge)))
    numbers = row * (int(column.max(initial=0)) + 1) + column + 1
    order = np.argsort(numbers, kind="stable")
    return numbers[order].astype(np.int32), order
