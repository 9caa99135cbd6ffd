"""Mel values of sounds against transformers' ClapFeatureExtractor, and what of its files is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.checkpoint.processors.audio import read_audio_processor
from nearfield.checkpoint.processors.audio_processor import AudioProcessor, shrink
from nearfield.errors import ModelRefused
from nearfield.media.audio import Audio, read_sound
from tests.media.test_audio import tone, written

pytestmark = pytest.mark.slow

pytest.importorskip("soundfile")
pytest.importorskip("soxr")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

RATE = 48_000
#: preprocessor_config.json of laion/clap-htsat-unfused.
LAION: dict[str, Any] = {
    "chunk_length_s": 10,
    "feature_extractor_type": "ClapFeatureExtractor",
    "feature_size": 64,
    "fft_window_size": 1024,
    "frequency_max": 14_000,
    "frequency_min": 50,
    "hop_length": 480,
    "max_length_s": 10,
    "n_fft": 1024,
    "nb_frequency_bins": 513,
    "nb_max_samples": 480_000,
    "padding": "repeatpad",
    "padding_side": "right",
    "padding_value": 0.0,
    "processor_class": "ClapProcessor",
    "return_attention_mask": False,
    "sampling_rate": RATE,
    "top_db": None,
    "truncation": "rand_trunc",
}


def folder_of(path: Path, fused: bool = False, nested: bool = False, **changes: Any) -> Path:
    """Write the files of a folder that the processor reads; a change to None leaves a key out."""
    path.mkdir(exist_ok=True)
    values = {**LAION, "truncation": "fusion" if fused else "rand_trunc", **changes}
    values = {key: value for key, value in values.items() if value is not None or key == "top_db"}
    name = "processor_config.json" if nested else "preprocessor_config.json"
    (path / name).write_text(json.dumps({"feature_extractor": values} if nested else values))
    (path / "config.json").write_text(json.dumps({"model_type": "clap", "audio_config": {"enable_fusion": fused}}))
    return path


def processor_of(path: Path, **options: Any) -> AudioProcessor:
    """Return the processor of such a folder."""
    processor = read_audio_processor(folder_of(path, **options))
    assert isinstance(processor, AudioProcessor)
    return processor


def reference_mels(samples: Any, **settings: Any) -> Any:
    """Return the values of transformers, float32 [channels, frames, bins]; its random starts are in the middle."""
    extractor = transformers.ClapFeatureExtractor(**{**LAION, **settings})
    return np.asarray(extractor(samples, sampling_rate=RATE, return_tensors="np")["input_features"][0], np.float32)


def speech_like(seconds: float, rate: int, channels: int) -> Any:
    """Return a sound with pauses, whose pitch glides."""
    time = np.arange(int(seconds * rate))[:, None] / rate
    pitch = 150 + 80 * np.sin(3 * time + np.arange(channels))
    return 0.4 * np.sin(2 * np.pi * np.cumsum(pitch, 0) / rate) * (np.sin(5 * time) > -0.4)


#: Files by name: what soundfile writes of a sound of at most ten seconds.
FILES: dict[str, bytes] = {
    "wav": written(tone(3, 44_100, 2), 44_100),
    "wav, 8 bits": written(tone(2, 22_050), 22_050, "WAV", "PCM_U8"),
    "wav, 24 bits": written(tone(2, 48_000), 48_000, "WAV", "PCM_24"),
    "wav, floats": written(3 * tone(2, 48_000), 48_000, "WAV", "FLOAT"),
    "wav, mu-law": written(speech_like(4, 8000, 1), 8000, "WAV", "ULAW"),
    "wav, adpcm": written(tone(2, 48_000), 48_000, "WAV", "IMA_ADPCM"),
    "flac": written(tone(9.7, 96_000, 1), 96_000, "FLAC"),
    "vorbis": written(speech_like(5, 44_100, 2), 44_100, "OGG", "VORBIS"),
    "opus": written(speech_like(5, 48_000, 2), 48_000, "OGG", "OPUS"),
    "mp3": written(tone(4, 32_000, 2), 32_000, "MP3"),
    "aiff": written(tone(1, 11_025), 11_025, "AIFF"),
    "au": written(tone(1, 16_000), 16_000, "AU"),
    "caf": written(tone(1, 16_000), 16_000, "CAF"),
    "six channels": written(speech_like(3, 48_000, 6), 48_000),
    "silence": written(np.zeros((44_100, 2)), 44_100),
    "one sample": written(np.array([[0.5]]), 48_000),
    "a click": written(np.eye(1, 4800, 100).T, 48_000),
    "ten seconds": written(tone(10, 48_000), 48_000),
    "constant": written(np.full((48_000, 1), 0.25), 48_000),
    "very quiet": written(1e-6 * tone(1, 48_000), 48_000, "WAV", "FLOAT"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_mels_of_files_are_those_of_the_reference(tmp_path: Path, name: str, fused: bool) -> None:
    processor = processor_of(tmp_path, fused=fused)
    sound = read_sound(FILES[name], processor.rate)
    (features,) = processor.prepare(sound)
    expected = reference_mels(sound.samples, truncation="fusion" if fused else "rand_trunc")
    assert features.mels.shape == expected.shape
    # Where the power is near 0, float32 leaves nothing of it: the reference rounds its transform to complex64.
    loud = expected > expected.max() - 90
    np.testing.assert_allclose(features.mels[loud], expected[loud], atol=2e-3)
    np.testing.assert_allclose(features.mels, expected, atol=0.5)
    assert not features.is_long


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("seconds", [0.7, 3.1, 9.99])
def test_short_sounds_are_filled_up(tmp_path: Path, padding: str, seconds: float) -> None:
    samples = tone(seconds, RATE)[:, 0].astype(np.float32)
    processor = processor_of(tmp_path, padding=padding)
    (features,) = processor.prepare(read_sound(Audio(samples, rate=RATE), RATE))
    np.testing.assert_allclose(features.mels, reference_mels(samples, padding=padding), atol=2e-3)


def test_long_sounds_are_cut_into_windows(tmp_path: Path) -> None:
    samples = tone(24.3, RATE)[:, 0].astype(np.float32)
    sound = read_sound(Audio(samples, rate=RATE), RATE)
    windows = processor_of(tmp_path).prepare(sound)
    starts = [0, 480_000, len(samples) - 480_000]
    assert len(windows) == len(starts)
    for window, start in zip(windows, starts, strict=True):
        np.testing.assert_allclose(window.mels, reference_mels(samples[start : start + 480_000]), atol=2e-3)
    assert len({window.digest() for window in windows}) == len(windows)


@pytest.mark.parametrize(("count", "windows"), [(480_000, 1), (480_001, 2), (960_000, 2), (960_001, 3)])
def test_starts_of_windows(tmp_path: Path, count: int, windows: int) -> None:
    starts = list(processor_of(tmp_path).starts(count))
    assert len(starts) == windows
    assert (starts[0], starts[-1]) == (0, count - 480_000)


@pytest.mark.parametrize("seconds", [10.011, 10.03, 12.3, 31.7])
def test_fused_models_read_long_sounds_whole(tmp_path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.random, "choice", lambda starts: starts[len(starts) // 2])
    samples = speech_like(seconds, RATE, 1)[:, 0].astype(np.float32)
    (features,) = processor_of(tmp_path, fused=True).prepare(read_sound(Audio(samples, rate=RATE), RATE))
    expected = reference_mels(samples, truncation="fusion")
    assert features.is_long
    loud = expected > expected.max() - 90
    np.testing.assert_allclose(features.mels[loud], expected[loud], atol=5e-3)


def test_a_frame_more_than_ten_seconds_is_not_long(tmp_path: Path) -> None:
    samples = tone(10.005, RATE)[:, 0].astype(np.float32)
    (features,) = processor_of(tmp_path, fused=True).prepare(read_sound(Audio(samples, rate=RATE), RATE))
    assert not features.is_long
    np.testing.assert_allclose(features.mels, reference_mels(samples, truncation="fusion"), atol=2e-3)


@pytest.mark.parametrize(("before", "after"), [(1002, 1001), (1500, 1001), (30_001, 1001), (7, 3)])
def test_shrinking_is_torch_s(before: int, after: int) -> None:
    mel = 40 * np.random.default_rng(0).standard_normal((before, 6)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(mel[None, None]), (after, 6), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(shrink(mel, after), expected[0, 0], atol=2e-2)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("low", [0, 50])
def test_frequencies_are_read_from_either_file(tmp_path: Path, nested: bool, low: int) -> None:
    processor = processor_of(tmp_path, nested=nested, frequency_min=low)
    samples = tone(10, RATE)[:, 0].astype(np.float32)
    (features,) = processor.prepare(read_sound(Audio(samples, rate=RATE), RATE))
    np.testing.assert_allclose(features.mels, reference_mels(samples, frequency_min=low), atol=2e-3)


def test_files_that_transformers_saves(tmp_path: Path) -> None:
    transformers.ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"audio_config": {}}))
    saved = read_audio_processor(tmp_path)
    assert saved == processor_of(tmp_path / "other")
    assert saved is not None and saved.digest == processor_of(tmp_path / "other").digest
    assert saved.digest != processor_of(tmp_path / "third", frequency_min=0).digest


def test_folders_without_sounds_have_no_processor(tmp_path: Path) -> None:
    assert read_audio_processor(tmp_path) is None
    (tmp_path / "preprocessor_config.json").write_text('{"feature_extractor_type": "CLIPFeatureExtractor"}')
    assert read_audio_processor(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "WhisperFeatureExtractor"),
        ({"do_normalize": True}, "'do_normalize' is not known"),
        ({"top_db": 80}, "top_db 80"),
        ({"padding_value": 1.0}, "padding_value"),
        ({"padding": "wrap"}, "padding 'wrap'"),
        ({"truncation": "cut"}, "truncation 'cut'"),
        ({"truncation": "fusion"}, "enable_fusion False"),
        ({"nb_max_samples": 1}, "nb_max_samples"),
        ({"n_fft": 512}, "n_fft"),
        ({"hop_length": 0}, "hop_length"),
        ({"hop_length": "480"}, "hop_length"),
        ({"frequency_max": 48_000}, "frequency_max"),
        ({"feature_size": 128}, "128 mel bins"),
        ({"max_length_s": 20, "chunk_length_s": 20, "nb_max_samples": 960_000}, "2,001 frames"),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        read_audio_processor(folder_of(tmp_path, **changes))
