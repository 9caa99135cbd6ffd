"""`PictureCase`: one model that reads pictures, and its reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield import families
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.features import PatchFeatures
from nearfield.inference.processors import PictureProcessor
from nearfield.media.image import Image
from tests.parity import Array

#: Texts that a model reads beside pictures; one is too long for it.
TEXTS = ["The quick brown fox jumps over the lazy dog.", "red", "", "river " * 40, "Stars, moons & SUNS: 42%!"]


@dataclass(frozen=True)
class PictureCase:
    """One family in one layout, and its reference.

    ``write`` makes the folder. ``of_files`` gives the reference's vectors of picture files, whose pixels its own
    processor prepares with Pillow; ``of_pixels`` those of pictures that are prepared already, where one picture is one
    input of the tower; ``of_texts`` those of texts, where the model reads them. Vectors have the length that the model
    gives them: an array with a row for each input, or a list of rows where each token has a vector.
    """

    name: str
    family: str
    reference: str
    write: Callable[[Path], Path]
    of_files: Callable[[Path, Sequence[Path]], Sequence[Array]]
    of_pixels: Callable[[Path, Sequence[PatchFeatures]], Sequence[Array]] | None
    of_texts: Callable[[Path, Sequence[str]], Sequence[Array]] | None = None


def prepare(folder: Path, files: Sequence[Path]) -> list[PatchFeatures]:
    """Return pictures as Nearfield prepares them for a model."""
    recipe = read_model_folder(folder)
    tower = recipe if recipe.modality == "image" else {**recipe.towers, **recipe.fused}["image"]
    family: Any = families.resolve(tower.config)
    processor = PictureProcessor.load(tower, family)
    return [picture for file in files for picture in processor.read(Image(file))]
