"""The plan of a folder of shards: which rows make which shard, and the digest of what each of them holds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from nearfield.bulk.formats import joined, types_of
from nearfield.bulk.input_table import InputRow, InputTable
from nearfield.fileio.tabular import require_parquet

#: Texts from which tokens and time are estimated.
SAMPLE = 512
#: Rows whose kept columns are looked at together, for their types.
_AT_ONCE = 4096
_line = json.JSONEncoder(default=str, separators=(",", ":")).encode


@dataclass(frozen=True)
class Shard:
    """A shard to be: its number, its first row, how many there are, and the digest of ids, texts and kept columns."""

    number: int
    start: int
    rows: int
    content: str


@dataclass(frozen=True)
class Plan:
    """All shards of a data set, the Arrow types of the kept columns, and some of the texts."""

    parts: list[Shard]
    types: Mapping[str, Any] = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(part.rows for part in self.parts)


class Content:
    """The digest of rows: two shards of the same digest hold the same."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=16)
        self.rows = 0

    def add(self, row: InputRow) -> None:
        """Count a row in."""
        self._digest.update(_line([row.key, row.text, *row.kept.values()]).encode() + b"\n")
        self.rows += 1

    def hexdigest(self) -> str:
        """Return the digest of the rows so far."""
        return self._digest.hexdigest()


def plan(source: InputTable, size: int, *, typed: bool, seen: Callable[[int], None] = lambda _: None) -> Plan:
    """Read a data set once, and lay it out in shards of ``size`` rows; without any row there is one empty shard.

    ``typed`` asks for the types of kept columns; ``seen`` is told after some rows how many.

    Raises:
        InputError: a row cannot be read, or no row has a column that is to be kept.
    """
    sample = Sample()
    types = Types(source) if typed and source.keep else None
    parts: list[Shard] = []
    content = Content()
    for row in source.wide():
        content.add(row)
        sample.add(row.text)
        if types is not None:
            types.add(row)
        if content.rows == size:
            parts.append(_part(parts, content))
            content = Content()
        if sample.seen % _AT_ONCE == 0:
            seen(_AT_ONCE)
    if content.rows or not parts:
        parts.append(_part(parts, content))
    if sample.seen:
        source.check_kept()
    return Plan(parts, types.known() if types is not None else {}, sample.texts)


def _part(before: list[Shard], content: Content) -> Shard:
    start = before[-1].start + before[-1].rows if before else 0
    return Shard(len(before), start, content.rows, content.hexdigest())


class Sample:
    """Some texts of many, each as likely as the other (Vitter's algorithm R), and the same on every run."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.seen = 0
        self._random = random.Random(0)

    def add(self, text: str) -> None:
        """Take a text, or leave it."""
        self.seen += 1
        if len(self.texts) < SAMPLE:
            self.texts.append(text)
        elif (place := int(self._random.random() * self.seen)) < SAMPLE:
            self.texts[place] = text


class Types:
    """The Arrow types of kept columns: those of Parquet as they are, those of other formats from their values."""

    def __init__(self, source: InputTable) -> None:
        self._names = source.keep
        self._paths = source.paths
        self._known: dict[str, Any] = {}
        self._rows: list[InputRow] = []
        forms = {source.form_of(path) for path in source.paths}
        self._from_values = forms != {"parquet"}

    def add(self, row: InputRow) -> None:
        """Look at a row."""
        if not self._from_values:
            return
        self._rows.append(row)
        if len(self._rows) == _AT_ONCE:
            self._look()

    def _look(self) -> None:
        values = {name: [row.kept[name] for row in self._rows] for name in self._names}
        self._known = types_of(values, self._known)
        self._rows = []

    def known(self) -> dict[str, Any]:
        """Return the types; a column of nothing but nulls is one of texts."""
        import pyarrow as arrow

        if self._rows:
            self._look()
        for path in self._paths if not self._from_values else ():
            schema = require_parquet().read_schema(path)
            self._known = {name: joined(self._known.get(name), schema.field(name).type) for name in self._names}
        found = {name: self._known.get(name, arrow.null()) for name in self._names}
        return {name: arrow.string() if arrow.types.is_null(kind) else kind for name, kind in found.items()}


def mine(parts: list[Shard], share: tuple[int, int]) -> Iterator[Shard]:
    """Yield the parts that fall to the I-th of N processes, ``share``, counted from 1."""
    at, of = share
    return (part for part in parts if part.number % of == at - 1)
