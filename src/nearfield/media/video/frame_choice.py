"""Which frames of a video are read: `FrameRule`, and the `Timeline` of a video that it is applied to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError

#: Ticks by which times of a constant rate may differ from it, since containers round them; and the share of a frame's
#: time beyond which they do so anyway.
_ROUNDING, _SHARE = 1.5, 0.25
#: Seconds by which a time may miss that of a frame, in ticks that are coarser.
_NEAR = 0.0005
#: Share of a frame by which a product of seconds and frames a second may fall short of a whole number.
_SHORT = 0.01


@dataclass(frozen=True, slots=True)
class FrameRule:
    """How many frames of a video are read, and where they lie.

    Frames are ``seconds x fps``, rounded down, at most ``max_frames`` and at least ``min_frames``, as far as the video
    has so many. By default they are spread as ``k * total // count``: the first frame is always among them, the last
    one never if there are others. With ``reaches_end`` both ends are among them, and the others are rounded to between.
    Both are the ways of transformers (``default_sample_indices_fn`` and the processor of Qwen3-VL). With ``stepped``,
    frames are ``1 / fps`` seconds apart from the first one on; of more than ``max_frames``, as many are taken at equal
    distances, both ends among them, or with ``cut`` the first ones (the processor of EmbeddingGemma 2).

    Args:
        fps: frames a second of the video.
        max_frames: the most.
        min_frames: the least.
        multiple: the number is a multiple of it, as a model needs that reads frames in pairs. Where the video has too
            few, its last frame is repeated.
        reaches_end: whether the last frame is always read.
        stepped: whether frames are ``1 / fps`` seconds apart. A video of fewer frames a second has some twice.
        cut: whether the first frames are read of too many.
    """

    fps: float = 1.0
    max_frames: int = 32
    min_frames: int = 1
    multiple: int = 1
    reaches_end: bool = False
    stepped: bool = False
    cut: bool = False

    def count(self, total: int, seconds: float, tick: float = 0.0) -> int:
        """Return how many of ``total`` frames of ``seconds`` seconds are read, before the last one is repeated.

        ``tick`` is the precision of the seconds: within it, a whole number of frames is not missed. With ``stepped`` it
        is the number of steps, of which some may be left out.
        """
        exact = seconds * self.fps
        near = round(exact)
        count = near if abs(exact - near) <= min(tick * self.fps, _SHORT) else int(exact)
        if self.stepped:
            return max(count, 1)
        count = min(max(count, self.min_frames, 1), self.max_frames, total)
        return count - count % self.multiple if count > self.multiple else count

    def indices(self, total: int, count: int, rate: float) -> Array:
        """Return the indices of the frames, int64, where all of ``total`` are of equal duration, ``rate`` a second."""
        if self.stepped:
            steps = self._steps(count) * (rate / self.fps)
            return np.minimum(steps, total - 1).astype(np.int64)
        if self.reaches_end:
            return np.linspace(0, total - 1, count).round().astype(np.int64)
        return np.arange(count, dtype=np.int64) * total // count

    def offsets(self, count: int, seconds: float) -> Array:
        """Return when the frames are shown in a part of ``seconds`` seconds, float64, for frames of other durations."""
        if self.stepped:
            return np.asarray(self._steps(count) / self.fps, np.float64)
        return seconds * (np.linspace(0, 1, count) if self.reaches_end else np.arange(count) / count)

    def _steps(self, count: int) -> Array:
        """Return which of ``count`` steps are read."""
        if count <= self.max_frames or self.cut:
            return np.arange(min(count, self.max_frames))
        return np.linspace(0, count - 1, self.max_frames, dtype=np.int64)

    def filled(self, chosen: Array) -> Array:
        """Return the frames with the last one repeated, so that their number is a multiple of ``multiple``."""
        return np.pad(chosen, (0, -len(chosen) % self.multiple), mode="edge")


@dataclass(frozen=True, eq=False)
class Timeline:
    """When frames are shown.

    Args:
        times: int64 [frames], rising, in ticks; 0 is the first frame of the video.
        tick: seconds.
        rate: frames a second as the container states them, or 0.
        last: ticks for which the last frame is shown, or 0 where that is unknown.
    """

    times: Array
    tick: float
    rate: float = 0.0
    last: int = 0

    @cached_property
    def seconds(self) -> Array:
        """The times in seconds, float64."""
        return np.asarray(self.times * self.tick, np.float64)

    @cached_property
    def constant_rate(self) -> float:
        """Frames a second, if all frames are shown equally long, or 0."""
        steps = np.arange(len(self.times))
        times = self.times - self.times[0]
        fitted = float(times[-1] / (len(times) - 1)) if len(times) > 1 else 0.0
        for step, rate in ((1 / (self.rate * self.tick) if self.rate else 0.0, self.rate), (fitted, 0.0)):
            if step and np.abs(times - steps * step).max() <= min(_ROUNDING, _SHARE * step):
                return rate or 1 / (step * self.tick)
        return self.rate if len(times) == 1 else 0.0

    @cached_property
    def end(self) -> float:
        """The second at which the last frame ends."""
        if self.last:
            return float((self.times[-1] + self.last) * self.tick)
        gaps = np.diff(self.times)
        last = float(np.median(gaps)) * self.tick if len(gaps) else 1 / self.rate if self.rate else 0.0
        return float(self.seconds[-1]) + last

    def numbers(self, chosen: Array) -> list[int | None]:
        """Return the numbers of frames in the whole video, from 0.

        Of a part of a video, earlier frames are not counted: the numbers are known if all frames are shown equally
        long, as the container says, and else None.
        """
        if self.times[0] == 0:
            return [int(index) for index in chosen]
        is_constant = self.rate > 0 and self.constant_rate == self.rate
        return [round(self.seconds[index] * self.rate) if is_constant else None for index in chosen]

    def choose(self, rule: FrameRule, start: float = 0.0, end: float | None = None) -> Array:
        """Return the indices of the frames that a rule chooses between two times in seconds, int64, in order.

        Where frames are shown for different times, a frame is chosen for each of the times that a rule for equal ones
        would have: the frame that is shown then. A part in which no frame begins has the frame that is shown there.

        Raises:
            InputError: ``start`` is not before the end of the video.
        """
        if start and start >= self.end:
            raise InputError(f"start is {start:g} s, and the video ends at {self.end:g} s.", param="start")
        half = min(self.tick / 2, _NEAR)
        first = int(np.searchsorted(self.seconds, start - half))
        stop = len(self.times) if end is None else int(np.searchsorted(self.seconds, end - half))
        if first >= stop:
            return rule.filled(np.array([max(0, first - 1)]))
        if rate := self.constant_rate:
            count = rule.count(stop - first, (stop - first) / rate, self.tick)
            return rule.filled(first + rule.indices(stop - first, count, rate))
        begin, finish = max(start, 0.0), self.end if end is None else min(end, self.end)
        count = rule.count(stop - first, finish - begin, self.tick)
        marks = begin + rule.offsets(count, finish - begin)
        shown = np.searchsorted(self.seconds[first:stop], marks + half, "right") - 1
        return rule.filled(first + np.maximum(shown, 0))
