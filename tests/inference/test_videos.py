"""Videos in an encoder of texts and pictures: the mean of the vectors that transformers gives their frames."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError, TooLarge
from nearfield.inference.calls.limits import CallLimits
from nearfield.inference.encode_options import EncodeOptions
from nearfield.inference.preparation.inputs import windows
from nearfield.inference.result_cache import ResultCache
from nearfield.media.limits import MediaLimits, VideoLimits
from nearfield.media.video.video import Video
from tests.support import films, tiny_pictures
from tests.support.films import Film, decoded, write_film

pytestmark = [pytest.mark.slow, pytest.mark.process]

TEXTS = ["a cat", "x"]
PICTURE = tiny_pictures.pictures()[0]
TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def clips() -> list[bytes]:
    """Films of three seconds and of one frame."""
    return [write_film(Film(count=36)), write_film(Film("webm vp9", count=30, seed=1)), write_film(Film(count=1))]


def mean_of(frames: list[Array], folder: Path) -> Array:
    """Return the mean of the vectors of frames from transformers, which have unit length, of unit length."""
    vectors = tiny_pictures.clip_vectors(folder, TEXTS, [PIL.Image.fromarray(frame) for frame in frames])[1]
    mean: Array = vectors.mean(0)
    return mean / np.linalg.norm(mean)


@pytest.fixture(scope="module")
def truth(folder: Path, clips: list[bytes]) -> Array:
    """The vectors of the films by hand: a frame a second, decoded by PyAV."""
    pixels = [decoded(clip)[0] for clip in clips]
    chosen = [[0, 12, 24], [0, 15], [0]]
    parts = [[frames[number] for number in numbers] for frames, numbers in zip(pixels, chosen, strict=True)]
    return np.stack([mean_of(part, folder) for part in parts])


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Iterator[Encoder]:
    with Encoder(str(folder), precision="float32", compile_cache=False) as model:
        yield model


def test_a_video_is_the_mean_of_its_frames(encoder: Encoder, clips: list[bytes], truth: Array, folder: Path) -> None:
    assert encoder.modalities == ("text", "image", "video")
    vectors = encoder.encode(list(map(Video, clips)))
    assert np.abs(np.asarray(vectors) - truth).max() < TOLERANCE
    assert vectors.tokens.tolist() == [3 * 17, 2 * 17, 17]
    assert vectors.fingerprint == encoder.fingerprint
    alone = np.stack([np.asarray(encoder.encode(Video(clip))) for clip in clips])
    assert np.abs(alone - truth).max() < TOLERANCE
    several = [decoded(clips[0])[0][number] for number in range(0, 36, 3)]
    faster = encoder.encode(Video(clips[0], fps=4))
    assert np.abs(np.asarray(faster) - mean_of(several, folder)).max() < TOLERANCE
    assert faster.tokens == 12 * 17


def test_videos_among_texts_and_pictures(encoder: Encoder, clips: list[bytes], truth: Array, tmp_path: Path) -> None:
    path = tmp_path / "clip of no name"
    path.write_bytes(clips[0])
    items: list[Any] = [TEXTS[0], path, PICTURE, clips[1], Video(clips[2]), {"video": clips[0]}, TEXTS[1]]
    mixed = np.asarray(encoder.encode(items))
    assert np.abs(mixed[[1, 3, 4, 5]] - truth[[0, 1, 2, 0]]).max() < TOLERANCE
    assert np.abs(mixed[[0, 6]] - np.asarray(encoder.encode(TEXTS))).max() < TOLERANCE
    assert np.abs(mixed[2] - np.asarray(encoder.encode(PICTURE))).max() < TOLERANCE
    assert encoder.encode(path).shape == (24,)


def test_frames_of_arrays(encoder: Encoder, folder: Path) -> None:
    pixels = np.stack(films.pictures(Film(count=20)))
    vector = encoder.encode(Video(pixels, rate=10))
    assert np.abs(np.asarray(vector) - mean_of([pixels[0], pixels[10]], folder)).max() < TOLERANCE


def test_a_video_of_one_picture_has_its_vector(encoder: Encoder) -> None:
    still = np.stack([np.asarray(PICTURE)] * 5)
    of_video, of_picture = np.asarray(encoder.encode([Video(still, rate=1), PICTURE]))
    assert np.abs(of_video - of_picture).max() < TOLERANCE


def test_vectors_that_are_not_scaled_to_unit_length_do_not_count_by_length(
    encoder: Encoder, truth: Array, clips: list[bytes]
) -> None:
    vector = encoder.encode(Video(clips[0]), normalize_embeddings=False)
    assert np.abs(np.asarray(vector) - truth[0]).max() < TOLERANCE


def test_calls_without_waiting_compute_a_frame_once(encoder: Encoder, clips: list[bytes], truth: Array) -> None:
    async def calls() -> list[Any]:
        encoder.cache = ResultCache(10**6)
        first = await encoder.aencode(Video(clips[0]))
        again = await encoder.aencode([Video(clips[0]), Video(clips[0], end=2)])
        hits, encoder.cache = encoder.cache.hits, None
        assert hits == 5
        return [first, again[0]]

    for result in asyncio.run(calls()):
        assert np.abs(np.asarray(result) - truth[0]).max() < TOLERANCE


def test_other_processes_and_one_tower_alone(folder: Path, clips: list[bytes], truth: Array) -> None:
    with Encoder(str(folder), precision="float32", compile_cache=False, modalities=("video",)) as model:
        assert model.modalities == ("image", "video")
        assert np.abs(np.asarray(model.encode(Video(clips[0]))) - truth[0]).max() < TOLERANCE
        with pickle.loads(pickle.dumps(model)) as copy:
            assert (
                np.abs(np.asarray(copy.encode(pickle.loads(pickle.dumps(Video(clips[0]))))) - truth[0]).max()
                < TOLERANCE
            )
    with (
        Encoder(str(folder), compile_cache=False, modalities="text") as texts,
        pytest.raises(InputError, match="This is a video, and the model reads texts"),
    ):
        texts.encode(Video(clips[0]))


def test_a_bad_video_is_named(encoder: Encoder, clips: list[bytes]) -> None:
    for bad, message in (
        (Video(clips[0][:500]), "cannot be read as MP4"),
        (Video(b"a text"), "no known video"),
        ({"video": "clip.mp4"}, "no data URI"),
    ):
        inputs: list[Any] = [TEXTS[0], Video(clips[2]), bad]
        with pytest.raises(InputError, match=message) as caught:
            encoder.encode(inputs)
        assert str(caught.value).startswith("Input 2: ")
    with pytest.raises(InputError, match="Only texts have a prompt"):
        encoder.encode(Video(clips[0]), prompt="query: ")


def test_limits_of_a_call(encoder: Encoder, clips: list[bytes]) -> None:
    limits = CallLimits(media=MediaLimits(videos=VideoLimits(max_seconds=2)))
    with pytest.raises(TooLarge, match="Input 1: The video has 3 seconds"):
        asyncio.run(encoder.run_encode([TEXTS[0], Video(clips[0])], EncodeOptions(), limits))


def test_few_videos_are_prepared_ahead() -> None:
    sizes = [len(window) for _, window in windows([Video(b"x")] * 40, 4096)]
    assert max(sizes) <= 8 and sum(sizes) == 40


def test_labels(encoder: Encoder, clips: list[bytes]) -> None:
    prediction = encoder.zero_shot(Video(clips[0]), ["cat", "dog"])
    assert sum(prediction.scores.values()) == pytest.approx(1, abs=1e-5)
