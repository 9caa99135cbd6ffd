"""SigLIP's vision towers inside language models: patches become rows of the language model's width.

PaliGemma projects each patch (Beyer et al. 2024, arXiv:2407.07726). ModernVBERT joins blocks of patches, which is
called pixel shuffle, and projects each block (Teiletche et al. 2025, arXiv:2510.01149).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import ModelRefused
from nearfield.families.bert import size_of
from nearfield.families.towers.position_tables import block_places
from nearfield.families.towers.vision import VisionTransformer
from nearfield.features import PatchLayout
from nearfield.ops import Ops, T


class PaliGemmaVision(VisionTransformer):
    """PaliGemma's tower. The config has ``text_size``, the width of the language model, beside those of SigLIP."""

    weight_prefixes: ClassVar[tuple[str, ...]] = (
        *("vlm.model.vision_tower.vision_model.", "vlm.vision_tower.vision_model.", "model.vision_tower.vision_model."),
        *("model.model.vision_tower.vision_model.", "vlm.model.vision_tower.", "vlm.vision_tower."),
        *("model.model.vision_tower.", "model.vision_tower.", "vision_tower."),
    )
    unused_weights: ClassVar[tuple[str, ...]] = (
        r"(^|\.)position_ids$",
        r"(^|\.)(language_model|lm_head|embedding_proj_layer|custom_text_proj)\.",
        r"(^|\.)vision_(model|tower)\.(vision_model\.)?head\.",
    )
    #: The layer after the tower, by the prefix of its weights; the tower lies beside it.
    projection: ClassVar[str] = "multi_modal_projector.linear"
    projection_bias: ClassVar[bool] = True
    patches_per_row = 1

    def __init__(self, config: JsonObject) -> None:
        super().__init__(config)
        self.hidden_size = size_of(config, "text_size")

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        wide = self.width * self.patches_per_row
        x = ops.reshape(super().encode(ops, weights, inputs), wide)
        return ops.linear(x, self._projection(weights, wide))

    def _projection(self, weights: Weights, wide: int) -> Linear:
        """Return the layer beside the tower, wherever both lie."""
        beside = weights.prefix[: weights.prefix.rindex("vision_")].removesuffix("vision_tower.")
        return weights.top.scope(beside).linear(self.projection, wide, self.hidden_size, self.projection_bias)


class ModernVBertVision(PaliGemmaVision):
    """ModernVBERT's tower: blocks of ``pixel_shuffle_factor`` x ``pixel_shuffle_factor`` patches become one row."""

    weight_prefixes: ClassVar[tuple[str, ...]] = ("vlm.vision_model.", "model.vision_model.", "vision_model.")
    unused_weights: ClassVar[tuple[str, ...]] = (
        r"(^|\.)position_ids$",
        r"(^|\.)(text_model|lm_head|projection_head|embedding_proj_layer|custom_text_proj)\.",
        r"(^|\.)vision_model\.head\.",
    )
    projection = "connector.modality_projection"
    projection_bias = False

    def __init__(self, config: JsonObject) -> None:
        super().__init__(config)
        factor = size_of(config, "pixel_shuffle_factor")
        if any(side % factor for side in self.grid):
            raise ModelRefused(
                f"config.json: {self.grid[0]} x {self.grid[1]} patches of a tile cannot be joined in blocks of "
                f"{factor} x {factor} (pixel_shuffle_factor)."
            )
        self.factor, self.patches_per_row = factor, factor**2
        self.patch_layout = PatchLayout(self.patch, merge=factor)

    def _position_table(self, weights: Weights, layer: Linear) -> Array:
        """Return the rows of the position table in the order of patches, in which those of a block are neighbours."""
        row, column = block_places(self.grid, self.factor)
        return np.ascontiguousarray(super()._position_table(weights, layer)[row * self.grid[1] + column])
