"""Cuts between scenes: frames that differ so much from the one before that another scene has begun.

Frames are compared as PySceneDetect's content detector does: small, by the mean difference of hue, saturation and
brightness, each from 0 to 255, with its default threshold of 27. Hue counts as far as both frames have colour, since
that of grey is noise. Two frames a fifth of a second apart are compared first; only where these differ are those
between them, so that a cut is known to the frame. A fade is no cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from msgspec import convert

from nearfield.arrays import Array
from nearfield.media.limits import decode_memory
from nearfield.media.video.video_packets import VideoPart, check_frame_size, open_video, packets_of, seek_keyframe

#: PySceneDetect's default.
THRESHOLD = 27.0
#: Seconds between the frames that are compared first, and the most frames that wait between two of them.
_STEP, _MOST_WAITING = 0.2, 8
#: Pixels of the longer side of the frames that are compared.
_SIDE = 64
#: Bytes of a pixel of each frame that waits, and of those that the decoder holds.
_FRAME_BYTES = 2 * (_MOST_WAITING + 20)
#: Frames after which the parent hears how far the work is.
_REPORT_EACH = 500


@dataclass(frozen=True)
class SceneJob:
    """The part of a video whose cuts are searched for, and the difference from which on two frames are a cut."""

    part: VideoPart
    threshold: float = THRESHOLD


def find_cuts_task(file: BinaryIO, options: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[Array]]]:
    """Yield ``cuts``, the seconds at which a new scene begins, and ``until``, the second up to which all are known.

    Seconds are counted from the first frame of the video.

    Raises:
        InputError: it is damaged, or has no video.
        TooLarge: a frame has more pixels, or the video more seconds, than the limits.
        MissingExtra: PyAV is not installed.
    """
    job = convert(options, SceneJob)
    with open_video(file, job.part) as (container, stream):
        first = _first_time(container, stream)
        if job.part.start and not seek_keyframe(container, stream, first + round(job.part.start / stream.time_base)):
            file.seek(0)
        search = _CutSearch(job, float(first * stream.time_base))
        with decode_memory().reserve(stream.width * stream.height * _FRAME_BYTES):
            for number, frame in enumerate(_decoded(container, stream), 1):
                if search.is_behind(frame):
                    break
                search.add(frame)
                if number % _REPORT_EACH == 0:
                    yield search.take(), []
            search.compare()
    yield search.take(), []


class _CutSearch:
    """Compares the frames of a part in order. Those after the last one that was compared wait."""

    def __init__(self, job: SceneJob, origin: float) -> None:
        self._part, self._threshold, self._origin = job.part, job.threshold, origin
        self._converter = import_module("av.video.reformatter").VideoReformatter()
        self._waiting: list[tuple[float, Any]] = []
        #: The last frame that was compared, with its time.
        self._last: tuple[float, Array] | None = None
        self._cuts: list[float] = []
        self._until = job.part.start

    def is_behind(self, frame: Any) -> bool:
        """Return whether a frame is shown after the part."""
        return self._part.end is not None and self._seconds(frame) >= self._part.end

    def add(self, frame: Any) -> None:
        """Take the next frame; those before the part are left out."""
        seconds = self._seconds(frame)
        check_frame_size(frame.width, frame.height, self._part.limits, self._part.name)
        if seconds < self._part.start:
            return
        self._waiting.append((seconds, frame))
        if self._last is None or seconds - self._last[0] >= _STEP or len(self._waiting) >= _MOST_WAITING:
            self.compare()

    def compare(self) -> None:
        """Compare the last frame that waits with the last one compared, and those between if they differ."""
        if not self._waiting:
            return
        seconds, frame = self._waiting[-1]
        small = self._small(frame)
        if self._last is not None and _difference(self._last[1], small) >= self._threshold:
            self._compare_all(self._last[1])
        self._last, self._waiting, self._until = (seconds, small), [], seconds

    def _compare_all(self, before: Array) -> None:
        for seconds, frame in self._waiting:
            small = self._small(frame)
            if _difference(before, small) >= self._threshold:
                self._cuts.append(seconds)
            before = small

    def take(self) -> dict[str, Any]:
        """Return the cuts since the last call, and the second up to which all are known."""
        cuts, self._cuts = self._cuts, []
        return {"cuts": cuts, "until": self._until}

    def _seconds(self, frame: Any) -> float:
        return float(frame.pts * frame.time_base) - self._origin

    def _small(self, frame: Any) -> Array:
        """Return hue, saturation and brightness of a small copy of a frame, float32 [height, width, 3]."""
        scale = _SIDE / max(frame.width, frame.height)
        width, height = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
        small = self._converter.reformat(frame, width=width, height=height, format="rgb24").to_ndarray()
        return np.asarray(import_module("PIL.Image").fromarray(small).convert("HSV"), np.float32)


def _difference(one: Array, other: Array) -> float:
    if one.shape != other.shape:  # the size changes within some streams
        return 255.0
    gaps = np.abs(one - other)
    hue = np.minimum(gaps[..., 0], 256 - gaps[..., 0]) * 2
    coloured = np.minimum(one[..., 1], other[..., 1]) / 255
    return float((hue * coloured + gaps[..., 1] + gaps[..., 2]).mean() / 3)


def _first_time(container: Any, stream: Any) -> int:
    """Return the time of the first frame in ticks, and leave the container at its start."""
    if stream.start_time is not None:
        return int(stream.start_time)
    first = next((packet.pts for packet in packets_of(container, stream) if packet.pts is not None), 0)
    seek_keyframe(container, stream, first)
    return int(first)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield all frames that have a time. What cannot be decoded is left out."""
    errors = import_module("av.error")
    for packet in packets_of(container, stream):
        try:
            frames = packet.decode()
        except errors.FFmpegError:
            continue
        yield from (frame for frame in frames if frame.pts is not None)
