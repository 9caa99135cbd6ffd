"""Models as sentence-transformers saves them, against sentence-transformers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from nearfield.features import PatchFeatures
from tests.parity import Array
from tests.parity.pictures.case import PictureCase
from tests.support import tiny_models, tiny_towers

REFERENCE = "sentence-transformers"


def of_files(folder: Path, files: Sequence[Path]) -> Array:
    """Return the vectors of picture files, computed as one batch."""
    return _encode(folder, [Pillow.open(file).convert("RGB") for file in files])


def of_texts(folder: Path, texts: Sequence[str]) -> Array:
    """Return the vectors of texts."""
    return _encode(folder, list(texts))


def of_pixels(folder: Path, pictures: Sequence[PatchFeatures]) -> Array:
    """Return the vectors of prepared pictures: its processor does not change those of the size that the model reads."""
    return _encode(folder, [Pillow.fromarray(picture.pixels) for picture in pictures])


def _encode(folder: Path, inputs: list[Pillow.Image] | list[str]) -> Array:
    from sentence_transformers import SentenceTransformer

    return np.asarray(SentenceTransformer(str(folder), device="cpu").encode(inputs, batch_size=len(inputs)))


def _write_first_layout(folder: Path) -> Path:
    """Write the layout of ``clip-ViT-B-32``: one module, ``CLIPModel``."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(tiny_towers.clip_with_tokenizer(Path(place) / "model"), folder / "0_CLIPModel")
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    tiny_models.dump(folder / "modules.json", modules)
    return folder


def _write_normalised(folder: Path) -> Path:
    """Write the layout of today, ``Transformer`` with ``modality_config``, and ``Normalize`` after it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize

    with tempfile.TemporaryDirectory() as place:
        model = SentenceTransformer(str(tiny_towers.clip_with_tokenizer(Path(place) / "model")), device="cpu")
        model.append(Normalize())
        model.save(str(folder), create_model_card=False)
    return folder


CASES = [
    PictureCase("CLIPModel", "clip", REFERENCE, _write_first_layout, of_files, of_pixels, of_texts),
    PictureCase("modality_config, Normalize", "clip", REFERENCE, _write_normalised, of_files, of_pixels, of_texts),
]
