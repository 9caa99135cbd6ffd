"""Files of pictures, sounds or videos as rows of a folder of shards: one for each, or for each segment.

Their bytes are not read for the plan: a file counts as changed if its size or its time of change is another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nearfield.bulk.input_table import InputRow, expand_paths
from nearfield.bulk.media_files.media_row import MediaReading, MediaRow, file_state, to_unicode
from nearfield.bulk.media_files.read_ahead import read_ahead
from nearfield.bulk.text_source import RowLocation
from nearfield.errors import InputError
from nearfield.fileio.csv_records import RecordStart
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
    """Files in the order of their paths, with absolute ``paths``, and ``names`` that are their ids."""

    paths: tuple[str, ...]
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
    def expand(cls, inputs: Sequence[Path], output: Path, reading: MediaReading) -> MediaFiles:
        """Return the files of inputs, without those in the output; names are paths below a folder that is alone.

        Raises:
            InputError: there is no file.
        """
        paths = expand_paths(inputs, reading.kind, output)
        root = inputs[0] if len(inputs) == 1 and inputs[0].is_dir() else None
        names = (path if root is None else path.relative_to(root) for path in paths)
        places = tuple(os.path.abspath(path) for path in paths)  # noqa: PTH100 - links stay links
        return cls(places, tuple(to_unicode(name.as_posix()) for name in names), reading)

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
            digest.update(json.dumps([path, name, _state(path)]).encode() + b"\n")
        return [self.reading.kind, self.reading.options.segments, digest.hexdigest()]

    def newest_change(self) -> float:
        """Return when a file was last written to, in seconds of the system's clock; 0 if no plan is stored."""
        if not self.plan_lasts:
            return 0.0
        times = (Path(path).stat().st_mtime for path in self.paths if Path(path).exists())
        return max(times, default=0.0)

    def format_of(self, path: object) -> str:  # noqa: ARG002 - a table has several
        """Return the kind of the files."""
        return self.reading.kind

    def check_keep(self) -> None:
        """Accept the columns: all rows have them."""

    def load(self, rows: Iterator[InputRow]) -> Iterator[InputRow]:
        """Return rows as they are encoded: a file is opened then."""
        return rows

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
        try:
            has_segments = self.reading.options.segments is not None
            return _FileFacts(number, state, self.reading.segments(Path(path)) if has_segments else None)
        except InputError as error:
            return _FileFacts(number, state, problem=str(error))

    def _rows(self, facts: _FileFacts, first: int) -> Iterator[MediaRow]:
        number, path, name = facts.number, self.paths[facts.number], self.names[facts.number]
        where = to_unicode(path)
        if facts.segments is None:
            location = RowLocation(number, RecordStart())
            columns = dict.fromkeys(self.keep)
            yield MediaRow(
                name, facts.state, columns, location, self.reading, Path(path), where=where, problem=facts.problem
            )
            return
        for at, (begin, end) in enumerate(facts.segments[first:], first):
            key = f"{name}#t={round(begin, 3):g},{round(end, 3):g}"
            columns, location = {"start": begin, "end": end}, RowLocation(number, RecordStart(0, at))
            yield MediaRow(key, facts.state, columns, location, self.reading, Path(path), (begin, end), where=where)


def _state(path: str) -> str:
    try:
        return file_state(path)
    except OSError:
        return ""
