"""Files of pictures, sounds or videos as rows of a folder of shards: one for each, or for each segment.

Their bytes are not read for the plan: a file counts as changed if its size or its time of change is another, and an
object on S3 if its size or its tag is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nearfield.bulk.input_table import InputRow, expand_locations
from nearfield.bulk.media_files.media_row import FileRange, MediaReading, MediaRow, file_state, load_rows, to_unicode
from nearfield.bulk.media_files.read_ahead import read_ahead
from nearfield.bulk.text_source import RowLocation
from nearfield.errors import InputError, TooLarge
from nearfield.fileio.csv_records import RecordStart
from nearfield.fileio.s3.failures import ObjectDenied
from nearfield.fileio.s3.matching import is_folder
from nearfield.fileio.s3.path import Location, ObjectVersion, S3Path, pinned
from nearfield.media.fetch import FetchPolicy
from nearfield.media.video.time_ranges import segment_times

_TIMES = ("start", "end")


@dataclass(frozen=True)
class _FileFacts:
    """A file when it was looked at: its state, its segments if they are rows, or why it cannot be read."""

    number: int
    state: str
    segments: Sequence[tuple[float, float]] | None = None
    problem: str = ""


@dataclass(frozen=True)
class MediaFiles:
    """Files in the order of their paths, with absolute ``paths`` or objects, and ``names`` that are their ids."""

    paths: tuple[str | ObjectVersion, ...]
    names: tuple[str, ...]
    reading: MediaReading
    id_field: ClassVar[str] = "path"
    sets_aside: ClassVar[bool] = True
    sample_size: ClassVar[int] = 16

    def __post_init__(self) -> None:
        self.reading.open(Path("file"))  # options that are wrong are refused before a file is read
        if self.reading.options.segments is not None:
            segment_times(0.0, 1.0, self.reading.options.segments)

    @classmethod
    def expand(cls, inputs: Sequence[Location], output: Location, reading: MediaReading) -> MediaFiles:
        """Return the files of inputs, without those in the output; names are paths below a folder that is alone.

        Raises:
            InputError: there is no file.
        """
        paths = expand_locations(inputs, reading.kind, output)
        root = inputs[0] if len(inputs) == 1 and _is_folder(inputs[0]) else None
        names = tuple(to_unicode(_name_in(path, root)) for path in paths)
        return cls(tuple(map(place_of, paths)), names, reading)

    @property
    def unit(self) -> str:
        """What a row is called in reports."""
        return self.reading.unit

    @property
    def usual_shard_rows(self) -> int:
        """Rows of a shard where nothing else is requested."""
        return self.reading.usual_shard_rows

    @property
    def keep(self) -> tuple[str, ...]:
        """The columns of each row."""
        return () if self.reading.options.segments is None else _TIMES

    @property
    def facts(self) -> Mapping[str, object]:
        """What vectors depend on beside the files."""
        return self.reading.facts

    @property
    def plan_lasts(self) -> bool:
        """Whether a plan is stored: only of segments, because it would save nothing else."""
        return self.reading.options.segments is not None

    def identity(self) -> list[object]:
        """Return what a stored plan belongs to."""
        if not self.plan_lasts:
            return [self.reading.kind]
        digest = hashlib.sha256()
        for path, name in zip(self.paths, self.names, strict=True):
            digest.update(json.dumps([str(path), name, _state(path)]).encode() + b"\n")
        return [self.reading.kind, self.reading.options.segments, digest.hexdigest()]

    def newest_change(self) -> float:
        """Return when a file was last written to, in seconds of the system's clock; 0 if no plan is stored.

        Tags of objects change with their content, however fast it does.
        """
        if not self.plan_lasts:
            return 0.0
        paths = (Path(path) for path in self.paths if isinstance(path, str))
        return max((path.stat().st_mtime for path in paths if path.exists()), default=0.0)

    def format_of(self, path: object) -> str:  # noqa: ARG002 - a table has several
        """Return the kind of the files."""
        return self.reading.kind

    def check_keep(self) -> None:
        """Accept the columns: all rows have them."""

    def load(self, rows: Iterator[InputRow]) -> Iterator[InputRow]:
        """Return rows as they are encoded: a file is opened then, and the bytes of some objects are read ahead."""
        has_objects = any(isinstance(path, ObjectVersion) for path in self.paths)
        return load_rows(rows, FetchPolicy(), self.reading) if has_objects else rows

    def full_rows(self, start: RowLocation | None = None) -> Iterator[InputRow]:
        """Yield the rows, all of them or those from ``start`` on; a file that cannot be read is one with a problem."""
        file, first = (0, 0) if start is None else (start.file, start.record.lines)
        numbers = range(file, len(self.paths))
        has_headers = self.reading.options.segments is not None
        for facts in read_ahead(self._look_at, numbers, 4) if has_headers else map(self._look_at, numbers):
            yield from self._rows(facts, first if facts.number == file else 0)

    def _look_at(self, number: int) -> _FileFacts:
        path = self.paths[number]
        try:
            state = file_state(path)
        except OSError as error:
            return _FileFacts(number, "", problem=f"{path} cannot be read: {error.strerror}.")
        if self.reading.options.segments is None:
            return _FileFacts(number, state)
        try:
            source = Path(path) if isinstance(path, str) else self.reading.read_object(FileRange.of_object(path))
        except (ObjectDenied, TooLarge) as error:
            return _FileFacts(number, state, problem=str(error))
        try:
            return _FileFacts(number, state, self.reading.segments(source))
        except InputError as error:
            return _FileFacts(number, state, problem=str(error))

    def _rows(self, facts: _FileFacts, first: int) -> Iterator[MediaRow]:
        number, path, name = facts.number, self.paths[facts.number], self.names[facts.number]
        where, place = to_unicode(str(path)), Path(path) if isinstance(path, str) else FileRange.of_object(path)
        if facts.segments is None:
            location = RowLocation(number, RecordStart())
            columns = dict.fromkeys(self.keep)
            yield MediaRow(
                name, facts.state, columns, location, self.reading, place, where=where, problem=facts.problem
            )
            return
        for at, (begin, end) in enumerate(facts.segments[first:], first):
            key = f"{name}#t={round(begin, 3):g},{round(end, 3):g}"
            columns, location = {"start": begin, "end": end}, RowLocation(number, RecordStart(0, at))
            yield MediaRow(key, facts.state, columns, location, self.reading, place, (begin, end), where=where)


def _is_folder(path: Location) -> bool:
    return is_folder(path) if isinstance(path, S3Path) else path.is_dir()


def _name_in(path: Location, root: Location | None) -> str:
    """Return the path below a folder, or the whole path as it was written."""
    if isinstance(path, S3Path):
        return path.name_in(root) if isinstance(root, S3Path) else str(path)
    return (path.relative_to(root) if isinstance(root, Path) else path).as_posix()


def place_of(path: Location) -> str | ObjectVersion:
    """Return an absolute path, or an object with its version."""
    return pinned(path) if isinstance(path, S3Path) else os.path.abspath(path)  # noqa: PTH100 - links stay links


def _state(path: str | ObjectVersion) -> str:
    try:
        return file_state(path)
    except OSError:
        return ""
