"""Resizing by the number of patches: SigLIP 2 NaFlex, Qwen2-VL and its successors, and Gemma 4."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

from nearfield.arrays import Array
from nearfield.checkpoint.processors.image_config import ImageConfig
from nearfield.checkpoint.processors.image_processor import ImageProcessor
from nearfield.checkpoint.processors.resizing import resize_pixels
from nearfield.errors import InputError, ModelRefused
from nearfield.features import PatchFeatures, PatchLayout
from nearfield.media.decoding import Picture

#: Precision of NaFlex's search for the scale, and the largest scale. Both decide sizes.
_PRECISION, _MAX_SCALE = 1e-5, 100.0
#: The longer side of a picture of Qwen2-VL is at most this many times the shorter one.
_MAX_ASPECT = 200
#: Times the least number of pixels that frames may have in any case.
_ABOVE_LEAST = 1.05
#: Numbers of tokens of a picture that Gemma 4 was trained with.
_SOFT_TOKENS = (70, 140, 280, 560, 1120)


@dataclass(frozen=True)
class PatchCount(ImageProcessor):
    """Resize so that the number of patches is in a range, and nothing else: no crop, all of the picture is seen.

    Args:
        patch_size: edge of a patch in pixels.
        resize: whether pictures are resized at all.
    """

    patch_size: int
    resize: bool

    @property
    def size(self) -> None:
        """None: the size depends on the picture."""
        return

    @abstractmethod
    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a picture after resizing."""

    def prepare(self, pixels: Array) -> Array:
        """Return pixels resized, uint8 [H, W, 3].

        Raises:
            InputError: the picture is too long and narrow.
        """
        if not self.resize:
            return pixels
        height, width = self.target(*pixels.shape[:2])
        return resize_pixels(pixels, height, width, self.resample)

    def process(self, picture: Picture, layout: PatchLayout) -> PatchFeatures:
        """Return the patches of a picture.

        Raises:
            InputError: the picture is too long and narrow.
            ModelRefused: the patch sizes of config and processor differ.
        """
        require_patch(layout, self.patch_size)
        return super().process(picture, layout)


@dataclass(frozen=True)
class PatchBudget(PatchCount):
    """Resize to the largest size with at most ``max_patches``; both sides are rounded up to whole patches."""

    max_patches: int

    @classmethod
    def from_config(cls, config: ImageConfig) -> PatchBudget:
        """Return the processor that a file of transformers describes.

        Raises:
            ModelRefused: a value has another type.
        """
        return cls(
            **config.normalisation(),
            patch_size=config.whole("patch_size"),
            max_patches=config.whole("max_num_patches"),
            resize=config.flag("do_resize"),
        )

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of a picture after resizing (``get_image_size_for_max_num_patches`` of transformers)."""
        low, high = _PRECISION / 10, _MAX_SCALE
        while high - low >= _PRECISION:
            scale = (low + high) / 2
            rows, columns = self._patches(height * scale), self._patches(width * scale)
            low, high = (scale, high) if rows * columns <= self.max_patches else (low, scale)
        return self._patches(height * low) * self.patch_size, self._patches(width * low) * self.patch_size

    def _patches(self, side: float) -> int:
        return max(1, math.ceil(side / self.patch_size))


@dataclass(frozen=True)
class SmartResize(PatchCount):
    """Resize to sides that are multiples of ``patch_size * merge``, with a number of pixels in a range."""

    merge: int
    min_pixels: int
    max_pixels: int

    @classmethod
    def from_config(cls, config: ImageConfig) -> SmartResize:
        """Return the processor that a file of transformers describes.

        ``min_pixels`` and ``max_pixels`` win over ``size``, as in transformers. A still picture is the same in all
        frames, so ``temporal_patch_size`` belongs to the layout of patches.

        Raises:
            ModelRefused: a value has another type.
        """
        limits = {"shortest_edge": config.values["min_pixels"], "longest_edge": config.values["max_pixels"]}
        size = config.values["size"]
        if not isinstance(size, dict) or not set(size) <= set(limits):
            raise config.error("size", "shortest_edge and longest_edge, which are numbers of pixels")
        bounds = {**size, **{key: value for key, value in limits.items() if value is not None}}
        values = [bounds.get(key) for key in limits]
        if any(isinstance(value, bool) or not isinstance(value, int) or value < 1 for value in values):
            raise config.error("size", "shortest_edge and longest_edge, which are numbers of pixels")
        return cls(
            **config.normalisation(),
            patch_size=config.whole("patch_size"),
            merge=config.whole("merge_size"),
            min_pixels=bounds["shortest_edge"],
            max_pixels=bounds["longest_edge"],
            resize=config.flag("do_resize"),
        )

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of a picture after resizing (``smart_resize`` of transformers)."""
        return self._sides(height, width, 1, 1)

    def _sides(self, height: int, width: int, frames: int, counted: int) -> tuple[int, int]:
        """Return the sides of pictures whose pixels, of ``frames`` together, are in the range.

        ``counted`` is the number of frames that is compared with the range.
        """
        if max(height, width) / min(height, width) > _MAX_ASPECT:
            raise InputError(
                f"A picture of {width:,} x {height:,} pixels is too long and narrow for this model: its longer side "
                f"may be {_MAX_ASPECT} times the shorter one. Cut it into parts."
            )
        factor = self.patch_size * self.merge
        rows, columns = round(height / factor) * factor, round(width / factor) * factor
        if counted * rows * columns > self.max_pixels:
            shrink = math.sqrt(frames * height * width / self.max_pixels)
            rows = max(factor, math.floor(height / shrink / factor) * factor)
            columns = max(factor, math.floor(width / shrink / factor) * factor)
        elif counted * rows * columns < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (frames * height * width))
            rows = math.ceil(height * grow / factor) * factor
            columns = math.ceil(width * grow / factor) * factor
        return rows, columns


