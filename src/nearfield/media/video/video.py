"""`Video`: a video as an input, whose frames are decoded when they are read. A text is never taken for its path."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError, TooLarge
from nearfield.media.decoding import Picture, ThumbnailFormat, encode_thumbnail
from nearfield.media.files import absolute_path
from nearfield.media.limits import DEFAULT_VIDEO_LIMITS, VideoLimits, stop_if_abandoned
from nearfield.media.video.clips import MAX_CLIP_BYTES, VideoClip
from nearfield.media.video.frame_choice import FrameRule, Timeline
from nearfield.media.video.frame_reading import VideoFile, VideoFrame, frame_digest
from nearfield.media.video.scene_detection import THRESHOLD as CUT_THRESHOLD
from nearfield.media.video.time_ranges import FramePlace, check_range, check_seconds_number, times_within
from nearfield.media.video.video_decoding import FramePlan, VideoHeader
from nearfield.media.video.video_packets import VideoPart, check_frame_size, check_seconds

LOG = logging.getLogger(__name__)

#: What a video can be read from.
VideoSource: TypeAlias = "Video | os.PathLike[str] | bytes | bytearray | memoryview | Array | Sequence[Array]"
#: The rule for frames where the model has none.
DEFAULT_RULE = FrameRule()
#: Seconds of a part that has one frame: that which is shown at its start.
_MOMENT = 0.001


@dataclass(frozen=True)
class _FrameOptions:
    """What was said of the frames to read."""

    fps: float | None = None
    max_frames: int | None = None
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        check_seconds_number("fps", self.fps)
        check_range(self.start, self.end)
        if self.fps == 0:
            raise InputError("fps is 0: leave it out for one frame a second.", param="fps")
        count = self.max_frames
        if count is not None and (isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1):
            raise InputError(f"max_frames must be a positive whole number, and is {count!r}.", param="max_frames")


@dataclass(frozen=True, eq=False)
class _FrameArray:
    """Frames as an array of uint8 [frames, height, width, 3], ``rate`` a second."""

    pixels: Array
    rate: float

    name = "The video"

    def header(self, part: VideoPart) -> VideoHeader:
        count, height, width = self.pixels.shape[:3]
        check_frame_size(width, height, part.limits, part.name)
        check_seconds(count / self.rate, part.limits, part.name)
        return VideoHeader(width, height, count / self.rate, self.rate, count, "frames")

    def frames(self, part: VideoPart, rule: FrameRule) -> Iterator[VideoFrame]:
        header = self.header(part)
        timeline = Timeline(np.arange(header.frames), 1 / self.rate, self.rate, 1)
        digest = hashlib.sha256(f"frames {self.pixels.shape} ".encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        indices = timeline.choose(rule, part.start, part.end).tolist()
        for index in indices:
            content = frame_digest(digest.digest(), index)
            pixels = np.ascontiguousarray(self.pixels[index])
            picture = Picture(pixels, header.width, header.height, "frames", content)
            yield VideoFrame(picture, index / self.rate, len(indices), index)


class Video:
    """A video as an input of a model. It is opened and decoded when it is encoded, not before.

    ``Video(source)`` takes a ``pathlib.Path`` or the bytes of a file (MP4, MOV, WebM, Matroska, AVI, MPEG-TS).
    ``Video(frames, rate=25)`` takes an array of uint8 [frames, height, width, 3] in RGB, or a list of arrays
    [height, width, 3]. ``Video(path="clip.mp4")`` takes a path as a string, and
    ``Video(uri="data:video/mp4;base64,...")`` a data URI. A string alone is a text everywhere, and is refused here.

    A model reads some of its frames: those at equal distances from the first one on (see `FrameRule`). Models of
    pictures give each of them a vector of unit length, and the video their mean, scaled to unit length again. Frames
    are turned upright. Where they are shown for different times, the times count, not their numbers. The sound is not
    read. Arrays are not copied: do not change them until they are encoded.

    Args:
        source: the video.
        path: the path of its file, in place of ``source``.
        uri: a data URI, in place of ``source``.
        rate: frames a second of arrays. Files say their own.
        fps: frames to read of each second; by default what the model was trained with, or 1.
        max_frames: the most to read; by default what the model was trained with, or 32.
        start: the second at which the part begins that is read; 0 is the first frame.
        end: the second before which it ends; by default that of the video.

    Raises:
        InputError: there is no video or more than one, it has another type, or a number is wrong.
    """

    __slots__ = ("_choice", "_pixels", "_places", "_source")

    def __init__(
        self,
        source: VideoSource | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        uri: str | None = None,
        rate: float | None = None,
        fps: float | None = None,
        max_frames: int | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        values = [value for value in (source, path, uri) if value is not None]
        if len(values) != 1:
            raise InputError("Video takes one of: a source, path= or uri=.", param="video")
        self._source: VideoFile | _FrameArray = (
            VideoFile(absolute_path(path)) if path is not None else _checked_source(source, uri, rate)
        )
        if rate is not None and not isinstance(self._source, _FrameArray):
            raise InputError("rate= is for arrays of frames: a file says its own rate.", param="rate")
        self._choice = _FrameOptions(fps, max_frames, 0.0 if start is None else start, end)
        self._pixels, self._places = 0, list[FramePlace]()

    @property
    def name(self) -> str:
        """What messages call it: the path of its file, or ``The video``."""
        return self._source.name

    @property
    def start(self) -> float:
        """The second at which the part begins that is read."""
        return float(self._choice.start)

    @property
    def end(self) -> float | None:
        """The second before which it ends, or None for the end of the video."""
        return None if self._choice.end is None else float(self._choice.end)

    @property
    def pixels_read(self) -> int:
        """Pixels of the frames that were read when it was last encoded, before they were resized."""
        return self._pixels

    @property
    def frames_read(self) -> tuple[FramePlace, ...]:
        """The frames that were read when it was last encoded, each once; none if its vector was known already."""
        return tuple(dict.fromkeys(self._places))

    def header(self, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> VideoHeader:
        """Return sides, seconds, rate and number of frames of the whole video. One frame is decoded.

        Raises:
            InputError: it does not exist, is no video of a format that is read, or is damaged.
            TooLarge: it has more bytes, pixels or seconds than the limits.
            MissingExtra: PyAV is not installed.
        """
        return self._source.header(VideoPart(self.name, "", limits))

    def frames(
        self, rule: FrameRule = DEFAULT_RULE, limits: VideoLimits = DEFAULT_VIDEO_LIMITS
    ) -> Generator[VideoFrame, None, None]:
        """Yield the frames to read, in order. What is missing of the video is logged as a warning at the end.

        Args:
            rule: which frames a model reads; numbers that the video was created with come first.
            limits: what it may have at most.

        Raises:
            InputError: it does not exist, is no video of a format that is read, or is damaged so that no frame is left.
            TooLarge: it has more bytes, pixels, seconds or frames to read than the limits.
            MissingExtra: PyAV is not installed.
        """
        self._pixels, self._places = 0, []
        for frame in self._read(self._rule(rule, limits), self._video_part(limits)):
            stop_if_abandoned()
            self._pixels += frame.picture.width * frame.picture.height
            self._places.append(frame.place)
            yield frame

    def _read(self, rule: FrameRule, part: VideoPart) -> Iterator[VideoFrame]:
        if isinstance(self._source, _FrameArray):
            yield from self._source.frames(part, rule)
            return
        chosen = count = 0
        warnings: Sequence[str] = ()
        for result in self._source.read(part, rule):
            if isinstance(result, FramePlan):
                chosen, warnings = len(result.places), result.warnings
            else:
                count += 1
                yield result
        if not count:
            raise InputError(f"{self.name} cannot be decoded: none of the frames to be read is whole.")
        lost = [f"{chosen - count} of the {chosen} frames to be read cannot be decoded"] if count < chosen else []
        for warning in (*warnings, *lost):
            LOG.warning("%s: %s.", self.name, warning)

    def segments(self, seconds: float = 10.0, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> list[Video]:
        """Return the parts of so many seconds from ``start`` to ``end``, as Videos with their ``start`` and ``end``.

        What is left at the end is a shorter part; less than a tenth of a part belongs to the one before.

        Raises:
            InputError: ``seconds`` is not positive, or the video cannot be read (see ``header``).
        """
        times = times_within(self.header(limits).seconds, self.start, self.end, seconds, "video")
        return [self.part(start, end) for start, end in times]

    def cuts(
        self, threshold: float = CUT_THRESHOLD, limits: VideoLimits = DEFAULT_VIDEO_LIMITS
    ) -> Iterator[tuple[list[float], float]]:
        """Yield the seconds at which a new scene begins, and the second up to which all are known.

        All frames from ``start`` to ``end`` are decoded. A fade is no cut.

        Args:
            threshold: mean difference of hue, saturation and brightness, from 0 to 255, from which on it is a cut.
            limits: what the video may have at most.

        Raises:
            InputError: it is an array of frames, or cannot be read (see ``header``).
        """
        yield from self._require_file("scenes").cuts(self._video_part(limits), threshold)

    def sound(
        self, rate: int, track: int | None = None, limits: VideoLimits = DEFAULT_VIDEO_LIMITS
    ) -> Generator[Array, None, None]:
        """Yield the samples of its sound from ``start`` to ``end`` in blocks, mono, float32 [n], ``rate`` a second.

        Times are those of the video: where it plays no sound, the samples are 0. A video without sound yields nothing.

        Args:
            rate: samples a second.
            track: which sound track, from 0; by default the one that the file calls default, or the first.
            limits: what the video may have at most.

        Raises:
            InputError: it is an array of frames, has tracks but not this one, or cannot be read (see ``header``).
        """
        yield from self._require_file("sound").sound(self._video_part(limits), rate, track)

    def thumbnail(
        self,
        at: float = 0.0,
        max_side: int = 256,
        form: ThumbnailFormat = "JPEG",
        limits: VideoLimits = DEFAULT_VIDEO_LIMITS,
    ) -> bytes:
        """Return the bytes of a smaller picture of the frame that is shown at a second, upright.

        Args:
            at: seconds after the first frame of the video, whatever its part.
            max_side: pixels of the longer side, 1 to 4,096. A smaller frame keeps its size.
            form: the format of the file.
            limits: what the video may have at most.

        Raises:
            InputError: the video ends before ``at``, cannot be read (see ``header``), or the frame is damaged.
        """
        check_seconds_number("at", at)
        part = VideoPart(self.name, "", limits, float(at), float(at) + _MOMENT)
        frame = next(iter(self._read(FrameRule(max_frames=1), part)))
        return encode_thumbnail(frame.picture, max_side, form)

    def clip(self, max_bytes: int = MAX_CLIP_BYTES, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> VideoClip:
        """Return the part from ``start`` to ``end`` as a file with its pictures and its first sound track.

        Nothing is coded again: the clip begins at the keyframe at or before ``start``.

        Args:
            max_bytes: bytes of the file.
            limits: what the video may have at most.

        Raises:
            InputError: it is an array of frames, ends before ``start``, or cannot be read (see ``header``).
            TooLarge: the clip has more than ``max_bytes``.
            MissingExtra: PyAV is not installed.
        """
        return self._require_file("packets").clip(self._video_part(limits), max_bytes)

    def _require_file(self, what: str) -> VideoFile:
        if isinstance(self._source, _FrameArray):
            raise InputError(f"A video of arrays has no {what} that could be read: pass its file.", param="video")
        return self._source

    def _video_part(self, limits: VideoLimits) -> VideoPart:
        return VideoPart(self.name, "", limits, self.start, self.end)

    def to_file(self, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> bytes:
        """Return the bytes of its file. Whether it is a video is not checked.

        Raises:
            InputError: it is an array of frames, has a choice of frames or of a part, which no file says, or its file
                cannot be read.
            TooLarge: it has more bytes than the limits.
        """
        if isinstance(self._source, _FrameArray):
            raise InputError("A video of arrays has no file: write it to one, such as MP4, and pass its path.")
        if self._choice != _FrameOptions():
            raise InputError(
                f"{self.name} has a choice of frames (fps, max_frames, start or end), which its file does not say: "
                "cut the file, or encode it in this process.",
                param="video",
            )
        return self._source.to_bytes(limits)

    def part(self, start: float, end: float) -> Video:
        """Return the part from one second to another, with the same choice of frames."""
        check_range(start, end)
        part = object.__new__(type(self))
        part._source, part._choice = self._source, replace(self._choice, start=start, end=end)
        part._pixels, part._places = 0, []
        return part

    def _rule(self, rule: FrameRule, limits: VideoLimits) -> FrameRule:
        choice = self._choice
        count = rule.max_frames if choice.max_frames is None else int(choice.max_frames)
        if count > limits.max_frames:
            raise TooLarge(f"max_frames is {count:,}. At most {limits.max_frames:,} are read.", param="max_frames")
        return replace(
            rule,
            fps=rule.fps if choice.fps is None else float(choice.fps),
            max_frames=count,
            min_frames=min(rule.min_frames, count),
        )

    def __repr__(self) -> str:
        source = self._source.pixels if isinstance(self._source, _FrameArray) else self._source.source
        if isinstance(source, Path):
            shown = f"path={str(source)!r}"
        elif isinstance(source, np.ndarray):
            shown = f"<ndarray {list(source.shape)}>, rate={cast(_FrameArray, self._source).rate:g}"
        else:
            shown = f"<{type(source).__name__} {len(source):,}>"
        choice = "".join(f", {name}={value}" for name, value in vars(self._choice).items() if value not in (None, 0.0))
        return f"Video({shown}{choice})"


def _checked_source(source: object, uri: object, rate: object) -> VideoFile | _FrameArray:
    if uri is not None:
        if not isinstance(uri, str):
            raise InputError(f"uri must be a string, not {type(uri).__name__}.", param="uri")
        return VideoFile(uri)
    if isinstance(source, Video):
        return source._source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return VideoFile(bytes(source))
    if isinstance(source, os.PathLike):
        return VideoFile(absolute_path(source))
    if isinstance(source, np.ndarray) or (
        isinstance(source, (list, tuple)) and source and all(isinstance(frame, np.ndarray) for frame in source)
    ):
        return _checked_frames(source, rate)
    hint = ". A string is a text: write Video(path=...) or Video(uri=...)" if isinstance(source, str) else ""
    raise InputError(
        f"A video is a path, bytes, or an array of frames with rate=, not {type(source).__name__}{hint}.", param="video"
    )


def _checked_frames(source: Any, rate: object) -> _FrameArray:
    if isinstance(source, (list, tuple)) and len({frame.shape for frame in source}) > 1:
        raise InputError("The frames of a video must have one size.", param="video")
    pixels = source if isinstance(source, np.ndarray) else np.stack(source)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not len(pixels):
        raise InputError(
            f"The video is an array of {pixels.dtype} {list(pixels.shape)}: frames are uint8 [frames, height, width, "
            "3] in RGB.",
            param="video",
        )
    if rate is None:
        raise InputError("An array of frames needs rate=, frames a second.", param="rate")
    check_seconds_number("rate", rate)
    if not rate:
        raise InputError("rate must be more than 0.", param="rate")
    return _FrameArray(pixels, float(cast(Any, rate)))
