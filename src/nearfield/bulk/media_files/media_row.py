"""Rows of pictures, sounds and videos: where each is, how it is opened, and why it cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from nearfield.bulk.input_table import InputRow
from nearfield.bulk.media_files.read_ahead import read_ahead
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, PICTURES, SOUNDS
from nearfield.bulk.media_files.video_source import VideoOptions
from nearfield.errors import InputError, TooLarge
from nearfield.media.audio import Audio
from nearfield.media.fetch import FetchPolicy, fetch
from nearfield.media.files import open_regular_file
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS
from nearfield.media.video.time_ranges import segment_times
from nearfield.media.video.video import Video

#: Bytes of one item that is no file: of a column, a tar or an address.
MAX_ITEM_BYTES = {PICTURES: DEFAULT_PICTURE_LIMITS.max_bytes, SOUNDS: 2**28}
_MAX_VIDEO_BYTES = 2**29
#: Rows of a shard, of pictures and of what lasts some seconds.
_USUAL_SHARD_ROWS, _USUAL_LONG_ROWS = 5000, 1000
#: Threads that fetch and read items ahead: of pictures, and of larger media.
_THREADS, _FEW_THREADS = 16, 2


@dataclass(frozen=True)
class WebAddress:
    """An item that is fetched."""

    url: str


@dataclass(frozen=True)
class FileRange:
    """An item that is a part of a file, such as a member of a tar."""

    path: str
    offset: int
    size: int


#: Where an item is: a file, the bytes of one, a data URI, an address, or a part of a file. None is nowhere.
MediaPlace = Path | bytes | str | WebAddress | FileRange | None


@dataclass(frozen=True)
class MediaReading:
    """How the items of a data set are read: the kind (``image``, ``video`` or ``audio``), and parts and frames."""

    kind: str
    options: VideoOptions = field(default_factory=VideoOptions)

    @property
    def unit(self) -> str:
        """What a row is called in reports."""
        return MEDIA_NOUNS[self.kind] if self.options.segments is None else "segment"

    @property
    def max_bytes(self) -> int:
        """Bytes that an item may have which is not a file on a disk."""
        return MAX_ITEM_BYTES.get(self.kind, _MAX_VIDEO_BYTES)

    @property
    def usual_shard_rows(self) -> int:
        """Rows of a shard where nothing else is requested: some minutes of work."""
        return _USUAL_SHARD_ROWS if self.kind == PICTURES else _USUAL_LONG_ROWS

    @property
    def facts(self) -> dict[str, object]:
        """What vectors depend on beside the items: the kind, and the options that are set."""
        return {"media": self.kind} | {name: value for name, value in vars(self.options).items() if value is not None}

    def open(self, source: Path | bytes | str, start: float | None = None, end: float | None = None) -> Any:
        """Return the input of an encoder: of a file, the bytes of one, or a data URI, all of it or some seconds.

        Raises:
            InputError: an option is wrong.
        """
        place: dict[str, Any] = {"uri": source} if isinstance(source, str) else {"source": source}
        if self.kind == PICTURES:
            return Image(**place)
        if self.kind == SOUNDS:
            return Audio(**place, start=start, end=end)
        return Video(**place, fps=self.options.fps, max_frames=self.options.max_frames, start=start, end=end)

    def segments(self, path: Path) -> list[tuple[float, float]]:
        """Return start and end of the parts of a file in seconds.

        Raises:
            InputError: its header cannot be read.
        """
        seconds = self.options.segments
        if seconds is None:
            raise ValueError("There are no segments.")
        return segment_times(0.0, self.open(path).header().seconds, seconds)


@dataclass(frozen=True)
class MediaRow(InputRow):
    """A row whose ``text`` stands for its item in digests: where it is, how large, and when it was changed.

    Attributes:
        reading: how the item is opened.
        place: where it is.
        times: start and end in seconds of the part that is read.
    """

    reading: MediaReading
    place: MediaPlace = None
    times: tuple[float, float] | None = None

    def to_input(self) -> Any:
        """Return the input of an encoder, after ``load``."""
        if not isinstance(self.place, (Path, bytes, str)):
            raise TypeError(f"{self.where} is not loaded.")
        return self.reading.open(self.place, *(self.times or ()))

    def to_sample(self) -> Any:
        """Return what a sample of rows holds of this one."""
        return self

    def load(self, policy: FetchPolicy) -> MediaRow:
        """Return the row with the bytes of its item if that is at an address or in a tar, or with the problem."""
        try:
            if isinstance(self.place, WebAddress):
                return replace(self, place=fetch(self.place.url, policy))
            return replace(self, place=self._range(self.place)) if isinstance(self.place, FileRange) else self
        except (InputError, OSError) as error:
            return replace(self, problem=str(error))

    def _range(self, part: FileRange) -> bytes:
        if part.size > self.reading.max_bytes:
            raise TooLarge(f"It has {part.size:,} bytes. At most {self.reading.max_bytes:,} bytes are read.")
        with open_regular_file(Path(part.path), 2**62) as file:
            data = os.pread(file.fileno(), part.size, part.offset)
        if len(data) < part.size:
            raise InputError(f"It ends after {len(data):,} of its {part.size:,} bytes.")
        return data


def load_rows(rows: Iterator[InputRow], policy: FetchPolicy, reading: MediaReading) -> Iterator[InputRow]:
    """Yield rows whose items are loaded, some of them ahead."""
    threads = _THREADS if reading.kind == PICTURES else _FEW_THREADS
    return read_ahead(partial(_load, policy=policy), rows, threads)


def _load(row: InputRow, policy: FetchPolicy) -> InputRow:
    return row.load(policy) if isinstance(row, MediaRow) and not row.problem else row


def to_unicode(name: str) -> str:
    """Return a name of a file without lone surrogates, which stand for bytes that are not UTF-8: they are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def file_state(path: str | Path) -> str:
    """Return size and time of change of a file, as a text that changes with its content.

    Raises:
        OSError: there is no such file.
    """
    status = os.stat(path)  # noqa: PTH116 - a path as a text
    return f"{status.st_size}:{status.st_mtime_ns}"
