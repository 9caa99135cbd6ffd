"""Folders in open_clip's layout: the same weights as in transformers' layout give the same vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.checkpoint.towers import open_clip
from nearfield.errors import ModelRefused
from nearfield.recipe import TextRules
from tests.support import tiny_models, tiny_pictures, tiny_towers
from tests.support.open_clip_layout import write_open_clip

pytestmark = pytest.mark.slow

TEXTS = ["a cat", "The RED fox, at the river's bank!", "x", "read <|endoftext|> write"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def siglip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SigLIP of the sizes that timm's model is said to have."""
    monkeypatch.setitem(open_clip._SIGLIP_SIZES, "large", (48, 2, 4, 80))
    return tiny_towers.siglip2_with_tokenizer(tmp_path / "siglip")


def vectors(folder: Path) -> list[Any]:
    """Return the vectors of texts and pictures, of sizes whose middle is the same to both libraries."""
    pictures = tiny_pictures.pictures()[:3]
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        return [np.asarray(encoder.encode(items)) for items in (TEXTS, pictures)]


def pixels_of_open_clip(source: Path) -> None:
    """Give a folder of transformers the preparation of pictures that the other layout has."""
    half = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = source / name
        if file.is_file():
            content = json.loads(file.read_text())
            own = content.get("image_processor", content)
            edge = {"height": 32, "width": 32}
            own.update(image_processor_type="CLIPImageProcessor", size={"shortest_edge": 32}, crop_size=edge, **half)
            tiny_models.dump(file, content)


@pytest.mark.parametrize(("activation", "torch_file"), [("quick_gelu", False), ("gelu", True)])
def test_clip_gives_the_same_vectors_in_both_layouts(activation: str, torch_file: bool, tmp_path: Path) -> None:
    source = tiny_pictures.write_clip(tmp_path / "source")
    config = tiny_pictures.config_of(source)
    for part in ("text_config", "vision_config"):
        config[part]["hidden_act"] = activation
    tiny_models.dump(source / "config.json", config)
    pixels_of_open_clip(source)
    quick = activation == "quick_gelu"
    folder = write_open_clip(source, tmp_path / "folder", torch_file=torch_file, quick_gelu=quick)
    recipe = read_model_folder(folder)
    assert recipe.modalities == ("text", "image")
    assert recipe.zero_shot == read_model_folder(source).zero_shot
    for found, wanted in zip(vectors(folder), vectors(source), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("clean", ["canonicalize", "lower"])
def test_siglip_gives_the_same_vectors_in_both_layouts(clean: str, siglip: Path, tmp_path: Path) -> None:
    # timm's model of this name has the exact gelu, and its text tower here the other.
    config = tiny_pictures.config_of(siglip)
    config["vision_config"]["hidden_act"] = "gelu"
    tiny_models.dump(siglip / "config.json", config)
    pixels_of_open_clip(siglip)
    folder = write_open_clip(siglip, tmp_path / "folder", clean=clean)
    recipe = read_model_folder(folder)
    assert recipe.text_rules == TextRules(pad_to=16, canonicalize=clean == "canonicalize")
    assert recipe.zero_shot is not None and recipe.zero_shot.activation == "sigmoid"
    np.testing.assert_allclose([recipe.zero_shot.scale, recipe.zero_shot.bias], [np.exp(2), -3])
    (texts, pictures), (same_texts, same_pictures) = vectors(folder), vectors(siglip)
    np.testing.assert_allclose(pictures, same_pictures, atol=2e-6)
    plain = [number for number, text in enumerate(TEXTS) if clean == "lower" or text.replace(" ", "").isalnum()]
    np.testing.assert_allclose(texts[plain], same_texts[plain], atol=2e-6)
    if clean == "canonicalize":
        assert np.abs(texts - same_texts)[1].max() > 0.01


def test_transformers_files_count_first(clip: Path, tmp_path: Path) -> None:
    folder = write_open_clip(clip, tmp_path / "folder")
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (folder / name).write_bytes((clip / name).read_bytes())
    (folder / "open_clip_model.safetensors").write_bytes(b"not read")
    assert read_model_folder(folder).config["hidden_act"] == "quick_gelu"


def test_timm_writes_another_config_beside(clip: Path, tmp_path: Path) -> None:
    folder = write_open_clip(clip, tmp_path / "folder")
    tiny_models.dump(folder / "config.json", {"architecture": "vit_base_patch32_clip_224", "num_classes": 512})
    (folder / "model.safetensors").write_bytes(b"not read")
    assert read_model_folder(folder).modalities == ("text", "image")


def _set(part: str, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda model: (model[part] if part else model).update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("", multimodal_cfg={}), "multimodal_cfg"),
        (_set("text_cfg", hf_model_name="xlm-roberta-base"), "hf_model_name"),
        (_set("text_cfg", no_causal_mask=True), "no_causal_mask"),
        (_set("text_cfg", pool_type="last"), "pool_type"),
        (_set("text_cfg", embed_cls=True), "embed_cls"),
        (_set("text_cfg", tokenizer_kwargs={"strip_sep_token": True}), "strip_sep_token"),
        (_set("vision_cfg", layers=[3, 4, 6, 3]), "ResNet"),
        (_set("vision_cfg", pool_type="avg"), "pool_type"),
        (_set("vision_cfg", no_ln_pre=True), "no_ln_pre"),
        (_set("vision_cfg", ls_init_value=1e-4), "ls_init_value"),
        (_set("vision_cfg", head_widht=64), "head_width"),
        (
            _set("", vision_cfg={"timm_model_name": "convnext_base", "timm_pool": "", "timm_proj": "linear"}),
            "pool_type",
        ),
        (_set("", text_cfg=3), "text_cfg"),
    ],
)
def test_other_architectures_are_refused(
    change: Callable[[dict[str, Any]], None], message: str, clip: Path, tmp_path: Path
) -> None:
    folder = write_open_clip(clip, tmp_path / "folder")
    content = json.loads((folder / "open_clip_config.json").read_text())
    change(content["model_cfg"])
    tiny_models.dump(folder / "open_clip_config.json", content)
    with pytest.raises(ModelRefused, match=message):
        read_model_folder(folder)
