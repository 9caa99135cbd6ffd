"""Decoding of videos with PyAV (FFmpeg), in a child process: the frames that a rule chooses, upright.

Before each chosen frame the decoder jumps to the last keyframe before it, unless it is nearer already.
"""

from __future__ import annotations

import gc
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from msgspec import convert, to_builtins

from nearfield.arrays import Array
from nearfield.media.limits import decode_memory
from nearfield.media.video.frame_choice import FrameRule
from nearfield.media.video.video_packets import (
    VideoPackets,
    VideoPart,
    check_frame_size,
    open_video,
    packets_of,
    read_packets,
    seek_keyframe,
)

#: Bytes of a pixel while frames are decoded: of those that the decoder holds, two bytes each; and of one in RGB, here
#: and in the parent, each with a copy that is turned.
_DECODER_BYTES = 2 * 20 + 4 * 3
#: Seconds before a keyframe at which to begin if the container does not lead to it; and seconds after the start of a
#: video within which it is decoded from there.
_MARGIN, _NEAR = 10.0, 60.0
#: The form of times in metadata, and those that stand for none: the first of QuickTime's era and of Unix's.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_NO_TIMES = ("1904-01-01", "1970-01-01")
#: Bytes that are hashed at a time.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class VideoHeader:
    """What is known of a video before its frames are read.

    Args:
        width: pixels of a frame, upright.
        height: the same.
        seconds: the time at which the last frame ends, after the first one.
        rate: frames a second, on average.
        frames: number of frames.
        format: one of ``VIDEO_FORMATS``, or ``frames`` for arrays.
        codec: FFmpeg's name of the decoder.
        warnings: what is not as it should be, such as the end of a file before its time.
        taken: when it was recorded, as its file says, such as 2024-05-06T12:34:56 (UTC); empty if it does not.
    """

    width: int
    height: int
    seconds: float
    rate: float
    frames: int
    format: str
    codec: str = ""
    warnings: tuple[str, ...] = ()
    taken: str = ""


@dataclass(frozen=True)
class FramePlan:
    """The frames that are read of a video.

    Args:
        places: their times in ticks of the stream, or their numbers where the container has no times.
        seconds: their times after the first frame.
        numbers: their numbers in the video, from 0; None where they are unknown.
        keys: the place of the last keyframe before each, where there is one.
        first: the place of the first frame of the video.
        is_counted: whether ``places`` are numbers.
        warnings: what is not as it should be.
    """

    places: list[int]
    seconds: list[float]
    numbers: list[int | None]
    keys: list[int | None]
    first: int
    is_counted: bool
    warnings: list[str]


@dataclass(frozen=True)
class FrameJob:
    """What is read of a video.

    Args:
        part: the file, and what of it.
        rule: how frames are chosen.
        needs_digest: whether the file is hashed.
    """

    part: VideoPart
    rule: FrameRule
    needs_digest: bool = False


def decode_frames_task(file: BinaryIO, options: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[Array]]]:
    """Yield ``plan`` and ``digest``, then each frame: its ``number`` in the plan, and uint8 [height, width, 3] in RGB.

    Frames that cannot be decoded are left out.

    Raises:
        InputError: it is damaged, or has no video. The message begins with the name of the part.
        TooLarge: a frame has more pixels, or the video more seconds, than the limits.
        MissingExtra: PyAV is not installed.
    """
    job = convert(options, FrameJob)
    packets = read_packets(file, job.part)
    plan = _plan_of(packets, packets.timeline.choose(job.rule, job.part.start, job.part.end))
    yield {"plan": to_builtins(plan), "digest": _digest(file) if job.needs_digest else b""}, []
    # What lives now, in this process for decoders, is not looked at again when frames are collected.
    gc.collect()
    gc.freeze()
    with open_video(file, job.part) as (container, stream):
        reader, pixels = FrameReader(container, stream, plan), FramePixels(job.part)
        with decode_memory().reserve(stream.width * stream.height * _DECODER_BYTES):
            for number in range(len(plan.places)):
                frame = reader.read(number)
                if frame is not None:
                    yield {"number": number}, [pixels.upright(frame)]


def read_header_task(file: BinaryIO, options: dict[str, Any]) -> tuple[dict[str, Any], list[Array]]:
    """Return the fields of a `VideoHeader`. Raises as ``decode_frames_task`` does."""
    part = convert(options, VideoPart)
    packets = read_packets(file, part)
    timeline = packets.timeline
    with open_video(file, part) as (container, stream):
        first = FrameReader(container, stream, _plan_of(packets, np.array([0]))).read(0)
        size = (stream.height, stream.width) if first is None else FramePixels(part).upright(first).shape
        header = VideoHeader(
            width=size[1],
            height=size[0],
            seconds=timeline.end,
            rate=timeline.constant_rate or len(timeline.times) / timeline.end,
            frames=len(timeline.times),
            format=part.format,
            codec=stream.codec_context.name,
            warnings=packets.warnings,
            taken=_taken(container),
        )
    return asdict(header), []


