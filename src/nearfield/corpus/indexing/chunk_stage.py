"""Cutting: from an extracted document to the chunks that are embedded: cleaned, cut, repeated ones set aside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from nearfield.corpus import chunkers
from nearfield.corpus.chunkers import Chunker, Embed
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import Chunk, Document, Span
from nearfield.corpus.indexing import cleaning
from nearfield.corpus.indexing.document_task import stored
from nearfield.corpus.indexing.near_duplicates import NearDuplicateIndex
from nearfield.corpus.manifest.manifest import ChunkRecord, DocumentRecord, DuplicateChunk, Manifest
from nearfield.errors import InputError

#: Tokens that title and headings may take of what the model reads.
_CONTEXT = 48
#: Characters of a chunk in which its own headings stand.
_HEAD = 200


class ChunkStage:
    """Cuts the documents of one collection."""

    def __init__(self, config: CollectionConfig, ruler: TokenCounter, embed: Embed, manifest: Manifest) -> None:
        self._config = config
        self._ruler = ruler
        self._embed = embed
        self._manifest = manifest
        self._made: dict[str, Chunker] = {}
        self._duplicates = NearDuplicateIndex(manifest.connection) if config.clean.duplicates else None
        if self._duplicates is not None:
            with manifest.writing():
                self._duplicates.create()
        told = config.chunks
        #: Tokens that are left for title and headings.
        self._context = min(_CONTEXT, ruler.length // 4) if told.context and told.by != "late" else 0
        self.size = min(told.tokens or chunkers.DEFAULT_SIZE, ruler.length - self._context - 1)
        if told.tokens is not None and told.tokens > self.size:
            raise InputError(
                f"Chunks of {told.tokens} tokens do not fit the model, which reads {ruler.length}, "
                f"{self._context} of them for title and headings. Give at most {self.size}.",
                param="chunks",
            )
        overlap = chunkers.DEFAULT_OVERLAP if told.overlap is None else told.overlap
        self.overlap = min(overlap, self.size // 2) if told.overlap is None else overlap
        if self.overlap > self.size // 2:
            raise InputError(
                f"An overlap of {self.overlap} tokens is more than half of a chunk of {self.size}.", param="chunks"
            )
        self._boilerplate: dict[str, Any] = {}

    @property
    def late(self) -> bool:
        """Whether chunks are embedded with what stands around them."""
        return self._config.chunks.by == "late"

    def identity(self) -> str:
        """Return what tells this way of cutting from another."""
        told = [self._config.cutting(), self._ruler.digest, self.size, self.overlap, self._context]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def cut(self, entry: DocumentRecord, document: Document) -> tuple[list[ChunkRecord], int, int]:
        """Return a document's chunks, how many were too small to keep, and how many repeated lines were left out."""
        cleaned = cleaning.clean(document, self._lines(entry.source))
        text = cleaned.document.text
        spans = self._chunker(cleaned.document).split(cleaned.document)
        kept = cleaning.telling(text, spans)
        chunks = [self._chunk(number, span, entry, cleaned) for number, span in enumerate(kept)]
        salt = entry.digest if self.late else ""
        return stored(entry, chunks, salt), len(spans) - len(kept), sum(cleaned.dropped.values())

    def _lines(self, source: str) -> Any:
        if source not in self._boilerplate:
            told = self._manifest.boilerplate(source)
            self._boilerplate[source] = cleaning.Boilerplate.read(told).digests if told else frozenset()
        return self._boilerplate[source]

    def _chunk(self, ordinal: int, span: Span, entry: DocumentRecord, cleaned: cleaning.CleanedText) -> Chunk:
        text = cleaned.document.text[span.start : span.end]
        start, end = cleaned.origin(span.start, span.end)
        context = self._told(entry.title, span.headings, text[:_HEAD])
        return Chunk(ordinal, text, start, end, context, tuple(span.headings), span.page, span.tokens)

    def _told(self, title: str, headings: Sequence[str], head: str) -> str:
        """Return title and headings as one line that is no longer than it may be: the nearest ones are kept.

        What the chunk itself begins with is not said twice.
        """
        if not self._context:
            return ""
        parts = [part for part in dict.fromkeys([title, *headings]) if part.strip() and part not in head]
        while parts and self._ruler.count(" > ".join(parts)) > self._context - 1:
            parts = parts[1:]
        return " > ".join(parts)

    def _chunker(self, document: Document) -> Chunker:
        form = document.form
        if form not in self._made:
            options: dict[str, Any] = {"embed": self._embed, "language": self._config.language}
            asked = self._config.chunks.by
            self._made[form] = chunkers.open_chunker(asked, form, self._ruler, self.size, self.overlap, **options)
        return self._made[form]

    # -- near-duplicates ---------------------------------------------------------------------------------------

    def sort_out(
        self, entry: DocumentRecord, chunks: Sequence[ChunkRecord]
    ) -> tuple[list[ChunkRecord], list[DuplicateChunk]]:
        """Tell chunks that are kept from those that repeat one; called in the manifest's transaction.

        What was known of a document whose content changed is to be forgotten first.
        """
        if self._duplicates is None:
            return list(chunks), []
        kept, twins = [], []
        for chunk in chunks:
            # Only among documents that filters cannot tell apart is a repeat of no use to anybody.
            family = json.dumps([entry.fields.get(name) for name in sorted(self._config.fields)])
            other = self._duplicates.add(chunk.id, entry.id, chunk.text, family)
            if other is None:
                kept.append(chunk)
            else:
                twins.append(DuplicateChunk(other, chunk))
        return kept, twins

    def forget(self, documents: Sequence[str]) -> list[str]:
        """Forget documents that are gone, or of which nothing is certain; return others that repeated one of theirs."""
        return [] if self._duplicates is None else self._duplicates.forget(documents)


def decide(manifest: Manifest, source: str, documents: Sequence[Document]) -> list[tuple[str, float]]:
    """Decide from a sample what repeats over a source's documents, and keep it; returns lines and their shares."""
    repeats = cleaning.Repeats()
    for document in documents:
        repeats.add(document)
    found = repeats.found()
    manifest.set_boilerplate(source, found.told())
    return found.lines
