"""Sounds of long recordings as inputs of models: the sound of a video, of an M4A or AAC file, and long sound files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from msgspec import convert, to_builtins

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.decoder_process.pool import DecoderJob, DecoderResult, stream_decoder
from nearfield.media.files import file_in_memory, open_regular_file
from nearfield.media.limits import LONG_SOUND_LIMITS, LONG_VIDEO_LIMITS, SoundLimits
from nearfield.media.sound.sound_decoding import Sound, SoundHeader, check_sound, convert_samples
from nearfield.media.sound.sound_formats import find_sound_format
from nearfield.media.video.sound_track import TrackHeader, TrackJob
from nearfield.media.video.video_formats import HEAD, find_recording_format
from nearfield.media.video.video_packets import VideoPart

#: Samples a second of its header, and at which a sound is counted that does not state its length.
_RATE = 48_000
#: Formats that state their length as an estimate, or not.
_ESTIMATED = ("AAC", "MPEG-TS")
#: Bytes that the decoder may take, and seconds for one of its blocks.
_MEMORY, _SECONDS = 2**30, 120.0
_DEFAULT_LIMITS = SoundLimits()


class TrackAudio(Audio):
    """The sound of a video, of an M4A or of an AAC file; of several sound tracks, the one that the file calls default.

    Its seconds are those of the video: 0 is the first frame. It may be two days long, of which a part is read.
    """

    __slots__ = ()

    def track(self) -> TrackHeader:
        """Return what the file says of its sound tracks. Raises as ``blocks`` does."""
        with self._opened(_RATE) as (header, _):
            return header

    def header(self, limits: SoundLimits = _DEFAULT_LIMITS) -> SoundHeader:  # noqa: ARG002 - a part is what is read
        """Return the length of the whole sound, which is decoded if its file does not state it.

        Raises as ``blocks`` does.
        """
        seconds = self.track().seconds
        count = round(seconds * _RATE) if seconds else sum(map(len, TrackAudio(self._source).blocks(_RATE)))
        return SoundHeader(_RATE, 1, count)

    def blocks(self, rate: int) -> Iterator[Array]:
        """Yield the samples in blocks, mono, float32 [n], ``rate`` a second; none if the video has no sound.

        Raises:
            InputError: it is no recording of a format that is read, or is damaged.
            TooLarge: it is longer than two days, or has more than 64 GiB.
            MissingExtra: PyAV is not installed.
        """
        with self._opened(rate) as (_, results):
            for result in results:
                yield from result.arrays

    def read(self, rate: int, limits: SoundLimits = _DEFAULT_LIMITS) -> Sound:
        """Return the decoded sound, of which the limits are those of the part.

        Raises as ``blocks`` does; InputError too if there is no sound in the part.
        """
        blocks, count = list[Array](), 0
        for block in self.blocks(rate):
            blocks.append(block)
            count += len(block)
            check_sound(count, 1, rate, limits, self.name)
        if not blocks:
            raise InputError(f"{self.name} has no sound from {self.start:g} s on.", param="start")
        return convert_samples(np.concatenate(blocks), rate, rate, limits, self.name)

    def _own_rate(self, limits: SoundLimits) -> int:  # noqa: ARG002 - that of the base class
        return _RATE

    @contextmanager
    def _opened(self, rate: int) -> Iterator[tuple[TrackHeader, Iterator[DecoderResult]]]:
        """Yield what the file says of its sound, and the results with the samples of the part."""
        with self._file() as file:
            form = find_recording_format(file.read(HEAD))
            file.seek(0)
            if form is None:
                raise InputError(f"{self.name} is no sound or video of a format that is read.")
            job = TrackJob(VideoPart(self.name, form, LONG_VIDEO_LIMITS, self.start, self.end), rate)
            decoder = DecoderJob("video sound", self.name, to_builtins(job), _MEMORY, _SECONDS)
            with closing(stream_decoder(decoder, file)) as results:
                header = convert(next(results).values, TrackHeader)
                yield replace(header, seconds=0.0) if form in _ESTIMATED else header, results

    def _file(self) -> AbstractContextManager[BinaryIO]:
        if isinstance(self._source, Path):
            return open_regular_file(self._source, LONG_SOUND_LIMITS.max_bytes)
        return closing(file_in_memory(self._bytes(LONG_SOUND_LIMITS)))


class LongAudio(Audio):
    """A sound file of up to two days and 64 GiB, of which a part is read: limits are those of the part."""

    __slots__ = ()

    def header(self, limits: SoundLimits = _DEFAULT_LIMITS) -> SoundHeader:
        """Return the header of the whole sound, as ``Audio.header`` does."""
        return super().header(_for_long_files(limits))

    def read(self, rate: int, limits: SoundLimits = _DEFAULT_LIMITS) -> Sound:
        """Return the decoded part, as ``Audio.read`` does."""
        is_short = self.end is not None and self.end - self.start <= limits.max_seconds
        return super().read(rate, _for_long_files(limits) if is_short else limits)


def _for_long_files(limits: SoundLimits) -> SoundLimits:
    long = LONG_SOUND_LIMITS
    return replace(limits, max_bytes=long.max_bytes, max_seconds=long.max_seconds)


def open_sound(source: Path | bytes, start: float | None = None, end: float | None = None) -> Audio:
    """Return the sound of a file, or a part of it: that of a sound, or the default sound track of a video.

    Raises:
        InputError: the file cannot be opened.
    """
    head = source[:HEAD] if isinstance(source, bytes) else _head_of(source)
    is_track = find_sound_format(head) is None and find_recording_format(head) is not None
    return (TrackAudio if is_track else LongAudio)(source, start=start, end=end)


def _head_of(path: Path) -> bytes:
    with open_regular_file(path, 2**62) as file:
        return file.read(HEAD)
