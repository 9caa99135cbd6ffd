"""The preparation of pictures in ``open_clip_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfield.checkpoint.json_file import read_optional
from nearfield.checkpoint.processors.image_config import ImageConfig
from nearfield.checkpoint.processors.image_processor import ImageProcessor
from nearfield.checkpoint.processors.resize_and_crop import ResizeAndCrop
from nearfield.checkpoint.processors.resizing import CropRule, ResizeRule
from nearfield.errors import ModelRefused

#: Keys of ``preprocess_cfg`` and their defaults (``PreprocessCfg`` of open_clip); ``size`` is the model's by default.
_DEFAULTS: Mapping[str, Any] = {
    "size": None,
    "mode": "RGB",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
#: ``random`` is a wish for training, and bicubic otherwise.
_FILTERS = {"bilinear": 2, "bicubic": 3, "random": 3}


def read_preprocess_cfg(path: Path) -> ImageProcessor | None:
    """Return the processor that ``open_clip_config.json`` describes; None if there is no such file.

    Raises:
        ModelRefused: the file is damaged, or has an unknown key or value.
    """
    file = read_optional(path)
    if not file:
        return None
    stated, model = file.get("preprocess_cfg") or {}, file.get("model_cfg") or {}
    if not isinstance(stated, Mapping) or not isinstance(model, Mapping):
        raise ModelRefused(f"{path.name}: preprocess_cfg and model_cfg must be objects")
    unknown = sorted(set(stated) - set(_DEFAULTS))
    if unknown:
        raise ModelRefused(f"{path.name}: unknown key {unknown[0]!r} in preprocess_cfg. It may change pixels.")
    values = {**_DEFAULTS, **{key: value for key, value in stated.items() if value is not None}}
    if values["size"] is None:
        values["size"] = (model.get("vision_cfg") or {}).get("image_size")
    return _create(ImageConfig(values, path.name))


def _create(config: ImageConfig) -> ImageProcessor:
    """Return the processor (``image_transform`` of open_clip, in evaluation)."""
    if config.values["mode"] != "RGB":
        raise config.error("mode", "'RGB'")
    if config.values["interpolation"] not in _FILTERS:
        raise config.error("interpolation", f"one of {', '.join(_FILTERS)}")
    fill = config.values["fill_color"]
    if isinstance(fill, bool) or fill not in range(256):
        raise config.error("fill_color", "a number from 0 to 255")
    resize, crop = _rules(config, *_area(config), int(fill))
    return ResizeAndCrop(
        resample=_FILTERS[config.values["interpolation"]],
        rescale=1 / 255,
        mean=config.channels("mean"),
        std=config.channels("std"),
        resize=resize,
        crop=crop,
    )


def _rules(config: ImageConfig, height: int, width: int, fill: int) -> tuple[ResizeRule, CropRule | None]:
    mode = config.values["resize_mode"]
    if mode == "squash":
        return ResizeRule("squash", (height, width)), None
    if mode == "longest":
        return ResizeRule("contain", (height, width)), CropRule(height, width, nearest=True, fill=fill)
    if mode != "shortest":
        raise config.error("resize_mode", "'shortest', 'longest' or 'squash'")
    rule = ResizeRule("shortest_edge", (height,)) if height == width else ResizeRule("cover", (height, width))
    return rule, CropRule(height, width, nearest=True)


def _area(config: ImageConfig) -> tuple[int, int]:
    size = config.values["size"]
    height, width = size if isinstance(size, (list, tuple)) and len(size) == 2 else (size, size)
    if any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in (height, width)):
        raise config.error("size", "a positive whole number, or height and width")
    return height, width