def _taken(container: Any) -> str:
    """Return the time of recording that the metadata of a container state; empty if they do not."""
    match = _TIME.match(container.metadata.get("creation_time", ""))
    return match[0] if match and not match[0].startswith(_NO_TIMES) else ""


def _plan_of(packets: VideoPackets, chosen: Array) -> FramePlan:
    indices: list[int] = chosen.tolist()
    places = indices if packets.places is None else [packets.places[index] for index in indices]
    return FramePlan(
        places=places,
        seconds=packets.timeline.seconds[chosen].tolist(),
        numbers=packets.timeline.numbers(chosen),
        keys=[_key_before(packets.keys, place) for place in places],
        first=packets.first,
        is_counted=packets.places is None,
        warnings=list(packets.warnings),
    )


def _key_before(keys: Array, place: int) -> int | None:
    number = int(np.searchsorted(keys, place, "right"))
    return int(keys[number - 1]) if number else None


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    while part := file.read(_BLOCK):
        digest.update(part)
    file.seek(0)
    return digest.digest()


class FrameReader:
    """Decodes the frames of a plan, which are read in order, from a container at its start."""

    def __init__(self, container: Any, stream: Any, plan: FramePlan) -> None:
        self._container, self._stream, self._plan = container, stream, plan
        self._chosen = frozenset(plan.places)
        self._restart()

    def _restart(self) -> None:
        self._decoded = self._decode()
        #: The last frame that was decoded, its place, and that of the first one.
        self._frame: Any = None
        self._at: int | None = None
        self._landed: int | None = None

    def read(self, number: int) -> Any:
        """Return a frame of PyAV, or None if it cannot be decoded."""
        place, key = self._plan.places[number], self._plan.keys[number]
        if key is not None and key > (self._plan.first if self._at is None else self._at):
            self._jump(key, place)
        self._step_to(place)
        return self._frame if self._at == place else None

    def _jump(self, key: int, place: int) -> None:
        """Go to a keyframe and decode up to a place. Some containers lead to a later one: then begin earlier."""
        tick, first = float(self._stream.time_base), self._plan.first
        margin = round(_MARGIN / tick)
        starts = (first - margin, first) if (place - first) * tick < _NEAR else ()
        for target in (key, key - margin, *starts):
            if seek_keyframe(self._container, self._stream, target):
                self._restart()
                self._step_to(place)
                if self._landed is not None and self._landed <= place:
                    return

    def _step_to(self, place: int) -> None:
        while self._at is None or self._at < place:
            following = next(self._decoded, None)
            if following is None:
                return
            self._at, self._frame = following
            self._landed = self._at if self._landed is None else self._landed

    def _decode(self) -> Iterator[tuple[int, Any]]:
        """Yield place and frame of all that follow. What cannot be decoded is left out."""
        errors = import_module("av.error")
        number = 0
        for packet in packets_of(self._container, self._stream):
            self._stream.codec_context.skip_frame = "DEFAULT" if self._is_needed(packet) else "NONREF"
            try:
                frames: Sequence[Any] = packet.decode()
            except errors.FFmpegError:
                continue
            for frame in frames:
                place = number if self._plan.is_counted else frame.pts
                number += 1
                if place is not None:
                    yield place, frame

    def _is_needed(self, packet: Any) -> bool:
        """Return whether a packet is decoded even if no other frame refers to its own."""
        return self._plan.is_counted or packet.pts is None or packet.pts in self._chosen


class FramePixels:
    """Converts frames of a video to upright pixels."""

    def __init__(self, part: VideoPart) -> None:
        self._part = part
        # One for all frames: one of a frame starts threads, as many as there are processors.
        self._converter = import_module("av.video.reformatter").VideoReformatter()

    def upright(self, frame: Any) -> Array:
        """Return the pixels of a frame, uint8 [height, width, 3], turned and mirrored as its display matrix says."""
        check_frame_size(frame.width, frame.height, self._part.limits, self._part.name)
        # A frame whose side data was read refers to itself: those before would stay in memory.
        gc.collect()
        pixels: Array = self._converted(frame).to_ndarray()
        matrix = _display_matrix(frame.side_data)
        if matrix is None:
            return np.ascontiguousarray(pixels)
        # A pixel at (x, y) is shown at (a x + c y, b x + d y): libavutil/display.h.
        a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
        if abs(b) + abs(c) > abs(a) + abs(d):
            pixels, a, d = pixels.transpose(1, 0, 2), c, b
        return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])

    def _converted(self, frame: Any) -> Any:
        """Return a frame in RGB."""
        try:
            return self._converter.reformat(frame, format="rgb24", threads=1)
        except TypeError:  # older versions have no threads here
            return self._converter.reformat(frame, format="rgb24")


def _display_matrix(side_data: Iterable[Any]) -> Array | None:
    for part in side_data:
        if "DISPLAYMATRIX" in str(part.type):
            return np.frombuffer(bytes(part), np.int32, 9)
    return None
