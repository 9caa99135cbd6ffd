"""The language model of Qwen3-VL: Qwen3 with rotary positions of three numbers, and with the rows of a vision tower.

Positions are time, row and column (M-RoPE; Wang et al. 2024, arXiv:2409.12191), which are one number for a text. The
frequencies of the three are interleaved (Qwen3-VL: Bai et al. 2025, arXiv:2511.21631). Rows of the tower have further
vectors that are added to the states after the first layers (DeepStack).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.decoder import Decoder
from nearfield.families.fused import MEDIA_INPUTS, check_rows
from nearfield.fused_features import FusedFeatures

#: Rotary frequencies of time, row and column where config.json does not say it.
_SECTIONS = (24, 20, 20)


class Qwen3VlText(Decoder):
    """The part of Qwen3-VL that reads texts, and the rows of the tower that reads pictures."""

    weight_prefixes = ("model.language_model.", "language_model.", "model.", "")
    unread = (*Decoder.unread, r"^(model\.)?visual\.")

    def __init__(self, config: JsonObject) -> None:
        super().__init__(config)
        self.axes = _axes(config, self.head // 2)

    def fuse(self, towers: Mapping[str, Family]) -> None:
        self.deep_layers = check_rows(towers, self.hidden_size) - 1
        if self.deep_layers > self.layers:
            raise ModelRefused(f"The tower's rows are for {self.deep_layers} layers, and there are {self.layers}.")
        self.inputs += MEDIA_INPUTS

    def fused_arrays(self, features: FusedFeatures) -> Mapping[str, Array]:
        if features.positions is None:
            return {}
        cos, sin = (self._interleaved(part) for part in self.rotary.angles(features.positions))
        return {"rope.cos": cos, "rope.sin": sin}

    def _interleaved(self, angles: Array) -> Array:
        """Return for each token the value of each frequency at its own axis: [tokens, D] of [3, tokens, D]."""
        columns = np.arange(angles.shape[2])
        return np.ascontiguousarray(angles[np.tile(self.axes, 2), :, columns].T)


def _axes(config: JsonObject, count: int) -> Array:
    """Return for each frequency whose position it turns by, 0 for time, 1 for row, 2 for column: int64 [count].

    Every third frequency is the row's, and the one after it the column's, as long as each has some left.
    """
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    sections = parameters.get("mrope_section") or _SECTIONS
    if len(sections) != 3 or not all(isinstance(size, int) and size >= 0 for size in sections):
        raise ModelRefused(f"config.json: mrope_section must be three numbers, not {sections!r}.")
    if parameters.get("mrope_interleaved") is False:
        raise ModelRefused("config.json: mrope_interleaved is false, which is not known for this architecture.")
    axes = np.zeros(count, np.int64)
    for axis in (1, 2):
        axes[axis : 3 * sections[axis] : 3] = axis
    return axes
