"""`AudioProcessor`: from a sound to mel spectrograms as CLAP reads them, the same on every call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.processors.mel_spectrogram import MelSpectrogram
from nearfield.features import MelFeatures, MelLayout
from nearfield.media.sound.sound_decoding import Sound

#: Raised when the same sound gets other values.
_VERSION = "1"


@dataclass(frozen=True)
class AudioProcessor:
    """Prepares sounds for one model.

    A sound as long as ``window`` samples is read whole, and a shorter one is filled up. A longer one is cut into
    windows, each a separate input, whose vectors are to be averaged and scaled to unit length. Models with fused
    inputs (``layout.fused``) read a long sound at once: the whole, shrunk, and a crop from the middle of each third.
    transformers takes one window, or the three crops, at random, so its vector of a long sound differs on every call.

    Args:
        mel: the spectrogram.
        layout: how it becomes the rows of an input.
        window: samples of a window.
        padding: how a short sound is filled up: ``repeatpad`` (repeated whole, then silence), ``repeat`` or ``pad``.
        hop: samples from window to window.
    """

    mel: MelSpectrogram
    layout: MelLayout
    window: int
    padding: str
    hop: int

    @property
    def rate(self) -> int:
        """Samples a second of the sounds that it takes."""
        return self.mel.rate

    @cached_property
    def digest(self) -> str:
        """A name of all settings, for the model's space."""
        return hashlib.sha256(f"{_VERSION} {self!r}".encode()).hexdigest()

    def prepare(self, sound: Sound) -> list[MelFeatures]:
        """Return the inputs of a sound at ``rate``: one, or one for each of its windows."""
        samples = self._filled(sound.samples)
        if self.layout.fused:
            return [self._fused(samples, sound.content)]
        return [
            MelFeatures(
                self.mel.decibels(samples[start : start + self.window])[None],
                self.layout,
                content=hashlib.sha256(sound.content + b"%d" % start).digest(),
            )
            for start in self.starts(len(samples))
        ]

    def starts(self, count: int) -> Iterator[int]:
        """Yield the first samples of the windows of ``count`` samples. The last window ends where the sound ends."""
        last = max(0, count - self.window)
        yield from range(0, last, self.hop)
        yield last

    def _filled(self, samples: Array) -> Array:
        if len(samples) >= self.window:
            return samples
        if self.padding != "pad":
            samples = np.tile(samples, self.window // len(samples) + (self.padding == "repeat"))[: self.window]
        return np.pad(samples, (0, self.window - len(samples)))

    def _fused(self, samples: Array, content: bytes) -> MelFeatures:
        mel, frames = self.mel.decibels(samples), self.mel.frames(self.window)
        digest = hashlib.sha256(content + b"whole").digest()
        if len(mel) <= frames:
            return MelFeatures(np.broadcast_to(mel, (4, *mel.shape)), self.layout, content=digest)
        crops = [mel[start : start + frames] for start in _middles(len(mel) - frames + 1)]
        return MelFeatures(np.stack([shrink(mel, frames), *crops]), self.layout, is_long=True, content=digest)


def _middles(count: int) -> list[int]:
    """Return the middle of each third of ``count`` starts; 0 for a third that is empty."""
    thirds = np.array_split(np.arange(count), 3)
    return [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]


def shrink(mel: Array, frames: int) -> Array:
    """Shrink [frames before, bins] to ``frames`` frames, float32, bilinear with unaligned corners, as torch does it."""
    scale = np.float32(len(mel) / frames)
    at = np.maximum((np.arange(frames, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5), 0)
    first = np.minimum(at.astype(int), len(mel) - 1)
    second = np.minimum(first + 1, len(mel) - 1)
    near = (at - first).astype(np.float32)[:, None]
    return np.asarray(mel[first] * (1 - near) + mel[second] * near, np.float32)
