"""Configs of visual document retrievers that make no sense are refused by the name of the field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearfield import families
from nearfield.errors import ModelRefused
from nearfield.families.qwen3_vl import Qwen2VlText
from nearfield.families.towers.qwen_vision import _windows

TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
QWEN_TEXT = {**TEXT, "model_type": "qwen2_vl_text", "vocab_size": 9, "max_position_embeddings": 9}
TOWER = {"depth": 1, "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
QWEN = {**TOWER, "model_type": "qwen2_vl_vision", "embed_dim": 32, "hidden_size": 16, "hidden_act": "silu"}
NEWER = {
    **TOWER,
    "model_type": "qwen2_5_vl_vision",
    "hidden_size": 32,
    "out_hidden_size": 16,
    "hidden_act": "silu",
    "intermediate_size": 8,
    "window_size": 16,
    "fullatt_block_indexes": [0],
}
SIGLIP = {**TEXT, "hidden_act": "gelu", "image_size": 32, "patch_size": 8, "text_size": 16}


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (
            QWEN_TEXT,
            {"rope_parameters": {"rope_theta": 1e6, "mrope_section": [4, 4, 4]}},
            "mrope_section .* add up to 4",
        ),
        (QWEN_TEXT, {"rope_parameters": {"mrope_section": [2, 2]}}, "mrope_section must be three numbers"),
        (QWEN_TEXT, {"rope_parameters": {"mrope_interleaved": True}}, "mrope_interleaved"),
        (QWEN, {"num_heads": 16}, "heads of 2 values"),
        (QWEN, {"num_heads": 5}, "cannot be split among 5 heads"),
        (NEWER, {"window_size": 4}, "window_size 4"),
        (NEWER, {"fullatt_block_indexes": None}, "fullatt_block_indexes"),
        ({**SIGLIP, "model_type": "modernvbert_vision"}, {"pixel_shuffle_factor": 3}, "pixel_shuffle_factor"),
        ({**SIGLIP, "model_type": "paligemma_vision"}, {"text_size": 0}, "text_size"),
    ],
)
def test_configs_that_make_no_sense(config: dict[str, Any], change: dict[str, Any], message: str) -> None:
    sections = {"rope_parameters": {"rope_theta": 1e6, "mrope_section": [2, 1, 1]}} if config is QWEN_TEXT else {}
    families.resolve({"pixel_shuffle_factor": 2, **config, **sections})
    with pytest.raises(ModelRefused, match=message):
        families.resolve({**config, **change})


def test_frequencies_turn_by_time_row_and_column_in_sections() -> None:
    family = families.resolve({**QWEN_TEXT, "rope_parameters": {"rope_theta": 1e6, "mrope_section": [2, 1, 1]}})
    assert isinstance(family, Qwen2VlText)
    assert family.axes.tolist() == [0, 0, 1, 2]


def test_windows_run_one_after_another_and_may_be_smaller_at_the_edges() -> None:
    numbers, order = _windows((6, 10), 2, 2)
    assert np.bincount(numbers).tolist() == [0, 4, 4, 2, 2, 2, 1]
    assert (np.diff(numbers) >= 0).all()
    assert order.tolist() == [0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14]
