"""The plan of a folder of shards: the rows of each shard, and a digest of what they hold."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from nearfield.bulk.input_table import InputRow, RowSource
from nearfield.bulk.repeated_ids import IdDigests
from nearfield.bulk.row_files.formats import ArrowType, deserialize_types, infer_types, serialize_types, unify_types
from nearfield.bulk.text_source import RowLocation
from nearfield.fileio.csv_records import RecordStart
from nearfield.fileio.tabular import require_parquet

#: Version of the form in which plans are stored. With a plan of another version the inputs are read again; records do
#: not depend on it.
PLAN_FORMAT = 1
#: Rows whose columns are inspected together for their types; progress is reported after as many.
_BLOCK_ROWS = 4096
_encode_line = json.JSONEncoder(default=str, separators=(",", ":")).encode


@dataclass(frozen=True)
class Shard:
    """A planned shard.

    Attributes:
        number: its number.
        start: its first row.
        rows: its number of rows.
        content: the digest of ids, texts and columns.
        location: where its first row is; None if there is no row.
    """

    number: int
    start: int
    rows: int
    content: str
    location: RowLocation | None = None


@dataclass(frozen=True)
class ShardPlan:
    """All shards of a data set, the Arrow types of the carried columns, a sample of the rows, and a warning of ids."""

    shards: list[Shard]
    types: Mapping[str, ArrowType] = field(default_factory=dict)
    sample: list[Any] = field(default_factory=list)
    #: That ids occur more than once.
    warning: str | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(shard.rows for shard in self.shards)

    def to_dict(self) -> dict[str, object]:
        """Return the plan in a form for JSON, without the sample: texts of others do not belong into the output."""
        shards = [[shard.rows, shard.content, *_flat(shard.location)] for shard in self.shards]
        types = serialize_types(self.types) if self.types else None
        return {"format": PLAN_FORMAT, "types": types, "warning": self.warning, "shards": shards}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ShardPlan | None:
        """Return the plan that ``to_dict`` gave, or None if it is of another format."""
        if values.get("format") != PLAN_FORMAT:
            return None
        shards: list[Shard] = []
        start = 0
        for number, (rows, content, *location) in enumerate(values["shards"]):
            shards.append(Shard(number, start, rows, content, _location(location)))
            start += rows
        types = deserialize_types(values["types"]) if values["types"] is not None else {}
        return cls(shards, types, warning=values["warning"])


def _flat(location: RowLocation | None) -> list[int]:
    return [] if location is None else [location.file, *location.record]


def _location(numbers: list[int]) -> RowLocation | None:
    return RowLocation(numbers[0], RecordStart(*numbers[1:])) if numbers else None


class ContentDigest:
    """The digest of rows: two shards with the same digest hold the same rows."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=16)
        self.rows = 0
        #: Where the first row is.
        self.location: RowLocation | None = None

    def add(self, row: InputRow) -> None:
        """Include a row."""
        if self.location is None:
            self.location = row.location
        self._digest.update(_encode_line([row.key, row.text, *row.columns.values()]).encode() + b"\n")
        self.rows += 1

    def hexdigest(self) -> str:
        """Return the digest of the rows so far."""
        return self._digest.hexdigest()


def plan_shards(
    source: RowSource, shard_rows: int, *, typed: bool, on_rows: Callable[[int], None] = lambda _: None
) -> ShardPlan:
    """Read a data set and divide it into shards of ``shard_rows`` rows; without rows there is one empty shard.

    ``typed`` determines the types of the carried columns. ``on_rows`` is called with the number of rows read since
    its last call.

    Raises:
        InputError: a row cannot be read, or no row has a column of ``keep``.
    """
    sample = RowSample(source.sample_size)
    types = ColumnTypes(source) if typed and source.keep else None
    shards: list[Shard] = []
    content, ids = ContentDigest(), IdDigests()
    for row in source.full_rows():
        content.add(row)
        ids.add(row.key)
        sample.add(row)
        if types is not None:
            types.add(row)
        if content.rows == shard_rows:
            shards.append(_next_shard(shards, content))
            content = ContentDigest()
        if sample.seen % _BLOCK_ROWS == 0:
            on_rows(_BLOCK_ROWS)
    if content.rows or not shards:
        shards.append(_next_shard(shards, content))
    if sample.seen:
        source.check_keep()
    warning = ids.warning(row.key for row in source.full_rows())
    return ShardPlan(shards, types.result() if types is not None else {}, sample.rows, warning)


def _next_shard(before: list[Shard], content: ContentDigest) -> Shard:
    start = before[-1].start + before[-1].rows if before else 0
    return Shard(len(before), start, content.rows, content.hexdigest(), content.location)


class RowSample:
    """A uniform sample of a stream of rows (Vitter's algorithm R), the same on every run: texts, or rows of media."""

    def __init__(self, size: int) -> None:
        self.rows: list[Any] = []
        self.seen = 0
        self._size = size
        self._random = random.Random(0)

    def add(self, row: InputRow) -> None:
        """Offer a row to the sample."""
        self.seen += 1
        if len(self.rows) < self._size:
            self.rows.append(row.to_sample())
        elif (place := int(self._random.random() * self.seen)) < self._size:
            self.rows[place] = row.to_sample()


class ColumnTypes:
    """The Arrow types of carried columns: those of the schemas of Parquet files, otherwise inferred from the values."""

    def __init__(self, source: RowSource) -> None:
        self._names = source.keep
        self._paths = source.paths
        self._known: dict[str, ArrowType] = {}
        self._rows: list[InputRow] = []
        self._from_values = {source.format_of(path) for path in source.paths} != {"parquet"}

    def add(self, row: InputRow) -> None:
        """Take the values of a row into account."""
        if not self._from_values:
            return
        self._rows.append(row)
        if len(self._rows) == _BLOCK_ROWS:
            self._infer()

    def _infer(self) -> None:
        values = {name: [row.columns[name] for row in self._rows] for name in self._names}
        self._known = infer_types(values, self._known)
        self._rows = []

    def result(self) -> dict[str, ArrowType]:
        """Return the types; a column that holds nothing but nulls is a string column."""
        import pyarrow as arrow

        if self._rows:
            self._infer()
        for path in self._paths if not self._from_values else ():
            with path.open("rb") as file:
                schema = require_parquet().read_schema(file)
            self._known = {name: unify_types(self._known.get(name), schema.field(name).type) for name in self._names}
        types = {name: self._known.get(name, arrow.null()) for name in self._names}
        return {name: arrow.string() if arrow.types.is_null(kind) else kind for name, kind in types.items()}


def shards_of_share(shards: list[Shard], share: tuple[int, int]) -> Iterator[Shard]:
    """Yield the shards of the I-th of N processes; ``share`` is (I, N), counted from 1."""
    index, processes = share
    return (shard for shard in shards if shard.number % processes == index - 1)
