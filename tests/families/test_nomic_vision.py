"""Nomic's image tower against its own code in plain torch, on every backend, and beside a text tower elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder, hub
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.checkpoint.towers.joined_models import join_text_model
from nearfield.errors import ModelRefused
from nearfield.hub import LocatedModel
from tests.families.test_towers import BACKENDS, assert_close, embed, pictures
from tests.support import tiny_models, tiny_pictures, tiny_towers
from tests.support.tiny_nomic_vision import EDGE, nomic_vectors, write_nomic_vision, write_processor

pytestmark = pytest.mark.slow

PICTURES = tiny_pictures.pictures()[:3]


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


def test_texts_and_pictures_of_two_folders_are_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    texts = tiny_models.tiny_nomic(tmp_path / "texts")
    images = write_nomic_vision(tmp_path / "images")
    write_processor(images)
    folders = {"nomic-embed-vision-v1.5": images, "nomic-ai/nomic-embed-text-v1.5": texts}
    sentences = ["search_query: " + text for text in tiny_models.TEXTS[:3]]
    with Encoder(str(texts), precision="float32", compile_cache=False) as alone:
        pooled = torch.from_numpy(np.array(alone.encode(sentences)))
    pixels = CLIPImageProcessorPil.from_pretrained(images)(PICTURES, return_tensors="np")["pixel_values"]
    vectors = {
        "text": torch.nn.functional.layer_norm(pooled, pooled.shape[-1:]).numpy(),
        "image": nomic_vectors(images, pixels),
    }

    def locate(model: str, **_: Any) -> LocatedModel:
        return LocatedModel(folders[model], model, None, "cache")

    monkeypatch.setattr(hub, "locate", locate)
    with Encoder("nomic-embed-vision-v1.5", precision="float32", compile_cache=False) as encoder:
        assert encoder.modalities == ("text", "image", "video")
        assert encoder.name == "nomic-ai/nomic-embed-vision-v1.5"
        for size in (32, 8):
            mixed = encoder.encode([*sentences, *PICTURES], truncate_dim=size, force_truncate_dim=True)
            expected = np.concatenate([vectors["text"], vectors["image"]])[:, :size]
            expected /= np.linalg.norm(expected, axis=1, keepdims=True)
            assert np.abs(np.asarray(mixed) - expected).max() < 5e-6
        query = encoder.encode_query(tiny_models.TEXTS[0])
        assert np.abs(np.asarray(query) - np.asarray(encoder.encode(sentences[0]))).max() < 1e-6


def test_models_of_two_sizes_are_not_joined(tmp_path: Path) -> None:
    texts = read_model_folder(tiny_models.tiny_nomic(tmp_path / "texts"))
    images = read_model_folder(write_nomic_vision(tmp_path / "images"))
    with pytest.raises(ModelRefused, match="64 dimensions"):
        join_text_model(images, replace(texts, dimensions=64))
