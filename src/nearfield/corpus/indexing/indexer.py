"""``Indexer``: index a collection; build a second manifest beside the current one if documents must be split again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from nearfield.corpus import directory, transfer
from nearfield.corpus.config import CollectionConfig, parse_config
from nearfield.corpus.directory import CollectionDirectory
from nearfield.corpus.features import Feature, FeatureTable, measuring_feature, table_from_dict, token_counter
from nearfield.corpus.indexing.changes import MEDIA_KEY, is_suspicious_removal
from nearfield.corpus.indexing.context import DEFAULT_OPTIONS, IndexContext, IndexOptions
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.indexing.run import IndexRun
from nearfield.corpus.indexing.stages.chunk_encoder import encode_dense
from nearfield.corpus.indexing.stages.chunk_stage import ChunkStage
from nearfield.corpus.indexing.workers import IndexSetup, LocalWorkers, extraction_options
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.vector_tables import VectorTables
from nearfield.corpus.sources import Source, open_source
from nearfield.corpus.sources.inline import InlineSource, PlannedInlineSource
from nearfield.corpus.sources.uploads import UploadSource
from nearfield.fileio.disk_space import explain_full_disk
from nearfield.stores import Store, TableSpec

SourceT = TypeVar("SourceT", bound=Source)
#: Manifest key of the digest of all settings that change chunks.
_CHUNKING = "cutting"
#: Files of the collection with the pages that OCR has read, and with the blocks of transcripts.
_OCR_CACHE, _SPEECH_CACHE = "ocr-pages.db", "speech-blocks.db"
_INLINE_TABLE = "inline_documents"


class Indexer:
    """Indexes one collection. Callers that write must have the collection's write lock.

    Args:
        folder: the collection's directory.
        config: its definition, which may be newer than its index.
        manifest: its current manifest.
        store: has its vectors.
        features: its features with their models.
    """

    def __init__(
        self,
        folder: CollectionDirectory,
        config: CollectionConfig,
        manifest: Manifest,
        store: Store,
        features: Mapping[str, Feature],
    ) -> None:
        self._folder, self._config = folder, config
        self._manifest, self._store, self._features = manifest, store, features

    def run(self, sources: Sequence[Source] | None = None, options: IndexOptions = DEFAULT_OPTIONS) -> IndexReport:
        """Index some sources, or all.

        If the settings for chunks have changed, all sources are indexed into a new manifest. It becomes the current one
        when it is complete.
        """
        chunk_stage = self.chunk_stage()
        if self._needs_rebuild(chunk_stage):
            return self._rebuild(chunk_stage.identity(), options)
        self._manifest.set(_CHUNKING, chunk_stage.identity())
        selected = self._sources(self._manifest) if sources is None else sources
        return self._fill(self._manifest, chunk_stage, selected, options)

    def plan(self, piped: Sequence[Source] = (), options: IndexOptions = DEFAULT_OPTIONS) -> IndexReport:
        """Report what ``run`` would do with all sources and the piped documents; nothing is written."""
        with TemporaryDirectory() as place:
            manifest, chunk_stage = self._manifest, self.chunk_stage()
            if self._needs_rebuild(chunk_stage):
                # All documents would be read and embedded again: compare with an empty manifest.
                manifest = directory.create_manifest(Path(place) / "manifest.db", self._config, uid="plan")
                transfer.copy_table(self._manifest.connection, manifest, _INLINE_TABLE)
            context = self._context(manifest, chunk_stage, self._tables(manifest).plan(self._features), options)
            *sources, _ = self._sources(manifest)
            with LocalWorkers().start(self._setup(chunk_stage)) as session:
                run = IndexRun(context, [*sources, PlannedInlineSource(manifest, piped)], session)
                report = run.plan()
            if manifest is not self._manifest:
                manifest.close()
                removals = _suspicious_removals(self._manifest.count_by_source(), run.count_unrecorded())
                report.held_removals = [] if options.allow_removal or report.unlisted else removals
            return report

    def remove(self, documents: Sequence[str]) -> int:
        """Remove documents by their ids; return the number of removed documents."""
        chunk_stage = self.chunk_stage()
        context = self._context(self._manifest, chunk_stage, self._tables(self._manifest).open(self._features))
        with LocalWorkers().start(self._setup(chunk_stage)) as session:
            return IndexRun(context, [], session).remove(documents)

    def chunk_stage(self, manifest: Manifest | None = None) -> ChunkStage:
        """Return the stage that splits documents, by the tokens of the first feature that reads text.

        Raises:
            InputError: the settings for chunks do not fit the model.
        """
        first = measuring_feature(self._features)
        return ChunkStage(self._config, token_counter(first), partial(encode_dense, first), manifest or self._manifest)

    def _needs_rebuild(self, chunk_stage: ChunkStage) -> bool:
        return self._manifest.get(_CHUNKING) not in (None, chunk_stage.identity())

    def _rebuild(self, identity: str, options: IndexOptions) -> IndexReport:
        """Index all sources into a new manifest, and make it the current one when it is complete."""
        path = self._folder.path / directory.next_manifest(self._manifest.path.name)
        manifest = self._shadow_manifest(path, identity)
        before, removals = self._manifest.count_by_source(), []
        try:
            report = self._fill(manifest, self.chunk_stage(manifest), self._sources(manifest), options)
            removals = _suspicious_removals(before, manifest.count_by_source())
        finally:
            manifest.close()
        if report.unlisted:
            # Their documents exist only in the old manifest.
            report.held_back = (
                "Searches still use the old chunks, since not every source could be listed. Repair the source and "
                f"index again, or remove it: nearfield collections forget {self._folder.name} SOURCE"
            )
            return report
        if removals and not options.allow_removal:
            report.held_removals = removals
            report.held_back = "Searches still use the old chunks, with all documents."
            return report
        self._folder.set_current_manifest(path.name)
        return report

    def _shadow_manifest(self, path: Path, identity: str) -> Manifest:
        """Return the manifest that an interrupted rebuild has started for this definition, or a new one."""
        started = Manifest(path, language=self._config.language)
        # Parsed definitions are compared: JSON has lists where ours have tuples.
        if started.get(_CHUNKING) == identity and parse_config(started.get("config", {})) == self._config:
            return started
        started.close()
        directory.delete_manifest(path)
        manifest = directory.create_manifest(path, self._config, uid=self._manifest.get("uid"))
        manifest.set(_CHUNKING, identity)
        transfer.copy_table(self._manifest.connection, manifest, _INLINE_TABLE)
        return manifest

    def _fill(
        self,
        manifest: Manifest,
        chunk_stage: ChunkStage,
        sources: Sequence[Source],
        options: IndexOptions,
    ) -> IndexReport:
        """Index into a manifest's vector tables; new tables then replace the old ones."""
        workers = options.workers or LocalWorkers()
        # Workers first: without them, there is nothing to write.
        with explain_full_disk(self._folder.path), workers.start(self._setup(chunk_stage)) as session:
            tables = self._tables(manifest).open(self._features)
            manifest.set_recognition(ocr=self._config.ocr, speech=self._config.speech)
            if self._config.media_kinds:
                with manifest.writing():
                    manifest.keywords.leave_out_media()
                    manifest.set(MEDIA_KEY, list(self._config.media_kinds))
            context = self._context(manifest, chunk_stage, tables, options)
            context.previous = {} if manifest is self._manifest else self._previous_tables(tables)
            report = IndexRun(context, sources, session).run()
        for item in tables.values():
            self._store.index(item.table)
        manifest.activate([item.table.name for item in tables.values()])
        drop_unused(self._folder, self._tables(self._manifest))
        return report

    def _previous_tables(self, tables: Mapping[str, FeatureTable]) -> dict[str, TableSpec]:
        """Return the tables of the current manifest whose vectors those of a rebuild may be, by feature."""
        previous = {}
        for name, record in self._manifest.live_tables().items():
            table, item = table_from_dict(record.described), tables.get(name)
            if item is not None and table.kind == item.table.kind and record.space == item.feature.space():
                previous[name] = table
        return previous

    def _setup(self, chunk_stage: ChunkStage) -> IndexSetup:
        """Return what workers need.

        Raises:
            MissingExtra: the collection uses OCR or speech recognition, and its library is not installed.
            NearfieldError: the speech model is not here and cannot be downloaded.
        """
        extraction = extraction_options(
            self._config,
            self._folder.path / _OCR_CACHE,
            self._folder.path / _SPEECH_CACHE,
            progress=sys.stderr.isatty(),
        )
        return IndexSetup(self._config, self._features, chunk_stage, extraction)

    def _sources(self, manifest: Manifest) -> list[Source]:
        return open_sources(self._config, manifest, own_folders(self._folder, self._store))

    def _tables(self, manifest: Manifest) -> VectorTables:
        return VectorTables(self._folder.name, manifest, self._store, self._config.all_fields)

    def _context(
        self,
        manifest: Manifest,
        chunk_stage: ChunkStage,
        tables: dict[str, FeatureTable],
        options: IndexOptions = DEFAULT_OPTIONS,
    ) -> IndexContext:
        context = IndexContext(self._folder.name, self._config, manifest, self._store, chunk_stage, tables, options)
        context.open_sources = partial(self._sources, manifest)
        return context


