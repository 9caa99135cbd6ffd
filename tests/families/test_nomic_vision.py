"""Nomic's image tower against its own code in plain torch, on every backend, and beside a text tower elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.errors import ModelRefused
from tests.families.test_towers import BACKENDS, assert_close, embed, pictures
from tests.support import tiny_towers
from tests.support.tiny_nomic_vision import EDGE, nomic_vectors, write_nomic_vision

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("backend", BACKENDS)
def test_pictures_as_in_nomics_code(backend: str, tmp_path: Path) -> None:
    folder = write_nomic_vision(tmp_path / "model")
    recipe = read_model_folder(folder)
    assert recipe.modalities == ("image",)
    assert (recipe.dimensions, recipe.max_length, recipe.normalize_by_default) == (32, 17, True)
    items = pictures(recipe, [(EDGE, EDGE)] * 3)
    pixels = np.concatenate([np.asarray(tiny_towers.pixel_values(item)) for item in items])
    expected = nomic_vectors(folder, pixels)
    assert np.corrcoef(expected)[0, 1] < 0.99
    assert_close(embed(recipe, backend, items), expected)
    assert_close(embed(recipe, backend, items[:1]), expected[:1])


@pytest.mark.parametrize(("stated", "grid"), [([6, 6], 6), (None, EDGE), (3, 3)])
def test_rotations_count_places_of_the_grid_of_training(stated: Any, grid: int, tmp_path: Path) -> None:
    folder = write_nomic_vision(tmp_path / "model", ref_feat_shape=stated)
    recipe = read_model_folder(folder)
    items = pictures(recipe, [(EDGE, EDGE)])
    expected = nomic_vectors(folder, np.asarray(tiny_towers.pixel_values(items[0])), grid)
    assert_close(embed(recipe, "reference", items), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("global_pool", "avg"),
        ("register_tokens", 1),
        ("no_cls_token", True),
        ("norm_mlp", False),
        ("activation_function", "gelu"),
        ("use_rotary_pos_emb", False),
        ("layer_scale", True),
    ],
)
def test_other_towers_of_nomics_code_are_refused(name: str, value: Any, tmp_path: Path) -> None:
    folder = write_nomic_vision(tmp_path / "model", **{name: value})
    with pytest.raises(ModelRefused, match=name):
        read_model_folder(folder)
