"""Texts of `clip-ViT-B-32-multilingual-v1` beside the pictures of CLIP, each against sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder, hub
from nearfield.cli.models import _read_recipe
from nearfield.errors import SourceUnavailable
from nearfield.hub import LocatedModel
from nearfield.media.image import Image
from tests.support import tiny_models, tiny_pictures, tiny_towers

pytestmark = pytest.mark.slow

NAME = "clip-ViT-B-32-multilingual-v1"
TEXTS = [*tiny_models.TEXTS[:3], "река " * 60, ""]
PICTURES = tiny_pictures.pictures()[:3]


def write_texts(folder: Path) -> Path:
    """Write the layout of the model: DistilBERT, mean pooling, and a linear layer without bias."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

    transformer = Transformer(str(tiny_models.tiny_distilbert(folder / "source")), max_seq_length=32)
    width = transformer.get_embedding_dimension()
    dense = Dense(width, 24, bias=False, activation_function=torch.nn.Identity())
    model = SentenceTransformer(modules=[transformer, Pooling(width), dense], device="cpu")
    model.save(str(folder / "texts"), create_model_card=False)
    return folder / "texts"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {NAME: write_texts(place), "openai/clip-vit-base-patch32": tiny_towers.clip_with_tokenizer(place / "clip")}


@pytest.fixture
def located(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Find the models of the catalogue in the folders; the names that were asked for."""
    names: list[str] = []

    def locate(model: str, **_: Any) -> LocatedModel:
        names.append(model)
        return LocatedModel(folders[model], model, None, "cache")

    monkeypatch.setattr(hub, "locate", locate)
    return names


def truth(folder: Path, inputs: list[Any]) -> Any:
    """Return sentence-transformers' vectors, of unit length."""
    from sentence_transformers import SentenceTransformer

    rows = np.asarray(SentenceTransformer(str(folder), device="cpu").encode(inputs))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_texts_and_pictures_are_one_model(folders: dict[str, Path], located: list[str]) -> None:
    texts, pictures = folders.values()
    expected = np.concatenate([truth(texts, TEXTS), truth(pictures, list(PICTURES))])
    with Encoder(NAME, precision="float32", compile_cache=False) as encoder:
        assert located == list(folders)
        assert encoder.name == f"sentence-transformers/{NAME}"
        assert encoder.modalities == ("text", "image", "video")
        assert np.abs(np.asarray(encoder.encode([*TEXTS, *PICTURES])) - expected).max() < 5e-6
        labels = ["a cat", "a dog"]
        prediction = encoder.zero_shot(Image(PICTURES[0]), labels, templates="{}")
        scale = tiny_pictures.reference_scale(pictures)
        logits = scale * truth(texts, labels) @ expected[len(TEXTS)]
        scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert [prediction.scores[label] for label in labels] == pytest.approx(scores.tolist(), abs=1e-4)


def test_the_pictures_alone(folders: dict[str, Path], located: list[str]) -> None:
    with Encoder(NAME, precision="float32", compile_cache=False, modalities=("image",)) as encoder:
        rows = np.asarray(encoder.encode(list(PICTURES)))
    assert np.abs(rows - truth(folders["openai/clip-vit-base-patch32"], list(PICTURES))).max() < 5e-6


def test_the_command_line_shows_and_fetches_both(folders: dict[str, Path], located: list[str]) -> None:
    from nearfield.cli.models import pull

    assert _read_recipe(NAME).modalities == ("text", "image")
    located.clear()
    pull(NAME)
    assert located == list(folders)


def test_a_model_without_its_pictures_here_is_not_read(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locate(model: str, **_: Any) -> LocatedModel:
        if model != NAME:
            raise SourceUnavailable(f"{model} is not here")
        return LocatedModel(folders[model], model, None, "cache")

    monkeypatch.setattr(hub, "locate", locate)
    with pytest.raises(SourceUnavailable, match="clip-vit-base-patch32 is not here"):
        _read_recipe(NAME)
