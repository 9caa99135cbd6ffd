"""Towers of two-tower models against transformers, on every backend, alone and beside other inputs."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import backends, families
from nearfield.backends import BackendOptions
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.features import Features, PatchFeatures, PatchLayout, TextFeatures
from nearfield.hardware import CpuPlan
from nearfield.heads.pooled import PooledHead, token_weights
from nearfield.inference import compiled_model
from nearfield.inference.space import space_name
from nearfield.ops import Graph, Ops
from nearfield.packing import pack_rows
from nearfield.recipe import Recipe
from tests.support import tiny_towers

pytestmark = pytest.mark.slow

BACKENDS = ("reference", "openvino", "torch")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGE_MODELS = [name for name in tiny_towers.MODELS if "text" not in name]
TEXT_MODELS = ["clip", "clip-text", "siglip", "siglip-text", "naflex", "chinese-clip", "altclip"]
#: Ids as the tokenizers make them: CLIP's end with the end token, SigLIP's are padded to the table's length.
TEXTS = ([97, 5, 17, 30, 98], [97, 98], [97, *range(3, 17), 98], [97, 40, 41, 98])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that writes a model once and returns its folder."""
    return cache(lambda name: tiny_towers.MODELS[name](tmp_path_factory.mktemp(name)))


def tower(folder: Path, modality: str) -> Recipe:
    """Return the recipe of the tower that reads that modality."""
    recipe = read_model_folder(folder)
    return recipe if recipe.modality == modality else recipe.towers[modality]


