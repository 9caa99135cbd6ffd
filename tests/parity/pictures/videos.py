"""EmbeddingGemma 2, from files of videos, against transformers, whose frames PyAV decodes one after another."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from tests.parity import Array
from tests.parity.pictures.case import PictureCase
from tests.support import tiny_multimodal
from tests.support.tiny_multimodal import ChosenFrames
from tests.support.video_reference import GEMMA_VIDEO, gemma_indices

#: Kind, frames, and frames a second of the files.
FILMS = (("mp4 h264", 60, 25), ("webm vp8", 24, 12), ("avi mjpeg", 35, 10), ("mov h264", 99, 30), ("mp4 mpeg4", 9, 24))


def write_files(folder: Path) -> list[Path]:
    """Write films of up to four seconds, and return their paths."""
    from tests.support.films import Film, write_film

    folder.mkdir(exist_ok=True)
    files = []
    for number, (kind, count, rate) in enumerate(FILMS):
        files.append(folder / f"{number}.{kind.split()[0]}")
        size = (64, 48) if number else (96, 32)
        files[-1].write_bytes(write_film(Film(kind, count, Fraction(rate), size, seed=number)))
    return files


def write(folder: Path) -> Path:
    """Write the model."""
    videos = {**GEMMA_VIDEO, "max_soft_tokens": 70}
    return tiny_multimodal.embedding_gemma2_with_media(folder / "model", videos=videos)


def of_files(folder: Path, files: Sequence[Path]) -> Array:
    """Return transformers' vectors of films, one after the other."""
    from tests.support.films import decoded

    inputs = []
    for file in files:
        frames, _ = decoded(file.read_bytes())
        rate = FILMS[int(file.stem)][2]
        indices = gemma_indices(len(frames), rate)
        inputs.append(
            [ChosenFrames([Pillow.fromarray(frames[index]) for index in indices], [index / rate for index in indices])]
        )
    return np.asarray(tiny_multimodal.embedding_gemma2_vectors(folder, inputs))


def of_texts(folder: Path, texts: Sequence[str]) -> Array:
    """Return transformers' vectors of texts."""
    return np.asarray(tiny_multimodal.embedding_gemma2_vectors(folder, [[text] for text in texts]))


CASES = [
    PictureCase(
        "EmbeddingGemma 2, videos", "embedding_gemma2", "transformers", write, of_files, None, of_texts, "video"
    )
]
