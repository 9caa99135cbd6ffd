"""Resizing, cropping and padding to one size: CLIP, SigLIP, ViT, DINOv2, DINOv3, and open_clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.processors.image_config import ImageConfig
from nearfield.checkpoint.processors.image_processor import ImageProcessor
from nearfield.checkpoint.processors.resizing import CropRule, ResizeRule, resize_and_crop
from nearfield.errors import InputError
from nearfield.media.decoding import Picture


@dataclass(frozen=True)
class ResizeAndCrop(ImageProcessor):
    """Resize, crop, rescale, normalise, pad, in this order.

    Args:
        resize: how pictures are resized, if they are.
        crop: how they are cropped, if they are.
        pad: height and width to which zeros are added at the bottom and right, after normalisation.
        rescale_first: rescale before resizing, so that nothing is rounded to 8 bits (DINOv3).
    """

    resize: ResizeRule | None = None
    crop: CropRule | None = None
    pad: tuple[int, int] | None = None
    rescale_first: bool = False

    @classmethod
    def from_config(cls, config: ImageConfig) -> ResizeAndCrop:
        """Return the processor that a file of transformers describes.

        Raises:
            ModelRefused: a value has another type.
        """
        return cls(
            **config.normalisation(),
            resize=config.resize_rule(),
            crop=config.crop_rule(),
            pad=config.pad_area(),
        )

    @classmethod
    def rescaling_first(cls, config: ImageConfig) -> ResizeAndCrop:
        """Return the same, rescaling before resizing."""
        processor = cls.from_config(config)
        return cls(**{**vars(processor), "rescale_first": True})

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of all pictures after the preparation; None if they depend on the picture."""
        if self.pad is not None:
            return self.pad
        if self.crop is not None:
            return self.crop.height, self.crop.width
        if self.resize is not None and self.resize.mode == "squash":
            return self.resize.edges[0], self.resize.edges[1]
        return None

    def prepare(self, pixels: Array) -> Array:
        """Return pixels uint8 [H, W, 3] resized and cropped: uint8, or float32 that is normalised already.

        Raises:
            InputError: the picture is too long and narrow, or larger than the padded size.
        """
        if self.rescale_first:
            pixels = pixels.astype(np.float32) * np.float32(self.rescale)
        if self.resize is not None:
            pixels = resize_and_crop(pixels, self.resize, self.crop, self.resample)
        elif self.crop is not None:
            pixels = self.crop.crop(pixels)
        return self._finished(pixels)

    def prepare_picture(self, picture: Picture) -> Array:
        if self.resize is None or self.rescale_first:
            return super().prepare_picture(picture)
        return self._finished(resize_and_crop(picture.source, self.resize, self.crop, self.resample))

    def _finished(self, pixels: Array) -> Array:
        if self.rescale_first or self.pad is not None:
            pixels = self._normalised(pixels)
        return pixels if self.pad is None else _padded(pixels, *self.pad)

    def _normalised(self, pixels: Array) -> Array:
        if pixels.dtype == np.uint8:
            pixels = (pixels * self.rescale).astype(np.float32)
        result: Array = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return result


def _padded(pixels: Array, height: int, width: int) -> Array:
    rows, columns = pixels.shape[:2]
    if rows > height or columns > width:
        raise InputError(f"A picture of {columns} x {rows} pixels is larger than the model reads ({width} x {height}).")
    return np.pad(pixels, ((0, height - rows), (0, width - columns), (0, 0)))