@dataclass(frozen=True)
class FrameBudget(SmartResize):
    """Resize the frames of a video as `SmartResize` does pictures; the range is that of all frames together.

    Args:
        temporal: frames that become one row of patches.
        max_tokens: what a frame may have at most, so that those of short videos are no larger; None: no such limit.
        frames: how many are read of the video, at least ``temporal``.
    """

    temporal: int = 2
    max_tokens: int | None = None
    frames: int = 2

    @classmethod
    def from_config(cls, config: ImageConfig) -> FrameBudget:
        """Return the processor that a file of transformers describes.

        Raises:
            ModelRefused: a value has another type.
        """
        stated = config.values["size"]
        size = {key: value for key, value in stated.items() if value is not None} if isinstance(stated, dict) else {}
        edges = [size.pop(key, None) for key in ("shortest_edge", "longest_edge")]
        if size or not all(type(edge) is int and edge > 0 for edge in edges):
            raise config.error("size", "shortest_edge and longest_edge, which are numbers of pixels of all frames")
        return cls(
            **config.normalisation(),
            patch_size=config.whole("patch_size"),
            merge=config.whole("merge_size"),
            temporal=config.whole("temporal_patch_size"),
            min_pixels=edges[0],
            max_pixels=edges[1],
            max_tokens=config.whole("max_video_tokens") if config.flag("cap_pixels_per_frame") else None,
            resize=True,
        )

    def for_frames(self, count: int) -> FrameBudget:
        """Return the processor of a video of which ``count`` frames are read."""
        frames = max(count, self.temporal)
        if self.max_tokens is None:
            return replace(self, frames=frames)
        most = min(self.max_tokens * (self.patch_size * self.merge) ** 2, self.max_pixels // frames)
        return replace(self, frames=frames, max_pixels=max(most, int(self.min_pixels * _ABOVE_LEAST)) * frames)

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of frames after resizing (``smart_resize`` of transformers, that of videos)."""
        factor = self.patch_size * self.merge
        if height < factor or width < factor:
            scale = max(factor / height, factor / width)
            height, width = int(height * scale), int(width * scale)
        return self._sides(height, width, self.frames, round(self.frames / self.temporal) * self.temporal)


@dataclass(frozen=True)
class SoftTokenBudget(PatchCount):
    """Resize to the largest sides that are multiples of ``patch_size * pooling``, with at most ``max_tokens``.

    ``pooling`` x ``pooling`` patches become one token after the tower.
    """

    pooling: int
    max_tokens: int

    @classmethod
    def from_config(cls, config: ImageConfig) -> SoftTokenBudget:
        """Return the processor that a file of transformers describes.

        Raises:
            ModelRefused: a value has another type.
        """
        if config.values["max_soft_tokens"] not in _SOFT_TOKENS:
            raise config.error("max_soft_tokens", f"one of {', '.join(map(str, _SOFT_TOKENS))}")
        if not config.flag("do_resize"):
            # Sides would have to be multiples of a block already, and few enough: nothing is served by that.
            raise config.error("do_resize", "true for this kind of processor")
        return cls(
            **config.normalisation(),
            patch_size=config.whole("patch_size"),
            pooling=config.whole("pooling_kernel_size"),
            max_tokens=config.whole("max_soft_tokens"),
            resize=True,
        )

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of a picture after resizing (``get_aspect_ratio_preserving_size`` of transformers).

        A picture that would have less than one token in height has one, and as many tokens in width as its aspect says,
        but at most all.
        """
        edge = self.patch_size * self.pooling
        scale = math.sqrt(self.max_tokens * edge**2 / (height * width))
        rows, columns = math.floor(scale * height / edge), math.floor(scale * width / edge)
        if not rows:
            rows, columns = 1, min(width // height, self.max_tokens)
        elif not columns:
            rows, columns = min(height // width, self.max_tokens), 1
        return rows * edge, columns * edge


def require_patch(layout: PatchLayout, patch_size: int) -> None:
    """Raise ModelRefused if a model's config and its processor have other sizes of patches."""
    if layout.patch != patch_size:
        raise ModelRefused(
            f"The model's config has patches of {layout.patch} pixels, and its processor of {patch_size}: one is wrong."
        )
