"""Clips: a part of a video as a file of the same format, without coding it again, from the keyframe before it on."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from msgspec import convert

from nearfield.arrays import Array
from nearfield.errors import InputError, TooLarge
from nearfield.media.video.video_packets import VideoPart, open_video, packets_of, require_pyav, seek_keyframe

#: Seconds before a keyframe at which to begin if the container does not lead to it, and those that rounding may cost.
_MARGIN, _EARLY = 10.0, 0.001
#: Bytes of a clip.
MAX_CLIP_BYTES = 2**28
#: FFmpeg's muxers of the formats that are read, and media types of what they write.
_MUXERS = {"MP4": "mp4", "Matroska": "matroska", "AVI": "avi", "MPEG-TS": "mpegts"}
_MEDIA_TYPES = {"mp4": "video/mp4", "matroska": "video/x-matroska", "webm": "video/webm", "avi": "video/x-msvideo"}
_MEDIA_TYPES |= {"mpegts": "video/mp2t"}
#: Codecs of WebM, which browsers play where they do not play Matroska.
_WEBM_CODECS = frozenset(("vp8", "vp9", "av1", "opus", "vorbis"))


@dataclass(frozen=True)
class VideoClip:
    """A part of a video as a file.

    Args:
        data: the bytes of the file.
        start: the second of the video at which it begins: that of a keyframe, at or before what was asked.
        media_type: such as ``video/mp4``.
    """

    data: bytes
    start: float
    media_type: str


@dataclass(frozen=True)
class ClipJob:
    """The part of a video that becomes a clip; ``max_bytes`` are those of the file."""

    part: VideoPart
    max_bytes: int = MAX_CLIP_BYTES


def cut_clip_task(file: BinaryIO, options: dict[str, Any]) -> tuple[dict[str, Any], list[Array]]:
    """Return ``start`` and ``media_type`` of a clip, and its bytes, uint8 [n]: what the child process does.

    Raises:
        InputError: the video is damaged, ends before the part, or its packets have no times.
        TooLarge: the clip has more bytes than the limit.
        MissingExtra: PyAV is not installed.
    """
    job = convert(options, ClipJob)
    with open_video(file, job.part) as (container, stream):
        sound = next(iter(container.streams.audio), None)
        streams = [stream, *([sound] if sound is not None else [])]
        muxer = _muxer_of(job.part, streams)
        buffer = io.BytesIO()
        with require_pyav().open(buffer, "w", format=muxer) as output:
            start = _ClipWriter(container, output, streams, job).write()
        return {"start": start, "media_type": _MEDIA_TYPES[muxer]}, [np.frombuffer(buffer.getvalue(), np.uint8)]


def _muxer_of(part: VideoPart, streams: list[Any]) -> str:
    muxer = _MUXERS[part.format]
    codecs = {stream.codec_context.codec.canonical_name for stream in streams}
    return "webm" if muxer == "matroska" and codecs <= _WEBM_CODECS else muxer


class _ClipWriter:
    """Copies the packets of a part. Of several streams, the first one is the video."""

    def __init__(self, container: Any, output: Any, streams: list[Any], job: ClipJob) -> None:
        self._container, self._output, self._part = container, output, job.part
        self._max_bytes, self._bytes = job.max_bytes, 0
        self._video = streams[0]
        self._targets = {stream.index: output.add_stream_from_template(stream) for stream in streams}
        self._streams = streams
        video_start = self._video.start_time
        self._origin = 0.0 if video_start is None else float(video_start * self._video.time_base)

    def write(self) -> float:
        """Copy the packets; return the second at which the clip begins.

        Some containers lead to a later keyframe than the one before a time: then an earlier time is tried.
        """
        start = self._origin + self._part.start
        for seconds in (start, start - _MARGIN, self._origin):
            place = round(max(self._origin, seconds) / float(self._video.time_base))
            if seek_keyframe(self._container, self._video, place) and (begin := self._copy(start)) is not None:
                return max(0.0, begin - self._origin)
        raise InputError(f"{self._part.name} ends before {self._part.start:g} s, where the clip begins.")

    def _copy(self, start: float) -> float | None:
        """Copy the packets from the last keyframe at or before a time on; return when that is, or None without one."""
        begin: float | None = None
        waiting: list[Any] = []  # those from the last keyframe on, until the part begins
        has_begun, ended = False, set[int]()
        for packet in packets_of(self._container, self._streams):
            if packet.dts is None or packet.pts is None:
                continue
            time, is_video = _time_of(packet), packet.stream is self._video
            if is_video and not has_begun:
                if packet.is_keyframe and time <= start + _EARLY:
                    begin, waiting = time, [early for early in waiting if _time_of(early) >= time]
                has_begun = time + _duration_of(packet) > start
                if has_begun and begin is None:
                    return None
            if not has_begun:
                waiting.append(packet)
            elif self._is_after(float(packet.dts * packet.time_base)):
                ended.add(packet.stream.index)
                if len(ended) == len(self._streams):
                    break
            elif packet.stream.index not in ended and begin is not None:
                for waited in (*waiting, packet):
                    self._put(waited, begin)
                waiting = []
        return begin if has_begun else None

    def _is_after(self, time: float) -> bool:
        return self._part.end is not None and time >= self._origin + self._part.end

    def _put(self, packet: Any, begin: float) -> None:
        """Copy a packet, unless it is before the keyframe; times then count from there."""
        if _time_of(packet) < begin:
            return
        offset = round(begin / float(packet.time_base))
        packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
        packet.stream = self._targets[packet.stream.index]
        self._bytes += packet.size
        if self._bytes > self._max_bytes:
            raise TooLarge(f"{self._part.name}: the clip has more than {self._max_bytes:,} bytes: shorten it.")
        self._output.mux(packet)


def _time_of(packet: Any) -> float:
    return float(packet.pts * packet.time_base)


def _duration_of(packet: Any) -> float:
    return float((packet.duration or 0) * packet.time_base)
