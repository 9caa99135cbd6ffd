"""What a video says without being decoded: its stream, and when each of its frames is shown.

Containers state wrong numbers of frames, so that the packets of all frames are listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError, MissingExtra, NearfieldError, TooLarge
from nearfield.media.limits import VideoLimits
from nearfield.media.video.frame_choice import Timeline
from nearfield.media.video.video_formats import SOUND_DEMUXERS, VIDEO_FORMATS
from nearfield.message_text import escape_controls

#: Decoders that run: those of files that cameras, phones, browsers and editors write. FFmpeg has hundreds of others.
_CODECS = (
    *("av1", "dnxhd", "ffv1", "h263", "h264", "hevc", "libaom-av1", "libdav1d", "libvpx", "libvpx-vp9", "mjpeg"),
    *("mpeg1video", "mpeg2video", "mpeg4", "prores", "rawvideo", "theora", "vp8", "vp9"),
)
_DEMUXERS = {**VIDEO_FORMATS, **SOUND_DEMUXERS}
#: Flag of a stream that is a picture beside sound (AV_DISPOSITION_ATTACHED_PIC).
_ATTACHED_PICTURE = 0x400
#: Packets at the start of a video among which the first frame is.
_FIRST_PACKETS = 64
#: Share of the seconds that a header states which a complete video has, and seconds that it may lack in any case.
_COMPLETE, _SLACK = 0.95, 1.0
#: Frames a second of a video that does not say.
_USUAL_RATE = 25.0
_MAX_REASON = 200
#: Bytes that are read at a time.
_BUFFER = 1 << 20
#: Threads of a decoder.
_THREADS = 2


@dataclass(frozen=True)
class VideoPart:
    """A part of a video file: ``start`` and ``end`` are seconds after its first frame; None is the end of the video."""

    name: str
    format: str
    limits: VideoLimits
    start: float = 0.0
    end: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the video."""
        return not self.start and self.end is None


@dataclass(frozen=True)
class VideoPackets:
    """What the packets of a video, or of a part of it, say.

    Args:
        timeline: when the frames are shown.
        places: the same times in ticks of the stream; None where the container has none, and frames are counted.
        first: the place of the first frame of the video.
        keys: places of keyframes, in order.
        warnings: what is not as it should be.
    """

    timeline: Timeline
    places: Sequence[int] | None
    first: int
    keys: Array
    warnings: tuple[str, ...] = ()


def require_pyav() -> Any:
    """Return the module ``av``.

    Raises:
        MissingExtra: PyAV is not installed.
    """
    try:
        return import_module("av")
    except (ImportError, OSError) as error:
        raise MissingExtra("Videos need PyAV: pip install 'nearfield[video]'") from error


@contextmanager
def open_video(file: BinaryIO, part: VideoPart) -> Iterator[tuple[Any, Any]]:
    """Open a file at its start, and yield its container and its video stream. Errors of FFmpeg become errors of ours.

    Raises:
        InputError: it is damaged, has no video, or is coded in a way that is not decoded.
        TooLarge: its frames have more pixels, or it has more seconds, than the limits.
        MissingExtra: PyAV is not installed.
    """
    with open_container(file, part) as container:
        stream = _video_stream(container, part)
        stream.codec_context.thread_count = _THREADS
        yield container, stream


@contextmanager
def open_container(file: BinaryIO, part: VideoPart) -> Iterator[Any]:
    """Open a file at its start, and yield its container. Errors of FFmpeg become errors of ours.

    Raises:
        InputError: it is damaged.
        MissingExtra: PyAV is not installed.
    """
    av = require_pyav()
    av.logging.set_level(av.logging.PANIC)
    with _own_errors(part):
        demuxer = _DEMUXERS[part.format]
        file.seek(0)
        with av.open(file, format=demuxer, metadata_errors="ignore", buffer_size=_BUFFER) as container:
            yield container


def _video_stream(container: Any, part: VideoPart) -> Any:
    stream = next((stream for stream in container.streams.video if not _is_cover(stream)), None)
    if stream is None:
        what = "sound alone" if container.streams.audio else "no video in it"
        what += ", with a cover picture" if container.streams.video else ""
        raise InputError(f"{part.name} has no frames: there is {what}.")
    codec = getattr(stream.codec_context, "name", "an unknown codec")
    if codec not in _CODECS:
        raise InputError(f"{part.name} is coded with {codec}, which is not decoded: convert it to H.264 or VP9.")
    check_frame_size(stream.width, stream.height, part.limits, part.name)
    check_seconds(stated_seconds(container, stream), part.limits, part.name)
    return stream


def _is_cover(stream: Any) -> bool:
    """Return whether a stream is the cover picture of a sound."""
    flags = stream.disposition
    return bool(int(getattr(flags, "value", flags)) & _ATTACHED_PICTURE)  # older versions have a Flag


