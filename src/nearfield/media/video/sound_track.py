"""The sound of a video: mono samples at one rate, block by block, at the times at which the video plays them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from msgspec import convert

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.media.limits import decode_memory
from nearfield.media.video.video_packets import VideoPart, check_seconds, open_container, packets_of, seek_keyframe
from nearfield.message_text import escape_controls

#: Decoders that run: those of files that cameras, phones, browsers and editors write.
_CODECS = (
    *("aac", "aac_latm", "ac3", "alac", "eac3", "flac", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float"),
    *("opus", "libopus", "vorbis", "libvorbis", "pcm_alaw", "pcm_mulaw", "pcm_f32le", "pcm_s16be", "pcm_s16le"),
    *("pcm_s24be", "pcm_s24le", "pcm_s32le", "pcm_u8"),
    *("adpcm_ima_wav", "adpcm_ms", "pcm_f32be", "pcm_f64be", "pcm_f64le", "pcm_s32be", "pcm_s8"),
)
#: Samples of a block.
_BLOCK = 1 << 18
#: Seconds by which the times of a stream may jitter; longer gaps are filled with silence.
_JITTER = 0.05
#: Seconds before a part at which decoding begins, and formats whose index leads there.
_MARGIN, _INDEXED = 1.0, ("MP4", "M4A", "Matroska")
#: Flag of the track that a player chooses (AV_DISPOSITION_DEFAULT).
_DEFAULT = 0x1
#: The language of tracks that have none, and characters of a language or title that are shown.
_NO_LANGUAGE, _MAX_FACT = "und", 60


@dataclass(frozen=True)
class TrackJob:
    """The part of a video whose sound is read: samples a second, and which of its sound tracks, from 0.

    None is the track that the file marks as the default one, or the first.
    """

    part: VideoPart
    rate: int
    track: int | None = None


@dataclass(frozen=True)
class TrackHeader:
    """What a file says of its sound.

    Args:
        chosen: the number of the track that is read, from 0.
        names: of each track its language and title, or ``track 0`` and so on; empty without sound.
        seconds: the second at which the track ends, as the header states it; 0 if it does not.
    """

    chosen: int = 0
    names: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def others(self) -> tuple[str, ...]:
        """The names of the tracks that are not read."""
        return tuple(name for number, name in enumerate(self.names) if number != self.chosen)


def read_track_task(file: BinaryIO, options: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[Array]]]:
    """Yield the fields of a `TrackHeader`, then blocks of samples, float32 [n], which follow each other from ``start``.

    A part of the video without sound, at its start or within, is silence. A video without a track yields no block.

    Raises:
        InputError: it is damaged, has no such track, or its sound is coded in a way that is not decoded.
        TooLarge: the sound has more seconds than the limits.
        MissingExtra: PyAV is not installed.
    """
    job = convert(options, TrackJob)
    with open_container(file, job.part) as container:
        tracks = container.streams.audio
        if not tracks:
            yield asdict(TrackHeader()), []
            return
        chosen = _default_track(tracks) if job.track is None else job.track
        stream = _require_track(tracks, chosen, job.part.name)
        names = tuple(_name_of(track, number) for number, track in enumerate(tracks))
        yield asdict(TrackHeader(chosen, names, _stated_seconds(container, stream))), []
        with decode_memory().reserve(8 * _BLOCK):
            for block in _blocks(_samples(container, stream, job)):
                yield {}, [block]


def _default_track(tracks: Any) -> int:
    flags = [int(getattr(track.disposition, "value", track.disposition)) for track in tracks]
    return next((number for number, flag in enumerate(flags) if flag & _DEFAULT), 0)


def _require_track(tracks: Any, chosen: int, name: str) -> Any:
    if not 0 <= chosen < len(tracks):
        raise InputError(f"{name} has {len(tracks)} sound tracks, numbered from 0: there is no {chosen}.")
    stream = tracks[chosen]
    codec = getattr(stream.codec_context, "name", "an unknown codec")
    if codec not in _CODECS:
        raise InputError(f"{name} has sound coded with {codec}, which is not decoded: convert it to AAC.")
    return stream


def _name_of(stream: Any, number: int) -> str:
    """Return the language and the title of a track."""
    facts = (stream.metadata.get(key, "") for key in ("language", "title"))
    named = " ".join(escape_controls(fact)[:_MAX_FACT] for fact in facts if fact and fact != _NO_LANGUAGE)
    return named or f"track {number}"


def _stated_seconds(container: Any, stream: Any) -> float:
    """Return the seconds that the header states of a sound track: those of the file, if it has nothing else."""
    if stream.duration:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - _origin(container)
    return 0.0 if container.streams.video else max(0.0, (container.duration or 0) / 1e6 - _origin(container))


def _samples(container: Any, stream: Any, job: TrackJob) -> Iterator[Array]:
    """Yield the samples of the part; gaps of the stream are filled, what is before or behind the part is left out."""
    at, origin = round(job.part.start * job.rate), _origin(container)
    if job.part.start > _MARGIN and job.part.format in _INDEXED:
        seek_keyframe(container, stream, round((origin + job.part.start - _MARGIN) / stream.time_base))
    stop = None if job.part.end is None else round(job.part.end * job.rate)
    for place, samples in _placed(container, stream, job.rate, origin):
        begin = at if place is None or abs(place - at) <= _JITTER * job.rate else place
        check_seconds(max(begin, at + len(samples)) / job.rate, job.part.limits, job.part.name)
        for block in (*_silence(begin - at), samples[max(0, at - begin) :]):
            block = block[: None if stop is None else max(0, stop - at)]
            at += len(block)
            yield block
        if stop is not None and at >= stop:
            return


def _placed(container: Any, stream: Any, rate: int, origin: float) -> Iterator[tuple[int | None, Array]]:
    """Yield the decoded samples at ``rate``, each block with its place: samples after the video's first frame."""
    resampler = import_module("av.audio.resampler").AudioResampler(format="flt", layout="mono", rate=rate)
    for frame in _decoded(container, stream):
        place = None if frame.pts is None else round((float(frame.pts * frame.time_base) - origin) * rate)
        yield place, _concatenated(resampler.resample(frame))
    yield None, _concatenated(resampler.resample(None))


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    errors = import_module("av.error")
    for packet in packets_of(container, stream):
        try:
            frames = packet.decode()
        except errors.FFmpegError:
            continue
        yield from frames


def _concatenated(frames: Sequence[Any]) -> Array:
    return np.concatenate([np.zeros(0, np.float32), *(frame.to_ndarray()[0] for frame in frames)])


def _silence(count: int) -> Iterator[Array]:
    for start in range(0, count, _BLOCK):
        yield np.zeros(min(_BLOCK, count - start), np.float32)


def _origin(container: Any) -> float:
    """Return the time of the first frame of the video, from which seconds are counted; of sound alone, its own."""
    streams = [*container.streams.video, *container.streams.audio]
    stream = next((stream for stream in streams if stream.start_time is not None), None)
    return 0.0 if stream is None else float(stream.start_time * stream.time_base)


def _blocks(parts: Iterator[Array]) -> Iterator[Array]:
    """Yield the samples in blocks of ``_BLOCK``, since a message for each frame would cost more than its decoding."""
    waiting: list[Array] = []
    count = 0
    for samples in parts:
        waiting.append(samples)
        count += len(samples)
        if count >= _BLOCK:
            yield np.concatenate(waiting)
            waiting, count = [], 0
    if count:
        yield np.concatenate(waiting)
