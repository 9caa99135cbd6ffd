"""PPTX: the slides of a presentation, each a page: its title as heading, its text, tables, and the speaker's notes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor, zip_safety
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table

#: Groups in groups that are followed.
_DEEPEST = 50


class PptxExtractor(Extractor):
    """Presentations."""

    suffixes: Mapping[str, str] = {".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation"}

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text of all slides, hidden ones too."""
        zip_safety.check_archive(data, name)
        from pptx import Presentation

        file = Presentation(io.BytesIO(data))
        draft = DocumentBuilder()
        for number, slide in enumerate(file.slides, 1):
            _write(draft, slide, number)
        told = file.core_properties
        title = told.title if told.title != "PowerPoint Presentation" else ""
        return draft.document(
            "markdown", title or draft.first_heading(), {"author": told.author} if told.author else {}
        )


def _write(draft: DocumentBuilder, slide: Any, number: int) -> None:
    title = slide.shapes.title
    if title is not None and title.has_text_frame:
        draft.head(_clean(title.text_frame.text), 1, page=number)
    for shape in _shapes(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if getattr(shape, "has_table", False):
            rows = [[cell.text for cell in row.cells] for row in shape.table.rows]
            draft.add(markdown_table(rows), "table", page=number)
        elif shape.has_text_frame:
            _put(draft, shape.text_frame, number)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        draft.add(_clean(slide.notes_slide.notes_text_frame.text), page=number)


def _put(draft: DocumentBuilder, frame: Any, number: int) -> None:
    """Write a frame: one paragraph as it is, several as a list with their depths."""
    paragraphs = [(each.level, " ".join(_clean(each.text).split())) for each in frame.paragraphs]
    paragraphs = [(level, text) for level, text in paragraphs if text]
    if len(paragraphs) == 1:
        draft.add(paragraphs[0][1], page=number)
    else:
        draft.add("\n".join(f"{'  ' * level}- {text}" for level, text in paragraphs), "list", page=number)


def _shapes(shapes: Any, depth: int = 0) -> Iterator[Any]:
    for shape in shapes:
        if hasattr(shape, "shapes") and depth < _DEEPEST:
            yield from _shapes(shape.shapes, depth + 1)
        else:
            yield shape


def _clean(text: str) -> str:
    """Return a text with its line breaks, which are vertical tabs there."""
    return text.replace("\v", "\n").strip()
