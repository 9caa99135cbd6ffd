"""Read how a model folder prepares pictures, from the files of transformers or open_clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.checkpoint.json_file import JsonObject, read_optional
from nearfield.checkpoint.processors.image_config import ImageConfig
from nearfield.checkpoint.processors.image_processor import ImageProcessor
from nearfield.checkpoint.processors.open_clip import read_preprocess_cfg
from nearfield.checkpoint.processors.patch_budget import PatchBudget, SmartResize, SoftTokenBudget
from nearfield.checkpoint.processors.resize_and_crop import ResizeAndCrop
from nearfield.checkpoint.processors.tiles import TileSplit
from nearfield.errors import ModelRefused, nearest

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SQUARE = {"height": 224, "width": 224}
_NORMALISED: Mapping[str, Any] = {"do_resize": True, "do_rescale": True, "do_normalize": True}
_CLIP: Mapping[str, Any] = {
    **_NORMALISED,
    "resample": 3,
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "do_center_crop": True,
    "crop_size": _SQUARE,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
}
_SIGLIP: Mapping[str, Any] = {
    **_NORMALISED,
    "resample": 3,
    "size": _SQUARE,
    "default_to_square": False,
    "image_mean": _HALF,
    "image_std": _HALF,
}
_VIT: Mapping[str, Any] = {**_NORMALISED, "size": _SQUARE, "image_mean": _HALF, "image_std": _HALF}
_DINOV3: Mapping[str, Any] = {**_VIT, "image_mean": _IMAGENET_MEAN, "image_std": _IMAGENET_STD}
_NAFLEX: Mapping[str, Any] = {
    **_NORMALISED,
    "image_mean": _HALF,
    "image_std": _HALF,
    "patch_size": 16,
    "max_num_patches": 256,
}
_QWEN: Mapping[str, Any] = {
    **_NORMALISED,
    "resample": 3,
    "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
    "default_to_square": False,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "min_pixels": None,
    "max_pixels": None,
}
_GEMMA: Mapping[str, Any] = {
    "do_resize": True,
    "do_rescale": True,
    "resample": 3,
    "image_mean": (0.0, 0.0, 0.0),
    "image_std": (1.0, 1.0, 1.0),
    "patch_size": 16,
    "max_soft_tokens": 280,
    "pooling_kernel_size": 3,
}
_TILES: Mapping[str, Any] = {
    **_NORMALISED,
    "resample": 1,
    "size": {"longest_edge": 4 * 364},
    "image_mean": _HALF,
    "image_std": _HALF,
    "do_image_splitting": True,
    "max_image_size": {"longest_edge": 364},
    "return_row_col_info": False,
}


@dataclass(frozen=True)
class ImageProcessorType:
    """A class of image processors of transformers: the values that its files may leave out, and what it does."""

    defaults: Mapping[str, Any]
    create: Callable[[ImageConfig], ImageProcessor]


#: By ``image_processor_type``, without the suffixes that name an implementation (``Fast``, ``Pil``).
TYPES: Mapping[str, ImageProcessorType] = {
    "CLIPImageProcessor": ImageProcessorType(_CLIP, ResizeAndCrop.from_config),
    "ChineseCLIPImageProcessor": ImageProcessorType(_CLIP, ResizeAndCrop.from_config),
    "BitImageProcessor": ImageProcessorType(_CLIP, ResizeAndCrop.from_config),
    "SiglipImageProcessor": ImageProcessorType(_SIGLIP, ResizeAndCrop.from_config),
    "ViTImageProcessor": ImageProcessorType(_VIT, ResizeAndCrop.from_config),
    "DINOv3ViTImageProcessor": ImageProcessorType(_DINOV3, ResizeAndCrop.rescaling_first),
    "Siglip2ImageProcessor": ImageProcessorType(_NAFLEX, PatchBudget.from_config),
    "Qwen2VLImageProcessor": ImageProcessorType(_QWEN, SmartResize.from_config),
    "Idefics3ImageProcessor": ImageProcessorType(_TILES, TileSplit.from_config),
    "Gemma4ImageProcessor": ImageProcessorType(_GEMMA, SoftTokenBudget.from_config),
}
#: Types of files that name none, by the model's type.
_TYPE_OF_MODEL = {
    "altclip": "CLIPImageProcessor",
    "chinese_clip": "ChineseCLIPImageProcessor",
    "clip": "CLIPImageProcessor",
    "clip_vision_model": "CLIPImageProcessor",
    "dinov2": "BitImageProcessor",
    "dinov2_with_registers": "BitImageProcessor",
    "metaclip_2": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip_vision_model": "SiglipImageProcessor",
    "vit": "ViTImageProcessor",
}


def read_image_processor(folder: Path) -> ImageProcessor | None:
    """Return how the model in a folder prepares pictures; None if no file there says it.

    ``image_processor`` in ``processor_config.json`` comes first, then ``preprocessor_config.json``, as in transformers,
    then ``preprocess_cfg`` in ``open_clip_config.json``.

    Raises:
        ModelRefused: a file is damaged, of an unknown type, or has an unknown key or value.
    """
    nested = read_optional(folder / "processor_config.json").get("image_processor")
    for name, config in (
        ("processor_config.json", nested),
        ("preprocessor_config.json", read_optional(folder / "preprocessor_config.json")),
    ):
        if config and not _is_sound(config):
            return create_image_processor(config, name, read_optional(folder / "config.json").get("model_type"))
    return read_preprocess_cfg(folder / "open_clip_config.json")


def create_image_processor(config: object, source: str, model_type: object = None) -> ImageProcessor:
    """Return the processor that the values of a file describe.

    Args:
        config: the values.
        source: the file's name, for messages.
        model_type: the model's type, for old files that do not name their own.

    Raises:
        ModelRefused: the type, a key or a value is unknown.
    """
    if not isinstance(config, Mapping):
        raise ModelRefused(f"{source}: the values of an image processor must be an object")
    if config.get("auto_map"):
        raise ModelRefused(f"{source}: the image processor is code in the model's folder (auto_map), which is not run")
    kind = TYPES.get(_type_name(config, source, model_type))
    if kind is None:
        name = config.get("image_processor_type") or config.get("feature_extractor_type")
        raise ModelRefused(f"{source}: unknown image_processor_type {name!r}. {nearest(name, TYPES)}")
    return kind.create(ImageConfig.create(config, source, kind.defaults))


def _type_name(config: JsonObject, source: str, model_type: object) -> str:
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    name = name or _TYPE_OF_MODEL.get(str(model_type))
    if not isinstance(name, str):
        raise ModelRefused(f"{source}: it has no image_processor_type, and none is known for models {model_type!r}")
    if name.endswith("FeatureExtractor"):
        name = name.removesuffix("FeatureExtractor") + "ImageProcessor"
    return name.removesuffix("Fast").removesuffix("Pil")


def _is_sound(config: object) -> bool:
    """Return whether a file is that of a sound model: both kinds have the same name."""
    return isinstance(config, Mapping) and "sampling_rate" in config and "image_processor_type" not in config
