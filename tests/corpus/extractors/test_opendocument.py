"""OpenDocument files: texts, sheets and slides as a reader sees them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY
from nearfield.corpus.extractors.reader import kind_of
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from tests.corpus.extractors.test_docx import item, numbered
from tests.corpus.truth.writers.office import archive, open_document
from tests.support import sample_documents
from tests.support.office_packages import converted, word


def read(data: bytes, kind: str = "odt") -> Document:
    assert kind_of(data, f"a.{kind}") == kind
    return REGISTRY.load(kind)().extract(data, f"a.{kind}")


def pieces(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def odt(body: str) -> bytes:
    data = open_document("text", f"<office:text>{body}</office:text>")
    spaces = (
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" '
    )
    return sample_documents.edited(
        data, {"content.xml": lambda old: re.sub(b"(office:version)", spaces.encode() + rb"\1", old, count=1)}
    )


def test_notes_comments_and_changes() -> None:
    body = (
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>old words</text:p></text:deletion>"
        "</text:changed-region></text:tracked-changes>"
        '<text:p>The <text:span>price</text:span><text:note text:note-class="footnote"><text:note-citation>1'
        "</text:note-citation><text:note-body><text:p>Without tax.</text:p></text:note-body></text:note>"
        "<office:annotation><dc:creator>Ann</dc:creator><text:p>Too low?</text:p></office:annotation>"
        '<text:s text:c="2"/>is<text:tab/>5<text:line-break/>each</text:p>'
    )
    document = read(odt(body))
    assert pieces(document) == [
        ("paragraph", "The price  is\t5\neach"),
        ("paragraph", "Footnote 1: Without tax."),
        ("quote", "Comment by Ann: Too low?"),
    ]
    assert document.visible_words == 9


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ('<form:text form:id="c" form:current-value="Piet"/>', "Piet"),
        ('<form:fixed-text form:id="c" form:label="Your name"/>', "Your name"),
        ('<form:button form:id="c" form:label="Send order"/>', "Send order"),
        ('<form:checkbox form:id="c" form:label="Paid" form:current-state="checked"/>', "Paid [x]"),
        ('<form:radio form:id="c" form:label="Cash"/>', "Cash [ ]"),
        ('<form:textarea form:id="c"><text:p>Two</text:p><text:p>lines</text:p></form:textarea>', "Two lines"),
        (
            '<form:listbox form:id="c"><form:option form:label="red" form:current-selected="true"/></form:listbox>',
            "red",
        ),
        ('<form:text form:id="other" form:current-value="Not shown"/>', ""),
    ],
)  # fmt: skip
def test_forms_have_their_labels_and_values(field: str, expected: str) -> None:
    space = 'xmlns:form="urn:oasis:names:tc:opendocument:xmlns:form:1.0"'
    forms = f"<office:forms {space}><form:form>{field}</form:form></office:forms>"
    document = read(odt(f'{forms}<text:p>Order <draw:control draw:control="c"/></text:p>'))
    assert document.text.split("\n\n") == ["Order", *([expected] if expected else [])]


def test_readings_of_ruby_follow_their_text() -> None:
    ruby = "<text:ruby-base>\u6771\u4eac</text:ruby-base><text:ruby-text>Tokyo</text:ruby-text>"
    body = f"<text:p>In <text:ruby>{ruby}</text:ruby>.</text:p>"
    assert read(odt(body)).text == "In \u6771\u4eac(Tokyo)."


def test_merged_cells_boxes_and_pictures() -> None:
    cell = "<table:table-cell{}><text:p>{}</text:p></table:table-cell>".format
    covered = "<table:covered-table-cell/>"
    wide, high = ' table:number-columns-spanned="2"', ' table:number-rows-spanned="2"'
    rows = (
        cell(high, "Item") + cell(wide, "2023") + covered,
        covered + cell("", "Q1") + cell("", "Q2"),
        cell(high, "Tea") + cell("", "1") + cell("", "2"),
        covered + cell(wide, "none") + covered,
    )
    table = "<table:table>" + "".join(f"<table:table-row>{row}</table:table-row>" for row in rows) + "</table:table>"
    box = "<draw:frame><draw:text-box><text:p>In the box</text:p></draw:text-box></draw:frame>"
    picture = '<draw:frame><draw:image xlink:href="a.png"/><svg:desc>A bridge</svg:desc></draw:frame>'
    bare = '<draw:frame><draw:image xlink:href="b.png"/></draw:frame>'
    document = read(odt(f"{table}<text:p>Text{box}{picture}{bare}</text:p>"))
    assert pieces(document) == [
        ("table", "| Item | 2023 Q1 | 2023 Q2 |\n| --- | --- | --- |\n| Tea | 1 | 2 |\n| Tea | none |  |"),
        ("paragraph", "Text"),
        ("paragraph", "In the box"),
        ("paragraph", "Picture: A bridge"),
    ]
    assert [loss.reason for loss in document.losses] == ["1 picture without a description"]


def test_flat_files_and_encrypted_ones() -> None:
    body = '<office:body><office:text><text:h text:outline-level="2">Head</text:h><text:p>Text</text:p></office:text>'
    spaces = 'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    spaces += 'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
    flat = f"<?xml version='1.0'?><office:document {spaces}>{body}</office:body></office:document>"
    document = REGISTRY.load("odt")().extract(flat.encode(), "a.fodt")
    assert pieces(document) == [("heading", "Head"), ("paragraph", "Text")]
    parts = {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": "x"}
    secret = archive({**parts, "META-INF/manifest.xml": "<manifest:encryption-data/>"})
    with pytest.raises(InputError, match=r"a\.odt: encrypted with a password"):
        read(secret)


def test_names_that_lie() -> None:
    data = open_document("spreadsheet", "<office:spreadsheet/>")
    assert kind_of(data, "a.odt") == "ods" and kind_of(data, "a.docx") == "ods"


def test_sheets_have_values_as_shown_and_comments() -> None:
    body = (
        '<office:spreadsheet><table:table table:name="Sales"><table:table-row>{}</table:table-row><table:table-row>{}'
        '</table:table-row><table:table-row table:number-rows-repeated="1048570"><table:table-cell '
        'table:number-columns-repeated="1024"/></table:table-row></table:table></office:spreadsheet>'
    )
    head = "".join(f"<table:table-cell><text:p>{text}</text:p></table:table-cell>" for text in ("Item", "Share", "Sum"))
    values = (
        "<table:table-cell><text:p>Tea</text:p></table:table-cell>"
        '<table:table-cell office:value-type="percentage" office:value="0.125"><office:annotation>'
        "<text:p>Sure?</text:p></office:annotation><text:p>12,5 %</text:p></table:table-cell>"
        '<table:table-cell table:formula="of:=[.B2]*2"/>'
    )
    document = read(open_document("spreadsheet", body.format(head, values)), "ods")
    assert pieces(document) == [
        ("heading", "Sales"),
        ("table", "Item: Tea\nShare: 12,5 %\nSum: =B2*2\nComment on B2: Sure?"),
    ]
    assert [loss.reason for loss in document.losses] == ["the value of 1 formula, which the file does not have"]
    assert document.page_unit == "sheet" and document.blocks[1].page == 1


def write_slides(file: Any) -> None:
    slide = file.slides.add_slide(file.slide_layouts[1])
    slide.shapes.title.text = "First"
    slide.placeholders[1].text_frame.text = "one\ntwo"
    slide.notes_slide.notes_text_frame.text = "Say it."
    slide = file.slides.add_slide(file.slide_layouts[5])
    slide.shapes.title.text = "Second"
    table = slide.shapes.add_table(2, 2, 0, 0, 100, 100).table
    for at, text in enumerate(("a", "b", "c", "d")):
        table.cell(at // 2, at % 2).text = text


@pytest.mark.slow
@pytest.mark.process
def test_files_that_libreoffice_writes(tmp_path: Path) -> None:
    levels = numbered(("decimal", "%1."), ("decimal", "%1.%2"), ("lowerLetter", "(%3)"))
    body = item("Term", 0) + item("Start", 1) + item("by letter", 2) + item("by mail", 2)
    body += "<w:p><w:r><w:t>Between</w:t></w:r></w:p>" + item("Fees", 0)
    document = read(converted(word(body, {"numbering": levels}), ".docx", "odt", tmp_path))
    assert [text.split("\n") for _, text in pieces(document)] == [
        ["1. Term", "  1.1 Start", "    1.1(a) by letter", "    1.1(b) by mail"], ["Between"], ["2. Fees"],
    ]  # fmt: skip
    assert document.visible_words == count_words("Term Start by letter by mail Between Fees")
    document = read(converted(sample_documents.pptx(write_slides), ".pptx", "odp", tmp_path), "odp")
    assert [(block.page, *piece) for block, piece in zip(document.blocks, pieces(document), strict=True)] == [
        (1, "heading", "First"),
        (1, "list", "- one\n- two"),
        (1, "paragraph", "Say it."),
        (2, "heading", "Second"),
        (2, "table", "| a | b |\n| --- | --- |\n| c | d |"),
    ]
    assert document.page_unit == "slide"
