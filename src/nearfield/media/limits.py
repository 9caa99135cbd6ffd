"""Limits of pictures, sounds and videos, checked before anything is decoded; memory of decoders; and when they stop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Condition, Event

from nearfield.errors import DeadlineExceeded, InputError
from nearfield.fork_safety import PerProcess

#: Bytes that pictures and sounds which are decoded at the same time may take together.
DECODE_MEMORY = 512 * 2**20
#: What is set once the caller of a thread no longer waits for it.
abandoned: ContextVar[Event | None] = ContextVar("nearfield_abandoned", default=None)


def stop_if_abandoned() -> None:
    """End work for which its caller no longer waits. Called between the parts of an input, and the frames of a video.

    Raises:
        DeadlineExceeded: the caller has gone.
    """
    event = abandoned.get()
    if event is not None and event.is_set():
        raise DeadlineExceeded("The call has ended.")


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What a picture may have at most. What has more is refused with ``TooLarge``.

    Args:
        max_bytes: bytes of a file.
        max_side: pixels of the longer side.
        max_pixels: pixels. Above 178 million Pillow refuses a file, whatever the value here.
        max_frames: frames of an animation, and pages of a TIFF. Only the first is decoded.

    Raises:
        InputError: a limit is not a positive whole number.
    """

    max_bytes: int = 64 * 2**20
    max_side: int = 32_768
    max_pixels: int = 64_000_000
    max_frames: int = 1000

    def __post_init__(self) -> None:
        _require_positive(self)


@dataclass(frozen=True, slots=True)
class SoundLimits:
    """What a sound may have at most. What has more is refused with ``TooLarge``.

    Args:
        max_bytes: bytes of a file.
        max_seconds: seconds.
        max_channels: channels.

    Raises:
        InputError: a limit is not a positive whole number.
    """

    max_bytes: int = 2**30
    max_seconds: int = 3600
    max_channels: int = 16

    def __post_init__(self) -> None:
        _require_positive(self)


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """What a video may have at most. What has more is refused with ``TooLarge``.

    Args:
        max_bytes: bytes of a file.
        max_seconds: seconds.
        max_side: pixels of the longer side of a frame.
        max_pixels: pixels of a frame.
        max_frames: frames that are read of one video.

    Raises:
        InputError: a limit is not a positive whole number.
    """

    max_bytes: int = 2**31
    max_seconds: int = 7200
    max_side: int = 16_384
    max_pixels: int = 36_000_000
    max_frames: int = 1000

    def __post_init__(self) -> None:
        _require_positive(self)


def limit_values(limits: PictureLimits | SoundLimits | VideoLimits) -> dict[str, int]:
    """Return the limits by name, as plain numbers, for another process."""
    return {name: int(getattr(limits, name)) for name in limits.__slots__}


def _require_positive(limits: PictureLimits | SoundLimits | VideoLimits) -> None:
    for name in limits.__slots__:
        value = getattr(limits, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a positive whole number, and is {value!r}.", param=name)


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What a picture, a sound, and a video may have at most."""

    pictures: PictureLimits = field(default_factory=PictureLimits)
    sounds: SoundLimits = field(default_factory=SoundLimits)
    videos: VideoLimits = field(default_factory=VideoLimits)


#: Limits where a program sets none.
DEFAULT_PICTURE_LIMITS = PictureLimits()
DEFAULT_VIDEO_LIMITS = VideoLimits()
DEFAULT_MEDIA_LIMITS = MediaLimits()
#: Bytes and seconds of recordings of which a part at a time is read, so that their length takes no memory.
_LONG_BYTES, _LONG_SECONDS = 2**36, 48 * 3600
LONG_SOUND_LIMITS = SoundLimits(max_bytes=_LONG_BYTES, max_seconds=_LONG_SECONDS)
LONG_VIDEO_LIMITS = VideoLimits(max_bytes=_LONG_BYTES, max_seconds=_LONG_SECONDS)


class ByteSemaphore:
    """A number of bytes that threads share. Those that wait are served in the order in which they came.

    Args:
        capacity: the number of bytes. A reservation of more waits for all of them, and then runs alone.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._reserved = 0
        self._queue: deque[object] = deque()
        self._condition = Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Wait until ``size`` bytes are free, and reserve them until the end of the block."""
        size = self._take(size)
        try:
            yield
        finally:
            with self._condition:
                self._reserved -= size
                self._condition.notify_all()

    def _take(self, size: int) -> int:
        ticket = object()
        with self._condition:
            self._queue.append(ticket)
            try:
                self._condition.wait_for(lambda: self._queue[0] is ticket and self._is_free(size))
                size = min(size, self.capacity)
                self._reserved += size
            finally:
                self._queue.remove(ticket)
                self._condition.notify_all()
        return size

    def _is_free(self, size: int) -> bool:
        return self._reserved + min(size, self.capacity) <= self.capacity


_memory: PerProcess[ByteSemaphore] = PerProcess()


def decode_memory() -> ByteSemaphore:
    """Return the semaphore of all decoders of this process. Its ``capacity`` may be changed at any time."""
    return _memory.get(lambda: ByteSemaphore(DECODE_MEMORY))


def replace_decode_memory(memory: ByteSemaphore) -> None:
    """Replace the semaphore of all decoders of this process."""
    _memory.set(memory)
