"""Markdown: by sections. What fits into a chunk stays whole, and small sections are joined with those beside them."""

from __future__ import annotations

from nearfield.corpus.chunkers import sections
from nearfield.corpus.chunkers.boundaries import TextScale
from nearfield.corpus.chunkers.chunker import Chunker, ChunkOutline
from nearfield.corpus.document import Document


class MarkdownChunker(Chunker):
    """Cuts between sections, large sections between paragraphs, and large paragraphs between sentences.

    Code and tables stay whole where they fit into a chunk, and are cut between lines where they do not.
    """

    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return the seams of the tree of sections."""
        return ChunkOutline(
            list(sections.section_boundaries(sections.sections(document), scale, self.size, self.language))
        )
