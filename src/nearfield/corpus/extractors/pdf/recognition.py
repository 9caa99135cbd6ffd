"""OCR of the pages of a PDF file that have no text, and on request of those whose text looks damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from nearfield.corpus.document import Loss
from nearfield.corpus.extractors.ocr.page_reader import OcrPage, OcrPageReader, page_losses
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.corpus.extractors.pdf.pages import PdfPage
from nearfield.corpus.word_count import count_words

#: Dots per inch of the picture of a page, and the maximum pixels of its longer side.
_RESOLUTION, _MAX_SIDE = 200, 3200
#: Maximum number of recognised pages of a file; the sandbox extends its deadline for each.
MAX_PAGES = 4000


def recognise_pages(
    file: Any, pages: Sequence[PdfPage], options: ExtractionOptions, on_page: Callable[[], None], name: str
) -> dict[int, OcrPage]:
    """Return the recognised pages of a file by their numbers; empty without the option ``ocr``.

    Raises:
        MissingExtra: the packages of the extra ``ocr`` are missing.
    """
    chosen = [page for page in pages if page.needs_ocr or (options.ocr == "damaged" and page.damage)]
    if not options.ocr or not chosen:
        return {}
    reader = OcrPageReader(options, on_page, name=name)
    return {page.number: reader.read(_render(file, page.number - 1)) for page in chosen[:MAX_PAGES]}


def with_recognised(pages: Sequence[PdfPage], recognised: Mapping[int, OcrPage]) -> list[PdfPage]:
    """Return the pages; those whose text was recognised have no text of the file, but their notes and form values."""
    return [_replace(page, recognised.get(page.number)) for page in pages]


def recognition_losses(pages: Sequence[PdfPage], recognised: Mapping[int, OcrPage]) -> Iterator[Loss]:
    """Yield what OCR could not read."""
    yield from page_losses(recognised)
    blank = tuple(page.number for page in pages if page.number in recognised and not recognised[page.number].text)
    if blank:
        reason = f"{'1 page' if len(blank) == 1 else f'{len(blank)} pages'} with pictures in which OCR found no text"
        yield Loss(reason, pages=blank)


def _replace(page: PdfPage, read: OcrPage | None) -> PdfPage:
    if read is None:
        return page
    if not read.text:
        # What the file has of text stays; the page has been looked at, so that it needs no OCR.
        return replace(page, state="text" if page.segments else "blank")
    return replace(page, state="text", segments=(), damage="", words=count_words(read.text) + read.missing_words)


def _render(file: Any, index: int) -> Any:
    """Return the picture of a page: rows, columns and RGB."""
    with closing(file[index]) as page:
        size = max(page.get_width(), page.get_height(), 1.0)
        scale = min(_RESOLUTION / 72, _MAX_SIDE / size)
        with closing(page.render(scale=scale, rev_byteorder=True)) as bitmap:
            return bitmap.to_numpy()[..., :3].copy()
