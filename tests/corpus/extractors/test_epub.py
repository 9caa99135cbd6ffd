"""EPUB books: all pages that a reader can get to are read, once."""

from __future__ import annotations

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.epub import EpubExtractor
from tests.support import sample_files

_PAGE = "application/xhtml+xml"
#: Name, media type, properties and content of the pages of a book.
Page = tuple[str, str, str, str]


def book(spine: str, *pages: Page, fallback: str = "") -> Document:
    """Return the document of a book; ``spine`` has the names of its chapters, those with a star are not linear."""
    items = "".join(
        f'<item id="{name}" href="{name}" media-type="{media}" properties="{properties}" {fallback}/>'
        for name, media, properties, _ in pages
    )
    references = "".join(
        f'<itemref idref="{name.strip("*")}"{chr(32) + "linear=" + chr(34) + "no" + chr(34) if "*" in name else ""}/>'
        for name in spine.split()
    )
    container = '<container><rootfiles><rootfile full-path="o/p.opf"/></rootfiles></container>'
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "o/p.opf": f"<package><metadata/><manifest>{items}</manifest><spine>{references}</spine></package>",
    }
    files |= {f"o/{name}": content for name, _, _, content in pages}
    return EpubExtractor().extract(sample_files.zip_file(files), "a.epub")


def page(name: str, text: str, properties: str = "") -> Page:
    return name, _PAGE, properties, f"<html><body>{text}</body></html>"


CHAPTER = page("a.xhtml", "<p>Chapter <a href='notes.xhtml#n1'>one</a>.</p>")


def test_chapters_that_are_not_linear_are_read() -> None:
    document = book("a.xhtml b.xhtml*", CHAPTER, page("b.xhtml", "<p>An answer.</p>"))
    assert document.text == "Chapter one.\n\nAn answer."


def test_pages_that_only_links_lead_to_are_read_once() -> None:
    notes = page("notes.xhtml", "<p>The note. <a href='a.xhtml'>Back</a> <a href='more.xhtml'>more</a></p>")
    document = book("a.xhtml", CHAPTER, notes, page("more.xhtml", "<p>More of it.</p>"), page("no.xhtml", "<p>No.</p>"))
    assert document.text == "Chapter one.\n\nThe note. Back more\n\nMore of it."
    assert document.visible_words == 9


def test_a_table_of_contents_with_a_text_is_read_without_the_contents() -> None:
    contents = "<nav><ol><li><a href='a.xhtml'>First chapter</a></li></ol></nav>"
    document = book(
        "nav.xhtml a.xhtml",
        page("nav.xhtml", f"<h1>Preface</h1>{contents}<p>This is only here.</p>", "nav"),
        CHAPTER,
    )
    assert document.text == "# Preface\n\nThis is only here.\n\nChapter one."
    alone = book("nav.xhtml a.xhtml", page("nav.xhtml", f"<h1>Contents</h1>{contents}", "nav"), CHAPTER)
    assert (alone.text, alone.losses) == ("Chapter one.", ())


def test_drawings_are_chapters_too() -> None:
    drawing = '<svg xmlns="http://www.w3.org/2000/svg"><title>Map</title><text>Old <tspan>harbour</tspan></text></svg>'
    document = book("a.xhtml s.svg", CHAPTER, ("s.svg", "image/svg+xml", "", drawing))
    assert (document.text, document.visible_words) == ("Chapter one.\n\nMap\nOld harbour", 5)


@pytest.mark.parametrize(
    ("fallback", "text", "reasons"),
    [
        ("", "Chapter one.", ["1 chapter of another type (b.pdf)"]),
        ('fallback="c.xhtml"', "Chapter one.\n\nThe same.", []),
        ('fallback="b.pdf"', "Chapter one.", ["1 chapter of another type (b.pdf)"]),
    ],
)
def test_chapters_of_other_types_have_a_fallback_or_are_stated(fallback: str, text: str, reasons: list[str]) -> None:
    pages = (CHAPTER, ("b.pdf", "application/pdf", "", "%PDF"), page("c.xhtml", "<p>The same.</p>"))
    document = book("a.xhtml b.pdf", *pages, fallback=fallback)
    assert (document.text, [loss.reason for loss in document.losses]) == (text, reasons)
