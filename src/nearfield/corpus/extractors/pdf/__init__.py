"""Extractor for PDF: the text of each page, its form values and notes, by PDFium (pypdfium2).

``pages.py`` reads a page, ``segments.py`` its letters, ``annotations.py`` its forms and notes, ``structure.py`` its
alternative texts. ``layout.py`` finds the order of lines, tables and columns, ``paragraphs.py`` finds paragraphs and
headings, ``continued_tables.py`` tables over several pages, ``plausibility.py`` damaged text.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from types import MappingProxyType

from nearfield.corpus.document import Document, Loss, MissingText
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table
from nearfield.corpus.extractors.ocr.page_reader import OcrPage, add_page
from nearfield.corpus.extractors.pdf.continued_tables import repeat_heads
from nearfield.corpus.extractors.pdf.layout import PdfLine, PdfTable, lay_out
from nearfield.corpus.extractors.pdf.pages import (
    PdfPage,
    attachments,
    metadata,
    open_pdf,
    page_numbers,
    read_pages,
)
from nearfield.corpus.extractors.pdf.paragraphs import (
    HeadingRules,
    Paragraph,
    author_paragraphs,
    count_forms,
    join_lines,
    paragraphs,
    usual_style,
)
from nearfield.corpus.extractors.pdf.recognition import recognise_pages, recognition_losses, with_recognised
from nearfield.corpus.extractors.pdf.xfa import has_dynamic_form, read_form
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError

_FILE_NAME = re.compile(r"\.\w{2,5}$|^(untitled|microsoft \w+ - )", re.IGNORECASE)
_OCR = "install nearfield[ocr] and set ocr = true in the collection's definition"
_OCR_DAMAGED = 'install nearfield[ocr] and set ocr = "damaged" in the collection\'s definition'
_PRINT = "To keep the layout of the form, print it into a new PDF with one of Adobe's programs."


class PdfExtractor(Extractor):
    """PDF files. PDFium is not thread-safe: a process reads one at a time."""

    suffixes: Mapping[str, str] = {".pdf": "application/pdf"}
    uses_ocr = True
    medium = "page"

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text of all pages; those that cannot be read are losses."""
        with closing(open_pdf(data, name)) as file:
            properties = metadata(file)
            losses = [*_file_losses(attachments(file), has_dynamic_form(file))]
            form = read_form(file) if has_dynamic_form(file) else []
            pages = list(read_pages(file))
            recognised = recognise_pages(file, pages, self.options, self.on_page, name)
        pages = with_recognised(pages, recognised)
        if not form and not self.is_searched_without_text:
            _require_text(pages, name, recognised)
        builder = build(pages, properties["Author"], recognised)
        builder.add("\n".join(form), page=1)
        builder.losses += [
            *_page_losses(pages, self.is_searched_without_text),
            *recognition_losses(pages, recognised),
            *losses,
        ]
        builder.visible_words = sum(page.words for page in pages) + sum(map(count_words, form))
        builder.missing += [MissingText(word, page.number) for page in pages for word in page.missing]
        title = "" if _FILE_NAME.search(properties["Title"]) else properties["Title"]
        meta = {"author": properties["Author"]} if properties["Author"] else {}
        return builder.document("prose", title or builder.first_heading(), meta)


def build(
    pages: Sequence[PdfPage], author: str = "", recognised: Mapping[int, OcrPage] = MappingProxyType({})
) -> DocumentBuilder:
    """Return the blocks of all pages; ``recognised`` has the pages that OCR has read, by number."""
    layouts = [(page, lay_out(page.segments)) for page in pages]
    style = usual_style([item for _, items in layouts for item in items if isinstance(item, PdfLine)])
    parts = [(page, list(paragraphs(items, style))) for page, items in layouts]
    repeat_heads([page_parts for _, page_parts in parts])
    all_parts = [part for _, page_parts in parts for part in page_parts]
    rules = HeadingRules.from_parts(all_parts, style)
    words = count_forms([part for part in all_parts if not isinstance(part, PdfTable)])
    first = next(
        ([part for part in page_parts if not isinstance(part, PdfTable)] for _, page_parts in parts if page_parts), []
    )
    authors = {id(first[at]) for at in author_paragraphs(first, rules, author)}
    builder = DocumentBuilder()
    for page, page_parts in parts:
        if page.number in recognised:
            add_page(builder, recognised[page.number], page.number)
        notes = _notes_by_part(page, page_parts)
        for at, part in enumerate(page_parts):
            if isinstance(part, PdfTable):
                builder.add(_table(part, words), "table", page=page.number)
            elif id(part) not in authors and rules.is_heading(part):
                builder.heading(_text(part, words), rules.level(part), page=page.number, marked=False)
            else:
                builder.add(_text(part, words), page=page.number)
            for note in notes.pop(at, ()):
                builder.add(note, page=page.number)
        for note in (note for rest in notes.values() for note in rest):
            builder.add(note, page=page.number)
    return builder


