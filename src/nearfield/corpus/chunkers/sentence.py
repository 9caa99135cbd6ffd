"""Sentence: whole sentences, joined up to a chunk's size, which ends with a paragraph where it can."""

from __future__ import annotations

from nearfield.corpus.chunkers import Chunker, Outline, sections
from nearfield.corpus.chunkers.boundaries import Scale, Seam
from nearfield.corpus.document import Document


class Sentence(Chunker):
    """Cuts between sentences, rather between paragraphs, and rather still before headings; tables and code by lines."""

    def outline(self, document: Document, scale: Scale) -> Outline:
        """Return the seams between blocks, and those within them."""
        found: list[Seam] = []
        for part in sections.flat(document):
            found += [Seam(part.start, part.cost), *sections.inside(part, scale, self.language)]
        return Outline(found)
