"""Indexing: a collection is brought to its sources and its definition, beside what it has where that must change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nearfield.corpus import config as definition
from nearfield.corpus import directory as folders
from nearfield.corpus import features, transfer
from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.directory import CollectionDirectory
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.features import Feature, FeatureTable
from nearfield.corpus.indexing.chunk_stage import ChunkStage
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.indexing.run import IndexContext, IndexRun
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.vector_tables import VectorTables
from nearfield.corpus.sources import Source, open_source
from nearfield.corpus.sources.inline import InlineSource
from nearfield.stores import Store


class Indexer:
    """Indexes one collection, as it is defined now. Whoever writes has its folder's lock.

    Args:
        folder: where it is kept.
        config: its definition, which may be newer than what is indexed.
        manifest: the one that counts.
        store: where its vectors lie.
        made_by: its features, their models loaded.
    """

    def __init__(
        self,
        folder: CollectionDirectory,
        config: CollectionConfig,
        manifest: Manifest,
        store: Store,
        made_by: Mapping[str, Feature],
    ) -> None:
        self._folder, self._config = folder, config
        self._manifest, self._store, self._features = manifest, store, made_by

    def run(
        self, sources: Sequence[Source] | None = None, *, shown: bool = False, retry_failed: bool = False
    ) -> IndexReport:
        """Index some sources, or all. Where documents are cut otherwise now, all are indexed anew beside what there is.

        The folder points to another manifest then, once that is complete.
        """
        cutter = self.cutter()
        if self._manifest.get("cutting") not in (None, cutter.identity()):
            return self._rebuild(cutter.identity(), shown=shown)
        self._manifest.set("cutting", cutter.identity())
        told = self._sources(self._manifest) if sources is None else sources
        return self._fill(self._manifest, cutter, told, shown=shown, retry_failed=retry_failed)

    def plan(self, piped: Sequence[Source] = (), *, retry_failed: bool = False) -> IndexReport:
        """Tell what ``run`` would do with all sources, and with what is piped in; nothing is written."""
        with TemporaryDirectory() as place:
            manifest, cutter = self._manifest, self.cutter()
            if manifest.get("cutting") not in (None, cutter.identity()):
                # Documents would be cut otherwise, and so all be read and embedded anew.
                manifest = folders.begin(Path(place) / "manifest.db", self._config, uid="plan")
                transfer.copy_table(self._manifest.connection, manifest, "given")
            placed = self._tables(manifest).placed(self._features, making=False)
            sources = [*self._sources(manifest), *piped]
            with DocumentReader() as reader:
                parts = self._parts(manifest, cutter, placed)
                report = IndexRun(parts, sources, reader=reader, retry_failed=retry_failed).plan()
            if manifest is not self._manifest:
                manifest.close()
            return report

    def remove(self, documents: Sequence[str]) -> int:
        """Remove documents by their ids; returns how many there were."""
        placed = self._tables(self._manifest).placed(self._features)
        with DocumentReader() as reader:
            return IndexRun(self._parts(self._manifest, self.cutter(), placed), [], reader=reader).remove(documents)

    def cutter(self, manifest: Manifest | None = None) -> ChunkStage:
        """Return what cuts documents, by the first feature's tokens.

        Raises:
            InputError: they cannot be cut as the definition says.
        """
        first = next(iter(self._features.values()))
        return ChunkStage(self._config, features.ruler(first), partial(_embed, first), manifest or self._manifest)

    def _rebuild(self, identity: Any, *, shown: bool) -> IndexReport:
        """Index all sources anew beside what there is, and let that count once it is complete."""
        path = self._folder.path / folders.following(self._manifest.path.name)
        fresh = self._beside(path, identity)
        try:
            report = self._fill(fresh, self.cutter(fresh), self._sources(fresh), shown=shown)
        finally:
            fresh.close()
        if report.unlisted:
            # What they hold is in the old chunks alone.
            report.held_back = (
                f"Searches go on with the chunks as they were cut before, since not every source could be listed. Mend "
                f"it and index again, or let go of it: nearfield collections forget {self._folder.name} SOURCE"
            )
            return report
        self._folder.point(path.name)
        return report

    def _beside(self, path: Path, identity: Any) -> Manifest:
        """Return the manifest that was begun for this definition, or a new one."""
        begun = Manifest(path, language=self._config.language)
        # Definitions are compared as they are read: JSON has lists where ours has tuples.
        if begun.get("cutting") == identity and definition.read(begun.get("config", {})) == self._config:
            return begun
        begun.close()
        folders.discard(path)
        fresh = folders.begin(path, self._config, uid=self._manifest.get("uid"))
        fresh.set("cutting", identity)
        transfer.copy_table(self._manifest.connection, fresh, "given")
        return fresh

    def _fill(
        self,
        manifest: Manifest,
        cutter: ChunkStage,
        sources: Sequence[Source],
        *,
        shown: bool,
        retry_failed: bool = False,
    ) -> IndexReport:
        """Index into a manifest's tables, and let those that are new take the place of others."""
        placed = self._tables(manifest).placed(self._features)
        with DocumentReader() as reader:
            parts = self._parts(manifest, cutter, placed)
            report = IndexRun(parts, sources, reader=reader, retry_failed=retry_failed).run(shown=shown)
        for each in placed.values():
            self._store.index(each.table)
        manifest.go_live([each.table.name for each in placed.values()], keep=())
        sweep(self._folder, self._tables(self._manifest))
        return report

    def _sources(self, manifest: Manifest) -> list[Source]:
        return sources_of(self._config, manifest, own_folders(self._folder, self._store))

    def _tables(self, manifest: Manifest) -> VectorTables:
        return VectorTables(self._folder.name, manifest, self._store, self._config.all_fields)

    def _parts(self, manifest: Manifest, cutter: ChunkStage, placed: dict[str, FeatureTable]) -> IndexContext:
        return IndexContext(self._folder.name, self._config, manifest, self._store, cutter, placed)


def own_folders(folder: CollectionDirectory, store: Store) -> list[Path]:
    """Return where a collection keeps its files, which are no documents though they lie among them."""
    return [path.resolve() for path in (folder.path, store.folder) if path is not None]


def sources_of(config: CollectionConfig, manifest: Manifest, own: Sequence[Path]) -> list[Source]:
    """Return the sources of a definition, without its own folders, and what was put into a collection by itself."""
    opened = [open_source(each.kind, each.location, **each.options) for each in config.sources]
    for each in opened:
        each.without = own
    return [*opened, InlineSource(manifest)]


def sweep(folder: CollectionDirectory, tables: VectorTables) -> None:
    """Drop what nobody knows any more: tables that were replaced, or begun and given up, and old manifests."""
    current = tables.manifest.path
    known = {each.name for each in tables.manifest.placements()}
    for path in folder.manifests():
        if path == current:
            continue
        if folders.older(path.name, current.name):
            folders.discard(path)  # whoever replaced it was killed before it could
            continue
        begun = Manifest(path)
        known |= {each.name for each in begun.placements()}
        begun.close()
    tables.drop(but=known)


def _embed(feature: Feature, texts: Sequence[str]) -> Any:
    found = feature.encoder.encode(list(texts), role="document", show_progress_bar=False, outputs=("dense",))
    return found["dense"].data
