"""LoRA adapters of visual document retrievers, merged when they are loaded, against PEFT over transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nearfield import Encoder
from nearfield.checkpoint.weights.merged import plain_name
from nearfield.errors import ModelRefused, NearfieldError, WeightsError
from nearfield.inference.processors import space_of_recipe
from nearfield.inference.uncompiled_model import read_model
from tests.inference.test_page_retrievers import assert_rows
from tests.support import odd_pictures, tiny_models, tiny_retrievers
from tests.support.tiny_retrievers import AdapterFolders

# peft's own call into transformers.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]

PAGES = [odd_pictures.smooth(61, 97), odd_pictures.smooth(90, 90, 1)]
QUERIES = ["what is the river?", ""]


@pytest.mark.parametrize("name", tiny_retrievers.WRITERS)
def test_an_adapter_is_merged_into_the_base_beside_it(name: str, tmp_path: Path) -> None:
    folders = tiny_retrievers.write_adapter(tmp_path, name)
    pages = tiny_retrievers.rows_of_engine_pages(folders.merged, PAGES)
    queries = tiny_retrievers.rows_of_engine_queries(folders.merged, QUERIES, folders.augmentation)
    with Encoder(str(folders.adapter), precision="float32", compile_cache=False) as encoder:
        assert (encoder.name, encoder.adapters, encoder.modalities) == ("adapter", (), ("text", "image"))
        assert_rows(encoder.encode(PAGES), pages)
        assert_rows(encoder.encode(QUERIES), queries)


def test_the_last_layer_may_be_the_adapters_alone(tmp_path: Path) -> None:
    folders = tiny_retrievers.write_adapter(tmp_path, "colqwen2", full=True)
    pages = tiny_retrievers.rows_of_engine_pages(folders.merged, PAGES)
    with Encoder(str(folders.adapter), precision="float32", compile_cache=False) as encoder:
        assert_rows(encoder.encode(PAGES), pages)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> AdapterFolders:
    return tiny_retrievers.write_adapter(tmp_path_factory.mktemp("adapter"), "colqwen2")


def copied(tiny: AdapterFolders, home: Path) -> AdapterFolders:
    """Return a copy that a test may change."""
    for folder in (tiny.adapter, tiny.base):
        shutil.copytree(folder, home / folder.name)
    return AdapterFolders(home / "adapter", home / "base", tiny.merged, tiny.augmentation)


def test_the_space_is_that_of_base_and_adapter_wherever_they_lie(tiny: AdapterFolders, tmp_path: Path) -> None:
    folders = copied(tiny, tmp_path)
    before = space_of_recipe(read_model(str(tiny.adapter)).recipe)
    assert space_of_recipe(read_model(str(folders.adapter)).recipe) == before
    assert space_of_recipe(read_model(str(tiny.base)).recipe) != before
    tiny_models.edit(folders.adapter / "adapter_config.json", lora_alpha=16)
    assert space_of_recipe(read_model(str(folders.adapter)).recipe) != before


def test_files_that_the_adapter_lacks_are_those_of_the_base(tiny: AdapterFolders, tmp_path: Path) -> None:
    folders = copied(tiny, tmp_path)
    (folders.adapter / "tokenizer.json").unlink()
    (folders.adapter / "processor_config.json").unlink()
    recipe = read_model(str(folders.adapter)).recipe
    assert (recipe.folder, recipe.fused["image"].folder) == (folders.base, folders.base)
    assert space_of_recipe(recipe) == space_of_recipe(read_model(str(tiny.adapter)).recipe)


def test_a_base_that_is_missing_is_named(tiny: AdapterFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_OFFLINE", "1")
    folders = copied(tiny, tmp_path)
    shutil.rmtree(folders.base)
    with pytest.raises(NearfieldError, match=r"an adapter of 'some/base', and that base .*models pull some/base"):
        read_model(str(folders.adapter))
    tiny_models.edit(folders.adapter / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(ModelRefused, match="does not name its base model"):
        read_model(str(folders.adapter))


def test_an_adapter_of_another_base_is_refused(tiny: AdapterFolders, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folders = copied(tiny, tmp_path)
    file = folders.adapter / "adapter_model.safetensors"
    factors = load_file(file)
    save_file({name.replace("layers.2", "layers.7"): value for name, value in factors.items()}, file)
    with pytest.raises(WeightsError, match=r"language_model\.layers\.7.* trained for another base model, some/base"):
        read_model(str(folders.adapter))
    wide = {name: value.repeat(2, 1) if "q_proj.lora_B" in name else value for name, value in factors.items()}
    save_file(wide, file)
    with pytest.raises(WeightsError, match=r"q_proj\.weight .* and the adapter .* another base model"):
        Encoder(str(folders.adapter), compile_cache=False)


@pytest.mark.parametrize(("setting", "value"), [("use_dora", True), ("init_lora_weights", "pissa")])
def test_what_is_no_plain_lora_is_refused(setting: str, value: Any, tiny: AdapterFolders, tmp_path: Path) -> None:
    folders = copied(tiny, tmp_path)
    path = folders.adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), setting: value}))
    with pytest.raises(ModelRefused, match=setting):
        read_model(str(folders.adapter))


def test_versions_call_the_same_weight_by_other_names() -> None:
    same = [
        ("model.layers.0.mlp.up_proj.weight", "base_model.model.language_model.layers.0.mlp.up_proj.weight"),
        (
            "base_model.model.model.language_model.model.layers.0.x.weight",
            "model.model.language_model.layers.0.x.weight",
        ),
        ("model.vision_tower.vision_model.encoder.x.weight", "model.model.vision_tower.encoder.x.weight"),
        ("model.vision_model.vision_model.head.x.weight", "model.vision_model.head.x.weight"),
        ("model.connector.modality_projection.proj.weight", "model.connector.modality_projection.weight"),
        ("base_model.model.custom_text_proj.modules_to_save.default.weight", "embedding_proj_layer.weight"),
        ("model.custom_text_proj.bias", "base_model.model.custom_text_proj.bias"),
        ("model.visual.merger.mlp.0.bias", "visual.merger.mlp.0.bias"),
    ]
    for one, other in same:
        assert plain_name(one) == plain_name(other)
    assert plain_name("visual.blocks.0.norm1.weight") != plain_name("model.layers.0.norm1.weight")
