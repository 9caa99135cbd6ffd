"""Contents of Office files beside the text: alternatives, inserted and embedded files, WordArt, fields."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.docx import DocxExtractor
from nearfield.corpus.extractors.pptx import PptxExtractor
from nearfield.corpus.extractors.xlsx import XlsxExtractor
from nearfield.corpus.word_count import count_words
from tests.support import sample_documents
from tests.support.office_packages import paragraph, word

_RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
_COMPATIBILITY = "http://schemas.openxmlformats.org/markup-compatibility/2006"
FUTURE = 'xmlns:zz="http://schemas.example.com/future" Requires="zz"'
KNOWN = 'xmlns:zz="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" Requires="zz"'


def read(body: str, parts: dict[str, str | bytes] | None = None) -> Document:
    return DocxExtractor().extract(word(body, parts), "a.docx")


def reasons(document: Document) -> list[str]:
    return [loss.reason for loss in document.losses]


def alternatives(*versions: tuple[str, str]) -> str:
    """Return a content with several versions: attributes of a choice (empty for the fallback), and content."""
    inner = "".join(
        f"<mc:Choice {attributes}>{content}</mc:Choice>" if attributes else f"<mc:Fallback>{content}</mc:Fallback>"
        for attributes, content in versions
    )
    return f"<mc:AlternateContent>{inner}</mc:AlternateContent>"


def run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def box(text: str) -> str:
    return f"<w:r><w:pict><v:textbox><w:txbxContent>{paragraph(text)}</w:txbxContent></v:textbox></w:pict></w:r>"


# -- versions of a content ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([(KNOWN, "new"), ("", "old")], "new"),
        ([(FUTURE, "new"), ("", "old")], "old"),
        ([(FUTURE, "new"), (KNOWN, "middle"), ("", "old")], "middle"),
        ([(FUTURE, "new")], "new"),
        ([(f"{FUTURE[:-1]} w\"", "new"), ("", "old")], "old"),
        ([('Requires="undeclared"', "new"), ("", "old")], "old"),
        ([(KNOWN, alternatives((FUTURE, run("inner new")), ("", run("inner old")))), ("", "old")], "inner old"),
    ],
)  # fmt: skip
def test_the_version_that_word_shows_is_read(versions: list[tuple[str, str]], expected: str) -> None:
    filled = [(attributes, text if text.startswith("<") else run(text)) for attributes, text in versions]
    document = read(f"<w:p>{run('A ')}{alternatives(*filled)}</w:p>")
    assert (document.text, document.losses) == (f"A {expected}", ())
    assert document.visible_words == count_words(document.text)


def test_boxes_and_paragraphs_of_a_fallback_are_read() -> None:
    drawing = alternatives((FUTURE, "<zz:thing xmlns:zz='http://schemas.example.com/future'/>"), ("", box("In a box")))
    block = alternatives((FUTURE, paragraph("new")), ("", paragraph("A block")))
    assert read(f"<w:p>{run('Text')}{drawing}</w:p>{block}").text == "Text\n\nIn a box\n\nA block"


def test_a_content_without_a_version_that_can_be_read_is_stated() -> None:
    future = alternatives((FUTURE, "<zz:thing xmlns:zz='http://schemas.example.com/future'><zz:t>x</zz:t></zz:thing>"))
    document = read(paragraph("Text") + f"<w:p><w:r>{future}</w:r></w:p>")
    assert document.text == "Text"
    assert reasons(document) == ["1 object of an unknown version of Office (word/document.xml)"]


# -- inserted and embedded files ---------------------------------------------------------------------------------------


def inserted(name: str, data: bytes) -> Document:
    body = paragraph("Before") + f'<w:altChunk r:id="{name}"/>' + paragraph("After")
    return read(body, {f"aFChunk:{name}": data})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.html", b"<html><body><p>Inserted words</p></body></html>"),
        ("a.txt", b"Inserted words"),
        ("a.rtf", rb"{\rtf1\ansi Inserted words\par}"),
        ("a.docx", word(paragraph("Inserted words"))),
        ("a.mht", b"MIME-Version: 1.0\nContent-Type: text/html\n\n<p>Inserted words</p>"),
        ("a.dat", word(paragraph("Inserted words"))),
    ],
)
def test_inserted_files_are_read_in_their_place(name: str, data: bytes) -> None:
    document = inserted(name, data)
    assert document.text == "Before\n\nInserted words\n\nAfter"
    assert document.visible_words == 4
    assert not document.losses


def test_the_media_type_of_an_inserted_file_counts_without_a_suffix() -> None:
    body = paragraph("Before") + '<w:altChunk r:id="chunk.unknown"/>'
    data = word(body, {"aFChunk:chunk.unknown": b"<p>Inserted <b>words</b></p>"})
    types = {"[Content_Types].xml": lambda part: part.replace(
        b"</Types>", b'<Override PartName="/word/chunk.unknown" ContentType="text/html"/></Types>'
    )}  # fmt: skip
    assert "Inserted words" in DocxExtractor().extract(sample_documents.edited(data, types), "a.docx").text


def test_inserted_files_in_cells_follow_the_table() -> None:
    cells = f'<w:tc>{paragraph("A")}<w:altChunk r:id="a.txt"/></w:tc><w:tc>{paragraph("B")}</w:tc>'
    document = read(f"<w:tbl><w:tr>{cells}</w:tr></w:tbl>", {"aFChunk:a.txt": b"Inserted"})
    assert document.text.endswith("|\n\nInserted")


def test_inserted_files_that_cannot_be_read_are_stated() -> None:
    document = inserted("a.docx", b"PK\x03\x04 damaged")
    assert document.text == "Before\n\nAfter"
    assert reasons(document)[0].startswith("1 inserted file (a.docx: ")
    missing = read(paragraph("Text") + '<w:subDoc r:id="r9"/>')
    assert reasons(missing) == ["1 inserted file (no name: The file is missing)"]


def test_files_within_files_end_somewhere() -> None:
    data = word(paragraph("The last"))
    for _ in range(8):
        data = word(paragraph("Next") + '<w:altChunk r:id="a.docx"/>', {"aFChunk:a.docx": data})
    document = DocxExtractor().extract(data, "a.docx")
    assert "The last" not in document.text
    assert "more than 4 times" in reasons(document)[0]


def test_embedded_workbooks_are_read() -> None:
    book = sample_documents.xlsx({"Costs": [["Item", "Price"], ["Bolts", 12]]})
    body = (
        f"<w:p>{run('See')}<w:r><w:object><o:OLEObject ProgID='Excel.Sheet.12' r:id='s.xlsx'/></w:object></w:r></w:p>"
    )
    document = read(body, {"package:s.xlsx": book})
    assert document.text.startswith("See\n\nCosts") and "Bolts" in document.text
    assert not document.losses and all(block.page is None for block in document.blocks)


def test_objects_of_other_programs_are_stated() -> None:
    body = "<w:p><w:r><w:t>A</w:t><w:object><w:control r:id='c'/></w:object></w:r></w:p>"
    body += "<w:p><w:r><w:object><o:OLEObject r:id='o.bin'/></w:object></w:r></w:p>"
    document = read(body, {"oleObject:o.bin": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 other"})
    assert reasons(document) == ["2 embedded objects"]


# -- drawn texts and fields --------------------------------------------------------------------------------------------


def test_word_art_of_older_versions_is_read() -> None:
    art = "<w:r><w:pict><v:shape><v:textpath string='Grand opening'/></v:shape></w:pict></w:r>"
    document = read(f"<w:p>{run('Text')}{art}</w:p>")
    assert (document.text, document.visible_words) == ("Text\n\nGrand opening", 3)


def test_watermarks_and_boxes_of_headers_are_read_once() -> None:
    mark = "<w:r><w:pict><v:shape><v:textpath string='NOT FINAL'/></v:shape></w:pict></w:r>"
    number = f"<w:p>{box('Side note here')}<w:r><w:instrText>PAGE</w:instrText></w:r>{run('3')}</w:p>"
    section = "".join(
        f'<w:headerReference w:type="{kind}" r:id="{identity}"/>'
        for kind, identity in (("default", "h1"), ("first", "h2"))
    )
    parts: dict[str, str | bytes] = {
        f"header:{name}": f"<w:hdr NS><w:p/><w:p>{mark}</w:p>{number}</w:hdr>" for name in ("h1", "h2")
    }
    document = read(paragraph("Text") + f"<w:sectPr>{section}<w:titlePg/></w:sectPr>", parts)
    assert document.text == "NOT FINAL\n\nSide note here\n\nText"


def field(*parts: str) -> str:
    marks = {"begin", "separate", "end"}
    return "".join(
        f"<w:r><w:fldChar w:fldCharType='{part}'/></w:r>" if part in marks
        else part if part.startswith("<") else f"<w:r><w:instrText>{part}</w:instrText></w:r>"
        for part in parts
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (field("begin", " DATE ", "separate", run("1 May"), "end"), "1 May"),
        (field("begin", " MACRO", "BUTTON NoName [Type a name]", "end"), "[Type a name]"),
        (field("begin", 'SYMBOL 97 \\f "Symbol"', "end"), "α"),
        (field("begin", "SYMBOL 65 \\f Arial", "end"), "A"),
        (field("begin", "EQ \\f(1,2)", "end"), "\\f(1,2)"),
        (field("begin", " XE hidden ", "end"), ""),
        (field("begin", "A", field("begin", "B", "separate", run("in"), "end"), "separate", run("x"), "end"), "inx"),
        ("<w:fldSimple w:instr='AUTHOR'><w:r><w:t>Ada</w:t></w:r></w:fldSimple>", "Ada"),
        ("<w:fldSimple w:instr='MACROBUTTON X [Here]'/>", "[Here]"),
        ("<w:ruby><w:rubyPr/><w:rt><w:r><w:t>とうきょう</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>東京</w:t></w:r></w:rubyBase></w:ruby>",
         "東京(とうきょう)"),
    ],
)  # fmt: skip
def test_fields_and_ruby_are_read_as_shown(content: str, expected: str) -> None:
    assert read(f"<w:p>{run('A ')}<w:r>{content}</w:r></w:p>").text == f"A {expected}".strip()


def test_content_controls_are_read_at_every_level() -> None:
    def control(inner: str, properties: str = "") -> str:
        return f"<w:sdt><w:sdtPr>{properties}</w:sdtPr><w:sdtContent>{inner}</w:sdtContent></w:sdt>"

    row = f"<w:tr>{control('<w:tc>' + paragraph('one') + '</w:tc>')}<w:tc>{paragraph('two')}</w:tc></w:tr>"
    body = control(paragraph("Enter a name", ""), "<w:showingPlcHdr/>") + f"<w:p>{control(run('inline'))}</w:p>"
    body += control(control(paragraph("first")) + control(paragraph("second")))
    body += f"<w:tbl>{control(row)}</w:tbl>"
    text = read(body).text
    assert text == "Enter a name\n\ninline\n\nfirst\n\nsecond\n\n| one | two |\n| --- | --- |"


# -- presentations and workbooks ---------------------------------------------------------------------------------------


def added(data: bytes, part: str, links: dict[str, tuple[str, str, bytes]]) -> bytes:
    """Return a package with further parts that a part links to: kind, path and content by the id of the link."""
    folder, _, name = part.rpartition("/")
    rels = f"{folder}/_rels/{name}.rels"
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        contents = {entry: file.read(entry) for entry in file.namelist()}
    empty = b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"></Relationships>'
    old = contents.get(rels, empty)
    new = "".join(
        f'<Relationship Id="{identity}" Type="{_RELATIONSHIPS}/{kind}" Target="/{path}"/>'
        for identity, (kind, path, _) in links.items()
    ).encode()
    contents[rels] = old.replace(b"</Relationships>", new + b"</Relationships>")
    contents |= {path: content for _, path, content in links.values()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for entry, content in contents.items():
            file.writestr(entry, content)
    return buffer.getvalue()


def slide_with(shapes: str, notes: str = "") -> bytes:
    """Return a presentation of one slide with further shapes."""

    def write(file: Any) -> None:
        slide = file.slides.add_slide(file.slide_layouts[5])
        slide.shapes.title.text = "Title"
        if notes:
            slide.notes_slide.notes_text_frame.text = notes

    namespaces = f'xmlns:mc="{_COMPATIBILITY}" xmlns:v="urn:schemas-microsoft-com:vml"'

    def edit(part: bytes) -> bytes:
        text = part.decode().replace("<p:sld ", f"<p:sld {namespaces} ")
        return text.replace("</p:spTree>", f"{shapes}</p:spTree>").encode()

    return sample_documents.edited(sample_documents.pptx(write), {"ppt/slides/slide1.xml": edit})


def shape(text: str, description: str = "") -> str:
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="9" name="S" descr="{description}"/><p:cNvSpPr/><p:nvPr/></p:nvSpPr><p:spPr/>'
        f"<p:txBody><a:bodyPr/><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
    )


def test_shapes_of_slides_have_one_version() -> None:
    shapes = alternatives((FUTURE, shape("new")), ("", shape("old")))
    shapes += alternatives(('Requires="v"', shape("shown")), ("", shape("hidden")))
    document = PptxExtractor().extract(slide_with(shapes, "Say hello"), "a.pptx")
    assert document.text == "# Title\n\nold\n\nshown\n\nSay hello"
    assert document.visible_words == 5


def test_groups_of_slides_have_their_texts_and_descriptions() -> None:
    group = '<p:grpSp><p:nvGrpSpPr><p:cNvPr id="4" name="G" descr="{}"/></p:nvGrpSpPr><p:grpSpPr/>{}</p:grpSp>'
    inner = group.format("", shape("deep"))
    document = PptxExtractor().extract(slide_with(group.format("A flow chart", shape("first") + inner)), "a.pptx")
    assert document.text == "# Title\n\nPicture: A flow chart\n\nfirst\n\ndeep"
    assert document.visible_words == 3


def test_embedded_files_of_slides_are_read() -> None:
    frame = (
        '<p:graphicFrame><p:nvGraphicFramePr><p:cNvPr id="5" name="O"/></p:nvGraphicFramePr><a:graphic><a:graphicData>'
        f'<p:oleObj xmlns:r="{_RELATIONSHIPS}" spid="s" r:id="rId77"/></a:graphicData></a:graphic></p:graphicFrame>'
    )
    data = slide_with(frame)
    book = sample_documents.xlsx({"Costs": [["Item", "Price"], ["Bolts", 12]]})
    data = added(data, "ppt/slides/slide1.xml", {"rId77": ("package", "ppt/embeddings/book.xlsx", book)})
    document = PptxExtractor().extract(data, "a.pptx")
    assert "Bolts" in document.text and not document.losses
    assert {block.page for block in document.blocks} == {1}


def sheet_with(links: dict[str, tuple[str, str, bytes]]) -> Document:
    data = sample_documents.xlsx({"Sheet": [["Name", "Age"], ["Ada", 36]]})
    if links:
        data = added(data, "xl/worksheets/sheet1.xml", links)
    return XlsxExtractor().extract(data, "a.xlsx")


def drawing(inner: str) -> bytes:
    return (
        '<xdr:wsDr xmlns:xdr="http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing" '
        f'xmlns:a="{_DRAWING}" xmlns:mc="{_COMPATIBILITY}">{inner}</xdr:wsDr>'
    ).encode()


def sheet_shape(text: str, description: str = "") -> str:
    return (
        f'<xdr:sp><xdr:nvSpPr><xdr:cNvPr id="2" name="T" descr="{description}"/></xdr:nvSpPr>'
        f"<xdr:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></xdr:txBody></xdr:sp>"
    )


def test_shapes_of_sheets_have_one_version() -> None:
    group = '<xdr:grpSp><xdr:nvGrpSpPr><xdr:cNvPr id="3" descr="A plan"/></xdr:nvGrpSpPr>'
    group += f"{sheet_shape('inside')}</xdr:grpSp>"
    inner = alternatives((FUTURE, sheet_shape("new")), ("", sheet_shape("old"))) + group
    document = sheet_with({"rIdD": ("drawing", "xl/drawings/drawing9.xml", drawing(inner))})
    before = sheet_with({})
    assert document.text.removeprefix(before.text) == "\n\nold\n\nPicture: A plan\n\ninside"
    assert (document.visible_words or 0) - (before.visible_words or 0) == 2


def test_texts_of_older_controls_are_read_once_and_comments_are_not() -> None:
    vml = (
        b'<xml xmlns:v="urn:schemas-microsoft-com:vml" xmlns:x="urn:schemas-microsoft-com:office:excel">'
        b'<v:shape><v:textbox><div><font>Send order<br></font></div></v:textbox><x:ClientData ObjectType="Button"/>'
        b'</v:shape><v:shape><v:textbox><div>No</div></v:textbox><x:ClientData ObjectType="Note"/></v:shape></xml>'
    )
    before = sheet_with({}).text
    links = {"rIdV": ("vmlDrawing", "xl/drawings/vmlDrawing9.vml", vml)}
    document = sheet_with(links)
    assert (document.text.removeprefix(before), document.losses) == ("\n\nSend order", ())
    shown = drawing(sheet_shape("Send order"))
    both = sheet_with(links | {"rIdD": ("drawing", "xl/drawings/drawing9.xml", shown)})
    assert both.text.count("Send order") == 1


def test_embedded_files_of_sheets_are_read_or_stated() -> None:
    text = word(paragraph("Embedded letter"))
    document = sheet_with({
        "rIdP": ("package", "xl/embeddings/letter.docx", text), "rIdO": ("oleObject", "xl/embeddings/o.bin", b"?"),
    })  # fmt: skip
    assert "Embedded letter" in document.text
    assert reasons(document) == ["1 embedded object"]


def test_shapes_on_charts_are_read() -> None:
    chart = f'<c:chartSpace xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" xmlns:a="{_DRAWING}"/>'
    shapes = f'<c:userShapes xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" xmlns:a="{_DRAWING}">'
    shapes += "<a:p><a:r><a:t>Sales fell here</a:t></a:r></a:p></c:userShapes>"
    data = sample_documents.xlsx({"Sheet": [["Name", "Age"], ["Ada", 36]]})
    data = added(data, "xl/worksheets/sheet1.xml", {"rIdD": ("drawing", "xl/drawings/drawing9.xml", drawing(""))})
    data = added(data, "xl/drawings/drawing9.xml", {"rId1": ("chart", "xl/charts/chart9.xml", chart.encode())})
    data = added(
        data, "xl/charts/chart9.xml", {"rId1": ("chartUserShapes", "xl/drawings/drawing8.xml", shapes.encode())}
    )
    assert XlsxExtractor().extract(data, "a.xlsx").text.endswith("\n\nSales fell here")
