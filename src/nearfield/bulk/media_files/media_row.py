"""Rows of pictures, sounds and videos: where each is, how it is opened, and why it cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from nearfield.bulk.input_table import InputRow
from nearfield.bulk.media_files.read_ahead import read_ahead
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, PICTURES, SOUNDS
from nearfield.bulk.media_files.video_source import VideoOptions
from nearfield.errors import InputError, TooLarge
from nearfield.fileio.s3.failures import ObjectDenied
from nearfield.fileio.s3.path import ObjectVersion, S3Path
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
#: Objects whose bytes are in memory while their segments are read one after another.
_CACHED_OBJECTS = 8


@dataclass(frozen=True)
class WebAddress:
    """An item that is fetched."""

    url: str


@dataclass(frozen=True)
class FileRange:
    """An item that is a part of a file, such as a member of a tar, or an object on S3 or a part of it."""

    path: str | ObjectVersion
    offset: int
    size: int

    @classmethod
    def of_object(cls, path: ObjectVersion) -> FileRange:
        """Return all of an object."""
        return cls(path, 0, path.size)


#: Where an item is: a file, the bytes of one, a data URI, an address, a part of a file, or an object on S3 of which
#: nothing else is known yet. None is nowhere.
MediaPlace = Path | bytes | str | WebAddress | FileRange | S3Path | None


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

    def segments(self, source: Path | bytes) -> list[tuple[float, float]]:
        """Return start and end of the parts of a file, or of the bytes of one, in seconds.

        Raises:
            InputError: its header cannot be read.
        """
        seconds = self.options.segments
        if seconds is None:
            raise ValueError("There are no segments.")
        return segment_times(0.0, self.open(source).header().seconds, seconds)

    def read_object(self, part: FileRange) -> bytes:
        """Return the bytes of an object, or of a part of it; those of the last ones are there again for segments.

        Raises:
            TooLarge: they are too many.
            ObjectDenied: the storage denies to read this object.
            InputError, StorageFailed: it has changed, or the bucket cannot be read.
        """
        self.check_size(part.size)
        return (_read_object if self.options.segments is None else _read_object_once)(part)

    def check_size(self, size: int) -> None:
        """Raise TooLarge for an item with too many bytes."""
        if size > self.max_bytes:
            raise TooLarge(f"It has {size:,} bytes. At most {self.max_bytes:,} bytes are read.")


def _read_object(part: FileRange) -> bytes:
    if not isinstance(part.path, ObjectVersion):
        raise TypeError(f"{part.path} is no object.")
    return part.path.read(part.offset, part.size)


_read_object_once = lru_cache(maxsize=_CACHED_OBJECTS)(_read_object)


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
        """Return the row with the bytes of its item if that is at an address, on S3 or in a tar, or with the problem.

        Raises:
            InputError, StorageFailed: an object has changed, or its bucket cannot be read.
        """
        if isinstance(self.place, FileRange) and isinstance(self.place.path, ObjectVersion):
            return self._with_object(self.place)
        try:
            if isinstance(self.place, WebAddress):
                return replace(self, place=fetch(self.place.url, policy))
            return replace(self, place=self._range(self.place)) if isinstance(self.place, FileRange) else self
        except (InputError, OSError) as error:
            return replace(self, problem=str(error))

    def _with_object(self, part: FileRange) -> MediaRow:
        try:
            data = self.reading.read_object(part)
        except (TooLarge, ObjectDenied) as error:
            return replace(self, problem=str(error))
        return replace(self, place=data) if len(data) == part.size else replace(self, problem=_cut_off(data, part))

    def find(self) -> MediaRow:
        """Return the row of an item on S3 with the version of the object, or with the problem; other rows unchanged."""
        if self.problem or not isinstance(self.place, S3Path):
            return self
        try:
            item = self.place.client.find(self.place.key)
        except ObjectDenied as error:
            return replace(self, problem=str(error))
        if item is None:
            return replace(self, problem=f"There is no object {self.place}.")
        file = ObjectVersion(self.place.bucket, item.key, item.size, item.etag)
        return replace(self, text=f"{self.text}:{file.state}", place=FileRange.of_object(file))

    def _range(self, part: FileRange) -> bytes:
        self.reading.check_size(part.size)
        with open_regular_file(Path(str(part.path)), 2**62) as file:
            data = os.pread(file.fileno(), part.size, part.offset)
        if len(data) < part.size:
            raise InputError(_cut_off(data, part))
        return data


def _cut_off(data: bytes, part: FileRange) -> str:
    return f"It ends after {len(data):,} of its {part.size:,} bytes."


def load_rows(rows: Iterator[InputRow], policy: FetchPolicy, reading: MediaReading) -> Iterator[InputRow]:
    """Yield rows whose items are loaded, some of them ahead."""
    threads = _THREADS if reading.kind == PICTURES else _FEW_THREADS
    return read_ahead(partial(_load, policy=policy), rows, threads)


def _load(row: InputRow, policy: FetchPolicy) -> InputRow:
    return row.load(policy) if isinstance(row, MediaRow) and not row.problem else row


def to_unicode(name: str) -> str:
    """Return a name of a file without lone surrogates, which stand for bytes that are not UTF-8: they are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def file_state(path: str | Path | ObjectVersion) -> str:
    """Return size and time of change of a file, or size and tag of an object, as a text that changes with its content.

    Raises:
        OSError: there is no such file.
    """
    if isinstance(path, ObjectVersion):
        return path.state
    status = os.stat(path)  # noqa: PTH116 - a path as a text
    return f"{status.st_size}:{status.st_mtime_ns}"
