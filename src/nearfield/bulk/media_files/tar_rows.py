"""Tars of pictures, sounds or videos in the layout of WebDataset as rows: one for each sample, whose key is the id.

Only headers are used for the plan, and the members of ``keep``: a sample counts as changed if its tar has another size
or time of change, or on S3 another size or tag. Tars on S3 are read from start to end for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, ClassVar

from nearfield.bulk.input_table import InputRow
from nearfield.bulk.media_files.file_rows import place_of
from nearfield.bulk.media_files.media_row import FileRange, MediaReading, MediaRow, file_state, load_rows, to_unicode
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, MEDIA_SUFFIXES
from nearfield.bulk.media_files.tar_samples import TarMember, TarSample, read_samples
from nearfield.bulk.text_source import RowLocation
from nearfield.errors import InputError
from nearfield.fileio.csv_records import RecordStart
from nearfield.fileio.s3.path import Location, ObjectVersion
from nearfield.media.fetch import FetchPolicy

#: Bytes of a member that is a column.
_MAX_COLUMN_BYTES = 2**20
#: Samples by whose members the kind of a tar is found.
_LOOKED_AT = 100


@dataclass(frozen=True)
class TarRows:
    """Samples of tars with absolute ``paths``, or objects; ``field`` is the end of the items' names, such as ``jpg``.

    Without it, the first member with a usual suffix of the kind is the item. ``keep`` are such parts too: members in
    UTF-8, which become columns.
    """

    paths: tuple[str | ObjectVersion, ...]
    reading: MediaReading
    field: str | None = None
    keep: tuple[str, ...] = ()
    id_field: ClassVar[str] = "key"
    sets_aside: ClassVar[bool] = True
    sample_size: ClassVar[int] = 16
    plan_lasts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.reading.open(Path("file"))  # options that are wrong are refused before a file is read

    @property
    def unit(self) -> str:
        """What a row is called in reports."""
        return self.reading.unit

    @property
    def usual_shard_rows(self) -> int:
        """Rows of a shard where nothing else is requested."""
        return self.reading.usual_shard_rows

    @property
    def facts(self) -> Mapping[str, object]:
        """What vectors depend on beside the rows."""
        return self.reading.facts

    def identity(self) -> list[object]:
        """Return what a stored plan belongs to."""
        return [[(str(path), file_state(path)) for path in self.paths], self.reading.kind, self.field]

    def newest_change(self) -> float:
        """Return when a tar was last written to, in seconds of the system's clock."""
        return max((Path(path).stat().st_mtime for path in self.paths if isinstance(path, str)), default=0.0)

    def format_of(self, path: object) -> str:  # noqa: ARG002 - a table has several
        """Return the format."""
        return "tar"

    def check_keep(self) -> None:
        """Accept the columns: a sample may lack any of them."""

    def load(self, rows: Iterator[InputRow]) -> Iterator[InputRow]:
        """Yield rows with the bytes of their items; some are read ahead."""
        return load_rows(rows, FetchPolicy(), self.reading)

    def full_rows(self, start: RowLocation | None = None) -> Iterator[InputRow]:
        """Yield the rows, all of them or those from ``start`` on.

        A sample that cannot be read has the problem, and so has a row for what follows a damaged place of a tar.

        Raises:
            InputError: a tar cannot be opened.
        """
        number, offset = (0, 0) if start is None else (start.file, start.record.offset)
        for file, path in enumerate(self.paths[number:], number):
            state = _state_of(path)
            with _open(path) as opened:
                for sample in read_samples(opened, offset if file == number else 0):
                    location = RowLocation(file, RecordStart(sample.offset))
                    yield self._to_row(path, f"{state}:{sample.offset}", location, sample, opened)

    def _to_row(
        self, path: str | ObjectVersion, token: str, location: RowLocation, sample: TarSample, file: BinaryIO
    ) -> MediaRow:
        where = f"{to_unicode(str(path))}: {sample.key}"
        columns: Mapping[str, object] = dict.fromkeys(self.keep)
        if sample.problem:
            key = f"{to_unicode(Path(str(path)).name)}#{sample.key}"
            return MediaRow(key, token, columns, location, self.reading, where=where, problem=sample.problem)
        try:
            member = self._item(sample)
            columns = {name: _read_text(file, name, sample.members.get(name.lower())) for name in self.keep}
        except SampleUnreadable as error:
            return MediaRow(sample.key, token, columns, location, self.reading, where=where, problem=str(error))
        part = FileRange(path, member.offset, member.size)
        return MediaRow(sample.key, token, columns, location, self.reading, part, where=where)

    def _item(self, sample: TarSample) -> TarMember:
        kind, suffixes = self.reading.kind, sample.suffixes
        member = sample.members.get(self.field.lower()) if self.field is not None else None
        if self.field is None:
            member = next((suffixes[suffix] for suffix in suffixes if suffix in MEDIA_SUFFIXES[kind]), None)
        if member is None:
            name = self.field or f"a {MEDIA_NOUNS[kind]}"
            raise SampleUnreadable(f"It has no member of {name}, only {', '.join(sample.members)}.")
        if not member.is_plain:
            raise SampleUnreadable(
                "It is a link or a sparse file, which is not read: write the tar with --dereference --hard-dereference."
            )
        return member


class SampleUnreadable(InputError):
    """A sample cannot be read, while others of its tar can."""


def _open(path: str | ObjectVersion) -> BinaryIO:
    return Path(path).open("rb") if isinstance(path, str) else path.open()


def _state_of(path: str | ObjectVersion) -> str:
    try:
        return file_state(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", param="inputs") from error


def _read_text(file: BinaryIO, name: str, member: TarMember | None) -> str | None:
    """Return the text of a member that is a column; None if the sample has none."""
    if member is None:
        return None
    if member.size > _MAX_COLUMN_BYTES or not member.is_plain:
        raise SampleUnreadable(
            f"Its member {name} has {member.size:,} bytes. A column has at most {_MAX_COLUMN_BYTES:,}."
        )
    file.seek(member.offset)
    try:
        return file.read(member.size).decode()
    except UnicodeDecodeError as error:
        raise SampleUnreadable(f"Its member {name} is not UTF-8 ({error.reason}): leave it out of --keep.") from error


def kind_of_tar(path: Location) -> str | None:
    """Return the kind of most of the first samples of a tar, by the suffixes of their members; None: none."""
    with path.open("rb") as file:
        samples = list(islice(read_samples(file), _LOOKED_AT))
    counts = {
        kind: sum(any(suffix in suffixes for suffix in sample.suffixes) for sample in samples)
        for kind, suffixes in MEDIA_SUFFIXES.items()
    }
    best = max(counts, key=lambda kind: counts[kind])
    return best if counts[best] else None


def tar_rows(paths: Sequence[Location], reading: MediaReading, field: str | None, keep: tuple[str, ...]) -> TarRows:
    """Return the samples of tars."""
    return TarRows(tuple(map(place_of, paths)), reading, field, keep)
