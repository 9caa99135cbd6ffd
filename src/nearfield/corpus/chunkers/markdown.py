"""Markdown chunker: by sections. A section that fits stays whole, and small sections are joined with adjacent ones."""

from __future__ import annotations

from nearfield.corpus.chunkers import sections
from nearfield.corpus.chunkers.boundaries import TextScale
from nearfield.corpus.chunkers.chunker import Chunker, ChunkOutline
from nearfield.corpus.document import Document


class MarkdownChunker(Chunker):
    """Splits between sections, large sections between paragraphs, and large paragraphs between sentences.

    Code and tables that fit into a chunk stay whole; others are split between lines.
    """

    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return the boundaries of the tree of sections."""
        tree = sections.section_tree(document)
        return ChunkOutline(list(sections.section_boundaries(tree, scale, self.size, self.language)))
