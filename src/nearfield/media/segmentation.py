"""Segments of sounds and videos: parts by time, by scene or by silence, none longer than wished for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nearfield.arrays import Array
from nearfield.errors import InputError, nearest
from nearfield.media.audio import Audio
from nearfield.media.limits import DEFAULT_MEDIA_LIMITS, MediaLimits, stop_if_abandoned
from nearfield.media.sound.silences import LEVEL, SHORTEST, find_silences
from nearfield.media.video.scene_detection import THRESHOLD
from nearfield.media.video.time_ranges import check_seconds_number, segment_times
from nearfield.media.video.track_audio import TrackAudio
from nearfield.media.video.video import Video

SPLIT_METHODS = ("time", "scene", "silence")
#: Samples a second at which silences are searched for: loudness needs no more.
_RATE = 16_000
#: Seconds of a sound that are in memory at a time while silences are searched for.
_BLOCK_SECONDS = 600.0
_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How a sound or video is cut into segments.

    Args:
        split_method: ``time`` (equal parts), ``scene`` (where the picture changes) or ``silence`` (in the middle of
            each silence).
        time_split_interval: seconds of a part by time.
        max_segment_duration: seconds of the longest segment; longer ones are cut into equal parts.
        min_segment_duration: seconds of the shortest scene; a shorter one belongs to the one before.
        scene_threshold: see ``Video.cuts``.
        silence_level: see ``find_silences``.
        silence_duration: seconds of the shortest silence.

    Raises:
        InputError: there is no such method, or a number is out of range.
    """

    split_method: str = "time"
    time_split_interval: float = 10.0
    max_segment_duration: float = 30.0
    min_segment_duration: float = 0.6
    scene_threshold: float = THRESHOLD
    silence_level: float = LEVEL
    silence_duration: float = SHORTEST

    def __post_init__(self) -> None:
        if self.split_method not in SPLIT_METHODS:
            known = nearest(self.split_method, SPLIT_METHODS)
            raise InputError(f"split_method {self.split_method!r} is unknown. {known}", param="split_method")
        for name in ("time_split_interval", "max_segment_duration", "min_segment_duration", "silence_duration"):
            check_seconds_number(name, getattr(self, name))
        for name in ("time_split_interval", "max_segment_duration"):
            if not getattr(self, name):
                raise InputError(f"{name} must be more than 0 seconds.", param=name)
        if not 0 < self.scene_threshold <= 255:
            raise InputError(
                f"scene_threshold is from 0 to 255, and is {self.scene_threshold}.", param="scene_threshold"
            )
        if not -120 <= self.silence_level < 0:
            raise InputError(
                f"silence_level is in decibels from -120 to 0, and is {self.silence_level}.", param="silence_level"
            )


def split_video(video: Video, rule: SplitRule, limits: MediaLimits = DEFAULT_MEDIA_LIMITS) -> list[Video]:
    """Return the segments of a video, each with its ``start`` and ``end``; together they are all of it.

    A video without sound has no silences: it is cut by ``max_segment_duration`` alone.

    Raises:
        InputError: the video cannot be read (see ``Video.header``).
    """
    return [video.part(start, end) for start, end in _video_times(video, rule, limits)]


def split_audio(sound: Audio, rule: SplitRule, limits: MediaLimits = DEFAULT_MEDIA_LIMITS) -> list[Audio]:
    """Return the segments of a sound, each with its ``start`` and ``end``; together they are all of it.

    Raises:
        InputError: the rule is ``scene``, or the sound cannot be read (see ``Audio.header``).
    """
    return [type(sound)(sound, start=start, end=end) for start, end in _sound_times(sound, rule, limits)]


def _video_times(video: Video, rule: SplitRule, limits: MediaLimits) -> list[tuple[float, float]]:
    header = video.header(limits.videos)
    end = header.seconds if video.end is None else min(video.end, header.seconds)
    if rule.split_method == "time":
        return _bounded(segment_times(video.start, end, rule.time_split_interval), rule)
    if rule.split_method == "scene":
        return segments_between(_scene_cuts(video, rule, limits), video.start, end, rule)
    blocks = _watched(video.sound(_RATE, limits=limits.videos))
    return segments_between(_silence_cuts(blocks, video.start, rule), video.start, end, rule)


def _sound_times(sound: Audio, rule: SplitRule, limits: MediaLimits) -> list[tuple[float, float]]:
    if rule.split_method == "scene":
        raise InputError("A sound has no scenes: split_method is time or silence.", param="split_method")
    seconds = sound.header(limits.sounds).seconds
    end = seconds if sound.end is None else min(sound.end, seconds)
    if rule.split_method == "time":
        return _bounded(segment_times(sound.start, end, rule.time_split_interval), rule)
    blocks = _watched(_sound_blocks(sound, end, limits))
    return segments_between(_silence_cuts(blocks, sound.start, rule), sound.start, end, rule)


def _sound_blocks(sound: Audio, end: float, limits: MediaLimits) -> Iterator[Array]:
    """Yield the samples of a sound, some minutes at a time: a long one does not fit into memory."""
    if isinstance(sound, TrackAudio):
        yield from sound.blocks(_RATE)
        return
    for first, last in segment_times(sound.start, end, _BLOCK_SECONDS):
        yield type(sound)(sound, start=first, end=last).read(_RATE, limits.sounds).samples


def segments_between(cuts: Iterable[float], start: float, end: float, rule: SplitRule) -> list[tuple[float, float]]:
    """Return the segments between cuts, those too short joined with the one before, those too long cut evenly."""
    places = [start]
    for cut in cuts:
        if cut - places[-1] >= max(rule.min_segment_duration, 1e-3) and cut < end:
            places.append(cut)
    if len(places) > 1 and end - places[-1] < rule.min_segment_duration:
        places.pop()
    return _bounded(list(zip(places, [*places[1:], end], strict=True)), rule)


def _bounded(segments: Sequence[tuple[float, float]], rule: SplitRule) -> list[tuple[float, float]]:
    parts: list[tuple[float, float]] = []
    for start, end in segments:
        count = max(1, math.ceil((end - start) / rule.max_segment_duration - 1e-9))
        places = [start + number * (end - start) / count for number in range(count)]
        parts += zip(places, [*places[1:], end], strict=True)
    return parts


def _scene_cuts(video: Video, rule: SplitRule, limits: MediaLimits) -> Iterable[float]:
    for cuts, _ in _watched(video.cuts(rule.scene_threshold, limits.videos)):
        yield from cuts


def _silence_cuts(blocks: Iterable[Array], start: float, rule: SplitRule) -> list[float]:
    silences = find_silences(blocks, _RATE, level=rule.silence_level, shortest=rule.silence_duration)
    return [start + (begin + end) / 2 for begin, end in silences]


def _watched(parts: Iterable[_Part]) -> Iterator[_Part]:
    """Yield the parts of long work, and end it once its caller no longer waits."""
    for part in parts:
        stop_if_abandoned()
        yield part
