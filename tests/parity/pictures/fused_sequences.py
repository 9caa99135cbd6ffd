"""Models that read pictures in one sequence with texts, against transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from nearfield.features import PatchFeatures
from tests.parity import Array
from tests.parity.pictures.case import PictureCase
from tests.support import tiny_multimodal


def write(folder: Path) -> Path:
    """Write Qwen3-VL-Embedding."""
    return tiny_multimodal.qwen3_vl_embedding(folder / "model")


def of_files(folder: Path, files: Sequence[Path]) -> Array:
    """Return transformers' vectors of picture files, each in a sequence without a text."""
    return _vectors(folder, [("", [Pillow.open(file).convert("RGB")]) for file in files])


def of_pixels(folder: Path, pictures: Sequence[PatchFeatures]) -> Array:
    """Return transformers' vectors of prepared pictures."""
    return _vectors(folder, [("", [Pillow.fromarray(picture.pixels)]) for picture in pictures], do_resize=False)


def of_texts(folder: Path, texts: Sequence[str]) -> Array:
    """Return transformers' vectors of texts; the model reads NULL in place of nothing."""
    return _vectors(folder, [(text or "NULL", []) for text in texts])


def _vectors(folder: Path, inputs: Any, **options: Any) -> Array:
    vectors: Array = tiny_multimodal.qwen3_vl_vectors(folder, inputs, **options)
    return vectors


CASES = [
    PictureCase("Qwen3-VL-Embedding", "qwen3_vl", "transformers", write, of_files, of_pixels, of_texts),
]
