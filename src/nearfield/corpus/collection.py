"""``Collection``: documents from sources, their chunks and vectors; indexed, searched and answered from."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from nearfield import stores
from nearfield.argument_checks import rename_keyword
from nearfield.corpus import transfer
from nearfield.corpus.answering.collection_queries import CollectionQueries
from nearfield.corpus.collection_models import ModelProvider, RerankerOf
from nearfield.corpus.config import CollectionConfig, combine_config, merge_config, parse_config
from nearfield.corpus.directory import CollectionDirectory, create_collection, home, list_collections
from nearfield.corpus.document import DocumentFile
from nearfield.corpus.features import EncoderOf, Feature, build_features
from nearfield.corpus.indexing import integrity
from nearfield.corpus.indexing.context import DEFAULT_OPTIONS, IndexOptions
from nearfield.corpus.indexing.indexer import Indexer, drop_unused, open_sources, own_folders, prepare_source
from nearfield.corpus.indexing.quick_check import find_nothing_to_do, record_settled
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.indexing.workers import IndexWorkers
from nearfield.corpus.manifest.collection_info import collection_info, other_store
from nearfield.corpus.manifest.document_info import DocumentInfo
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.migration import check_bridges, end_migration
from nearfield.corpus.manifest.reading_text import read_text
from nearfield.corpus.manifest.records import DocumentRecord
from nearfield.corpus.manifest.vector_tables import VectorTables
from nearfield.corpus.search.hit import PlacedChunk
from nearfield.corpus.search.searcher import Searcher
from nearfield.corpus.search.searcher_factory import create_searcher
from nearfield.corpus.sources import Source
from nearfield.corpus.sources.document_file import document_file
from nearfield.corpus.sources.inline import InlineSource, documents_list, resolve_ids
from nearfield.corpus.sources.spec import split_piped
from nearfield.corpus.sources.uploads import UploadSource
from nearfield.errors import CollectionNotFound, InputError, NotThere, nearest
from nearfield.fork_safety import PerProcess, ProcessLock
from nearfield.stores import Store

__all__ = ["Collection", "DocumentInfo", "home", "list_collections"]


class Collection(CollectionQueries):
    """An open collection. Use ``create``, ``open`` or ``ensure``.

    Several processes may search it while one indexes it; a second writer is refused (CollectionBusy).
    """

    def __init__(
        self, folder: CollectionDirectory, encoder_of: EncoderOf | None = None, reranker_of: RerankerOf | None = None
    ) -> None:
        self.name, self.folder = folder.name, folder
        self._lock, self._models = ProcessLock(), ModelProvider(encoder_of, reranker_of)
        self._features: dict[str, Feature] | None = None  # loaded when they are first needed
        self._searchers, self._stores = PerProcess[Searcher](), PerProcess[Store]()
        #: Definition and vector tables at the last look; another process may change them.
        self._last_state: tuple[Any, list[str]] | None = None
        self._open()

    def _open(self) -> None:
        path = self.folder.path / self.folder.current_manifest()
        if not path.exists():  # else it would be created
            raise self.folder.dropped()
        self.manifest = Manifest(path, write_lock=self.folder.write_lock)
        self.config: CollectionConfig = parse_config(self.manifest.get("config", {}))

    @property
    def store(self) -> Store:
        """Its store, which is opened when it is first needed."""
        return self._stores.get(lambda: stores.connect(self.address))

    def _close_store(self) -> None:
        if (store := self._stores.pop()) is not None:
            store.close()

    # -- create and open ---------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        name: str,
        config: CollectionConfig | Mapping[str, Any] | None = None,
        *,
        feature_extractors: Sequence[str | Mapping[str, Any]] | None = None,
        home: Path | None = None,
        encoder_of: EncoderOf | None = None,
    ) -> Collection:
        """Create an empty collection. ``feature_extractors`` are names, or objects with names and parameters.

        Raises:
            InputError: a collection of that name exists, or the name or the definition is not valid.
        """
        folder = CollectionDirectory.from_name(name, home)
        create_collection(folder, combine_config(config, feature_extractors))
        return cls(folder, encoder_of)

    @classmethod
    def open(
        cls,
        name: str,
        *,
        home: Path | None = None,
        encoder_of: EncoderOf | None = None,
        reranker_of: RerankerOf | None = None,
    ) -> Collection:
        """Open an existing collection.

        Raises:
            CollectionNotFound: with the nearest name.
        """
        folder = CollectionDirectory.from_name(name, home)
        if not folder.exists:
            known = list_collections(home)
            raise CollectionNotFound(f"There is no collection {name!r}. {nearest(name, known)}", param="collection")
        return cls(folder, encoder_of, reranker_of)

    @classmethod
    def ensure(
        cls,
        name: str,
        config: Mapping[str, Any] | None = None,
        *,
        home: Path | None = None,
        encoder_of: EncoderOf | None = None,
    ) -> Collection:
        """Open a collection, or create it; ``config`` replaces the parts of an existing definition that it names."""
        if not CollectionDirectory.from_name(name, home).exists:
            return cls.create(name, config, home=home, encoder_of=encoder_of)
        collection = cls.open(name, home=home, encoder_of=encoder_of)
        if config:
            collection.configure(config)
        return collection

    @rename_keyword("told", "config")
    def configure(self, config: Mapping[str, Any]) -> None:
        """Replace parts of the definition; sources are added. The next ``index`` updates the vectors.

        Raises:
            InputError: the definition is wrong, or names another store (use ``move``).
        """
        merged = self._merged(config)
        if merged == self.config:
            return
        with self.folder.write_lock():
            features = self._features_for(merged)
            # A definition that cannot work must not be saved.
            Indexer(self.folder, merged, self.manifest, self.store, features).chunk_stage()
            check_bridges(self.name, features, self.manifest)
            self._save(merged)
            self._features = features

    def _merged(self, changes: Mapping[str, Any]) -> CollectionConfig:
        config = merge_config(self.config, changes)
        if config.store != self.config.store and self.manifest.vector_tables():
            raise other_store(self.name, self.address, config.store or self.folder.address)
        return config

    def _features_for(self, config: CollectionConfig) -> dict[str, Feature]:
        """Return the features of a definition; they are loaded again only if they differ."""
        if self._features is not None and config.features == self.config.features:
            return self._features
        return build_features(config, partial(self._models.encoder, accept_license=config.accept_license))

    def _save(self, config: CollectionConfig) -> None:
        self.manifest.set("config", config.to_dict())
        store_changed = config.store != self.config.store
        self.config = config
        self.release()
        if store_changed:
            self._close_store()

    def release(self) -> None:
        """Release the models; the next search requests them again. For callers that lend models."""
        self._features = None
        self._searchers.pop()

    @property
    def address(self) -> str:
        """The address of its store."""
        return self.config.store or self.folder.address

    def close(self) -> None:
        """Close the manifest and the store. Models that others use stay loaded."""
        self.manifest.close()
        self._close_store()
        self._models.close()
        self.release()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        self._models.check_sendable(self.name)
        return partial(type(self).open, home=self.folder.path.parent), (self.name,)

    @property
    def features(self) -> dict[str, Feature]:
        """The features by name, with their models."""
        self._features = features = self._features_for(self.config)
        return features

    # -- indexing ----------------------------------------------------------------------------------------------

    def index(
        self,
        sources: Sequence[Source] | None = None,
        *,
        dry_run: bool = False,
        shown: bool = False,
        retry_failed: bool = False,
        allow_removal: bool = False,
        workers: IndexWorkers | None = None,
    ) -> IndexReport:
        """Update the collection from its sources: index new and changed documents, remove deleted ones.

        Args:
            sources: sources to add to the definition; None uses the existing ones. An existing source keeps the options
                that ``open_source`` does not get now. Documents from stdin are stored in the collection.
            dry_run: report what would be done, and write nothing.
            shown: show a progress bar.
            retry_failed: process unchanged documents again that failed before.
            allow_removal: remove deleted documents also if they are most of a source's. Otherwise the report has them
                in ``held_removals``: the folder may not be mounted.
            workers: where documents are extracted, split and encoded, such as ``nearfield.cluster.RayWorkers`` [here].

        Raises:
            CollectionBusy: another process indexes it.
            StoreFailed: the database failed; the next run continues.
        """
        if dry_run:
            return self.plan(sources or (), retry_failed=retry_failed, allow_removal=allow_removal)
        piped, added = split_piped(sources or (), self.config.sources)
        if added:
            self.configure({"sources": added})
        with self.folder.write_lock():
            for source in piped:
                InlineSource(self.manifest).add_from(source)
            return self._index(None, IndexOptions(shown, retry_failed, allow_removal, workers))

    @rename_keyword("told", "config")
    def plan(
        self,
        sources: Sequence[Source] = (),
        config: Mapping[str, Any] | None = None,
        *,
        retry_failed: bool = False,
        allow_removal: bool = False,
    ) -> IndexReport:
        """Report what ``index`` would do with more sources and another definition. Nothing is extracted or written."""
        merged = self._merged(config or {})
        piped, added = split_piped(sources, merged.sources)
        merged = merge_config(merged, {"sources": added})
        indexer = Indexer(self.folder, merged, self.manifest, self.store, self._features_for(merged))
        return indexer.plan(piped, IndexOptions(retry_failed=retry_failed, allow_removal=allow_removal))

    def _indexer(self) -> Indexer:
        return Indexer(self.folder, self.config, self.manifest, self.store, self.features)

    def _index(self, sources: Sequence[Source] | None = None, options: IndexOptions = DEFAULT_OPTIONS) -> IndexReport:
        started = time.perf_counter()
        # Lent or loaded models may differ from those of the last run: they are compared in a run.
        if sources is None and self._features is None and not self._models.are_lent:
            idle = find_nothing_to_do(self.name, self.manifest, self.config, self._open_sources(), options)
            if idle is not None:
                return idle
        features = self.features
        report = self._indexer().run(sources, options)
        report.seconds = time.perf_counter() - started
        if self.folder.current_manifest() == self.manifest.path.name:
            self.release()
        else:
            self.manifest.close()
            self._reopen()
            drop_unused(self.folder, self._vector_tables())
        if not report.held_back:
            self.config = end_migration(self.config, self.manifest)
        if not report.held_back and not self._models.are_lent:
            record_settled(self.manifest, self.config, features.values())
        return report

    def _reopen(self) -> None:
        self.release()
        self._close_store()
        self._open()

    def watched(self) -> list[str]:
        """Return the paths to watch for changes of its sources."""
        return sorted({path for source in self._open_sources() for path in source.watch()})

    def _open_sources(self) -> list[Source]:
        return open_sources(self.config, self.manifest, self.own_folders())

    def own_folders(self) -> list[Path]:
        """Return the folders that the collection and its store write to: what changes there is no document."""
        # By default, its files are in the collection's folder, and opening it takes seconds.
        return own_folders(self.folder, self.store if self.config.store else None)

    # -- documents ---------------------------------------------------------------------------------------------

    def put(self, documents: Iterable[Mapping[str, Any]], *, shown: bool = False) -> IndexReport:
        """Add documents, or replace those of the same ids: mappings with ``id``, ``text``, ``title`` and fields.

        The collection stores them, so that vectors can be computed again after a change of model or chunking.

        Raises:
            InputError: one of them is wrong; none was added.
        """
        with self.folder.write_lock():
            added = documents_list(documents)
            InlineSource(self.manifest).add(added, self.config.fields)
            source = InlineSource(self.manifest, only=[document["id"] for document in added])
            return self._index([source], IndexOptions(shown))

    def index_uploads(self, names: Sequence[str]) -> IndexReport:
        """Index files that clients have sent, by their names in the folder ``uploads`` of the collection."""
        with self.folder.write_lock():
            return self._index([prepare_source(UploadSource(self.folder.path, names), self.config)])

    def remove(self, documents: Sequence[str]) -> int:
        """Remove documents by id, or that of ``put``; return how many. ``index`` adds those again that sources have."""
        with self.folder.write_lock():
            ids = resolve_ids(documents, self.manifest)
            InlineSource(self.manifest).remove(ids)
            UploadSource(self.folder.path).remove(ids)
            return self._indexer().remove(ids)

    def forget(self, source: str) -> int:
        """Remove a source, by its name or location, and all its documents; return the number of documents.

        Raises:
            InputError: the collection has no such source.
        """
        known = {f"{spec.kind}:{spec.location}": spec for spec in self.config.sources}
        name = next((name for name, spec in known.items() if source in (name, spec.location)), None)
        if name is None:
            raise InputError(f"Collection {self.name!r} has no source {source!r}. {nearest(source, known)}")
        with self.folder.write_lock():
            data = self.config.to_dict()
            remaining = [spec for spec in data["sources"] if f"{spec['kind']}:{spec['location']}" != name]
            # Documents first: if the process is killed in between, the source can be removed again.
            ids = self.manifest.rows("SELECT id FROM documents WHERE source = ?", (name,))
            count = self.remove([row[0] for row in ids])
            self._save(parse_config({**data, "sources": remaining}))
            return count

    def documents(self, *, state: str | None = None, limit: int = 100, after: str | None = None) -> list[DocumentInfo]:
        """Return documents in the order of their ids, beginning after the id ``after``."""
        self._refresh()
        records = self.manifest.documents(state=state, after=after or "", limit=limit)
        return [DocumentInfo.from_record(record) for record in records]

    def document(self, document: str) -> DocumentInfo:
        """Return a document by its id.

        Raises:
            NotThere: there is no document with that id.
        """
        return DocumentInfo.from_record(self._record(document))

    def _record(self, document: str) -> DocumentRecord:
        self._refresh()
        record = self.manifest.document(document) or self.manifest.document(f"{InlineSource.NAME}#{document}")
        if record is None:
            raise NotThere(f"Collection {self.name!r} has no document {document!r:.200}.", param="document")
        return record

    def document_file(self, document: str) -> DocumentFile:
        """Return the file of a document by its id, as it was indexed.

        Raises:
            NotThere: there is no such document, it is no file, or the file has gone or changed since.
        """
        return document_file(self._open_sources(), self._record(document))

    def text(self, document: str) -> str:
        """Return a document's text, joined from its chunks; positions in it are those of ``SearchHit``."""
        return read_text(self.manifest, self.document(document).id).text

    def chunks(self, document: str) -> list[PlacedChunk]:
        """Return a document's chunks in their order, near-duplicates of other chunks included.

        Raises:
            NotThere: there is no document with that id.
        """
        return [PlacedChunk.from_record(record) for record in self.manifest.all_chunks(self.document(document).id)]

    # -- searching --------------------------------------------------------------------------------------------

    def _create_searcher(self) -> Searcher:
        reranker_of = partial(self._models.reranker, accept_license=self.config.accept_license)
        return create_searcher(self.name, self.config, self.manifest, self.store, self.features, reranker_of)

    def _refresh(self) -> None:
        """Follow changes of another process: a new manifest, another definition or other vector tables."""
        if self.folder.current_manifest() != self.manifest.path.name:
            self.manifest.close()
            self._reopen()
            return
        state = self.manifest.get("config"), [table.name for table in self.manifest.vector_tables()]
        if state != self._last_state:
            self._last_state = state
            self.config = parse_config(state[0])
            self.release()

    # -- the whole collection ----------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Return the definition, counts, states, and sizes of vector tables, as JSON data."""
        self._refresh()
        return collection_info(self.name, self.address, self.config, self.manifest, self.store)

    def verify(self, *, sample: int = 100) -> dict[str, Any]:
        """Compare manifest and store chunk by chunk, and compute ``sample`` vectors again to compare them.

        Returns:
            The numbers of what was compared, and lists of problems: ``missing`` and ``foreign`` records, ``unlike``
            vectors, and ``outdated`` features, whose vectors are of another model, prompt or option than the definition
            says. All lists are empty if the collection is whole.
        """
        self._refresh()
        return integrity.verify(self.manifest, self.store, self.features, sample=sample)

    def export(self, folder: Path) -> list[Path]:
        """Write the collection as Parquet files into a new folder; see ``import_``.

        Raises:
            InputError: the folder exists and is not empty.
        """
        with self.folder.write_lock():
            return transfer.export(self.name, self.manifest, self.store, folder)

    @classmethod
    def import_(cls, name: str, folder: Path, *, store: str | None = None, home: Path | None = None) -> Collection:
        """Create a collection from what ``export`` wrote, with its vectors, in the store at an address.

        Raises:
            InputError: a collection of that name exists, or the folder has no export.
        """
        archive = transfer.read_archive(folder)
        collection = cls.create(name, {**archive.config, "store": store or ""}, home=home)
        with collection.folder.write_lock():
            new_name = collection._vector_tables().new_name
            transfer.import_archive(archive, collection.manifest, collection.store, new_name)
        collection._reopen()
        return collection

    def move(self, address: str) -> None:
        """Copy the vectors to another store, then drop the old ones; nothing is computed again.

        Raises:
            InputError: the other store does not support them.
        """
        with self.folder.write_lock():
            with closing(stores.connect(address)) as target:
                transfer.copy_vectors(self.manifest, self.store, target)
            own = "" if address == self.folder.address else address
            self.manifest.set("config", parse_config({**self.config.to_dict(), "store": own}).to_dict())
            for table in self.manifest.vector_tables():
                self.store.drop(table.name)
        self._reopen()

    def drop(self) -> None:
        """Remove the collection and its vectors."""
        with self.folder.write_lock():
            self._vector_tables().drop()
            self.close()
            self.folder.remove()

    def _vector_tables(self) -> VectorTables:
        return VectorTables(self.name, self.manifest, self.store, self.config.all_fields)
