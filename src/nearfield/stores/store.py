"""Stores: one file, one database. Each keeps tables of records with one vector each, and finds the nearest.

A table belongs to one feature of a collection: its vectors are of one space, kind and type. A newcomer writes the
abstract methods; ``search`` and ``fetch`` have bodies that are exact and slow.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nearfield.arrays import Array as Array
from nearfield.errors import InputError, nearest
from nearfield.stores.filters import BUILT_IN, TYPES, FieldType, Filter, Value, one_of

#: A record's vector; its form depends on the table's kind: see ``Record``.
Vector = Any
Kind = Literal["dense", "sparse", "multivector"]
Dtype = Literal["float32", "float16", "binary"]
Metric = Literal["cosine", "dot", "euclidean"]
Quantization = Literal["none", "int8", "binary"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")
_NO_FIELDS = (*BUILT_IN, "and", "or", "not")
#: Ids that a database is asked for at once.
_IDS_AT_ONCE = 1000


@dataclass(frozen=True)
class TableSpec:
    """Where the vectors of one feature lie.

    ``name`` is at most 63 of a-z, 0-9 and underscore. ``dimensions`` is the width of a vector in numbers (bits for
    binary ones; the vocabulary's size for sparse ones). ``fields`` may be filtered by, beside the built-in ones; a
    field's name is at most 48 letters, digits and underscores. ``index`` says whether the database's own vector index
    is used, ``quantization`` how it compresses (the vectors themselves stay whole).
    """

    name: str
    kind: Kind
    dimensions: int
    dtype: Dtype = "float32"
    metric: Metric = "cosine"
    fields: Mapping[str, FieldType] = field(default_factory=dict)
    index: Literal["auto", "none"] = "auto"
    quantization: Quantization = "none"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(f"A table's name is 1 to 63 of a-z, 0-9 and _, after a letter: not {self.name!r}.")
        if self.dtype == "binary" and (self.kind != "dense" or self.dimensions % 8):
            raise InputError(f"Binary vectors are dense and of whole bytes, not {self.kind} of {self.dimensions} bits.")
        for name, kind in self.fields.items():
            if not _FIELD.fullmatch(name) or name in _NO_FIELDS:
                raise InputError(
                    f"A field's name is 1 to 48 letters, digits and _, after a letter, and none of "
                    f"{', '.join(_NO_FIELDS)}: not {name!r}.",
                    param="fields",
                )
            if kind not in TYPES:
                raise InputError(f"Field {name!r} cannot hold {kind!r}. {nearest(kind, TYPES)}", param="fields")


@dataclass(frozen=True, eq=False)
class Record:
    """A chunk as a store keeps it.

    ``id`` is a UUID as text. ``vector`` is float32 [dimensions]; uint8 [dimensions / 8] where binary, the first bit the
    highest; (int64 [n] sorted, float32 [n]) where sparse; float32 [tokens, dimensions] where multivector; None where
    it was not asked for. ``payload`` is anything that JSON can say; ``fields`` are of the table's declared ones, and a
    record need not have all of them.
    """

    id: str
    document: str
    version: str
    ordinal: int
    text: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
    vector: Any = None

    @property
    def filterable(self) -> dict[str, Value]:
        """All that a filter may look at."""
        own: dict[str, Value] = {
            "id": self.id,
            "document": self.document,
            "version": self.version,
            "ordinal": self.ordinal,
        }
        return {**self.fields, **own}


@dataclass(frozen=True, eq=False)
class StoreHit:
    """A record that was found (without its vector), and its score: the higher, the nearer.

    Scores are the cosine, the dot product, or the negative euclidean distance, by the table's metric; of binary vectors
    1 - 2 x (bits that differ / bits), the cosine of their signs; of sparse ones the dot product; of multivectors
    MaxSim.
    """

    record: Record
    score: float


class Store(ABC):
    """One database. Its methods may be called from several threads, one at a time for each table."""

    #: What it can hold.
    kinds: tuple[Kind, ...] = ("dense", "sparse", "multivector")
    dtypes: tuple[Dtype, ...] = ("float32", "float16", "binary")
    metrics: tuple[Metric, ...] = ("cosine", "dot", "euclidean")
    quantizations: tuple[Quantization, ...] = ("none",)
    #: Records to give to ``upsert`` at once.
    batch: int = 512
    #: Where its files are, where it needs no server.
    folder: Path | None = None

    @classmethod
    @abstractmethod
    def connect(cls, address: str) -> Store:
        """Open the database at an address of one of its schemes.

        Raises:
            InputError: the address is none of its.
            StoreFailed: it does not answer, or lets nobody in.
        """

    @abstractmethod
    def create(self, table: TableSpec) -> None:
        """Make an empty table; one of that name that is there already is kept as it is."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Remove a table and all in it; nothing happens where there is none."""

    @abstractmethod
    def tables(self) -> list[str]:
        """Return the names of all tables that ``create`` made, sorted."""

    @abstractmethod
    def upsert(self, table: TableSpec, records: Sequence[Record]) -> None:
        """Write records, in place of those of the same ids. Once it returns, they survive a crash."""

    @abstractmethod
    def delete(self, table: TableSpec, where: Filter) -> None:
        """Remove the records that a filter matches."""

    @abstractmethod
    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        """Return how many records there are."""

    @abstractmethod
    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        """Yield all records, in no certain order and in bounded memory."""

    def fetch(self, table: TableSpec, ids: Sequence[str], *, vectors: bool = False) -> list[Record]:
        """Return the records of these ids, in their order; those that are not there are left out."""
        found: dict[str, Record] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            wanted = one_of("id", ids[start : start + _IDS_AT_ONCE])
            found.update((record.id, record) for part in self.scan(table, wanted, vectors=vectors) for record in part)
        return [found[key] for key in ids if key in found]

    def search(
        self, table: TableSpec, queries: Sequence[Any], k: int, *, where: Filter | None = None, exact: bool = False
    ) -> list[list[StoreHit]]:
        """Return the ``k`` nearest records to each query, the nearest first; ties in the order of ids.

        ``queries`` are vectors in the form of ``Record.vector``. ``exact`` compares with every record; otherwise the
        database's own index may be used, where there is one.
        """
        from nearfield.stores import exact as scoring

        return scoring.search(table, self.scan(table, where, vectors=True), queries, k)

    def index(self, table: TableSpec) -> None:  # noqa: B027 - not every database has something to do
        """Build or refresh the database's own index where that pays, and tidy up after many writes."""

    def size(self, table: TableSpec) -> int | None:
        """Return the bytes that a table takes on disk, index and all; None where the database does not tell."""
        return None

    def close(self) -> None:  # noqa: B027
        """Let go of the database."""

    def check(self, table: TableSpec) -> None:
        """Refuse a table that this database cannot hold.

        Raises:
            InputError: with what it can hold.
        """
        named = type(self).__name__.removesuffix("Store")
        told: tuple[tuple[str, str, Sequence[str]], ...] = (
            ("vectors of kind", table.kind, self.kinds),
            ("vectors of type", table.dtype, self.dtypes),
            ("the metric", table.metric, self.metrics),
            ("an index quantised to", table.quantization, self.quantizations),
        )
        for what, value, known in told:
            if value not in known:
                raise InputError(f"{named} cannot hold {what} {value!r}. {nearest(value, known)}")
