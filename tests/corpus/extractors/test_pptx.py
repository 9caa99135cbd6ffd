"""Presentations: each slide has its texts, tables, charts, notes and comments, and its number."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.pptx import PptxExtractor
from nearfield.corpus.word_count import count_words
from tests.support import sample_documents

_RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PRESENTATION = "http://schemas.openxmlformats.org/presentationml/2006/main"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"


def read(data: bytes) -> Document:
    return PptxExtractor().extract(data, "a.pptx")


def pieces(data: bytes) -> list[tuple[str, str]]:
    document = read(data)
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def slides(*writes: Callable[[Any], None]) -> bytes:
    """Return a presentation with a slide for each function; its layout has a title only."""

    def write(file: Any) -> None:
        for fill in writes:
            slide = file.slides.add_slide(file.slide_layouts[5])
            slide.shapes.title.text = "Title"
            fill(slide)

    return sample_documents.pptx(write)


def box(slide: Any, text: str) -> Any:
    from pptx.util import Cm

    shape = slide.shapes.add_textbox(Cm(2), Cm(5), Cm(20), Cm(3))
    shape.text_frame.text = text
    return shape


def test_numbers_of_paragraphs_are_computed() -> None:
    def write(slide: Any) -> None:
        from lxml import etree

        frame = box(slide, "one\ntwo\nplain\nagain").text_frame
        for paragraph, kind in zip(
            frame.paragraphs, ("arabicPeriod", "arabicPeriod", "", "romanUcParenR"), strict=True
        ):
            if kind:
                etree.SubElement(paragraph._p.get_or_add_pPr(), f"{{{_DRAWING}}}buAutoNum", type=kind)

    assert pieces(slides(write))[1] == ("list", "1. one\n2. two\n- plain\nI) again")


def test_merged_cells_keep_their_columns() -> None:
    def write(slide: Any) -> None:
        table = slide.shapes.add_table(4, 3, 0, 0, 100, 100).table
        for at, row in enumerate((("Dish", "Price", ""), ("", "small", "large"), ("Soup", "4", "6"), ("", "5", "7"))):
            for column, text in enumerate(row):
                table.cell(at, column).text = text
        table.cell(0, 0).merge(table.cell(1, 0))
        table.cell(0, 1).merge(table.cell(0, 2))
        table.cell(2, 0).merge(table.cell(3, 0))

    assert pieces(slides(write))[1] == (
        "table", "| Dish | Price small | Price large |\n| --- | --- | --- |\n| Soup | 4 | 6 |\n| Soup | 5 | 7 |",
    )  # fmt: skip


def test_charts_pictures_and_their_descriptions() -> None:
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE

    def write(slide: Any) -> None:
        data = CategoryChartData(number_format="0.0%")
        data.categories = ["Oslo", "Narvik"]
        data.add_series("Share", (0.125, 0.5))
        frame = slide.shapes.add_chart(XL_CHART_TYPE.PIE, 0, 0, 99, 99, data)
        frame._element.nvGraphicFramePr.cNvPr.set("descr", "Two ports")

    assert pieces(slides(write))[1:] == [
        ("table", "|  | Share |\n| --- | --- |\n| Oslo | 12.5% |\n| Narvik | 50.0% |"),
        ("paragraph", "Picture: Two ports"),
    ]


def test_pictures_without_a_description_are_stated_with_their_slides() -> None:
    from tests.corpus.truth.special.word import picture

    def write(slide: Any) -> None:
        shape = slide.shapes.add_picture(io.BytesIO(picture()), 0, 0)
        shape._element.nvPicPr.cNvPr.set("descr", "")

    (loss,) = read(slides(lambda slide: None, write, write)).losses
    assert (loss.reason, loss.pages) == ("2 pictures without a description", (2, 3))


def test_comments_of_both_kinds() -> None:
    data = slides(lambda slide: box(slide, "Text"))
    link = '<Relationship Id="{0}" Type="http://x/relationships/{1}" Target="{2}"/></Relationships>'

    def add(kind: str, target: str) -> Callable[[bytes], bytes]:
        return lambda old: old.replace(b"</Relationships>", link.format(f"x{kind}", kind, target).encode())

    data = sample_documents.edited(
        data,
        {
            "ppt/slides/_rels/slide1.xml.rels": add("comments", "../comments/c.xml"),
            "ppt/_rels/presentation.xml.rels": add("commentAuthors", "authors.xml"),
        },
    )
    older = f'<p:cmLst xmlns:p="{_PRESENTATION}"><p:cm authorId="0"><p:text>Too long?</p:text></p:cm></p:cmLst>'
    newer = (
        f'<x:cmLst xmlns:x="http://schemas.microsoft.com/office/powerpoint/2018/8/main" xmlns:a="{_DRAWING}">'
        '<x:cm authorId="0"><x:replyLst><x:reply authorId="0"><x:txBody><a:p><a:r><a:t>Yes</a:t></a:r></a:p></x:txBody>'
        "</x:reply></x:replyLst><x:txBody><a:p><a:r><a:t>Too long?</a:t></a:r></a:p></x:txBody></x:cm></x:cmLst>"
    )
    authors = f'<p:l xmlns:p="{_PRESENTATION}"><p:cmAuthor id="0" name="Ann"/></p:l>'
    for content, expected in ((older, ["Too long?"]), (newer, ["Too long?", "Yes"])):
        file = sample_documents.with_files(data, {"ppt/comments/c.xml": content, "ppt/authors.xml": authors})
        assert pieces(file)[2:] == [("quote", f"Comment by Ann: {text}") for text in expected]


def test_footers_are_in_the_text_once_and_numbers_are_not() -> None:
    def write(slide: Any) -> None:
        for kind, text in (("ftr", "Example Ltd"), ("sldNum", "7")):
            properties = box(slide, text)._element.find(".//{*}nvPr")
            properties.append(properties.makeelement(f"{{{_PRESENTATION}}}ph", {"type": kind}))

    document = read(slides(write, write))
    assert document.text == "# Title\n\nExample Ltd\n\n# Title"
    assert document.page_unit == "slide"


def test_texts_of_the_layout_are_read_once() -> None:
    def write(file: Any) -> None:
        layout = file.slide_layouts[5]
        for at in range(2):
            file.slides.add_slide(layout).shapes.title.text = f"Slide {at}"
        box_ = box(file.slides[0], "Draft of the board")
        layout.shapes._spTree.append(box_._element)

    assert read(sample_documents.pptx(write)).text == "# Slide 0\n\nDraft of the board\n\n# Slide 1"


def test_equations_and_the_strict_form() -> None:
    from lxml import etree

    math = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    formula = (
        f'<a14:m xmlns:a14="http://schemas.microsoft.com/office/drawing/2010/main" xmlns:m="{math}"><m:oMath><m:f>'
        "<m:num><m:r><m:t>a</m:t></m:r></m:num><m:den><m:r><m:t>b</m:t></m:r></m:den></m:f></m:oMath></a14:m>"
    )

    def write(slide: Any) -> None:
        box(slide, "half: ").text_frame.paragraphs[0]._p.append(etree.fromstring(formula))

    data = slides(write)
    assert pieces(data)[1] == ("paragraph", "half: $\\frac{a}{b}$")

    def strict(old: bytes) -> bytes:
        old = old.replace(_RELATIONSHIPS.encode(), b"http://purl.oclc.org/ooxml/officeDocument/relationships")
        for language in (b"drawingml", b"presentationml"):
            transitional = b"http://schemas.openxmlformats.org/" + language + b"/2006/"
            old = old.replace(transitional, b"http://purl.oclc.org/ooxml/" + language + b"/")
        return old

    parts = ("_rels/.rels", "ppt/presentation.xml", "ppt/_rels/presentation.xml.rels", "ppt/slides/slide1.xml")
    assert pieces(sample_documents.edited(data, dict.fromkeys(parts, strict))) == pieces(data)


@pytest.mark.parametrize("text", ["one line", "two\nlines", "a\vb"])
def test_words_are_counted_by_the_text_nodes(text: str) -> None:
    document = read(slides(lambda slide: box(slide, text)))
    assert document.visible_words == count_words(document.text)
