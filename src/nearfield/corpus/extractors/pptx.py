"""Extractor for PPTX (PowerPoint): each slide is a page with its title as heading, text, tables and speaker's notes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor, zip_safety
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table

#: Depth of nested groups that are read.
_MAX_DEPTH = 50


class PptxExtractor(Extractor):
    """Presentations."""

    suffixes: Mapping[str, str] = {".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation"}

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text of all slides, including hidden ones."""
        zip_safety.check_archive(data, name)
        from pptx import Presentation

        file = Presentation(io.BytesIO(data))
        builder = DocumentBuilder()
        for number, slide in enumerate(file.slides, 1):
            _add_slide(builder, slide, number)
        properties = file.core_properties
        title = properties.title if properties.title != "PowerPoint Presentation" else ""
        meta = {"author": properties.author} if properties.author else {}
        return builder.document("markdown", title or builder.first_heading(), meta)


def _add_slide(builder: DocumentBuilder, slide: Any, number: int) -> None:
    title = slide.shapes.title
    if title is not None and title.has_text_frame:
        builder.heading(_clean(title.text_frame.text), 1, page=number)
    for shape in _shapes(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if getattr(shape, "has_table", False):
            rows = [[cell.text for cell in row.cells] for row in shape.table.rows]
            builder.add(markdown_table(rows), "table", page=number)
        elif shape.has_text_frame:
            _add_frame(builder, shape.text_frame, number)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        builder.add(_clean(slide.notes_slide.notes_text_frame.text), page=number)


def _add_frame(builder: DocumentBuilder, frame: Any, number: int) -> None:
    """Add a text frame: one paragraph as a paragraph, several as a list with their depths."""
    paragraphs = [(paragraph.level, " ".join(_clean(paragraph.text).split())) for paragraph in frame.paragraphs]
    paragraphs = [(level, text) for level, text in paragraphs if text]
    if len(paragraphs) == 1:
        builder.add(paragraphs[0][1], page=number)
    else:
        builder.add("\n".join(f"{'  ' * level}- {text}" for level, text in paragraphs), "list", page=number)


def _shapes(shapes: Any, depth: int = 0) -> Iterator[Any]:
    for shape in shapes:
        if hasattr(shape, "shapes") and depth < _MAX_DEPTH:
            yield from _shapes(shape.shapes, depth + 1)
        else:
            yield shape


def _clean(text: str) -> str:
    """Return a text with line breaks for vertical tabs, which PowerPoint uses."""
    return text.replace("\v", "\n").strip()
