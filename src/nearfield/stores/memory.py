"""Store in the memory of this process, for tests and temporary collections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nearfield.errors import StoreFailed
from nearfield.stores import arrays
from nearfield.stores.filters import Filter, matches
from nearfield.stores.store import Record, Store, TableSpec

Rows = dict[str, Record]
#: The tables of the stores that have a name.
_NAMED: dict[str, dict[str, Rows]] = {}


class MemoryStore(Store):
    """``memory:`` opens a new store; ``memory:NAME`` opens the same store each time in this process."""

    quantizations = ("none", "int8", "binary")  # there is no index to compress

    def __init__(self, tables: dict[str, Rows] | None = None) -> None:
        self._tables = {} if tables is None else tables

    @classmethod
    def connect(cls, address: str) -> MemoryStore:
        """Open the store with the address's name."""
        name = address.partition(":")[2].removeprefix("//")
        return cls(_NAMED.setdefault(name, {}) if name else None)

    def create(self, table: TableSpec) -> None:
        self.check(table)
        self._tables.setdefault(table.name, {})

    def drop(self, name: str) -> None:
        self._tables.pop(name, None)

    def tables(self) -> list[str]:
        return sorted(self._tables)

    def upsert(self, table: TableSpec, records: Sequence[Record]) -> None:
        vectors = arrays.rounded(table, records)
        stored = (replace(record, vector=vector) for record, vector in zip(records, vectors, strict=True))
        self._rows(table).update((record.id, record) for record in stored)

    def delete(self, table: TableSpec, where: Filter) -> None:
        rows = self._rows(table)
        for record in list(rows.values()):
            if matches(where, record.filterable):
                del rows[record.id]

    def count(self, table: TableSpec, where: Filter | None = None) -> int:
        return sum(matches(where, record.filterable) for record in list(self._rows(table).values()))

    def scan(self, table: TableSpec, where: Filter | None = None, *, vectors: bool = False) -> Iterator[list[Record]]:
        rows = list(self._rows(table).values())
        for start in range(0, len(rows), self.batch):
            part = [record for record in rows[start : start + self.batch] if matches(where, record.filterable)]
            if part:
                yield part if vectors else [replace(record, vector=None) for record in part]

    def _rows(self, table: TableSpec) -> Rows:
        rows = self._tables.get(table.name)
        if rows is None:
            raise StoreFailed(f"There is no table {table.name!r} in memory: create it first.")
        return rows
