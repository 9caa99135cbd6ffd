"""`VideoFile`: the file of a video, whose frames a child process decodes, one at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from msgspec import convert, to_builtins

from nearfield.arrays import Array
from nearfield.errors import TooLarge
from nearfield.media.data_uri import decode_data_uri
from nearfield.media.decoder_process.pool import DecoderJob, DecoderResult, run_decoder, stream_decoder
from nearfield.media.decoding import Picture
from nearfield.media.files import file_in_memory, open_regular_file
from nearfield.media.limits import VideoLimits, limit_values
from nearfield.media.video.clips import ClipJob, VideoClip
from nearfield.media.video.frame_choice import FrameRule
from nearfield.media.video.scene_detection import SceneJob
from nearfield.media.video.sound_track import TrackJob
from nearfield.media.video.time_ranges import FramePlace
from nearfield.media.video.video_decoding import FrameJob, FramePlan, VideoHeader
from nearfield.media.video.video_formats import HEAD, require_video_format
from nearfield.media.video.video_packets import VideoPart

#: Bytes that the process may take to decode a video, and seconds for its plan or one of its frames.
_MEMORY, _SECONDS = 2 * 2**30, 120.0
#: Digits of the second of a frame: a thousandth is less than a frame.
_DIGITS = 3


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame of a video.

    Args:
        picture: its pixels, upright. ``content`` is a digest of the file and of the frame's place in it.
        seconds: when it is shown, after the first frame of the video.
        chosen: frames that are read of the video, those that cannot be decoded among them.
        number: its number in the video, from 0; None where frames are shown for different times, and a part is read.
    """

    picture: Picture
    seconds: float
    chosen: int
    number: int | None = None

    @property
    def place(self) -> FramePlace:
        """Where it is in the video."""
        return FramePlace(self.number, round(self.seconds, _DIGITS))


class VideoFile:
    """The file of a video: a path, bytes, or a data URI. Parts of one video share it, and with it its digest."""

    def __init__(self, source: Path | bytes | str) -> None:
        self.source = source
        #: Digest of the bytes, and what the file was when they were hashed.
        self._digest: tuple[object, bytes] | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.source) if isinstance(self.source, Path) else "The video"

    def header(self, part: VideoPart) -> VideoHeader:
        """Return the header. Raises as ``read`` does."""
        with self._open(part.limits) as file:
            part = _recognised(part, file)
            result = run_decoder(DecoderJob("video header", part.name, to_builtins(part), _MEMORY, _SECONDS), file)
            return convert(result.values, VideoHeader)

    def read(self, part: VideoPart, rule: FrameRule) -> Iterator[FramePlan | VideoFrame]:
        """Yield which frames are read, then each that can be decoded.

        Raises:
            InputError: it does not exist, is no video of a format that is read, or is damaged.
            TooLarge: it has more bytes, pixels or seconds than the limits.
            MissingExtra: PyAV is not installed.
        """
        with self._open(part.limits) as file:
            part = _recognised(part, file)
            state = _state_of(file) if isinstance(self.source, Path) else "in memory"
            digest = self._digest[1] if self._digest is not None and self._digest[0] == state else b""
            options = to_builtins(FrameJob(part, rule, needs_digest=not digest))
            job = DecoderJob("video frames", part.name, options, _MEMORY, _SECONDS)
            with closing(stream_decoder(job, file)) as results:
                values = next(results).values
                plan, digest = convert(values["plan"], FramePlan), digest or values["digest"]
                self._digest = state, digest
                yield plan
                for result in results:
                    yield _frame_of(plan, result, digest, part.format)

    def cuts(self, part: VideoPart, threshold: float) -> Iterator[tuple[list[float], float]]:
        """Yield seconds at which a new scene begins, and the second up to which all are known.

        Raises as ``read`` does.
        """
        with self._open(part.limits) as file:
            job = SceneJob(_recognised(part, file), threshold)
            decoder = DecoderJob("video cuts", part.name, to_builtins(job), _MEMORY, _SECONDS)
            with closing(stream_decoder(decoder, file)) as results:
                for result in results:
                    yield result.values["cuts"], result.values["until"]

    def sound(self, part: VideoPart, rate: int, track: int | None) -> Iterator[Array]:
        """Yield blocks of the samples of a sound track, mono, from ``part.start`` on; none if the video has no sound.

        Raises as ``read`` does; InputError too if there are tracks, but not this one.
        """
        with self._open(part.limits) as file:
            job = TrackJob(_recognised(part, file), rate, track)
            decoder = DecoderJob("video sound", part.name, to_builtins(job), _MEMORY, _SECONDS)
            with closing(stream_decoder(decoder, file)) as results:
                for result in results:
                    yield from result.arrays

    def clip(self, part: VideoPart, max_bytes: int) -> VideoClip:
        """Return a part as a file, from the keyframe before it on.

        Raises as ``read`` does; TooLarge too if it has more bytes.
        """
        with self._open(part.limits) as file:
            job = ClipJob(_recognised(part, file), max_bytes)
            result = run_decoder(DecoderJob("video clip", part.name, to_builtins(job), _MEMORY, _SECONDS), file)
        return VideoClip(result.arrays[0].tobytes(), **result.values)

    def to_bytes(self, limits: VideoLimits) -> bytes:
        """Return the bytes of the file. Raises as ``read`` does; its format is not checked."""
        with self._open(limits) as file:
            return file.read(limits.max_bytes + 1)

    def _open(self, limits: VideoLimits) -> AbstractContextManager[BinaryIO]:
        source = self.source
        if isinstance(source, Path):
            return open_regular_file(source, limits.max_bytes)
        if isinstance(source, str):
            source = decode_data_uri(source, limits.max_bytes)
        if len(source) > limits.max_bytes:
            raise TooLarge(f"{self.name} has {len(source):,} bytes. At most {limits.max_bytes:,} bytes are read.")
        return closing(file_in_memory(source))


def frame_digest(video: bytes, place: int) -> bytes:
    """Return the digest of a frame, from that of its video and its place there."""
    return hashlib.sha256(b"frame %d " % place + video).digest()


def _state_of(file: BinaryIO) -> object:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _recognised(part: VideoPart, file: BinaryIO) -> VideoPart:
    """Return a part with the format of its file, and limits that can be sent to a process."""
    head = file.read(HEAD)
    file.seek(0)
    limits = VideoLimits(**limit_values(part.limits))
    return replace(part, format=require_video_format(head, part.name), limits=limits)


def _frame_of(plan: FramePlan, result: DecoderResult, digest: bytes, form: str) -> VideoFrame:
    number, (pixels,) = result.values["number"], result.arrays
    height, width = pixels.shape[:2]
    picture = Picture(pixels, width, height, form, frame_digest(digest, plan.places[number]))
    return VideoFrame(picture, plan.seconds[number], len(plan.places), plan.numbers[number])
