"""Markdown: by sections. What fits into a chunk stays whole, and small sections are joined with those beside them."""

from __future__ import annotations

from nearfield.corpus.chunkers import Chunker, Outline, sections
from nearfield.corpus.chunkers.boundaries import Scale
from nearfield.corpus.document import Document


class Markdown(Chunker):
    """Cuts between sections, large sections between paragraphs, and large paragraphs between sentences.

    Code and tables stay whole where they fit into a chunk, and are cut between lines where they do not.
    """

    def outline(self, document: Document, scale: Scale) -> Outline:
        """Return the seams of the tree of sections."""
        return Outline(list(sections.outline(sections.sections(document), scale, self.size, self.language)))
