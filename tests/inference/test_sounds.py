"""Sounds and texts in one encoder, compared with transformers: forms of input, windows, calls, and bad input."""

from __future__ import annotations

import asyncio
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile  # type: ignore[import-untyped]

from nearfield.encoder import Encoder
from nearfield.errors import InputError, TooLarge
from nearfield.inference.calls.limits import CallLimits
from nearfield.inference.encode_options import EncodeOptions
from nearfield.media.audio import Audio
from nearfield.media.limits import MediaLimits, SoundLimits
from tests.support import tiny_sounds
from tests.support.tiny_sounds import RATE, tone

pytestmark = pytest.mark.slow

TEXTS = ["a dog barks", "rain"]
WAVES = [tone(10, 440), tone(3, 900), tone(0.1, 100)]
TOLERANCE = 2e-6


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "fused"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sounds.write_clap(tmp_path_factory.mktemp("models") / "clap", fused=request.param)


@pytest.fixture(scope="module")
def truth(folder: Path) -> tuple[Any, Any]:
    """The vectors of the texts and of the sounds, from transformers."""
    return tiny_sounds.clap_vectors(folder, TEXTS, WAVES)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Iterator[Encoder]:
    with Encoder(str(folder), precision="float32", compile_cache=False) as model:
        yield model


def sounds() -> list[Audio]:
    return [Audio(wave, rate=RATE) for wave in WAVES]


def wav(samples: Any, rate: int = RATE) -> bytes:
    """Return the bytes of a WAV file of floats."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def test_texts_and_sounds_agree_with_transformers(encoder: Encoder, truth: tuple[Any, Any]) -> None:
    assert encoder.modalities == ("text", "audio")
    assert np.abs(np.asarray(encoder.encode(TEXTS)) - truth[0]).max() < TOLERANCE
    assert np.abs(np.asarray(encoder.encode(sounds())) - truth[1]).max() < TOLERANCE
    mixed = encoder.encode([TEXTS[0], Audio(WAVES[1], rate=RATE), TEXTS[1]])
    assert np.abs(np.asarray(mixed) - np.stack([truth[0][0], truth[1][1], truth[0][1]])).max() < TOLERANCE
    assert mixed.fingerprint == encoder.fingerprint


def test_every_form_of_a_sound(encoder: Encoder, truth: tuple[Any, Any], tmp_path: Path) -> None:
    data = wav(WAVES[1])
    path = tmp_path / "sound of no name"
    path.write_bytes(data)
    stereo = Audio(np.stack([WAVES[1], WAVES[1]], axis=1), rate=RATE)
    forms: list[Any] = [data, path, Audio(path=str(path)), {"audio": path}, stereo]
    assert np.abs(np.asarray(encoder.encode(forms)) - truth[1][1]).max() < TOLERANCE
    assert encoder.encode(data).shape == (24,)
    resampled = encoder.encode(Audio(tone(3, 900, 16_000), rate=16_000))
    assert float(np.asarray(resampled) @ truth[1][1]) > 0.99


def test_a_long_sound_is_the_mean_of_its_windows(encoder: Encoder, folder: Path) -> None:
    long = np.concatenate([tone(10, 440), tone(6, 1500)])
    vector = encoder.encode(Audio(long, rate=RATE))
    assert vector.tolist() == encoder.encode(Audio(long, rate=RATE)).tolist()
    assert abs(float(np.linalg.norm(np.asarray(vector))) - 1) < 1e-5
    if encoder.recipe.towers["audio"].config.get("enable_fusion"):
        assert vector.tokens == 64
        return
    windows = [long[: 10 * RATE], long[6 * RATE :]]
    parts = tiny_sounds.clap_vectors(folder, TEXTS, windows)[1]
    mean = parts.mean(0) / np.linalg.norm(parts.mean(0))
    assert vector.tokens == 128
    assert np.abs(np.asarray(vector) - mean).max() < TOLERANCE


def test_calls_without_waiting_and_other_processes(encoder: Encoder, truth: tuple[Any, Any]) -> None:
    items: list[Any] = [TEXTS[0], *sounds()]
    result = asyncio.run(encoder.aencode(items))
    assert np.abs(np.asarray(result) - np.concatenate([truth[0][:1], truth[1]])).max() < TOLERANCE
    again = pickle.loads(pickle.dumps(sounds()[2]))
    assert encoder.encode(again).tolist() == encoder.encode(sounds()[2]).tolist()


def test_zero_shot(encoder: Encoder) -> None:
    prediction = encoder.zero_shot(sounds()[0], ["dog", "rain"])
    by_hand = encoder.zero_shot(sounds()[0], ["dog", "rain"], templates="This is a sound of {}.")
    assert prediction == by_hand
    assert abs(sum(prediction.scores.values()) - 1) < 1e-5


def test_scores_of_labels_agree_with_transformers(encoder: Encoder, folder: Path, truth: tuple[Any, Any]) -> None:
    labels = ["dog", "rain", "bell"]
    sentences = [f"This is a sound of {label}." for label in labels]
    classes, _ = tiny_sounds.clap_vectors(folder, sentences, WAVES[:1])
    logits = tiny_sounds.reference_scale(folder) * truth[1] @ classes.T
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    predictions = encoder.zero_shot(sounds(), labels)
    scores = np.array([[one.scores[label] for label in labels] for one in predictions])
    assert np.abs(scores - expected).max() < 1e-4
    assert [one.label for one in predictions] == [labels[index] for index in expected.argmax(1)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", "empty"),
        (b"plain text, renamed to .wav", "sound"),
        (wav(WAVES[2])[:40], "WAV"),
        (PIL.Image.new("RGB", (4, 4)), "This is a picture, and the model reads texts and sounds"),
        ({"audio": "rain.wav"}, "no data URI"),
        ({"image": b"x"}, "This is a picture"),
        ({"text": "rain", "audio": b"x"}, "The model computes no vector of a text and a sound together"),
    ],
)
def test_a_bad_sound_is_named(encoder: Encoder, bad: Any, message: str) -> None:
    inputs: list[Any] = [TEXTS[0], bad, Audio(WAVES[2], rate=RATE)]
    with pytest.raises(InputError, match=message) as caught:
        encoder.encode(inputs)
    assert "Input 1" in str(caught.value)
    del inputs[1]
    assert encoder.encode(inputs).shape == (2, 24)


def test_limits_of_a_call(encoder: Encoder) -> None:
    limits = CallLimits(media=MediaLimits(sounds=SoundLimits(max_seconds=5)))
    inputs: list[Any] = [TEXTS[0], wav(WAVES[0])]
    with pytest.raises(TooLarge, match="Input 1"):
        asyncio.run(encoder.run_encode(inputs, EncodeOptions(), limits))


def test_texts_have_two_tokens_fewer_than_positions(encoder: Encoder) -> None:
    from transformers import ClapTextConfig

    assert encoder.max_length == ClapTextConfig().max_position_embeddings - 2
    vectors = encoder.encode(["rain " * 510], truncate="right")
    assert vectors.tokens is not None and vectors.tokens[0] == encoder.max_length
