"""The chunk stage of indexing: split documents, detect boilerplate, and set near-duplicates aside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from nearfield.corpus.chunkers import Embed
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import TEXT, Document
from nearfield.corpus.indexing.cleaning import document_cleaner
from nearfield.corpus.indexing.cleaning.boilerplate import BoilerplateDetector
from nearfield.corpus.indexing.near_duplicates import NearDuplicateIndex, find_false_duplicates
from nearfield.corpus.indexing.stages.document_splitter import DocumentSplitter
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord, DuplicateChunk


class ChunkStage(DocumentSplitter):
    """Splits the documents of one collection, and finds near-duplicates with the help of its manifest."""

    def __init__(self, config: CollectionConfig, counter: TokenCounter, embed: Embed, manifest: Manifest) -> None:
        super().__init__(config, counter, embed, lambda source: manifest.boilerplate(source) or [])
        self._manifest = manifest
        self._duplicates = NearDuplicateIndex(manifest.connection) if config.clean.duplicates else None
        if self._duplicates is not None:
            with manifest.writing():
                self._duplicates.create()

    def set_duplicates_aside(
        self, record: DocumentRecord, chunks: Sequence[ChunkRecord]
    ) -> tuple[list[ChunkRecord], list[DuplicateChunk]]:
        """Return the chunks without near-duplicates, and the near-duplicates; call it in the manifest's transaction.

        Remove a changed document from the index of duplicates first.
        """
        if self._duplicates is None:
            return list(chunks), []
        originals, duplicates = [], []
        for chunk in chunks:
            if chunk.kind != TEXT:
                originals.append(chunk)
                continue
            # Documents with different fields must all be found by filters: they are no duplicates of each other.
            family = json.dumps([record.fields.get(name) for name in sorted(self._config.fields)])
            # Title and headings are searched too: opening hours of two branches may differ in their heading alone.
            original = self._duplicates.add(chunk.id, record.id, chunk.embedded, family)
            if original is None:
                originals.append(chunk)
            else:
                duplicates.append(DuplicateChunk(original, chunk))
        return originals, duplicates

    def find_false_duplicates(self) -> list[str]:
        """Return the documents with chunks that are no duplicates by the current rule; call it in a transaction."""
        return [] if self._duplicates is None else find_false_duplicates(self._manifest)

    def remove(self, documents: Sequence[str]) -> list[str]:
        """Remove documents from the index of duplicates; return others that had duplicates of their chunks."""
        return [] if self._duplicates is None else self._duplicates.remove(documents)


def detect_boilerplate(manifest: Manifest, source: str, documents: Iterable[Document]) -> None:
    """Detect the boilerplate of a source from a sample of its documents, and store it."""
    detector = BoilerplateDetector()
    for document in documents:
        detector.add(document_cleaner.without_markup(document))
    manifest.set_boilerplate(source, detector.result().to_rows())
