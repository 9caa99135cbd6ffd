"""Cutting pictures into tiles of the size that a vision tower reads, with a view of the whole: Idefics3's processor.

Laurençon et al. 2024, arXiv:2408.12637. ColModernVBERT and ColSmol prepare pages in this way.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.processors.image_config import ImageConfig
from nearfield.checkpoint.processors.image_processor import ImageProcessor
from nearfield.checkpoint.processors.resizing import resize_pixels
from nearfield.errors import InputError
from nearfield.features import PatchFeatures, PatchLayout
from nearfield.media.decoding import Picture

#: Longest side of a resized picture, whatever the folder says (``MAX_IMAGE_SIZE`` of transformers).
_MAX_EDGE = 4096


@dataclass(frozen=True)
class TileSplit(ImageProcessor):
    """Resize, then cut into tiles of ``tile`` x ``tile`` pixels; the last one is the whole picture at that size.

    Args:
        longest_edge: pixels of the longer side after the first resize; None for no such resize.
        fixed: height and width after the first resize, in place of ``longest_edge``.
        tile: pixels of a tile's edge.
        split: whether there are tiles beside the whole picture.
    """

    longest_edge: int | None
    fixed: tuple[int, int] | None
    tile: int
    split: bool

    @classmethod
    def from_config(cls, config: ImageConfig) -> TileSplit:
        """Return the processor that a file of transformers describes.

        Raises:
            ModelRefused: a value has another type.
        """
        edge = config.values["max_image_size"]
        if not isinstance(edge, dict) or set(edge) != {"longest_edge"} or type(edge["longest_edge"]) is not int:
            raise config.error("max_image_size", "longest_edge, the pixels of a tile's edge")
        size = config.values["size"] if config.flag("do_resize") else {}
        if not isinstance(size, dict) or any(type(side) is not int or side < 1 for side in size.values()):
            raise config.error("size", "longest_edge, or height and width")
        fixed = (size["height"], size["width"]) if set(size) == {"height", "width"} else None
        if fixed is None and set(size) not in ({"longest_edge"}, set()):
            raise config.error("size", "longest_edge, or height and width")
        return cls(
            **config.normalisation(),
            longest_edge=size.get("longest_edge"),
            fixed=fixed,
            tile=edge["longest_edge"],
            split=config.flag("do_image_splitting"),
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of each tile."""
        return self.tile, self.tile

    def prepare(self, pixels: Array) -> Array:
        """Return the tiles below each other, uint8 [tiles x tile, tile, 3]; the whole picture is the last one."""
        return np.concatenate(self.tiles(pixels)[1])

    def tiles(self, pixels: Array) -> tuple[tuple[int, int], list[Array]]:
        """Return the rows and columns of tiles, and the tiles, uint8 [tile, tile, 3], row by row, then the whole.

        A picture of one tile's size is that tile alone, and has 0 rows and columns.
        """
        pixels = self._resized(pixels)
        if not self.split:
            return (0, 0), [resize_pixels(pixels, self.tile, self.tile, self.resample)]
        height, width = self._whole_tiles(*pixels.shape[:2])
        pixels = resize_pixels(pixels, height, width, self.resample)
        rows, columns = height // self.tile, width // self.tile
        if rows == columns == 1:
            return (0, 0), [pixels]
        cut = pixels.reshape(rows, self.tile, columns, self.tile, 3).transpose(0, 2, 1, 3, 4)
        whole = resize_pixels(pixels, self.tile, self.tile, self.resample)
        return (rows, columns), [*cut.reshape(-1, self.tile, self.tile, 3), whole]

    def parts(self, picture: Picture, layout: PatchLayout) -> list[PatchFeatures]:
        """Return the patches of each tile.

        Raises:
            InputError: a tile is smaller than a patch.
        """
        return list(self.process_tiles(picture, layout)[1])

    def process_tiles(self, picture: Picture, layout: PatchLayout) -> tuple[tuple[int, int], tuple[PatchFeatures, ...]]:
        """Return the rows and columns of tiles, and the patches of each tile.

        Raises:
            InputError: a tile is smaller than a patch.
        """
        grid, tiles = self.tiles(picture.pixels)
        if self.tile < layout.patch:
            raise InputError(f"A tile of {self.tile} pixels is smaller than a patch of the model ({layout.patch}).")
        layout = self.normalising(layout)
        return grid, tuple(
            PatchFeatures(tile, layout, hashlib.sha256(picture.content + b"tile %d" % number).digest())
            for number, tile in enumerate(tiles)
        )

    def _resized(self, pixels: Array) -> Array:
        if self.longest_edge is None and self.fixed is None:
            return pixels
        height, width = self.fixed or self._fitted(*pixels.shape[:2])
        return resize_pixels(pixels, height, width, self.resample)

    def _fitted(self, height: int, width: int) -> tuple[int, int]:
        """Return the size whose longer side is ``longest_edge``; the shorter one is rounded down, then up to even."""
        aspect, edge = width / height, int(self.longest_edge or 0)
        if width >= height:
            width, height = edge, _even(int(edge / aspect))
        else:
            height, width = edge, _even(int(edge * aspect))
        height, width = max(height, 1), max(width, 1)
        aspect = width / height
        if width >= height and width > _MAX_EDGE:
            width, height = _MAX_EDGE, int(_MAX_EDGE / aspect)
        elif height > width and height > _MAX_EDGE:
            height, width = _MAX_EDGE, int(_MAX_EDGE * aspect)
        return max(height, 1), max(width, 1)

    def _whole_tiles(self, height: int, width: int) -> tuple[int, int]:
        """Return the size in whole tiles: the longer side is rounded up, and the other follows and is rounded up."""
        aspect = width / height
        if width >= height:
            width = self._rounded_up(width)
            return self._rounded_up(int(width / aspect)), width
        height = self._rounded_up(height)
        return height, self._rounded_up(int(height * aspect))

    def _rounded_up(self, side: int) -> int:
        return max(1, math.ceil(side / self.tile)) * self.tile


def _even(side: int) -> int:
    return side + side % 2