def _suspicious_removals(before: Mapping[str, int], after: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Return the sources most of whose documents are not in the new manifest: source, missing and all documents."""
    missing = [(source, total - after.get(source, 0), total) for source, total in before.items()]
    return [entry for entry in missing if is_suspicious_removal(*entry[1:])]


def own_folders(folder: CollectionDirectory, store: Store | None) -> list[Path]:
    """Return the folders that a collection writes to. They contain no documents, even inside a source's folder."""
    return [path.resolve() for path in (folder.path, store.folder if store else None) if path is not None]


def open_sources(config: CollectionConfig, manifest: Manifest, own: Sequence[Path]) -> list[Source]:
    """Return the sources of a definition, which skip the collection's own folders, and its inline documents."""
    sources = [open_source(spec.kind, spec.location, **spec.options) for spec in config.sources]
    uploads = UploadSource(own[0])
    if uploads.folder.is_dir():
        sources.append(uploads)
    return [*(prepare_source(source, config, own) for source in sources), InlineSource(manifest)]


def prepare_source(source: SourceT, config: CollectionConfig, own: Sequence[Path] = ()) -> SourceT:
    """Set what a definition reads of a source, and the collection's own folders, which the source skips."""
    source.without, source.pictures, source.recordings = own, bool(config.ocr), bool(config.speech)
    source.media = config.reading.types
    return source


def drop_unused(folder: CollectionDirectory, tables: VectorTables) -> None:
    """Drop old manifests, and vector tables that no manifest names: those that were replaced or abandoned."""
    current = tables.manifest.path
    used = {table.name for table in tables.manifest.vector_tables()}
    for path in folder.manifests():
        if path == current:
            continue
        if directory.is_older(path.name, current.name):
            directory.delete_manifest(path)  # the process that replaced it was killed before it could
            continue
        started = Manifest(path)
        used |= {table.name for table in started.vector_tables()}
        started.close()
    tables.drop(keep=used)
