"""`ImageProcessor`: the preparation of pictures for a model, as its folder says."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.features import PatchFeatures, PatchLayout
from nearfield.media.decoding import Picture

#: Version of what is done to a picture before it is resized: orientation, transparency on white, 16 bits to 8.
_DECODING = 1


@dataclass(frozen=True)
class ImageProcessor(ABC):
    """How pictures become patches. Objects are immutable and may be used by several threads at the same time.

    Args:
        resample: Pillow's filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming.
        rescale: what pixel values are multiplied with.
        mean: of each channel, subtracted after that.
        std: of each channel, by which the difference is divided.
    """

    resample: int
    rescale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    @abstractmethod
    def size(self) -> tuple[int, int] | None:
        """Height and width of all pictures after the preparation; None if they depend on the picture."""

    @abstractmethod
    def prepare(self, pixels: Array) -> Array:
        """Return pixels uint8 [H, W, 3] resized and cropped: uint8, or float32 that is normalised already."""

    def prepare_picture(self, picture: Picture) -> Array:
        """Return what ``prepare`` returns of a picture's pixels. A subclass may do without an array of them."""
        return self.prepare(picture.pixels)

    def process(self, picture: Picture, layout: PatchLayout) -> PatchFeatures:
        """Return the patches of a picture.

        Args:
            picture: a decoded picture.
            layout: patch size, order and lead, from the model's config. Its ``rescale``, ``mean`` and ``std`` are
                replaced by those of the folder.

        Raises:
            InputError: the picture is smaller than a patch, or too long and narrow, after it is resized.
        """
        pixels = self.prepare_picture(picture)
        rows, columns = (side // layout.patch for side in pixels.shape[:2])
        if not rows or not columns:
            raise InputError(
                f"A picture of {picture.width} x {picture.height} pixels is smaller than a patch of the model "
                f"({layout.patch} pixels)."
            )
        # A convolution skips what is left over at the bottom and the right, too.
        pixels = pixels[: rows * layout.patch, : columns * layout.patch]
        return PatchFeatures(pixels, self.normalising(layout), picture.content)

    def parts(self, picture: Picture, layout: PatchLayout) -> list[PatchFeatures]:
        """Return what a tower reads of a picture, each part by itself: one, unless pictures are cut into tiles.

        Raises:
            InputError: as for ``process``.
        """
        return [self.process(picture, layout)]

    def normalising(self, layout: PatchLayout) -> PatchLayout:
        """Return a layout with the folder's ``rescale``, ``mean`` and ``std``."""
        return _normalising(layout, self.rescale, self.mean, self.std)

    @cached_property
    def digest(self) -> str:
        """A digest of all that changes pixels: part of the name of the model's space.

        Pillow's version is not in it: a new one that resizes as the last one did must not make stored vectors useless,
        and those of texts need no Pillow. ``_DECODING`` changes if pixels do; a test compares them.
        """
        values = {"class": type(self).__name__, "decoding": _DECODING}
        text = json.dumps({**asdict(self), **values}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=256)
def _normalising(
    layout: PatchLayout, rescale: float, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> PatchLayout:
    """Return the layout with a processor's normalisation: one object, since it has a table of values."""
    return replace(layout, rescale=rescale, mean=mean, std=std)
