"""Gemma 4's vision tower against transformers, on every backend, alone and beside other pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import backends
from nearfield.backends import BackendOptions
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import InputError, ModelRefused
from nearfield.families.towers.gemma4_vision import Gemma4Vision
from nearfield.features import PatchFeatures
from nearfield.hardware import CpuPlan
from nearfield.ops import Graph, Ops
from nearfield.packing import pack_rows
from tests.support import tiny_multimodal, tiny_towers

pytestmark = pytest.mark.slow

BACKENDS = ("reference", "openvino", "torch")
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "clipped and standardized": {"use_clipped_linears": True, "standardize": True},
    "shared keys, pairs": {"num_key_value_heads": 1, "pooling_kernel_size": 2, "head_dim": 12},
}
#: Rows and columns of rows after pooling.
GRIDS = ((2, 2), (1, 5), (4, 3), (1, 1))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that writes a model once and returns its folder."""
    return cache(lambda name: tiny_multimodal.embedding_gemma2(tmp_path_factory.mktemp("model"), **VARIANTS[name]))


def tower(folder: Path) -> Gemma4Vision:
    config = json.loads((folder / "config.json").read_text())
    return Gemma4Vision({**config["vision_config"], "text_hidden_size": config["text_config"]["hidden_size"]})


def pictures(family: Gemma4Vision) -> list[PatchFeatures]:
    layout, edge = family.patch_layout, family.pooling
    assert layout is not None
    return [tiny_towers.picture(seed, layout, edge * grid[0], edge * grid[1]) for seed, grid in enumerate(GRIDS)]


def rows_of(folder: Path, backend: str, items: Sequence[PatchFeatures]) -> list[Any]:
    """Return the rows of pictures that are computed as one batch."""
    family = tower(folder)
    weights = Weights.open(folder).first_scope(family.weight_prefixes)

    def forward(run: Ops[Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        rows = family.encode(run, weights, inputs)
        assert weights.untaken(family.unused_weights) == []
        return {"rows": rows}

    runtime = backends.REGISTRY.load(backend)(BackendOptions("float32", CpuPlan(1, 1)))
    unit = family.patches_per_row
    packed = pack_rows([item.cost for item in items], one=runtime.packed, unit=unit)
    arrays: dict[str, Any] = {"segments": packed.segments, "places": packed.places}
    parts = [family.feature_arrays(item) for item in items]
    arrays.update({name: packed.place_rows([part[name] for part in parts]) for name in parts[0]})
    graph = Graph(family.inputs, forward, ("rows",), sizes=family.sizes)
    rows = runtime.compile(graph).create_executor().run(arrays, ("rows",))["rows"]
    starts = (packed.layout.row * packed.layout.width + packed.layout.start) // unit
    return [rows[start : start + item.cost // unit] for start, item in zip(starts, items, strict=True)]


def expected(folder: Path, items: Sequence[PatchFeatures]) -> list[Any]:
    """Return what transformers computes of the same pixels, one picture after the other."""
    import torch
    from transformers import EmbeddingGemma2Model
    from transformers.models.gemma4.image_processing_pil_gemma4 import convert_image_to_patches

    model, rows = EmbeddingGemma2Model.from_pretrained(folder).eval(), []
    for item in items:
        pixels = item.layout.normalised(item.pixels).transpose(2, 0, 1)
        patches = torch.from_numpy(convert_image_to_patches(pixels, item.layout.patch)[None])
        down, across = np.indices(item.grid)
        places = torch.from_numpy(np.stack([across, down], -1).reshape(1, -1, 2))
        with torch.no_grad():
            (features,) = model.get_image_features(patches, places).pooler_output
        rows.append(features.numpy())
    return rows


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", VARIANTS)
def test_rows_as_in_transformers(name: str, backend: str, written: Any) -> None:
    folder = written(name)
    items = pictures(tower(folder))
    truth = expected(folder, items)
    largest = max(float(np.abs(rows).max()) for rows in truth)
    assert largest > 0.1 and np.std(truth[0], axis=0).max() > 0.05  # rows of one picture differ
    for actual in (rows_of(folder, backend, items), [rows_of(folder, backend, [item])[0] for item in items]):
        for ours, theirs in zip(actual, truth, strict=True):
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() < 1e-5 * largest


def test_a_picture_beyond_the_tables_of_positions_is_refused(written: Any) -> None:
    family = tower(written("plain"))
    assert family.patch_layout is not None
    with pytest.raises(InputError, match="its tables of positions have 40 rows"):
        family.feature_arrays(tiny_towers.picture(0, family.patch_layout, 3, 42))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn' is not known here"),
        ({"head_dim": 10}, "cannot be rotated by column and row in pairs"),
        ({"num_key_value_heads": 3}, "cannot share 3 key heads evenly"),
        ({"hidden_activation": "mish"}, "'mish' is not known here"),
        ({"pooling_kernel_size": 0}, "pooling_kernel_size must be a positive integer"),
    ],
)
def test_variants_that_are_not_known_are_refused(change: dict[str, Any], message: str, written: Any) -> None:
    config = json.loads((written("plain") / "config.json").read_text())["vision_config"]
    with pytest.raises(ModelRefused, match=message):
        Gemma4Vision({**config, "text_hidden_size": 32, **change})
