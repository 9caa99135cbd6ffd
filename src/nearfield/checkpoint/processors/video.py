"""Read how a model folder prepares videos for a sequence: which frames are read, and how large they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.checkpoint.json_file import JsonObject, read_optional
from nearfield.checkpoint.processors.image_config import ImageConfig
from nearfield.checkpoint.processors.image_processor import ImageProcessor
from nearfield.checkpoint.processors.patch_budget import FrameBudget, SmartResize, SoftTokenBudget
from nearfield.errors import ModelRefused, nearest
from nearfield.media.video.frame_choice import FrameRule

#: The frames that the embedder of Qwen3-VL reads of a video: one a second, both ends among them, in pairs.
EMBEDDER_FRAMES = FrameRule(fps=1.0, max_frames=64, min_frames=4, multiple=2, reaches_end=True)
_NORMALISED: Mapping[str, Any] = {"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 3}
_GEMMA: Mapping[str, Any] = {
    **_NORMALISED,
    "image_mean": (0.0, 0.0, 0.0),
    "image_std": (1.0, 1.0, 1.0),
    "patch_size": 16,
    "max_soft_tokens": 70,
    "pooling_kernel_size": 3,
    "fps": 1,
    "max_frames": 32,
    "overflow_strategy": "uniform",
    "add_timestamps": False,
}
#: What a file leaves out of the choice of frames and of their size is as in the model's embedder.
_QWEN: Mapping[str, Any] = {
    **_NORMALISED,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "fps": EMBEDDER_FRAMES.fps,
    "min_frames": EMBEDDER_FRAMES.min_frames,
    "max_frames": EMBEDDER_FRAMES.max_frames,
    "size": None,
    "cap_pixels_per_frame": None,
    "max_video_tokens": None,
}
#: Keys that change neither frames nor pixels.
_NEUTRAL = frozenset(("video_processor_type", "return_metadata", "_valid_kwargs_names", "model_valid_processing_keys"))
#: The one value of a key that is served.
_SERVED: Mapping[str, bool | None] = {
    "do_sample_frames": True,
    "do_resize": True,
    "do_center_crop": False,
    "do_pad": False,
    "load_audio_from_video": False,
    "num_frames": None,
    "video_metadata": None,
}


@dataclass(frozen=True)
class VideoProcessor:
    """How a video becomes frames, and these become patches.

    Args:
        images: what prepares a frame.
        rule: which frames are read.
        has_times: whether the time of a frame is written before it.
    """

    images: ImageProcessor
    rule: FrameRule
    has_times: bool = True


@dataclass(frozen=True)
class VideoProcessorType:
    """A class of video processors of transformers: the values that its files may leave out, and what it does."""

    defaults: Mapping[str, Any]
    create: Callable[[ImageConfig], VideoProcessor]


def _gemma(config: ImageConfig) -> VideoProcessor:
    if config.values["overflow_strategy"] not in ("uniform", "truncate"):
        raise config.error("overflow_strategy", "uniform or truncate")
    rule = FrameRule(
        fps=_rate(config),
        max_frames=config.whole("max_frames"),
        stepped=True,
        cut=config.values["overflow_strategy"] == "truncate",
    )
    _require_null(config, ("size", "crop_size", "pad_size"))
    return VideoProcessor(SoftTokenBudget.from_config(config), rule, config.flag("add_timestamps"))


def _qwen(config: ImageConfig) -> VideoProcessor:
    rule = FrameRule(
        fps=_rate(config),
        max_frames=config.whole("max_frames"),
        min_frames=config.whole("min_frames"),
        reaches_end=True,
    )
    _require_null(config, ("crop_size", "pad_size"))
    if config.values["size"] is not None:
        # transformers' own values.
        cap = {"cap_pixels_per_frame": False, "max_video_tokens": 768}
        stated = {key: value for key, value in config.values.items() if value is not None}
        return VideoProcessor(FrameBudget.from_config(ImageConfig({**cap, **stated}, config.source)), rule)
    _require_null(config, ("cap_pixels_per_frame", "max_video_tokens"))
    images = SmartResize(
        **config.normalisation(),
        patch_size=config.whole("patch_size"),
        merge=config.whole("merge_size"),
        min_pixels=1,
        max_pixels=1,
        resize=True,
    )
    return VideoProcessor(images, rule)


#: By ``video_processor_type``.
TYPES: Mapping[str, VideoProcessorType] = {
    "EmbeddingGemma2VideoProcessor": VideoProcessorType(_GEMMA, _gemma),
    "Qwen3VLVideoProcessor": VideoProcessorType(_QWEN, _qwen),
}
#: Types of files that name none, by the model's type.
_TYPE_OF_MODEL = {"embedding_gemma2": "EmbeddingGemma2VideoProcessor", "qwen3_vl": "Qwen3VLVideoProcessor"}


def read_video_processor(folder: Path) -> VideoProcessor | None:
    """Return how the model in a folder prepares videos; None if no file there says it.

    ``video_processor`` in ``processor_config.json`` comes first, then ``video_preprocessor_config.json``, as in
    transformers.

    Raises:
        ModelRefused: a file is damaged, of an unknown type, or has an unknown key or value.
    """
    nested = read_optional(folder / "processor_config.json").get("video_processor")
    for name, config in (
        ("video_processor in processor_config.json", nested),
        ("video_preprocessor_config.json", read_optional(folder / "video_preprocessor_config.json")),
    ):
        if config:
            return create_video_processor(config, name, read_optional(folder / "config.json").get("model_type"))
    return None


def create_video_processor(config: object, source: str, model_type: object = None) -> VideoProcessor:
    """Return the processor that the values of a file describe.

    Args:
        config: the values.
        source: the file's name, for messages.
        model_type: the model's type, for files that do not name their own.

    Raises:
        ModelRefused: the type, a key or a value is unknown.
    """
    if not isinstance(config, Mapping):
        raise ModelRefused(f"{source}: the values of a video processor must be an object")
    if config.get("auto_map"):
        raise ModelRefused(f"{source}: the video processor is code in the model's folder (auto_map), which is not run")
    name = config.get("video_processor_type") or _TYPE_OF_MODEL.get(str(model_type))
    kind = TYPES.get(str(name))
    if kind is None:
        raise ModelRefused(f"{source}: unknown video_processor_type {name!r}. {nearest(str(name), TYPES)}")
    return kind.create(ImageConfig.create(_checked(config, source, kind), source, kind.defaults))


def _checked(config: JsonObject, source: str, kind: VideoProcessorType) -> JsonObject:
    """Return the values without those of which one alone is served; null is what transformers takes for no value."""
    for key, value in config.items():
        if key in _SERVED:
            served = _SERVED[key]
            if value is not served and (value is not None or served):
                raise ModelRefused(f"{source}: {key} must be {_word(served)} to be read here, and is {value!r:.100}")
        elif value is None and kind.defaults.get(key) is not None:
            raise ModelRefused(f"{source}: {key} must not be null: leave it out")
    return {key: value for key, value in config.items() if key not in _SERVED and key not in _NEUTRAL}


def _word(value: bool | None) -> str:
    return "null" if value is None else str(value).lower()


def _rate(config: ImageConfig) -> float:
    value = config.values["fps"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1000:
        raise config.error("fps", "a number of frames a second")
    return float(value)


def _require_null(config: ImageConfig, keys: tuple[str, ...]) -> None:
    """Raise ModelRefused if one of the keys has a value, which transformers would not use, or not alone."""
    for key in keys:
        if config.values[key] is not None:
            raise config.error(key, "left out, as nothing is done with it here")
