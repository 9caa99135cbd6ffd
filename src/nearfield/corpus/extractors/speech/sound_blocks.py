"""The sound of a file in blocks of two minutes, which are cut where it is quiet, so that memory is bounded."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

import numpy as np
from msgspec import to_builtins

from nearfield.arrays import Array
from nearfield.corpus.document import Loss
from nearfield.errors import InputError
from nearfield.media.limits import VideoLimits
from nearfield.media.video.sound_track import TrackHeader, TrackJob, read_track_task
from nearfield.media.video.video_formats import HEAD, find_recording_format
from nearfield.media.video.video_packets import VideoPart
from nearfield.message_text import count_of

#: Samples a second that the models read.
RATE = 16_000
#: Seconds of a block, and those before its end in which it may be cut.
BLOCK_SECONDS, _CUT_SECONDS = 120, 20
#: Samples whose loudness is compared for a cut.
_WINDOW = RATE // 10
#: Seconds of a recording.
MAX_SECONDS = 48 * 3600
#: Formats whose length is estimated from the first of their frames.
_ESTIMATED = ("MP3", "AAC", "MPEG-TS")
#: Formats with their size in bytes 4 to 8, and the sizes that writers of streams leave there.
_SIZED: Mapping[str, Literal["little", "big"]] = {"WAV": "little", "AIFF": "big"}
_STREAMED = (0, 2**31 - 1, 2**32 - 1)
_LIMITS = VideoLimits(max_bytes=2**40, max_seconds=MAX_SECONDS)


@dataclass(frozen=True)
class SoundBlock:
    """Samples, float32 [n] at ``RATE``, that begin at the second ``start``."""

    start: float
    samples: Array

    @property
    def end(self) -> float:
        """The second at which it ends."""
        return self.start + len(self.samples) / RATE


@dataclass(frozen=True)
class Recording:
    """The sound of a file: its blocks, which can be read once, and what the file says of its sound.

    ``share`` is that of the bytes that the header states which are there.
    """

    blocks: Iterator[SoundBlock]
    track: TrackHeader
    share: float = 1.0


def open_recording(file: BinaryIO, name: str) -> Recording:
    """Return the sound in a file that can seek, which is decoded as it is read; of several tracks the default one.

    Raises:
        InputError: it is neither sound nor video of a known format, or is damaged; also while reading.
        TooLarge: it is longer than two days.
        MissingExtra: PyAV is not installed.
    """
    head = file.read(HEAD)
    form = find_recording_format(head)
    if form is None:
        raise InputError(f"{name}: damaged, or no sound or video of a format that is read.")
    job = TrackJob(VideoPart(name, form, _LIMITS), RATE)
    results = read_track_task(file, to_builtins(job))
    track = TrackHeader(**next(results)[0])
    samples = (array for _, arrays in results for array in arrays)
    if form in _ESTIMATED:
        track = replace(track, seconds=0.0)
    return Recording(cut_blocks(samples), track, _share_of_bytes(head, form, file))


def track_losses(track: TrackHeader) -> tuple[Loss, ...]:
    """Return the sound tracks of a file that are not read."""
    if not track.others:
        return ()
    names = "; ".join(track.others)
    reason = f"{count_of(len(track.others), 'further sound track')} ({names})"
    return (Loss(reason, advice=f"The one that the file calls default is read: {track.names[track.chosen]}."),)


def _share_of_bytes(head: bytes, form: str, file: BinaryIO) -> float:
    """Return which share of the bytes that its header states a file has; FFmpeg takes the bytes that are there."""
    if form not in _SIZED:
        return 1.0
    stated = int.from_bytes(head[4:8], _SIZED[form])
    if stated in _STREAMED:
        return 1.0
    place = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(place)
    return min(1.0, size / (stated + 8))


def cut_blocks(parts: Iterable[Array]) -> Iterator[SoundBlock]:
    """Yield blocks of samples that come in parts of any length."""
    waiting, count, done = list[Array](), 0, 0
    for part in parts:
        waiting.append(part)
        count += len(part)
        while count >= BLOCK_SECONDS * RATE:
            samples = np.concatenate(waiting)
            end = _quiet_place(samples[: BLOCK_SECONDS * RATE])
            yield SoundBlock(done / RATE, samples[:end])
            waiting, count, done = [samples[end:]], len(samples) - end, done + end
    if count:
        yield SoundBlock(done / RATE, np.concatenate(waiting))


def _quiet_place(samples: Array) -> int:
    """Return the position of the quietest moment near the end of a block."""
    first = len(samples) - _CUT_SECONDS * RATE
    windows = samples[first : first + (len(samples) - first) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)
    loudness = np.einsum("ij,ij->i", windows, windows)
    # Of equally quiet moments the last one: blocks stay long.
    quietest = len(loudness) - 1 - int(np.argmin(loudness[::-1]))
    return first + quietest * _WINDOW + _WINDOW // 2
