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


def write_gemma(folder: Path) -> Path:
    """Write EmbeddingGemma 2."""
    return tiny_multimodal.embedding_gemma2_with_media(folder / "model")


def of_gemma_files(folder: Path, files: Sequence[Path]) -> Array:
    """Return transformers' vectors of picture files, one after the other."""
    pictures = [[Pillow.open(file).convert("RGB")] for file in files]
    vectors: Array = tiny_multimodal.embedding_gemma2_vectors(folder, pictures)
    return vectors


def of_gemma_pixels(folder: Path, pictures: Sequence[PatchFeatures]) -> Array:
    """Return transformers' vectors of prepared pictures."""
    prepared = [[Pillow.fromarray(picture.pixels)] for picture in pictures]
    vectors: Array = tiny_multimodal.embedding_gemma2_vectors(folder, prepared, do_resize=False)
    return vectors


def of_gemma_texts(folder: Path, texts: Sequence[str]) -> Array:
    """Return transformers' vectors of texts."""
    vectors: Array = tiny_multimodal.embedding_gemma2_vectors(folder, [[text] for text in texts])
    return vectors


CASES = [
    PictureCase("Qwen3-VL-Embedding", "qwen3_vl", "transformers", write, of_files, of_pixels, of_texts),
    PictureCase(
        "EmbeddingGemma 2",
        "embedding_gemma2",
        "transformers",
        write_gemma,
        of_gemma_files,
        of_gemma_pixels,
        of_gemma_texts,
    ),
]
