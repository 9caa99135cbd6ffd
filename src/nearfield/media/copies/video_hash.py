"""`VideoHash`: what a video looks like, by some of its frames; and the index that compares videos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.media.copies.grouping import CopyMatches
from nearfield.media.copies.hash_index import MAX_DISTANCE, PictureHashIndex
from nearfield.media.copies.picture_hash import PictureHash, hash_picture
from nearfield.media.limits import DEFAULT_VIDEO_LIMITS, VideoLimits
from nearfield.media.video.frame_choice import FrameRule
from nearfield.media.video.video import Video

#: Frames of a video that are hashed, at equal distances from the first one on.
FRAMES = 8
_RULE = FrameRule(fps=1e6, max_frames=FRAMES, min_frames=FRAMES)
#: Seconds, and share of its length, by which copies may be longer or shorter.
_SECONDS, _SHARE = 0.5, 0.01
#: Share of the frames in which copies agree, and frames that must be more than blank.
_AGREEING, _MIN_FRAMES = 0.75, 3


@dataclass(frozen=True, eq=False)
class VideoHash:
    """What a video looks like: its length in ``seconds``, and hashes of at most ``FRAMES`` frames."""

    seconds: float
    frames: tuple[PictureHash, ...]


def hash_video(video: Video, seconds: float, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> VideoHash:
    """Return the hash of a video whose header says its length in seconds. Raises as ``Video.frames`` does."""
    frames = tuple(hash_picture(frame.picture) for frame in video.frames(_RULE, limits))
    return VideoHash(seconds, frames)


class VideoHashIndex:
    """Hashes of videos, numbered from 0 in the order in which they are added.

    Copies have the same length, within half a second or a hundredth, and agree in three of four frames that are no
    blank ones, each with the one at the same place. Sound does not count.

    Args:
        max_distance: bits of 256 in which frames of near-copies differ at most.
    """

    def __init__(self, max_distance: int = MAX_DISTANCE) -> None:
        self._frames = [PictureHashIndex(max_distance) for _ in range(FRAMES)]
        self._seconds: list[float] = []
        self._flat: list[list[bool]] = []

    def __len__(self) -> int:
        return len(self._seconds)

    def add(self, value: VideoHash) -> int:
        """Add a video, and return its number."""
        frames = [*value.frames[:FRAMES], *[PictureHash.blank()] * (FRAMES - len(value.frames))]
        for index, frame in zip(self._frames, frames, strict=True):
            index.add(frame)
        self._seconds.append(value.seconds)
        self._flat.append([frame.is_flat for frame in frames])
        return len(self._seconds) - 1

    def search(self, numbers: Array, others: Array) -> Iterator[CopyMatches]:
        """Yield the near-copies of videos among others, as ``PictureHashIndex`` does; values are mean distances."""
        seconds, flat = np.array(self._seconds), np.array(self._flat, np.bool_).reshape(-1, FRAMES)
        for row, number in enumerate(numbers.tolist()):
            allowed = max(_SECONDS, _SHARE * seconds[number])
            near = others[(np.abs(seconds[others] - seconds[number]) <= allowed) & (others != number)]
            columns, sums, counts = self._agreements(number, near)
            shown = (~flat[number] & ~flat[columns]).sum(1)
            either = (~flat[number] | ~flat[columns]).sum(1)
            alike = (shown >= np.minimum(_MIN_FRAMES, either)) & (counts >= _AGREEING * either)
            matches, distances = columns[alike], sums[alike] // counts[alike]
            yield CopyMatches(np.full(len(matches), row), matches, distances)

    def _agreements(self, number: int, others: Array) -> tuple[Array, Array, Array]:
        """Return videos, and the sum of distances and the number of the frames in which each agrees."""
        sums, counts = np.zeros(len(self), np.int64), np.zeros(len(self), np.int64)
        for index in self._frames:
            for matches in index.search(np.array([number]), others):
                np.add.at(sums, matches.numbers, matches.values)
                np.add.at(counts, matches.numbers, 1)
        columns = np.flatnonzero(counts)
        return columns, sums[columns], counts[columns]