def embed(recipe: Recipe, backend: str, items: Sequence[Features]) -> Any:
    """Return the vectors of inputs that are computed as one batch."""
    family, head = families.resolve(recipe.config), PooledHead(recipe.modules)
    weights = Weights.open(recipe.folder).first_scope(family.weight_prefixes)

    def forward(run: Ops[Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        hidden = family.encode(run, weights, inputs)
        assert weights.untaken(family.unused_weights) == []
        return {"dense": head.build(run, hidden, inputs, family, weights)}

    runtime = backends.REGISTRY.load(backend)(BackendOptions("float32", CpuPlan(1, 1)))
    graph = Graph(tuple(dict.fromkeys((*family.inputs, *head.inputs))), forward, ("dense",), sizes=family.sizes)
    packable = family.packable and head.packable
    packed = pack_rows(
        [item.cost for item in items],
        shared=packable,
        one=packable and runtime.packed,
        padded=not family.fixed_length,
    )
    arrays: dict[str, Any] = {"segments": packed.segments, "places": packed.places}
    arrays.update(family.host_inputs(packed.places))
    parts = [family.feature_arrays(item) for item in items]
    arrays.update({name: packed.place_rows([part[name] for part in parts]) for name in parts[0]})
    costs = np.array([item.cost for item in items])[packed.owner]
    for name in head.inputs:
        mode = name.removeprefix("pool.")
        counted = packed.weights(token_weights(mode, packed.place, costs, np.zeros_like(costs)))
        arrays[name] = counted[:, 0] if mode == "max" else counted
    results = runtime.compile(graph).create_executor().run(arrays, ("dense",))["dense"]
    return results[packed.layout.row, packed.layout.slot]


def pictures(recipe: Recipe, grids: Sequence[tuple[int, int]]) -> list[PatchFeatures]:
    """Return pictures of these grids, cut as the recipe's family reads them."""
    family: Any = families.resolve(recipe.config)
    layout = PatchLayout(family.patch, family.channels_last, family.lead, 1 / 255, MEAN, STD)
    return [tiny_towers.picture(seed, layout, *grid) for seed, grid in enumerate(grids)]


def reference(folder: Path) -> Any:
    """Return the model as transformers loads it."""
    import transformers

    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    return getattr(transformers, kind).from_pretrained(folder).eval()


def expected_images(folder: Path, items: Sequence[PatchFeatures]) -> Any:
    import torch

    model = reference(folder)
    with torch.no_grad():
        return np.concatenate([np.asarray(_image_vector(model, item)) for item in items])


def _image_vector(model: Any, item: PatchFeatures) -> Any:
    import torch

    if item.layout.channels_last:
        values = torch.from_numpy(item.arrays()["patches"][None])
        shapes, mask = torch.tensor([item.grid]), torch.ones(1, item.cost, dtype=torch.int64)
        return model.get_image_features(values, mask, shapes).pooler_output
    values = tiny_towers.pixel_values(item)
    if hasattr(model, "get_image_features"):
        return model.get_image_features(values).pooler_output
    output = model(values)
    return output.image_embeds if hasattr(output, "image_embeds") else output.pooler_output


def expected_texts(folder: Path, texts: Sequence[Sequence[int]]) -> Any:
    import torch

    model = reference(folder)
    vectors = []
    with torch.no_grad():
        for ids in texts:
            if hasattr(model, "get_text_features"):
                output = model.get_text_features(torch.tensor([ids]))
            else:
                output = model(torch.tensor([ids]))
            vectors.append(np.asarray(output.text_embeds if "text_embeds" in output else output.pooler_output))
    return np.concatenate(vectors)


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    assert np.abs(expected).max() > 0.1
    assert np.abs(actual - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_pictures_as_in_transformers(name: str, backend: str, written: Any) -> None:
    folder = written(name)
    recipe = tower(folder, "image")
    family: Any = families.resolve(recipe.config)
    fixed = None if name == "naflex" or name.startswith("dinov3") else family.grid
    items = pictures(recipe, [fixed or grid for grid in ((4, 4), (2, 7), (9, 3), (1, 1), (5, 6))])
    expected = expected_images(folder, items)
    assert np.corrcoef(expected)[0, 1] < 0.99  # pictures differ
    assert_close(embed(recipe, backend, items), expected)
    assert_close(embed(recipe, backend, items[1:2]), expected[1:2])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", TEXT_MODELS)
def test_texts_as_in_transformers(name: str, backend: str, written: Any) -> None:
    folder = written(name)
    recipe = tower(folder, "text")
    texts = [[*ids, *[1] * ((recipe.text_rules.pad_to or 0) - len(ids))] for ids in TEXTS]
    assert recipe.text_rules.ends_at_eos == name.startswith("clip")
    assert_close(embed(recipe, backend, list(map(TextFeatures, texts))), expected_texts(folder, texts))


@pytest.mark.parametrize("edge", [56, 28, 70])
@pytest.mark.parametrize("name", ["dinov2", "dinov2-registers"])
def test_dino_resizes_its_positions_to_what_the_processor_gives(name: str, edge: int, tmp_path: Path) -> None:
    from transformers import BitImageProcessor

    folder = tiny_towers.MODELS[name](tmp_path)
    BitImageProcessor(size={"shortest_edge": 80}, crop_size=edge).save_pretrained(folder)
    recipe = tower(folder, "image")
    items = pictures(recipe, [(edge // 14, edge // 14)] * 2)
    assert recipe.max_length == items[0].cost
    assert_close(embed(recipe, "reference", items), expected_images(folder, items))


def test_another_size_than_the_table_s_is_refused(tmp_path: Path) -> None:
    from transformers import CLIPImageProcessor

    folder = tiny_towers.clip(tmp_path)
    CLIPImageProcessor(size={"shortest_edge": 48}, crop_size=48).save_pretrained(folder)
    with pytest.raises(ModelRefused, match=r"48 x 48.*32 x 32"):
        families.resolve(tower(folder, "image").config)


def test_scores_of_labels_are_read(written: Any) -> None:
    clip, siglip = (read_model_folder(written(name)).zero_shot for name in ("clip", "siglip"))
    assert clip is not None and siglip is not None
    np.testing.assert_allclose([clip.scale, clip.bias, siglip.scale, siglip.bias], [np.exp(2), 0, np.exp(2), -3])
    assert (clip.activation, siglip.activation) == ("softmax", "sigmoid")
    assert read_model_folder(written("dinov2")).zero_shot is None


def test_the_weights_of_a_probe_head_are_named_by_content(written: Any, tmp_path: Path) -> None:
    folder, copy = written("siglip"), tmp_path / "copy"
    shutil.copytree(folder, copy)
    there, here = (space_name(tower(one, "image"), "weights", "") for one in (folder, copy))
    assert there == here
    tiny_towers.MODELS["siglip-image"](copy)
    assert space_name(tower(copy, "image"), "weights", "") != here


def test_recipes_with_towers_can_be_pickled(written: Any) -> None:
    recipe = read_model_folder(written("naflex"))
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert recipe.modalities == ("text", "image")


def test_stored_graphs_depend_on_the_code_that_families_share() -> None:
    code = compiled_model._source(families.__name__)
    assert b"class PrenormBlocks" in code and b"class VisionTransformer" in code