def _notes_by_part(page: PdfPage, parts: Sequence[Paragraph | PdfTable]) -> dict[int, list[str]]:
    """Return the notes of a page by the index of the nearest paragraph or table."""
    notes: dict[int, list[str]] = defaultdict(list)
    for note in page.notes:
        distances = [
            max(bottom - note.height, note.height - top, 0.0) for top, bottom in (_extent(part) for part in parts)
        ]
        notes[distances.index(min(distances)) if distances else 0].append(note.text)
    return notes


def _extent(part: Paragraph | PdfTable) -> tuple[float, float]:
    """Return the heights of the top and the bottom of a paragraph or table."""
    if isinstance(part, PdfTable):
        return part.top, part.bottom
    return max(line.bottom + line.size for line in part), min(line.bottom for line in part)


def _text(group: Paragraph, words: Counter[str]) -> str:
    return join_lines([line.text for line in group], words)


def _table(table: PdfTable, words: Counter[str]) -> str:
    """Return a table in Markdown; rows without names of columns are lines."""
    rows = [[join_lines(cell.split("\n"), words) for cell in row] for row in table.rows]
    if table.head:
        return markdown_table(rows)
    return "\n".join(" | ".join(" ".join(cell.split()) for cell in row).rstrip("| ") for row in rows)


# -- losses ----------------------------------------------------------------------------------------------------------


def _require_text(pages: Sequence[PdfPage], name: str, recognised: Mapping[int, OcrPage]) -> None:
    """Raise ``InputError`` if no page has a text."""
    if any(page.text for page in recognised.values()):
        return
    if any(segment.text.strip() for page in pages for segment in page.segments) or any(page.notes for page in pages):
        return
    if pages and all(page.state == "unreadable" for page in pages):
        what = "its page cannot" if len(pages) == 1 else f"none of its {len(pages)} pages can"
        raise InputError(f"{name}: damaged: {what} be read.")
    if any(page.needs_ocr for page in pages):
        raise InputError(f"{name}: no text layer, only pictures of pages. They need OCR: {_OCR}.")
    damaged = next((page.damage for page in pages if page.damage), "")
    if damaged and not recognised:
        raise InputError(f"{name}: its text cannot be read: {damaged}. Consider OCR: {_OCR_DAMAGED}.")
    if recognised:
        reason = "; ".join(loss.reason for loss in recognition_losses(pages, recognised))
        raise InputError(f"{name}: no text layer, and OCR recognised no text ({reason}).")
    raise InputError(f"{name}: no text layer: its pages are empty.")


def _page_losses(pages: Sequence[PdfPage], has_pictures: bool) -> Iterator[Loss]:
    """Yield what is missing of the pages; with ``has_pictures``, scans are not: they are searched as pictures."""
    scans = [] if has_pictures else [page for page in pages if page.needs_ocr]
    pictures = [page for page in scans if not page.segments]
    captions = [page for page in scans if page.segments]
    unreadable = [page for page in pages if page.state == "unreadable"]
    damaged: dict[str, list[PdfPage]] = defaultdict(list)
    for page in pages:
        if page.damage:
            damaged[page.damage].append(page)
    if pictures:
        reason = f"{_pages(len(pictures))} without text"
        yield Loss(reason, pages=page_numbers(pictures), advice=f"Scanned pages need OCR: {_OCR}.")
    if captions:
        reason = f"{_pages(len(captions))} with a picture and few words"
        yield Loss(reason, pages=page_numbers(captions), advice=f"If the pictures show text, use OCR: {_OCR}.")
    for damage, group in damaged.items():
        words, reason = sum(page.words for page in group), f"the text of {_pages(len(group))}, which looks damaged"
        advice = f"Consider OCR: {_OCR_DAMAGED}."
        yield Loss(f"{reason}: {damage}", words=words, pages=page_numbers(group), advice=advice)
    if unreadable:
        advice = "Open the file in a PDF viewer and save it again."
        reason = "1 page that is damaged" if len(unreadable) == 1 else f"{len(unreadable)} pages that are damaged"
        yield Loss(reason, pages=page_numbers(unreadable), advice=advice)


def _file_losses(attached: int, dynamic: bool) -> Iterator[Loss]:
    if attached:
        reason = "1 attached file" if attached == 1 else f"{attached} attached files"
        yield Loss(reason, advice="Save attached files beside the PDF, so that they are indexed too.")
    if dynamic:
        yield Loss("the pages of a dynamic form (XFA), of which texts and values are read", advice=_PRINT)


def _pages(count: int) -> str:
    return "1 page" if count == 1 else f"{count} pages"
