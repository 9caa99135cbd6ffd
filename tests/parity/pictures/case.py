"""`PictureCase`: one model that reads pictures or sounds, and its reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nearfield import families
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.inference.processors import load_processor
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from tests.parity import Array

#: Vectors of inputs: an array with a row for each, or a list of arrays with a row for each token.
Rows: TypeAlias = "Array | Sequence[Array]"
#: Texts that a model reads beside pictures; one is too long for it.
TEXTS = ["The quick brown fox jumps over the lazy dog.", "red", "", "river " * 40, "Stars, moons & SUNS: 42%!"]


@dataclass(frozen=True)
class PictureCase:
    """One family in one layout, and its reference.

    ``write`` makes the folder. ``of_files`` gives the reference's vectors of picture files, whose pixels its own
    processor prepares with Pillow; ``of_pixels`` those of pictures that are prepared already, where one picture is one
    input of the tower; ``of_texts`` those of texts, where the model reads them. Vectors have the length that the model
    gives them: an array with a row for each input, or a list of rows where each token has a vector. With the
    ``modality`` audio, files and what is prepared are sounds; with video, files are films.
    """

    name: str
    family: str
    reference: str
    write: Callable[[Path], Path]
    of_files: Callable[[Path, Sequence[Path]], Rows]
    of_pixels: Callable[[Path, Sequence[Any]], Rows] | None
    of_texts: Callable[[Path, Sequence[str]], Rows] | None = None
    modality: str = "image"


def prepare(case: PictureCase, folder: Path, files: Sequence[Path]) -> list[Any]:
    """Return pictures or sounds as Nearfield prepares them for a model."""
    recipe = read_model_folder(folder)
    tower = recipe if recipe.modality == case.modality else {**recipe.towers, **recipe.fused}[case.modality]
    kind = Image if case.modality == "image" else Audio
    processor: Any = load_processor(tower, families.resolve(tower.config))
    return [features for file in files for features in processor.read(kind(file))]
