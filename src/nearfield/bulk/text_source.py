"""Texts of files or stdin, in any tabular format, read one by one in bounded memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, MEDIA_SUFFIXES
from nearfield.errors import InputError, nearest
from nearfield.fileio.csv_records import FIRST_RECORD, RecordStart
from nearfield.fileio.s3.path import Location, S3Path
from nearfield.fileio.tabular import FORMATS, TableRow, check_unicode, read_stream, read_table

STDIN = Path("-")
_ALIASES = {"ndjson": "jsonl", "text": "txt", "md": "txt"}


class RowLocation(NamedTuple):
    """Where a row is: the number of its file, from 0, and where it begins there."""

    file: int
    record: RecordStart


@dataclass(frozen=True)
class TextSource:
    """Files of texts. ``form`` is txt, jsonl, csv, tsv or parquet; None chooses by the name of each file."""

    paths: tuple[Location, ...]
    form: str | None = None
    field: str = "text"
    id_field: str | None = None
    #: What a row is called in reports.
    unit: ClassVar[str] = "text"
    #: Rows that were left out.
    skipped: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for path in self.paths:
            form = self.format_of(path)
            if isinstance(path, Path) and path != STDIN and not path.is_file():
                raise InputError(f"There is no file {path}.", param="inputs")
            if self.id_field is not None and form == "txt":
                raise InputError(f"{path}: plain text holds no ids. Leave --id-field out.", param="id_field")

    @property
    def resumable(self) -> bool:
        """Whether the source can be read again from the start."""
        return STDIN not in self.paths

    def identity(self) -> list[object]:
        """Return what distinguishes this source from another, or from itself after a change."""
        stats: list[object] = [
            (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self._files
        ]
        stats += [path.version() for path in self.paths if isinstance(path, S3Path)]
        return [stats, self.form, self.field, self.id_field]

    def newest_change(self) -> float:
        """Return when a file was last written to, in seconds of the system's clock; 0 without files.

        Objects are not asked: their tags change with their content, however fast it does.
        """
        return max((path.stat().st_mtime for path in self._files), default=0.0)

    @property
    def _files(self) -> list[Path]:
        """The files on a disk."""
        return [path for path in self.paths if isinstance(path, Path) and path != STDIN]

    def digest(self, rows: int) -> str:  # noqa: ARG002 - a source of pictures needs it
        """Return a digest of the first rows: none, since ``identity`` says it of all."""
        return ""

    def megapixels(self, start: int, stop: int) -> float:  # noqa: ARG002 - as above
        """Return the millions of pixels of some rows: texts have none."""
        return 0.0

    def seconds(self, rows: int) -> float:  # noqa: ARG002 - as above
        """Return the seconds of the first rows: texts have none."""
        return 0.0

    def times(self, start: int, stop: int) -> Mapping[str, list[float]]:  # noqa: ARG002 - as above
        """Return the columns of seconds of some rows: none."""
        return {}

    def rows(self) -> Iterator[tuple[object, str]]:
        """Yield (id or None, text) for each text.

        Raises:
            InputError: a line cannot be read; the message names file and line.
        """
        return ((key, text) for _, key, text in self.located_rows())

    def located_rows(self, start: RowLocation | None = None) -> Iterator[tuple[RowLocation, object, str]]:
        """Yield (location, id or None, text) for each text, the first one being that at ``start``; raises as ``rows``.

        Nothing is read of the files before ``start``, and of its file only what reading needs: the header of a CSV
        file, the footer of a Parquet file and the row group of the row.
        """
        file, record = (0, FIRST_RECORD) if start is None else (start.file, start.record)
        for number, path in enumerate(self.paths[file:], file):
            for row in self._read(path, record if number == file else FIRST_RECORD):
                yield RowLocation(number, row.start), *self._id_and_text(row)

    def count(self, on_id: Callable[[object], None] = lambda _: None) -> int | None:
        """Return the number of texts, after reading each of them once; None for stdin.

        Compared with encoding this costs nothing, and it shows a bad line before hours of work, not after them.
        ``on_id`` is called with the id of each text.
        """
        if not self.resumable:
            return None
        number = 0
        for key, _ in self.rows():
            on_id(key)
            number += 1
        return number

    def format_of(self, path: Location) -> str:
        """Return the format in which a path is read.

        Raises:
            InputError: the format is unknown.
        """
        form = self.form or ("txt" if path == STDIN else path.suffix.removeprefix(".").lower() or "txt")
        form = _ALIASES.get(form, form)
        medium = next((kind for kind, suffixes in MEDIA_SUFFIXES.items() if f".{form}" in suffixes), None)
        if medium is not None and not self.form:
            raise InputError(
                f"{path} is a {MEDIA_NOUNS[medium]}, and other inputs are not: embed it with those of its kind alone."
            )
        if form not in FORMATS:
            raise InputError(f"{path}: unknown format {form!r}; name one with --format. {nearest(form, FORMATS)}")
        return form

    def _read(self, path: Location, start: RecordStart) -> Iterator[TableRow]:
        form = self.format_of(path)
        if path == STDIN:
            return read_stream(sys.stdin.buffer, "stdin", form, self.columns)
        return read_table(path, form, self.columns, start=start)

    def _id_and_text(self, row: TableRow) -> tuple[object, str]:
        value = row.get()
        repeated = next((name for name in self.columns if name in row.repeated), None) if row.repeated else None
        if repeated is not None:
            raise InputError(f"{row.where}: field {repeated!r} is there twice, with different values.", param="field")
        if not isinstance(value, str):
            return self.pick(row.where, value)
        if self.id_field is not None:
            raise InputError(f"{row.where}: str, not an object.")
        check_unicode(row.where, "text", value)
        return None, value

    @property
    def columns(self) -> list[str]:
        """The fields that are read."""
        return [name for name in (self.field, self.id_field) if name is not None]

    def pick(self, where: str, row: Mapping[str, object]) -> tuple[object, str]:
        """Return the id and the text of a row."""
        if self.field not in row:
            raise InputError(f"{where}: no field {self.field!r}. {nearest(self.field, map(str, row))}", param="field")
        text = row[self.field]
        if not isinstance(text, str):
            content = "nothing" if text is None else f"{type(text).__name__}, not text"
            raise InputError(f"{where}: field {self.field!r} holds {content}.", param="field")
        check_unicode(where, self.field, text)
        return self._id(where, row), text

    def _id(self, where: str, row: Mapping[str, object]) -> str | int | float | None:
        """Return the id of a row as every output can hold it: a number of 64 bits, or a string."""
        if self.id_field is None:
            return None
        if self.id_field not in row:
            hint = nearest(self.id_field, map(str, row))
            raise InputError(f"{where}: no field {self.id_field!r}. {hint}", param="id_field")
        key = row[self.id_field]
        if key is None or isinstance(key, (list, dict)):
            content = "nothing" if key is None else type(key).__name__
            raise InputError(f"{where}: field {self.id_field!r} holds {content}, which is no id.", param="id_field")
        if isinstance(key, bytes):
            return key.hex()
        if isinstance(key, float) or (isinstance(key, int) and -(2**63) <= key < 2**63):
            return key
        check_unicode(where, self.id_field, str(key))
        return str(key)
