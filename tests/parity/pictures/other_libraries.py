"""Models as open_clip and Nomic save them, against the same weights in transformers, and Nomic's own code in torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from nearfield.features import PatchFeatures
from tests.parity import Array
from tests.parity.pictures import hugging_face
from tests.parity.pictures.case import PictureCase
from tests.support import tiny_nomic_vision, tiny_towers
from tests.support.open_clip_layout import write_open_clip

#: Where a model of open_clip has its weights in the layout of transformers, too.
_SOURCE = "transformers"


def _write_open_clip(folder: Path) -> Path:
    return write_open_clip(tiny_towers.clip_with_tokenizer(folder / _SOURCE), folder, quick_gelu=True)


def of_open_clip_files(folder: Path, files: Sequence[Path]) -> Array:
    """Return the vectors of picture files, prepared as ``image_transform`` of open_clip does it, with torchvision."""
    import torch

    pixels = [np.asarray(_transformed(Pillow.open(file).convert("RGB"), 32), np.float32) for file in files]
    values = (np.stack(pixels) / 255 - 0.5) / 0.25
    return hugging_face.vectors(folder / _SOURCE, [{"pixel_values": torch.from_numpy(values.transpose(0, 3, 1, 2))}])


def _transformed(picture: Pillow.Image, edge: int) -> Pillow.Image:
    """Scale the shorter side to ``edge``, and cut the middle out, whose place is rounded to the nearest pixel."""
    short = min(picture.size)
    width, height = (edge if side == short else int(edge * side / short) for side in picture.size)
    left, top = round((width - edge) / 2), round((height - edge) / 2)
    return picture.resize((width, height), Pillow.Resampling.BICUBIC).crop((left, top, left + edge, top + edge))


def of_open_clip_pixels(folder: Path, pictures: Sequence[PatchFeatures]) -> Array:
    """Return the vectors of prepared pictures."""
    return hugging_face.of_pixels(folder / _SOURCE, pictures)


def of_open_clip_texts(folder: Path, texts: Sequence[str]) -> Array:
    """Return the vectors of texts."""
    return hugging_face.of_texts(folder / _SOURCE, texts)


def _write_nomic(folder: Path) -> Path:
    tiny_nomic_vision.write_nomic_vision(folder)
    tiny_nomic_vision.write_processor(folder)
    return folder


def of_nomic_files(folder: Path, files: Sequence[Path]) -> Array:
    """Return the vectors of picture files, prepared by the processor of CLIP, which the model has."""
    from transformers import AutoImageProcessor

    processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
    images = [Pillow.open(file).convert("RGB") for file in files]
    return np.asarray(tiny_nomic_vision.nomic_vectors(folder, processor(images, return_tensors="np")["pixel_values"]))


def of_nomic_pixels(folder: Path, pictures: Sequence[PatchFeatures]) -> Array:
    """Return the vectors of prepared pictures."""
    pixels = np.concatenate([np.asarray(tiny_towers.pixel_values(picture)) for picture in pictures])
    return np.asarray(tiny_nomic_vision.nomic_vectors(folder, pixels))


CASES = [
    PictureCase(
        "open_clip",
        "clip",
        "transformers, same weights",
        _write_open_clip,
        of_open_clip_files,
        of_open_clip_pixels,
        of_open_clip_texts,
    ),
    PictureCase("Nomic", "nomic_vision", "Nomic's code in plain torch", _write_nomic, of_nomic_files, of_nomic_pixels),
]
