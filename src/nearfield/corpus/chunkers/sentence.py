"""Sentence: whole sentences, joined up to a chunk's size, which ends with a paragraph where it can."""

from __future__ import annotations

from nearfield.corpus.chunkers import sections
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.chunkers.chunker import Chunker, ChunkOutline
from nearfield.corpus.document import Document


class SentenceChunker(Chunker):
    """Cuts between sentences, rather between paragraphs, and rather still before headings; tables and code by lines."""

    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return the seams between blocks, and those within them."""
        found: list[Boundary] = []
        for part in sections.flat_sections(document):
            found += [Boundary(part.start, part.cost), *sections.inside(part, scale, self.language)]
        return ChunkOutline(found)
