"""Videos in the sequences of EmbeddingGemma 2: frames with or without their times, against transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Audio, Encoder, Video
from nearfield.errors import InputError, InputTooLong, ModelRefused
from nearfield.inference.preparation.fused.embedding_gemma2 import time_of
from tests.support import tiny_multimodal
from tests.support.odd_pictures import smooth
from tests.support.tiny_multimodal import ChosenFrames
from tests.support.video_reference import GEMMA_VIDEO, gemma_indices

pytestmark = pytest.mark.slow

FRAMES = [smooth(40, 24, seed) for seed in range(9)]
PIXELS = np.stack([np.asarray(frame) for frame in FRAMES])
PICTURE = smooth(33, 60, 20)
SOUND = (np.sin(np.arange(9000) ** 1.4 / 50) * 0.3).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("gemma") / "model"
    return tiny_multimodal.embedding_gemma2_with_media(
        place, sounds=True, videos={**GEMMA_VIDEO, "max_soft_tokens": 70}
    )


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Iterator[Encoder]:
    with load(folder) as encoder:
        yield encoder


def load(folder: Path, **options: Any) -> Encoder:
    return Encoder(str(folder), backend="openvino", compile_cache=False, precision="float32", **options)


def changed(folder: Path, place: Path, **values: Any) -> Path:
    """Return a copy of a model with other values of its processor of videos."""
    shutil.copytree(folder, place)
    stored = json.loads((place / "processor_config.json").read_text())
    videos = {**stored["video_processor"], **values}
    (place / "processor_config.json").write_text(json.dumps({**stored, "video_processor": videos}))
    return place


def chosen(rate: float, **values: Any) -> ChosenFrames:
    indices = gemma_indices(len(FRAMES), rate, **values)
    return ChosenFrames([FRAMES[index] for index in indices], [index / rate for index in indices])


def vectors(folder: Path, inputs: list[list[Any]]) -> Any:
    return tiny_multimodal.embedding_gemma2_vectors(folder, inputs)


def test_videos_among_texts_pictures_and_sounds_are_as_in_transformers(encoder: Encoder, folder: Path) -> None:
    assert encoder.modalities == ("text", "image", "audio", "video")
    video, frames = Video(PIXELS, rate=2), chosen(2)
    assert len(frames.pictures) == 4
    items = [
        video,
        {"text": "a fox", "video": video},
        {"video": video, "text": "a fox"},
        ["a fox ", PICTURE, " runs ", video, " away ", Audio(SOUND, rate=16_000)],
        {"text": "<|video|> beside <|image|>", "image": PICTURE, "video": video},
        [video, Video(PIXELS[::-1], rate=9)],
    ]
    last = ChosenFrames(FRAMES[-1:], [0.0])
    parts: list[list[Any]] = [
        [frames],
        ["a fox", frames],
        [frames, "a fox"],
        ["a fox ", PICTURE, " runs ", frames, " away ", SOUND],
        [frames, " beside ", PICTURE],
    ]
    truth = vectors(folder, [*parts, [frames, last]])
    np.testing.assert_allclose(encoder.encode(items), truth, atol=5e-6)
    np.testing.assert_allclose(encoder.encode(items[3:4]), truth[3:4], atol=5e-6)
    assert np.abs(truth[1] - truth[2]).max() > 1e-3
    prompted = encoder.encode(items[:1], prompt="title: none | text: ")
    np.testing.assert_allclose(prompted, vectors(folder, [["title: none | text: ", frames]]), atol=5e-6)


@pytest.mark.parametrize(
    "values",
    [
        {"add_timestamps": False},
        {"fps": 2, "max_frames": 3},
        {"overflow_strategy": "truncate", "max_frames": 2, "image_mean": [0.2, 0.3, 0.4], "image_std": [0.5, 0.6, 0.7]},
        {"max_soft_tokens": 140, "max_frames": 2},
    ],
    ids=str,
)
def test_the_values_of_the_file_are_obeyed(values: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path / "model", **values)
    truth = vectors(other, [["a fox", chosen(2, **values)]])
    with load(other) as encoder:
        found = encoder.encode([{"text": "a fox", "video": Video(PIXELS, rate=2)}])
    np.testing.assert_allclose(found, truth, atol=5e-6)
    usual = vectors(folder, [["a fox", chosen(2)]])
    assert np.abs(truth - usual).max() > 1e-3


def test_frames_that_are_chosen_in_a_call(encoder: Encoder, folder: Path) -> None:
    found = encoder.encode([Video(PIXELS, rate=2, fps=2, max_frames=3), Video(PIXELS, rate=2, start=2, max_frames=1)])
    part = ChosenFrames(FRAMES[4:5], [2.0])
    np.testing.assert_allclose(found, vectors(folder, [[chosen(2, fps=2, max_frames=3)], [part]]), atol=5e-6)


def test_times_are_those_of_the_reference() -> None:
    from transformers import EmbeddingGemma2Processor

    for seconds in (0, 0.4, 0.5, 0.9676, 1.5, 2.5, 59.5, 59.4, 61, 3599.6, 6000):
        assert time_of(seconds) == EmbeddingGemma2Processor.timestamp_fmt(seconds)


def test_words_are_cut_and_frames_and_their_times_stay(encoder: Encoder) -> None:
    video = Video(PIXELS, rate=2, max_frames=3)
    whole = encoder.encode([[video, "river " * 20]])
    alone = encoder.encode([[video]])
    assert whole.tokens is not None and alone.tokens is not None
    cut = encoder.encode([[video, "river " * 20]], max_length=int(alone.tokens[0]))
    np.testing.assert_allclose(cut, alone, atol=1e-6)
    assert cut.dropped is not None and cut.dropped[0] == whole.tokens[0] - alone.tokens[0]
    with pytest.raises(InputTooLong):
        encoder.encode([[video, "a fox"]], max_length=100)
    assert video.pixels_read == 2 * 24 * 40


def test_placeholders_and_videos_are_as_many(encoder: Encoder) -> None:
    with pytest.raises(InputError, match=r"The placeholder <\|video\|> is 2 times in the text, and there are 1"):
        encoder.encode([{"text": "<|video|> a <|video|>", "video": Video(PIXELS, rate=2)}])


def test_a_model_without_a_processor_of_videos_reads_none(folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path / "model")
    stored = json.loads((other / "processor_config.json").read_text())
    values = stored.pop("video_processor")
    (other / "processor_config.json").write_text(json.dumps(stored))
    with load(other) as encoder:
        assert encoder.modalities == ("text", "image", "audio")
        with pytest.raises(InputError, match="video"):
            encoder.encode([{"text": "a", "video": Video(PIXELS, rate=2)}])
    (other / "video_preprocessor_config.json").write_text(json.dumps({**values, "pooling_kernel_size": 2}))
    with pytest.raises(ModelRefused, match=r"the processor of videos must be .* pooling_kernel_size"):
        load(other)
