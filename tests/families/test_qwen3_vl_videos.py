"""Videos in the sequences of Qwen3-VL-Embedding: pairs of frames with their times, against transformers."""

from __future__ import annotations

import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from nearfield import Encoder, Video
from nearfield.checkpoint.processors.patch_budget import SmartResize
from nearfield.errors import InputTooLong, ModelRefused
from nearfield.features import PatchFeatures, PatchLayout
from nearfield.media.decoding import Picture
from tests.support import tiny_multimodal
from tests.support.odd_pictures import smooth
from tests.support.video_reference import QWEN_VIDEO, qwen_indices, qwen_size

pytestmark = pytest.mark.slow

MANY = np.stack([np.asarray(smooth(40, 24, seed)) for seed in range(12)])
FRAMES = MANY[:4]
PICTURE = smooth(33, 30, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_multimodal.qwen3_vl_embedding(tmp_path_factory.mktemp("qwen") / "model")


def embedder_size() -> tuple[int, int]:
    """Return the size of frames where no file says another."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    height, width = smart_resize(24, 40, factor=8, min_pixels=128 * 64, max_pixels=768 * 64)
    return height, width


def pairs_of(processor: Any, chosen: Any, size: tuple[int, int]) -> tuple[Any, Any]:
    """Return the patches of pairs of frames, and their grid; transformers' own class needs torchvision."""
    import torch

    height, width = size
    frames = [PIL.Image.fromarray(frame).resize((width, height), PIL.Image.Resampling.BICUBIC) for frame in chosen]
    prepared = [processor([frame], do_resize=False, return_tensors="np") for frame in frames]
    patches = [one["pixel_values"].reshape(-1, 3, 2, 4, 4) for one in prepared]
    joined = [np.stack([a[:, :, 0], b[:, :, 1]], axis=2) for a, b in zip(patches[::2], patches[1::2], strict=True)]
    rows, columns = prepared[0]["image_grid_thw"][0, 1:].tolist()
    values = np.concatenate(joined).reshape(-1, 96)
    return torch.tensor(values), torch.tensor([[len(frames) // 2, rows, columns]])


def expected(
    folder: Path, text: str, *, picture: bool, indices: Any = range(4), rate: float = 1, size: Any = None
) -> Any:
    """Return transformers' vector of the video, a picture and a text."""
    import torch
    from transformers import AutoModel, AutoTokenizer, Qwen2VLImageProcessorPil

    model, words = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    values, grid = pairs_of(processor, MANY[indices], size or embedder_size())
    media: dict[str, Any] = {"pixel_values_videos": values, "video_grid_thw": grid}
    count = int(grid[0, 1] * grid[0, 2]) // 4
    pair = f"<|vision_start|>{'<|video_pad|>' * count}<|vision_end|>"
    times = np.asarray(indices).reshape(-1, 2).mean(1) / rate
    shown = "".join(f"<{time:.1f} seconds>{pair}" for time in times)
    if picture:
        media |= dict(processor([PICTURE], return_tensors="pt"))
        shown += f"<|vision_start|>{'<|image_pad|>' * (int(media['image_grid_thw'].prod()) // 4)}<|vision_end|>"
    head = "<|im_start|>system\nRepresent the user's input.<|im_end|>\n<|im_start|>user\n"
    ids = words(f"{head}{shown}{text}<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt").input_ids
    image, video = (words.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("image", "video"))
    kinds = (ids == image).int() + 2 * (ids == video).int()
    with torch.no_grad():
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds, **media}
        state = model(**given).last_hidden_state[0, -1].numpy()
    return state / np.linalg.norm(state)


def test_videos_with_texts_and_pictures_are_as_in_transformers(folder: Path) -> None:
    video = Video(FRAMES, rate=1)
    truth = [expected(folder, "a fox", picture=True), expected(folder, "", picture=False)]
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        assert encoder.modalities == ("text", "image", "video")
        found = encoder.encode([{"text": "a fox", "video": video, "image": PICTURE}, video, "a fox"])
        np.testing.assert_allclose(np.asarray(found)[:2], truth, atol=2e-5)
        other = encoder.encode([Video(FRAMES[::-1], rate=1)])
    assert np.abs(np.asarray(other) - truth[1]).max() > 1e-3


@pytest.mark.parametrize("capped", [False, True])
def test_the_values_of_the_file_are_obeyed(folder: Path, tmp_path: Path, *, capped: bool) -> None:
    values = {**QWEN_VIDEO, "cap_pixels_per_frame": capped, "max_video_tokens": 10}
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "video_preprocessor_config.json").write_text(json.dumps(values))
    indices = qwen_indices(len(MANY), 5.0, {**values, "max_frames": 5, "fps": 2.5})
    assert len(indices) == 5  # an odd number: the last one is repeated
    size = qwen_size(len(indices), 24, 40, values)
    assert size != embedder_size()
    pairs = [*indices, indices[-1]]
    truth = expected(folder, "a fox", picture=False, indices=pairs, rate=5.0, size=size)
    with Encoder(str(tmp_path / "model"), precision="float32", compile_cache=False) as encoder:
        found = encoder.encode([{"text": "a fox", "video": Video(MANY, rate=5, max_frames=5, fps=2.5)}])
    np.testing.assert_allclose(np.asarray(found)[0], truth, atol=2e-5)


def test_a_processor_of_other_patches_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    for change in ({"patch_size": 8}, {"merge_size": 1}, {"temporal_patch_size": 1}):
        (tmp_path / "model" / "video_preprocessor_config.json").write_text(json.dumps({**QWEN_VIDEO, **change}))
        with pytest.raises(ModelRefused, match="the processor of videos must be Qwen3VLVideoProcessor, with"):
            Encoder(str(tmp_path / "model"), precision="float32", compile_cache=False)


def test_a_video_is_decoded_frame_by_frame_and_not_beyond_what_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Picture]] = []
    most = 0

    def noted(self: SmartResize, picture: Picture, layout: PatchLayout) -> PatchFeatures:
        nonlocal most
        alive.append(weakref.ref(picture))
        most = max(most, sum(one() is not None for one in alive))
        return process(self, picture, layout)

    process = SmartResize.process
    monkeypatch.setattr(SmartResize, "process", noted)
    video = Video(np.concatenate([FRAMES] * 5), rate=1)
    with (
        Encoder(str(folder), precision="float32", compile_cache=False) as encoder,
        pytest.raises(InputTooLong, match=r"Input 0: its pictures and sounds have at least .* at most 400"),
    ):
        encoder.encode([{"text": "a fox", "video": video}])
    assert video.pixels_read == 6 * 24 * 40
    assert most <= 2
