"""The interface of vector databases: ``Store``, and its tables, records and hits.

A table belongs to one feature of a collection: its vectors are of one space, kind and type. A new store implements the
abstract methods; ``search`` and ``fetch`` have default bodies that are exact and slow.
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
#: Values that JSON can hold.
Payload = Mapping[str, Any]
Kind = Literal["dense", "sparse", "multivector"]
Dtype = Literal["float32", "float16", "binary"]
Metric = Literal["cosine", "dot", "euclidean"]
Quantization = Literal["none", "int8", "binary"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")
_NO_FIELDS = (*BUILT_IN, "and", "or", "not")
_IDS_PER_SCAN = 1000


@dataclass(frozen=True)
class TableSpec:
    """A table for the vectors of one feature.

    ``name`` is at most 63 of a-z, 0-9 and underscore. ``dimensions`` is the width of a vector in numbers (bits for
    binary ones; the vocabulary's size for sparse ones). ``fields`` are fields for filters, besides the built-in ones; a
    field's name is at most 48 letters, digits and underscores. ``index`` says whether the database's own vector index
    is used, and ``quantization`` how it is compressed (the vectors themselves stay whole).
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
            raise InputError(f"A table's name is 1 to 63 of a-z, 0-9 and _, first a letter: not {self.name!r}.")
        if self.dtype == "binary" and (self.kind != "dense" or self.dimensions % 8):
            raise InputError(f"Binary vectors are dense and of whole bytes, not {self.kind} of {self.dimensions} bits.")
        for name, kind in self.fields.items():
            if not _FIELD.fullmatch(name) or name in _NO_FIELDS:
                raise InputError(
                    f"A field's name is 1 to 48 letters, digits and _, first a letter, and none of "
                    f"{', '.join(_NO_FIELDS)}: not {name!r}.",
                    param="fields",
                )
            if kind not in TYPES:
                raise InputError(f"Field {name!r} cannot hold {kind!r}. {nearest(kind, TYPES)}", param="fields")


@dataclass(frozen=True, eq=False)
class Record:
    """A chunk in a store.

    ``id`` is a UUID as text. ``vector`` is float32 [dimensions]; for binary tables uint8 [dimensions / 8], the first
    bit the highest; for sparse ones (int64 [n] sorted, float32 [n]); for multivectors float32 [tokens, dimensions];
    None if it was not requested. ``payload`` is anything that JSON can hold; ``fields`` are some of the table's
    declared fields.
    """

    id: str
    document: str
    version: str
    ordinal: int
    text: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    payload: Payload = field(default_factory=dict)
    vector: Vector = None

    @property
    def filterable(self) -> dict[str, Value]:
        """The fields that filters can use."""
        built_in: dict[str, Value] = {
            "id": self.id,
            "document": self.document,
            "version": self.version,
            "ordinal": self.ordinal,
        }
        return {**self.fields, **built_in}


@dataclass(frozen=True, eq=False)
class StoreHit:
    """A record that matches a query (without its vector), and its score: the higher, the nearer.

    Scores are the cosine, the dot product, or the negative euclidean distance, by the table's metric; of binary vectors
    1 - 2 x (bits that differ / bits), the cosine of their signs; of sparse ones the dot product; of multivectors
    MaxSim.
    """

    record: Record
    score: float


class Store(ABC):
    """One database. Its methods may be called from several threads, one at a time for each table."""

    #: The tables that it supports.
    kinds: tuple[Kind, ...] = ("dense", "sparse", "multivector")
    dtypes: tuple[Dtype, ...] = ("float32", "float16", "binary")
    metrics: tuple[Metric, ...] = ("cosine", "dot", "euclidean")
    quantizations: tuple[Quantization, ...] = ("none",)
    #: Records per call of ``upsert``.
    batch: int = 512
    #: The folder of its files, if it needs no server.
    folder: Path | None = None

    @classmethod
    @abstractmethod
    def connect(cls, address: str) -> Store:
        """Open the database at an address of one of its schemes.

        Raises:
            InputError: the address is invalid.
            StoreFailed: the database does not answer, or refuses access.
        """

    @abstractmethod
    def create(self, table: TableSpec) -> None:
        """Create an empty table; an existing one of that name stays unchanged."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Remove a table and its records; do nothing if there is none."""

    @abstractmethod
    def tables(self) -> list[str]:
        """Return the names of all tables that ``create`` has created, sorted."""

    @abstractmethod
    def upsert(self, table: TableSpec, records: Sequence[Record]) -> None:
        """Write records, and replace those of the same ids. When it returns, they survive a crash."""

    @abstractmethod
    def delete(self, table: TableSpec, where: Filter) -> None:
        """Remove the records that a filter matches."""

    @abstractmethod
    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        """Return the number of records."""

    @abstractmethod
    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        """Yield all records, in any order and in bounded memory."""

    def fetch(self, table: TableSpec, ids: Sequence[str], *, vectors: bool = False) -> list[Record]:
        """Return the records of these ids, in their order; missing ones are left out."""
        records: dict[str, Record] = {}
        for start in range(0, len(ids), _IDS_PER_SCAN):
            where = one_of("id", ids[start : start + _IDS_PER_SCAN])
            records.update((record.id, record) for part in self.scan(table, where, vectors=vectors) for record in part)
        return [records[key] for key in ids if key in records]

    def search(
        self, table: TableSpec, queries: Sequence[Vector], k: int, *, where: Filter | None = None, exact: bool = False
    ) -> list[list[StoreHit]]:
        """Return the ``k`` nearest records to each query, the nearest first; ties in the order of ids.

        ``queries`` are vectors in the form of ``Record.vector``. ``exact`` compares with every record; otherwise the
        database's own index may be used, if there is one.
        """
        from nearfield.stores import exact as scoring

        return scoring.search(table, self.scan(table, where, vectors=True), queries, k)

    def index(self, table: TableSpec) -> None:  # noqa: B027 - not every database needs it
        """Build or refresh the database's own index if that pays, and compact the table after many writes."""

    def size(self, table: TableSpec) -> int | None:
        """Return the bytes of a table on disk, with its index; None if the database does not report them."""
        return None

    def close(self) -> None:  # noqa: B027
        """Close the connection to the database."""

    def check(self, table: TableSpec) -> None:
        """Check that this database supports a table.

        Raises:
            InputError: it does not; the message names the supported values.
        """
        database = type(self).__name__.removesuffix("Store")
        properties: tuple[tuple[str, str, Sequence[str]], ...] = (
            ("vectors of kind", table.kind, self.kinds),
            ("vectors of type", table.dtype, self.dtypes),
            ("the metric", table.metric, self.metrics),
            ("an index quantised to", table.quantization, self.quantizations),
        )
        for what, value, supported in properties:
            if value not in supported:
                raise InputError(f"{database} cannot hold {what} {value!r}. {nearest(value, supported)}")
