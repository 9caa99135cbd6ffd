"""`FrameProcessor`: from a sound to log-mel frames as Gemma 4 and EmbeddingGemma 2 read them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.processors.mel_spectrogram import MelSpectrogram
from nearfield.errors import InputError, ModelRefused, nearest
from nearfield.features import FrameFeatures
from nearfield.media.sound.sound_decoding import Sound

#: Raised when the same sound gets other values.
_VERSION = "1"
#: Samples that the reference reads of a sound, and no more: 30 seconds at 16 kHz.
MAX_SAMPLES = 480_000
#: Keys of a Gemma4AudioFeatureExtractor and their defaults.
_DEFAULTS: Mapping[str, Any] = {
    "feature_size": 128,
    "sampling_rate": 16_000,
    "frame_length_ms": 20.0,
    "hop_length_ms": 10.0,
    "min_frequency": 0.0,
    "max_frequency": 8000.0,
    "fft_overdrive": False,
    "input_scale_factor": 1.0,
    "mel_floor": 1e-3,
    "per_bin_mean": None,
    "per_bin_stddev": None,
}
#: Keys whose only values here are these.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "feature_extractor_type": ("Gemma4AudioFeatureExtractor",),
    "padding_value": (0,),
    "padding_side": ("right",),
    "dither": (0,),
    "preemphasis": (0,),
    "return_attention_mask": (True, False),
}
_NEUTRAL = frozenset(("processor_class", "_valid_processor_keys", "return_tensors", "preemphasis_htk_flavor"))


@dataclass(frozen=True)
class FrameProcessor:
    """Logarithms of mel spectra of frames, of which the first begins half a frame before the sound.

    Frames are not centred and not filled up: one that would reach beyond the end is left out.

    Args:
        mel: triangles over the spectrum of ``mel.window`` points.
        frame: samples of a frame.
        scale: what samples are multiplied by.
        floor: what is added before the logarithm.
        mean: of each bin, subtracted after it; empty for none.
        std: of each bin, by which the difference is divided; empty for none.
    """

    mel: MelSpectrogram
    frame: int
    scale: float
    floor: float
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def rate(self) -> int:
        """Samples a second of the sounds that it takes."""
        return self.mel.rate

    @cached_property
    def digest(self) -> str:
        """A name of all settings, for the model's space."""
        return hashlib.sha256(f"{_VERSION} {self!r}".encode()).hexdigest()

    def prepare(self, sound: Sound) -> list[FrameFeatures]:
        """Return the frames of a sound at ``rate``, of its first 30 seconds at 16 kHz.

        Raises:
            InputError: it has no whole frame.
        """
        mels = self.values(sound.samples[:MAX_SAMPLES])
        if not len(mels):
            raise InputError(
                f"A sound of {len(sound.samples) / self.rate * 1000:.0f} ms is too short for this model: it needs "
                f"{(self.frame // 2 + 1) / self.rate * 1000:.0f} ms.",
                param="input",
            )
        # A token stands for four frames.
        dropped = max(0, len(sound.samples) - MAX_SAMPLES) // (4 * self.mel.hop)
        return [FrameFeatures(mels, sound.content, dropped)]

    def values(self, samples: Array) -> Array:
        """Return float32 [frames, bins] of samples [n]."""
        padded = np.pad(np.asarray(samples, np.float32), (self.frame // 2, 0))
        if self.scale != 1:
            padded = padded * np.float32(self.scale)
        # A frame counts if one sample after it is there, too.
        count = max(0, (len(padded) - self.frame - 1) // self.mel.hop + 1)
        if not count:
            return np.zeros((0, self.mel.bins), np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.frame)[:: self.mel.hop][:count]
        spectrum = np.abs(np.fft.rfft(frames * self._window, n=self.mel.window, axis=1))
        values = np.log(spectrum @ self.mel.filters + self.floor)
        if self.mean:
            values = values - np.array(self.mean)
        if self.std:
            values = values / np.array(self.std)
        return np.asarray(values, np.float32)

    @cached_property
    def _window(self) -> Array:
        return np.asarray(np.hanning(self.frame + 1)[:-1], np.float32)


def read_frame_processor(values: JsonObject, source: str) -> FrameProcessor:
    """Return the processor that the values of a file describe.

    Raises:
        ModelRefused: a key or value is not known here.
    """
    settings = {**_DEFAULTS, **{name: value for name, value in values.items() if name in _DEFAULTS}}
    _check(settings, source)
    rate = settings["sampling_rate"]
    frame, hop = (round(rate * settings[f"{name}_length_ms"] / 1000) for name in ("frame", "hop"))
    points = 1 << (frame - 1).bit_length() << bool(settings["fft_overdrive"])
    derived = {"frame_length": frame, "hop_length": hop, "fft_length": points}
    for name, value in values.items():
        known = _FIXED.get(name) or ((derived[name],) if name in derived else ())
        if known and value not in known:
            raise ModelRefused(f"{source}: {name} {value!r} is not known here: it must be {known[0]!r}.")
        if not known and name not in _DEFAULTS and name not in _NEUTRAL:
            raise ModelRefused(f"{source}: {name!r} is not known here. {nearest(name, (*_DEFAULTS, *_FIXED))}")
    bins, low, high = settings["feature_size"], settings["min_frequency"], settings["max_frequency"]
    mel = MelSpectrogram(rate, points, hop, bins, float(low), float(high), slaney=False)
    mean, std = (tuple(map(float, settings[f"per_bin_{name}"] or ())) for name in ("mean", "stddev"))
    return FrameProcessor(mel, frame, float(settings["input_scale_factor"]), float(settings["mel_floor"]), mean, std)


def _check(settings: Mapping[str, Any], source: str) -> None:
    for name in ("feature_size", "sampling_rate"):
        value = settings[name]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 20:
            raise ModelRefused(f"{source}: {name} must be a positive whole number, not {value!r}.")
    for name in ("frame_length_ms", "hop_length_ms", "max_frequency", "input_scale_factor", "mel_floor"):
        if not _is_number(settings[name]) or settings[name] <= 0:
            raise ModelRefused(f"{source}: {name} must be a positive number, not {settings[name]!r}.")
    low, high = settings["min_frequency"], settings["max_frequency"]
    if not _is_number(low) or not 0 <= low < high <= settings["sampling_rate"] / 2:
        raise ModelRefused(
            f"{source}: min_frequency {low!r} and max_frequency {high!r} must rise from 0 up to half of sampling_rate."
        )
    for name in ("per_bin_mean", "per_bin_stddev"):
        values = settings[name]
        if values is not None and (
            not isinstance(values, list) or len(values) != settings["feature_size"] or not all(map(_is_number, values))
        ):
            raise ModelRefused(f"{source}: {name} must be null or {settings['feature_size']} numbers.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
