"""Files that say how videos are prepared: each key is obeyed as in transformers, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nearfield.checkpoint.processors.patch_budget import FrameBudget
from nearfield.checkpoint.processors.video import VideoProcessor, create_video_processor, read_video_processor
from nearfield.errors import InputError, ModelRefused
from nearfield.media.video.frame_choice import FrameRule
from tests.support.video_reference import GEMMA_VIDEO, QWEN_VIDEO, qwen_size

SIZES = [(24, 40), (7, 90), (3, 5), (300, 400), (1080, 1920), (97, 97)]


def created(values: Any, **changes: Any) -> VideoProcessor:
    return create_video_processor({**values, **changes}, "video_preprocessor_config.json")


def test_the_choice_of_frames_is_that_of_the_file() -> None:
    assert created(GEMMA_VIDEO).rule == FrameRule(fps=1, max_frames=32, stepped=True)
    changed = created(GEMMA_VIDEO, fps=0.5, max_frames=8, overflow_strategy="truncate", add_timestamps=False)
    assert (changed.rule, changed.has_times) == (FrameRule(fps=0.5, max_frames=8, stepped=True, cut=True), False)
    assert created(QWEN_VIDEO).rule == FrameRule(fps=2, max_frames=7, min_frames=3, reaches_end=True)


def test_what_the_file_of_qwen3_vl_leaves_out_is_as_in_its_embedder() -> None:
    left = create_video_processor({"patch_size": 4}, "video_preprocessor_config.json", "qwen3_vl")
    assert left.rule == FrameRule(fps=1, max_frames=64, min_frames=4, reaches_end=True)
    assert not isinstance(left.images, FrameBudget)


@pytest.mark.slow
@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.parametrize(("least", "most"), [(64, 8960), (4096, 25_165_824), (131_072, 200_000)])
def test_the_size_of_frames_is_that_of_the_processor_of_qwen3_vl(capped: bool, least: int, most: int) -> None:
    size = {"shortest_edge": least, "longest_edge": most}
    values = {**QWEN_VIDEO, "size": size, "cap_pixels_per_frame": capped, "max_video_tokens": 60}
    images = created(values).images
    assert isinstance(images, FrameBudget)
    for frames in (2, 3, 5, 6, 7, 64):
        for height, width in SIZES:
            expected = qwen_size(frames, height, width, values)
            assert images.for_frames(frames).target(height, width) == expected, (frames, height, width)
    with pytest.raises(InputError, match="too long and narrow"):
        images.for_frames(2).target(10, 4000)


@pytest.mark.parametrize("values", [GEMMA_VIDEO, QWEN_VIDEO], ids=["EmbeddingGemma 2", "Qwen3-VL"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sharpen": 2}, "video_preprocessor_config.json: unknown key 'sharpen'"),
        ({"num_frames": 8}, "num_frames must be null to be read here, and is 8"),
        ({"do_sample_frames": False}, "do_sample_frames must be true to be read here, and is False"),
        ({"do_sample_frames": None}, "do_sample_frames must be true"),
        ({"do_resize": False}, "do_resize must be true"),
        ({"do_center_crop": True}, "do_center_crop must be false"),
        ({"load_audio_from_video": True}, "load_audio_from_video must be false"),
        ({"crop_size": {"height": 8, "width": 8}}, "crop_size must be left out"),
        ({"fps": 0}, "fps must be a number of frames a second, and is 0"),
        ({"fps": None}, "fps must not be null: leave it out"),
        ({"max_frames": 1.5}, "max_frames must be a positive whole number, and is 1.5"),
        ({"video_processor_type": "VideoMAEVideoProcessor"}, "unknown video_processor_type 'VideoMAEVideoProcessor'"),
        ({"auto_map": {"AutoVideoProcessor": "code.Frames"}}, "code in the model's folder"),
    ],
    ids=str,
)
def test_keys_that_are_unknown_or_not_served_are_refused(values: Any, change: Any, message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        created(values, **change)


def test_keys_of_one_kind_of_model() -> None:
    for values, key, value in (
        (GEMMA_VIDEO, "overflow_strategy", "middle"),
        (GEMMA_VIDEO, "max_soft_tokens", 100),
        (GEMMA_VIDEO, "add_timestamps", "yes"),
        (GEMMA_VIDEO, "size", {"height": 8, "width": 8}),
        (GEMMA_VIDEO, "min_frames", 4),
        (QWEN_VIDEO, "size", {"shortest_edge": 64}),
        (QWEN_VIDEO, "size", {"shortest_edge": 64, "longest_edge": 900, "height": 3}),
        (QWEN_VIDEO, "min_frames", 0),
        (QWEN_VIDEO, "cap_pixels_per_frame", 1),
        (QWEN_VIDEO, "max_soft_tokens", 70),
    ):
        with pytest.raises(ModelRefused, match=key):
            created(values, **{key: value})


def test_the_nested_values_come_before_those_of_the_file(tmp_path: Path) -> None:
    assert read_video_processor(tmp_path) is None
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps({**GEMMA_VIDEO, "fps": 3}))
    alone = read_video_processor(tmp_path)
    (tmp_path / "processor_config.json").write_text(json.dumps({"video_processor": {**GEMMA_VIDEO, "fps": 5}}))
    nested = read_video_processor(tmp_path)
    assert alone is not None and nested is not None
    assert (alone.rule.fps, nested.rule.fps) == (3, 5)
    (tmp_path / "processor_config.json").write_text(json.dumps({"video_processor": [1]}))
    with pytest.raises(ModelRefused, match=r"video_processor in processor_config\.json: the values"):
        read_video_processor(tmp_path)
