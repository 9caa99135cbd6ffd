"""Tables with a column of pictures, sounds or videos: bytes, data URIs, paths or addresses.

A row of Parquet may have a struct of ``bytes`` and ``path``, as data sets of Hugging Face do. Paths are relative to the
folder of the table, also on S3; ``s3://`` URLs name objects.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from nearfield.bulk.input_table import InputRow, InputTable
from nearfield.bulk.media_files.media_row import (
    MediaPlace,
    MediaReading,
    MediaRow,
    WebAddress,
    file_state,
    load_rows,
)
from nearfield.bulk.media_files.read_ahead import read_ahead
from nearfield.bulk.media_files.suffixes import PICTURES
from nearfield.bulk.text_source import RowLocation
from nearfield.errors import InputError
from nearfield.fileio.csv_records import FIRST_RECORD, RecordStart
from nearfield.fileio.s3.path import Location, S3Path, parse_location
from nearfield.fileio.tabular import TableOptions, TableRow, read_stream
from nearfield.media.fetch import FetchPolicy

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
#: Rows of a Parquet file that are in memory at once: a picture may have some megabytes.
_BATCH_ROWS = 16
#: Threads that look objects up.
_THREADS = 16
#: What ``seen`` has of rows whose items are files, and of rows with the column.
_PATHS, _ITEMS = "/paths", "/items"


@dataclass(frozen=True)
class MediaTable(InputTable):
    """Rows whose column ``field`` has the items; ``fetching`` says which addresses may be fetched."""

    reading: MediaReading = field(default_factory=lambda: MediaReading(PICTURES))
    fetching: FetchPolicy = field(default_factory=FetchPolicy)
    sets_aside: ClassVar[bool] = True
    sample_size: ClassVar[int] = 16

    @property
    def unit(self) -> str:  # type: ignore[override]  # texts have one unit
        """What a row is called in reports."""
        return self.reading.unit

    @property
    def usual_shard_rows(self) -> int:  # type: ignore[override]
        """Rows of a shard where nothing else is requested."""
        return self.reading.usual_shard_rows

    @property
    def facts(self) -> Mapping[str, object]:
        """What vectors depend on beside the rows."""
        return self.reading.facts

    @property
    def plan_lasts(self) -> bool:  # type: ignore[override]  # rows of texts depend on their tables alone
        """Whether the rows depend on these files alone: other files may change without them."""
        return _PATHS not in self.seen

    def identity(self) -> list[object]:
        return [*super().identity(), self.reading.kind]

    def check_keep(self) -> None:
        """Raise InputError if no row had a column, that of the items included; call it after all rows were read."""
        super().check_keep()
        if _ITEMS not in self.seen:
            raise InputError(
                f"No row has a field {self.field!r} with an item: name the one of the {self.unit}s with --field.",
                param="field",
            )

    def load(self, rows: Iterator[InputRow]) -> Iterator[InputRow]:
        """Yield rows with the bytes of what is at addresses or on S3; some are fetched ahead."""
        return load_rows(rows, self.fetching, self.reading)

    def full_rows(self, start: RowLocation | None = None) -> Iterator[InputRow]:
        """Yield the rows, all of them or those from ``start`` on; those that cannot be read have the problem.

        Raises:
            InputError: a file is no such table, or an item is at an address, and these are not fetched.
        """
        rows = self._table_rows(start)
        for row in rows:
            if isinstance(row.place, S3Path):  # from here on, objects are looked up ahead
                yield from read_ahead(MediaRow.find, chain([row], rows), _THREADS)
                return
            yield row

    def _table_rows(self, start: RowLocation | None) -> Iterator[MediaRow]:
        """Yield what ``full_rows`` does, before objects are looked up."""
        number, record = (0, FIRST_RECORD) if start is None else (start.file, start.record)
        for file, path in enumerate(self.paths[number:], number):
            for row in self._read(path, record if file == number else FIRST_RECORD):
                yield self._to_row(path, RowLocation(file, row.start), row)

    def _read(self, path: Location, start: RecordStart) -> Iterator[TableRow]:
        options = TableOptions(self.columns, start=start, batch_rows=_BATCH_ROWS)
        with path.open("rb") as file:
            yield from read_stream(file, str(path), self.format_of(path), options=options)

    def _to_row(self, path: Location, location: RowLocation, row: TableRow) -> MediaRow:
        key: object = None
        columns: Mapping[str, object] = dict.fromkeys(self.keep)
        try:
            values = self._values(row)
            key = self._id(row.where, values)
            columns = {name: values.get(name) for name in self.keep}
            self.seen.update(name for name in self.keep if name in values)
            token, place = self._item(path.parent, values.get(self.field))
        except _UnfetchedAddress:
            raise
        except InputError as error:
            reason = str(error).removeprefix(f"{row.where}: ")
            return MediaRow(key, "", columns, location, self.reading, where=row.where, problem=reason)
        return MediaRow(key, token, columns, location, self.reading, place, where=row.where)

    def _values(self, row: TableRow) -> Mapping[str, Any]:
        value = row.get()
        repeated = next((name for name in self.columns if name in row.repeated), None)
        if repeated is not None:
            raise InputError(f"field {repeated!r} is there twice, with different values.", param="field")
        if isinstance(value, str):  # a line that is a path or an address
            value = {self.field: value}
        if value.get(self.field) is not None:
            self.seen.add(_ITEMS)
        return value

    def _item(self, folder: Location, value: object) -> tuple[str, MediaPlace]:
        """Return a text that changes with the content of an item, and where it is."""
        place = find_place(folder, value)
        if isinstance(place, WebAddress):
            if not self.fetching.enabled:
                raise _UnfetchedAddress(
                    f"{place.url!r:.200} is an address, and nothing is fetched unless --media-urls https says so.",
                    param="media_urls",
                )
            return place.url, place
        if isinstance(place, S3Path):
            self.seen.add(_PATHS)
            return str(place), place
        if isinstance(place, Path):
            self.seen.add(_PATHS)
            try:
                return f"{value}:{file_state(place)}", place
            except OSError as error:
                raise InputError(f"{place} cannot be read: {error.strerror}.") from error
            except ValueError as error:
                raise InputError(f"{value!r:.200} is no path ({error}).") from error
        data = place if isinstance(place, bytes) else str(place).encode("utf-8", "surrogatepass")
        return blake2b(data, digest_size=16).hexdigest(), place


class _UnfetchedAddress(InputError):
    """An address, although an option is missing: this concerns all rows."""


def find_place(folder: Location, value: object) -> MediaPlace:
    """Return where the item is that a cell of a table in a folder says.

    Raises:
        InputError: it says nothing, or what it says is of another type.
    """
    if isinstance(value, Mapping) and {"bytes", "path"} & set(value):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if value is None or value == "":
        raise InputError("it holds nothing.")
    if not isinstance(value, str):
        raise InputError(f"it holds {type(value).__name__}, and neither bytes nor a path nor an address.")
    if value.startswith("data:"):
        return value
    if value.lower().startswith(("http://", "https://")):
        return WebAddress(value)
    if value.lower().startswith("s3://"):
        return parse_location(value)
    if _SCHEME.match(value):
        raise InputError(f"{value!r:.200} is an address of another kind than http, https or s3.")
    if isinstance(folder, S3Path):
        return _object_at(folder, value)
    return Path(os.path.abspath(folder / value))  # noqa: PTH100 - links stay links


def _object_at(folder: S3Path, value: str) -> S3Path:
    """Return the object that a path in a table on S3 means."""
    key = posixpath.normpath(posixpath.join(folder.key, value))
    if value.startswith("/") or key.startswith("..") or key == "." or "\0" in value:
        raise InputError(f"{value!r:.200} is no path below the bucket of the table, {folder.bucket}.")
    return S3Path(folder.bucket, key)