def stated_seconds(container: Any, stream: Any) -> float:
    """Return the seconds that the header states, or 0."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1e6


def check_frame_size(width: int, height: int, limits: VideoLimits, name: str) -> None:
    """Raise InputError or TooLarge for frames of a size that is not read."""
    if min(width, height) < 1:
        raise InputError(f"{name} has no pixels: its frames are {width} x {height}.")
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise TooLarge(
            f"{name} has frames of {width:,} x {height:,} pixels. At most {limits.max_pixels:,} pixels are read, and "
            f"{limits.max_side:,} a side: make it smaller."
        )


def check_seconds(seconds: float, limits: VideoLimits, name: str) -> None:
    """Raise TooLarge for a video that is longer than the limit."""
    if seconds > limits.max_seconds:
        raise TooLarge(f"{name} has {seconds:,.0f} seconds. At most {limits.max_seconds:,} seconds are read: cut it.")


def read_packets(file: BinaryIO, part: VideoPart) -> VideoPackets:
    """List the packets of a video, or those from the keyframe before ``part.start`` to ``part.end``.

    Raises:
        InputError, TooLarge, MissingExtra: as for ``open_video``, or there are no packets.
    """
    if not part.is_whole:
        with open_video(file, part) as (container, stream):
            packets = _read_part(container, stream, part)
        if packets is not None:
            return packets
    with open_video(file, part) as (container, stream):
        whole = _PacketList(packets_of(container, stream))
        return _packets_from(whole, container, stream, part, min(whole.places, default=0))


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream, and an empty one at the end; a file that is cut off ends where it is cut."""
    errors = import_module("av.error")
    try:
        yield from container.demux(stream)
    except (errors.FFmpegError, EOFError):
        return


def seek_keyframe(container: Any, stream: Any, place: int) -> bool:
    """Go to the last keyframe before a place; return whether the container can."""
    errors = import_module("av.error")
    try:
        container.seek(place, stream=stream, backward=True)
    except (errors.FFmpegError, EOFError):
        return False
    return True


def _read_part(container: Any, stream: Any, part: VideoPart) -> VideoPackets | None:
    """Return the packets of a part, or None if the container leads elsewhere, or has no times."""
    opening = _PacketList(islice(packets_of(container, stream), _FIRST_PACKETS))
    if not opening.has_times:
        return None
    tick, first = float(stream.time_base), min(opening.places)
    begin = first + round(part.start / tick)
    if not seek_keyframe(container, stream, begin):
        return None
    ending = None if part.end is None else first + round(part.end / tick)
    listing = _PacketList(packets_of(container, stream), ending)
    start = min(listing.keys, default=begin + 1)
    # Frames before the keyframe that are decoded after it need those before it.
    listing.places = [place for place in listing.places if place >= start]
    if not listing.has_times or start > begin:
        return None
    return _packets_from(listing, container, stream, part, first)


class _PacketList:
    """The times of packets: ``places`` and ``keys`` in ticks, and ``last``, for how long the last frame is shown."""

    def __init__(self, packets: Iterator[Any], ending: int | None = None) -> None:
        self.places: list[int] = []
        self.keys: list[int] = []
        self.count, self.last, self._latest, self._untimed = 0, 0, 0, False
        for packet in packets:
            if not packet.size or packet.is_discard:
                continue
            self.count += 1
            self._add(packet)
            # All that follow are shown after they are decoded.
            if ending is not None and packet.dts is not None and packet.dts >= ending:
                self._drop_from(ending)
                break

    def _add(self, packet: Any) -> None:
        if packet.pts is None:
            self._untimed = True
            return
        if not self.places or packet.pts > self._latest:
            self._latest, self.last = packet.pts, packet.duration or 0
        self.places.append(packet.pts)
        if packet.is_keyframe:
            self.keys.append(packet.pts)

    def _drop_from(self, ending: int) -> None:
        """Drop the frames from a time on, of which some may be missing."""
        later = [place for place in self.places if place >= ending]
        self.places = [place for place in self.places if place < ending]
        if later and self.places:
            self.last = min(later) - max(self.places)

    @property
    def has_times(self) -> bool:
        """Whether there are packets, and each has its time."""
        return bool(self.places) and not self._untimed


def _packets_from(listing: _PacketList, container: Any, stream: Any, part: VideoPart, first: int) -> VideoPackets:
    if not listing.count:
        raise InputError(f"{part.name} has no frames: it ends after its header.")
    rate = float(stream.average_rate or 0)
    if listing.has_times:
        places = np.unique(np.asarray(listing.places, np.int64))
        timeline = Timeline(places - first, float(stream.time_base), rate, listing.last)
    else:
        rate = rate or _USUAL_RATE
        timeline = Timeline(np.arange(listing.count), 1 / rate, rate)
    check_seconds(timeline.end, part.limits, part.name)
    is_inside = part.end is not None and part.end <= timeline.end
    warnings = () if is_inside else _cut_short(container, stream, timeline, first)
    keys = np.unique(np.asarray(listing.keys, np.int64))
    return VideoPackets(timeline, places.tolist() if listing.has_times else None, first, keys, warnings)


def _cut_short(container: Any, stream: Any, timeline: Timeline, first: int) -> tuple[str, ...]:
    """Return a warning if a video is shorter than its header says; ``first`` is when its first frame is shown."""
    # A stream without its own length, as in Matroska: that of the file begins before the first frame.
    before = 0.0 if stream.duration else float(first * stream.time_base)
    frames = float(stream.frames / stream.average_rate) if stream.average_rate else 0.0
    stated = max(stated_seconds(container, stream) - before, frames)
    if timeline.end >= min(_COMPLETE * stated, stated - _SLACK):
        return ()
    return (f"its frames end after {timeline.end:.1f} of the {stated:.1f} seconds that its header states",)


@contextmanager
def _own_errors(part: VideoPart) -> Iterator[None]:
    """Raise errors of ours in place of those of FFmpeg, which damaged files cause."""
    try:
        yield
    except NearfieldError:
        raise
    except MemoryError as error:
        raise TooLarge(f"{part.name} needs more memory to decode than there is.") from error
    except Exception as error:  # FFmpeg's errors are subclasses of OSError, ValueError and others
        reason = escape_controls(str(getattr(error, "strerror", None) or error)).rstrip(".")[:_MAX_REASON]
        raise InputError(f"{part.name} cannot be read as {part.format}: {reason or type(error).__name__}.") from error
