"""Sizes, resizing and cropping of pixels, as the processors of transformers and open_clip do it, to the pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.media.decoding import require_pillow

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

#: Pixels that a resized picture may have. What exceeds it is resized in the cropped part alone, or refused.
MAX_RESIZED = 64_000_000


@dataclass(frozen=True)
class ResizeRule:
    """How the size of a picture follows from its size before.

    ``mode`` is a name of ``RESIZE_MODES``; ``edges`` are its numbers of pixels.
    """

    mode: str
    edges: tuple[int, ...]

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a picture after resizing."""
        return RESIZE_MODES[self.mode](height, width, *self.edges)


def squash(_height: int, _width: int, height: int, width: int) -> tuple[int, int]:
    """Return the size itself: the aspect is not preserved."""
    return height, width


def fit_shortest_edge(height: int, width: int, edge: int) -> tuple[int, int]:
    """Return the size whose shorter side is ``edge``; the longer one is rounded down."""
    longer = int(edge * max(height, width) / min(height, width))
    return (longer, edge) if width <= height else (edge, longer)


def fit_edges(height: int, width: int, shortest: int, max_longer: int) -> tuple[int, int]:
    """Return the size whose shorter side is ``shortest``, or less where the longer side would exceed ``max_longer``.

    Source: ``get_size_with_aspect_ratio`` of transformers.
    """
    exact: float = shortest
    if max(height, width) / min(height, width) * shortest > max_longer:
        exact = max_longer * min(height, width) / max(height, width)
    edge = round(exact)
    if min(height, width) == edge:
        return height, width
    longer = int(exact * max(height, width) / min(height, width))
    return (longer, edge) if width < height else (edge, longer)


def fit_inside(height: int, width: int, max_height: int, max_width: int) -> tuple[int, int]:
    """Return the largest size of the same aspect within a box, rounded down."""
    scale = min(max_height / height, max_width / width)
    return int(height * scale), int(width * scale)


def contain_rounded(height: int, width: int, max_height: int, max_width: int) -> tuple[int, int]:
    """Return the largest size of the same aspect within a box, rounded (open_clip's ``longest``)."""
    ratio = max(height / max_height, width / max_width)
    return round(height / ratio), round(width / ratio)


def cover_rounded(height: int, width: int, min_height: int, min_width: int) -> tuple[int, int]:
    """Return the smallest size of the same aspect that covers a box, rounded (open_clip's ``shortest``)."""
    ratio = min(height / min_height, width / min_width)
    return round(height / ratio), round(width / ratio)


RESIZE_MODES: dict[str, Callable[..., tuple[int, int]]] = {
    "squash": squash,
    "shortest_edge": fit_shortest_edge,
    "shortest_and_longest_edge": fit_edges,
    "inside": fit_inside,
    "contain": contain_rounded,
    "cover": cover_rounded,
}


@dataclass(frozen=True)
class CropRule:
    """A crop around the centre. A smaller picture is padded with ``fill``.

    ``nearest`` rounds half of an odd margin to the even number, as torchvision does, and pads at the end; otherwise it
    is rounded down, and padding begins at the start, as in transformers. One row more or less moves vectors.
    """

    height: int
    width: int
    nearest: bool = False
    fill: int = 0

    def spans(self, height: int, width: int) -> tuple[CropSpan, CropSpan]:
        """Return what is taken of a picture of this size: rows and columns."""
        return self._span(height, self.height), self._span(width, self.width)

    def _span(self, length: int, size: int) -> CropSpan:
        margin = length - size
        if margin >= 0:
            return CropSpan(round(margin / 2) if self.nearest else margin // 2, size, 0)
        return CropSpan(0, length, -margin // 2 if self.nearest else math.ceil(-margin / 2))

    def crop(self, pixels: Array) -> Array:
        """Return the middle of pixels [H, W, 3], padded where there are too few."""
        rows, columns = self.spans(*pixels.shape[:2])
        return self.pad(pixels[rows.source, columns.source], rows, columns)

    def pad(self, pixels: Array, rows: CropSpan, columns: CropSpan) -> Array:
        """Return cropped pixels in their place on an area of the crop's size."""
        if pixels.shape[:2] == (self.height, self.width):
            return pixels
        padded = np.full((self.height, self.width, 3), self.fill, pixels.dtype)
        padded[rows.target, columns.target] = pixels
        return padded


@dataclass(frozen=True)
class CropSpan:
    """Rows or columns that a crop takes: ``length`` from ``start``, put after ``before`` of padding."""

    start: int
    length: int
    before: int

    @property
    def source(self) -> slice:
        """The part of the picture."""
        return slice(self.start, self.start + self.length)

    @property
    def target(self) -> slice:
        """The part of the result."""
        return slice(self.before, self.before + self.length)


def resize_pixels(
    pixels: Array | PillowImage,
    height: int,
    width: int,
    resample: int,
    box: tuple[float, float, float, float] | None = None,
) -> Array:
    """Return pixels [H, W, 3] in another size, by Pillow, with its antialiasing. uint8 stays uint8, float32 float32.

    A picture of Pillow has to be in RGB. ``box`` is the part (left, top, right, bottom) that is resized; by default,
    all is.
    """
    if not isinstance(pixels, np.ndarray):
        return np.asarray(pixels.resize((width, height), resample, box=box))
    image = require_pillow()
    if pixels.dtype == np.uint8:
        return np.asarray(image.fromarray(pixels).resize((width, height), resample, box=box))
    channels = (image.fromarray(np.ascontiguousarray(pixels[..., channel])) for channel in range(3))
    return np.stack([np.asarray(one.resize((width, height), resample, box=box)) for one in channels], axis=-1)


def resize_and_crop(pixels: Array | PillowImage, rule: ResizeRule, crop: CropRule | None, resample: int) -> Array:
    """Return pixels resized by a rule, then cropped.

    A picture of 1 x 30,000 pixels would have 1,500 million after its shorter side has become 224: of such, only the
    part inside the crop is resized. That can differ in the last bit.

    Raises:
        InputError: it would be too large, and there is no crop.
    """
    height, width = pixels.shape[:2] if isinstance(pixels, np.ndarray) else pixels.size[::-1]
    new_height, new_width = (max(1, side) for side in rule.target(height, width))
    if new_height * new_width <= MAX_RESIZED:
        resized = resize_pixels(pixels, new_height, new_width, resample)
        return resized if crop is None else crop.crop(resized)
    if crop is None:
        raise InputError(
            f"A picture of {width:,} x {height:,} pixels is too long and narrow for this model: it would become "
            f"{new_width:,} x {new_height:,}. Cut it into parts."
        )
    rows, columns = crop.spans(new_height, new_width)
    across, down = width / new_width, height / new_height
    box = (
        columns.start * across,
        rows.start * down,
        min(width, (columns.start + columns.length) * across),
        min(height, (rows.start + rows.length) * down),
    )
    return crop.pad(resize_pixels(pixels, rows.length, columns.length, resample, box), rows, columns)
