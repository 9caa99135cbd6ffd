"""``IndexContext``: what the stages of an index run share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.features import FeatureTable, table_from_dict
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.indexing.stages.chunk_stage import ChunkStage
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.errors import NearfieldError, StoreFailed
from nearfield.progress import Progress
from nearfield.stores import Store, TableSpec

if TYPE_CHECKING:
    from nearfield.corpus.indexing.workers import IndexWorkers
    from nearfield.corpus.sources import Source

#: Seconds between two tries of a store that failed.
_RETRY_PAUSES = (0.5, 2.0, 5.0)
#: Errors of reading a document or listing a source.
UNREADABLE = (NearfieldError, OSError)

T = TypeVar("T")


@dataclass(frozen=True)
class IndexOptions:
    """Options of an index run, as for ``Collection.index``."""

    shown: bool = False
    retry_failed: bool = False
    allow_removal: bool = False
    workers: IndexWorkers | None = None


DEFAULT_OPTIONS = IndexOptions()


@dataclass
class IndexContext:
    """The collection that is indexed, and the report and progress bar of the run. ``tables`` are by feature.

    ``status`` returns what the progress bar shows of workers.
    """

    name: str
    config: CollectionConfig
    manifest: Manifest
    store: Store
    chunk_stage: ChunkStage
    tables: dict[str, FeatureTable]
    options: IndexOptions = DEFAULT_OPTIONS
    report: IndexReport = field(init=False)
    progress: Progress = field(default_factory=lambda: Progress(None, shown=False))
    status: Callable[[], str] = lambda: ""
    #: By feature, the tables of the manifest that this one replaces, whose vectors are of the same space.
    previous: Mapping[str, TableSpec] = field(default_factory=dict)
    #: Opens all sources of the collection, whichever of them are indexed.
    open_sources: Callable[[], Sequence[Source]] = lambda: ()

    def __post_init__(self) -> None:
        self.report = IndexReport(self.name)

    @cached_property
    def tables_by_name(self) -> dict[str, FeatureTable]:
        """The same tables by their names."""
        return {item.table.name: item for item in self.tables.values()}

    @cached_property
    def table_names(self) -> tuple[str, ...]:
        """The names of all tables."""
        return tuple(self.tables_by_name)

    @cached_property
    def replaced_tables(self) -> tuple[TableSpec, ...]:
        """The live tables that those of this run replace: searches may use them until it ends."""
        records = self.manifest.vector_tables()
        old = (table for table in records if table.state == "live" and table.name not in self.tables_by_name)
        return tuple(table_from_dict(table.described) for table in old)

    def remove_from_duplicates(self, documents: Sequence[str]) -> None:
        """Remove documents from the index of near-duplicates; mark documents stale whose duplicates pointed at them.

        Call it in the manifest's transaction.
        """
        self.mark_stale(self.chunk_stage.remove(documents))

    def recheck_duplicates(self) -> None:
        """Mark documents stale whose chunks an older version took for duplicates."""
        with self.manifest.writing():
            self.mark_stale(self.chunk_stage.find_false_duplicates())

    def mark_stale(self, documents: Sequence[str]) -> None:
        """Mark documents stale that are done: they are processed again at the end of the run."""
        self.manifest.set_state([key for key in documents if self._is_done(key)], "stale")

    def _is_done(self, document: str) -> bool:
        record = self.manifest.document(document)
        return record is not None and record.state == "done"

    def retry(self, call: Callable[[], T]) -> T:
        """Call the store; if it fails, try again after pauses.

        Raises:
            StoreFailed: the last try failed too.
        """
        for pause in _RETRY_PAUSES:
            try:
                return call()
            except StoreFailed:
                time.sleep(pause)
        return call()
