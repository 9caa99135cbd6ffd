"""Mel spectrograms in decibel, as transformers computes them (``audio_utils.spectrogram`` with ``log_mel="dB"``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nearfield.arrays import Array

#: Power from which on a value counts: -100 dB.
_FLOOR = 1e-10
#: Frames that are transformed at a time, and rows of one product with the triangles. Larger products would be split
#: among threads of the BLAS, which wait for more work without sleeping, beside those of the model.
_BLOCK, _ROWS = 96, 32
#: Slaney's scale: linear up to 1 kHz, then logarithmic (Slaney 1998, Auditory Toolbox).
_LINEAR_HZ, _LINEAR_MELS, _STEP = 1000.0, 15.0, math.log(6.4) / 27


@dataclass(frozen=True)
class MelSpectrogram:
    """A power spectrogram of overlapping windows, summed in triangles that are evenly spaced in mel, in decibel.

    Args:
        rate: samples a second.
        window: samples of a window (periodic Hann), centred on its frame; edges are mirrored.
        hop: samples from frame to frame.
        bins: number of triangles.
        low: frequency in Hz at which the first starts.
        high: frequency in Hz at which the last ends.
        slaney: whether mels are Slaney's, and triangles have equal areas; otherwise HTK's, with equal heights.
    """

    rate: int
    window: int
    hop: int
    bins: int
    low: float
    high: float
    slaney: bool

    def frames(self, count: int) -> int:
        """Return the number of frames of ``count`` samples."""
        return count // self.hop + 1

    def decibels(self, samples: Array) -> Array:
        """Return float32 [frames, bins] of samples [n]; there must be more than half a window of them."""
        padded = np.pad(np.asarray(samples, np.float32), self.window // 2, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.window)[:: self.hop]
        result = np.empty((len(windows), self.bins), np.float32)
        heard, filters = self._heard
        for start in range(0, len(windows), _BLOCK):
            spectrum = np.fft.rfft(windows[start : start + _BLOCK] * self._hann, axis=1)[:, heard]
            power = np.zeros((-(-len(spectrum) // _ROWS), _ROWS, spectrum.shape[1]))
            power.reshape(-1, spectrum.shape[1])[: len(spectrum)] = spectrum.real**2 + spectrum.imag**2
            mels = (power @ filters).reshape(-1, self.bins)[: len(spectrum)]
            result[start : start + _BLOCK] = 10 * np.log10(np.maximum(mels, _FLOOR))
        return result

    @cached_property
    def _hann(self) -> Array:
        return np.asarray(np.hanning(self.window + 1)[:-1])

    @cached_property
    def _heard(self) -> tuple[slice, Array]:
        """The frequencies that count in any bin, and their weights."""
        counted = np.flatnonzero(self.filters.any(1))
        heard = slice(int(counted[0]), int(counted[-1]) + 1) if len(counted) else slice(0, 1)
        return heard, np.ascontiguousarray(self.filters[heard])

    @cached_property
    def filters(self) -> Array:
        """The weight of each frequency of the transform in each bin, float64 [window // 2 + 1, bins]."""
        low, high = self._mels(np.array([self.low, self.high]))
        edges = self._hertz(np.linspace(low, high, self.bins + 2))
        frequencies = np.linspace(0, self.rate // 2, self.window // 2 + 1)
        slopes = edges[None] - frequencies[:, None]
        widths = np.diff(edges)
        rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
        triangles = np.maximum(0, np.minimum(rising, falling))
        return np.asarray(triangles * (2 / (edges[2:] - edges[:-2]) if self.slaney else 1))

    def _mels(self, hertz: Array) -> Array:
        if not self.slaney:
            return np.asarray(2595 * np.log10(1 + hertz / 700))
        with np.errstate(divide="ignore"):
            high = _LINEAR_MELS + np.log(hertz / _LINEAR_HZ) / _STEP
        return np.where(hertz >= _LINEAR_HZ, high, 3 * hertz / 200)

    def _hertz(self, mels: Array) -> Array:
        if not self.slaney:
            return np.asarray(700 * (10 ** (mels / 2595) - 1))
        high = _LINEAR_HZ * np.exp(_STEP * (mels - _LINEAR_MELS))
        return np.where(mels >= _LINEAR_MELS, high, 200 * mels / 3)
