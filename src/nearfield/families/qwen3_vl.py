"""Language models of Qwen-VL: Qwen with rotary positions of three numbers, and with the rows of a vision tower.

Positions are time, row and column (M-RoPE; Wang et al. 2024, arXiv:2409.12191), which are one number for a text.
Qwen2-VL and Qwen2.5-VL (arXiv:2502.13923) turn a section of the frequencies by each. Qwen3-VL interleaves them (Bai et
al. 2025, arXiv:2511.21631), and its tower's rows have further vectors that are added to the states after the first
layers (DeepStack).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.decoder import Decoder
from nearfield.families.fused import MEDIA_INPUTS, check_rows
from nearfield.fused_features import FusedFeatures

#: Rotary frequencies of time, row and column where config.json does not say it.
_SECTIONS, _QWEN2_SECTIONS = (24, 20, 20), (16, 24, 24)


class Qwen3VlText(Decoder):
    """The part of Qwen3-VL that reads texts, and the rows of the tower that reads pictures."""

    weight_prefixes: ClassVar[tuple[str, ...]] = ("model.language_model.", "language_model.", "model.", "")
    unused_weights: ClassVar[tuple[str, ...]] = (*Decoder.unused_weights, r"^(model\.)?visual\.")

    def __init__(self, config: JsonObject) -> None:
        super().__init__(config)
        self.axes = self._axes(config, self.head // 2)

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

    @staticmethod
    def _axes(config: JsonObject, count: int) -> Array:
        """Return for each frequency whose position it turns by, 0 for time, 1 for row, 2 for column: int64 [count].

        Every third frequency is the row's, and the one after it the column's, as long as each has some left.
        """
        parameters, sections = _sections(config, _SECTIONS)
        if parameters.get("mrope_interleaved") is False:
            raise ModelRefused("config.json: mrope_interleaved is false, which is not known for this architecture.")
        axes = np.zeros(count, np.int64)
        for axis in (1, 2):
            axes[axis : 3 * sections[axis] : 3] = axis
        return axes


class Qwen2VlText(Qwen3VlText):
    """The part of Qwen2-VL or Qwen2.5-VL that reads tokens, and the rows of the tower that reads pictures."""

    weight_prefixes: ClassVar[tuple[str, ...]] = (
        *("vlm.model.language_model.", "vlm.language_model.", "vlm.model.", "model.language_model."),
        *("language_model.", "model.", ""),
    )
    unused_weights: ClassVar[tuple[str, ...]] = (
        *Decoder.unused_weights,
        r"^(vlm\.)?(model\.)?visual\.",
        r"^vlm\.lm_head\.",
        r"^(embedding_proj_layer|custom_text_proj)\.",
    )

    @staticmethod
    def _axes(config: JsonObject, count: int) -> Array:
        parameters, sections = _sections(config, _QWEN2_SECTIONS)
        if parameters.get("mrope_interleaved"):
            raise ModelRefused("config.json: mrope_interleaved is true, which is not known for this architecture.")
        if sum(sections) != count:
            raise ModelRefused(f"config.json: mrope_section {sections!r} must add up to {count} frequencies.")
        return np.repeat(np.arange(3), sections)


def _sections(config: JsonObject, default: tuple[int, ...]) -> tuple[JsonObject, tuple[int, ...]]:
    """Return the parameters of rotary positions, and the numbers of frequencies of time, row and column."""
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    sections = parameters.get("mrope_section") or default
    if len(sections) != 3 or not all(isinstance(size, int) and size >= 0 for size in sections):
        raise ModelRefused(f"config.json: mrope_section must be three numbers, not {sections!r}.")
    return parameters, tuple(sections)
