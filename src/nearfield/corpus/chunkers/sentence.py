"""Sentence chunker: whole sentences, joined up to a chunk's size, with an end at a paragraph if possible."""

from __future__ import annotations

from nearfield.corpus.chunkers import sections
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.chunkers.chunker import Chunker, ChunkOutline
from nearfield.corpus.document import Document


class SentenceChunker(Chunker):
    """Splits between sentences, prefers paragraphs, and prefers headings most; tables and code are split by lines."""

    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return the boundaries between blocks, and those within them."""
        candidates: list[Boundary] = []
        for section in sections.flat_sections(document):
            candidates.append(Boundary(section.start, section.cost))
            candidates += sections.inner_boundaries(section, scale, self.language)
        return ChunkOutline(candidates)
