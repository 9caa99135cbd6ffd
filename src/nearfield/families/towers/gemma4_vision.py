"""Gemma 4's vision tower, as EmbeddingGemma 2 has it: from the patches of a picture to rows that stand among words.

Each patch has a learned position for its column and one for its row, and heads are rotated by the column in their first
half and by the row in their second. At the end blocks of neighbouring patches become one row each, by their mean. The
equations are those of transformers' ``Gemma4VisionModel`` and ``EmbeddingGemma2MultimodalEmbedder``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Norm, Weights
from nearfield.errors import InputError, ModelRefused
from nearfield.families import Family
from nearfield.families.bert import size_of
from nearfield.families.decoder import known_activation
from nearfield.families.towers.linear_layers import ClippableLinears
from nearfield.families.towers.sandwich import SandwichBlock
from nearfield.families.towers.vision import grid_of
from nearfield.features import Features, PatchLayout
from nearfield.ops import Ops, T

#: Names of rotations by column and row: files of before transformers 5.19 call them the default.
_ROTATIONS = ("axial", "default")


class Gemma4Vision(Family):
    """The tower. ``hidden_size`` is that of the text part, whose words the rows join; ``width`` that of the layers."""

    inputs = ("patches", "segments", "positions", "positions.down", "rope.cos", "rope.sin")
    weight_prefixes = ("vision_tower.", "model.vision_tower.")
    unused_weights = (r"(^|\.)(language_model|audio_tower|embed_audio)\.",)

    def __init__(self, config: JsonObject) -> None:
        self.width = size_of(config, "hidden_size")
        self.hidden_size = size_of(config, "text_hidden_size")
        self.vocab_size = 0
        self.layers = size_of(config, "num_hidden_layers")
        self.pooling = size_of(config, "pooling_kernel_size")
        self.table = size_of(config, "position_embedding_size")
        self.positions = self.table * self.table
        self.head = size_of(config, "head_dim")
        self.theta = _theta(config, self.head)
        self.standardize = bool(config.get("standardize", False))
        self.patches_per_row = self.pooling**2
        self.patch = size_of(config, "patch_size")
        self.patch_layout = PatchLayout(self.patch, channels_last=True, merge=self.pooling)
        self.block = _block(config, self.width, self.head)
        self.eps = self.block.eps

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"patches": 3 * self.patch**2, "rope.cos": self.head, "rope.sin": self.head}

    def host_inputs(self, places: Array) -> dict[str, Array]:
        return {}

    def feature_arrays(self, features: Features) -> Mapping[str, Array]:
        grid = grid_of(features)
        if max(grid) > self.table:
            raise InputError(
                f"A picture of {grid[1]} x {grid[0]} patches is too long for this model: its tables of positions have "
                f"{self.table} rows.",
                param="input",
            )
        return {**features.arrays(), **_placed(grid, self.pooling, self.head, self.theta)}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = self._embed(ops, weights.scope("patch_embedder."), inputs)
        mask, rope = self.attention_mask(inputs), (inputs["rope.cos"], inputs["rope.sin"])
        for number in range(self.layers):
            own = weights.scope(f"encoder.layers.{number}.")
            x = self.block.feed(ops, own, self.block.attend(ops, own, x, mask, rope))
        x = self._pooled(ops, weights, x)
        x = ops.rms_norm(x, Norm(np.ones(self.width, np.float32), None), self.eps)
        beside = weights.top.scope(f"{weights.prefix.removesuffix('vision_tower.')}embed_vision")
        return ops.linear(x, beside.linear("embedding_projection", self.width, self.hidden_size, False))

    def _embed(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        two, minus = (ops.constant(np.array([value], np.float32)) for value in (2, -1))
        patches = ops.add(ops.multiply(inputs["patches"], two), minus)
        x = ops.linear(patches, weights.linear("input_proj", 3 * self.patch**2, self.width, False))
        across, down = weights.tensor("position_embedding_table", (2, self.table, self.width))
        places = ops.add(ops.rows(across, inputs["positions"]), ops.rows(down, inputs["positions.down"]))
        return ops.add(x, places)

    def _pooled(self, ops: Ops[T], weights: Weights, x: T) -> T:
        """Return the mean of each block of patches, scaled, [blocks of the batch, H]: its patches are neighbours."""
        count = self.patches_per_row
        # The scale exceeds float16 in trained models. The product of matrices has float32 on all backends.
        mean = np.full((1, 1, count), self.width**0.5 / count, np.float32)
        x = ops.reshape(ops.matmul(ops.constant(mean), ops.reshape(x, count, self.width)), self.width)
        if not self.standardize:
            return x
        bias, scale = (weights.tensor(f"std_{name}", (self.width,)) for name in ("bias", "scale"))
        return ops.multiply(ops.add(x, ops.constant(-bias)), ops.constant(scale))


def _block(config: JsonObject, width: int, head: int) -> SandwichBlock:
    heads, shared = size_of(config, "num_attention_heads"), size_of(config, "num_key_value_heads")
    if heads % shared:
        raise ModelRefused(f"vision_config: {heads} query heads cannot share {shared} key heads evenly.")
    return SandwichBlock(
        width=width,
        heads=heads,
        shared=shared,
        head_size=head,
        intermediate_size=size_of(config, "intermediate_size"),
        activation=known_activation(config, "hidden_activation"),
        eps=float(config.get("rms_norm_eps", 1e-6)),
        layers=ClippableLinears(bool(config.get("use_clipped_linears", False))),
        # From the halves of columns and the halves of rows to the first halves of both and the second halves of both.
        order=np.arange(head).reshape(2, 2, -1).transpose(1, 0, 2).ravel(),
    )


def _theta(config: JsonObject, head: int) -> float:
    """Return the base of the rotations; those of another kind are refused."""
    parameters = config.get("rope_parameters") or {}
    kind = parameters.get("rope_type") or "axial"
    if kind not in _ROTATIONS:
        raise ModelRefused(f"vision_config: rope_type {kind!r} is not known here. Known: {', '.join(_ROTATIONS)}.")
    if head % 4:
        raise ModelRefused(f"vision_config: heads of {head} features cannot be rotated by column and row in pairs.")
    return float(parameters.get("rope_theta") or config.get("rope_theta") or 100.0)


@lru_cache(maxsize=256)
def _placed(grid: tuple[int, int], merge: int, head: int, theta: float) -> Mapping[str, Array]:
    """Return columns and rows of a grid's patches, block by block, and their rotations float32 [patches, head]."""
    rows, columns = merged_places(grid, merge)
    frequencies = theta ** -(np.arange(0, head // 2, 2) / (head // 2))
    angles = np.concatenate([places[:, None] * frequencies for places in (columns, rows)], axis=1)
    angles = np.tile(angles, 2)
    return {
        "positions": columns.astype(np.int32),
        "positions.down": rows.astype(np.int32),
        "rope.cos": np.cos(angles).astype(np.float32),
        "rope.sin": np.sin(angles).astype(np.float32),
    }


def merged_places(grid: tuple[int, int], merge: int) -> tuple[Array, Array]:
    """Return row and column of each patch of a grid, in the order of a layout that merges ``merge`` x ``merge``."""
    rows, columns = np.indices(grid).reshape(2, grid[0] // merge, merge, grid[1] // merge, merge)
    return rows.transpose(0, 2, 1, 3).ravel(), columns.transpose(0, 2, 1, 3).ravel()
