"""Word documents: comments, headers, notes, numbering, merged cells, equations, pictures, text boxes, Strict OOXML."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from tests.corpus.truth.model import TruthFile
from tests.corpus.truth.topics import topics
from tests.corpus.truth.writers import office
from tests.support.sample_documents import docx, edited

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_M = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
#: Namespaces of Transitional OOXML, and those of Strict.
_STRICT = (
    (
        b"http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        b"http://purl.oclc.org/ooxml/wordprocessingml/main",
    ),
    (
        b"http://schemas.openxmlformats.org/officeDocument/2006/relationships",
        b"http://purl.oclc.org/ooxml/officeDocument/relationships",
    ),
    (b"http://schemas.openxmlformats.org/drawingml/2006/main", b"http://purl.oclc.org/ooxml/drawingml/main"),
)


def picture() -> bytes:
    """Return a grey PNG of four pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0\x80\x80" * 2))
        + chunk(b"IEND", b"")
    )


def _commented(file: Any) -> None:
    paragraph = file.add_paragraph("The bridge carries forty tonnes.")
    file.add_comment(paragraph.runs, text="Ask the engineer for the new figure.", author="Noor", initials="N")


def _framed(file: Any) -> None:
    section = file.sections[0]
    section.header.paragraphs[0].text = "Harbour authority, internal"
    section.footer.paragraphs[0].text = "Version 7 of 4 May"
    file.add_paragraph("Ships above ninety metres need a pilot.")


def _merged(file: Any) -> None:
    table = file.add_table(4, 3)
    rows = (("Dish", "Price", ""), ("", "small", "large"), ("Soup", "4.20", "6.10"), ("Stew", "7.80", "11.40"))
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    for first, last in (((0, 1), (0, 2)), ((0, 0), (1, 0))):
        merged = table.cell(*first).merge(table.cell(*last))
        merged.text = merged.text.strip()


def _pictured(file: Any) -> None:
    file.add_paragraph("The new bridge was opened in May.")
    file.add_picture(io.BytesIO(picture()))
    properties = next(element for element in file.element.body.iter() if element.tag.endswith("}docPr"))
    properties.set("descr", "Ribbon cut by the mayor on the bridge")
    file.add_paragraph("Traffic doubled within a month.")


def _equation(file: Any) -> None:
    from docx.oxml import parse_xml

    file.add_paragraph("The mean speed is")
    run = "<m:r><m:t>{}</m:t></m:r>".format
    fraction = f"<m:f><m:num>{run('distance')}</m:num><m:den>{run('time')}</m:den></m:f>"
    math = parse_xml(f"<m:oMathPara {_M}><m:oMath>{run('v=')}{fraction}</m:oMath></m:oMathPara>")
    file.add_paragraph()._p.append(math)


def _numbered(file: Any) -> None:
    """Write clauses that Word numbers itself: their numbers are nowhere in the text."""
    from docx.oxml import parse_xml

    levels = "".join(
        f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="{text}"/></w:lvl>'
        for at, text in enumerate(("%1.", "%1.%2"))
    )
    numbering = file.part.numbering_part.element
    numbering.insert(0, parse_xml(f'<w:abstractNum {_W} w:abstractNumId="77">{levels}</w:abstractNum>'))
    numbering.append(parse_xml(f'<w:num {_W} w:numId="77"><w:abstractNumId w:val="77"/></w:num>'))
    for level, text in _CLAUSES:
        paragraph = file.add_paragraph(text)
        properties = f'<w:numPr {_W}><w:ilvl w:val="{level}"/><w:numId w:val="77"/></w:numPr>'
        paragraph._p.get_or_add_pPr().append(parse_xml(properties))


_CLAUSES = (
    (0, "Object of the contract"),
    (0, "Duties"),
    (1, "The carrier insures the goods."),
    (1, "The sender pays."),
)


def _text_box(file: Any) -> None:
    from docx.oxml import parse_xml

    file.add_paragraph("Opening hours are on the board.")
    shape = (
        f'<w:r {_W} xmlns:v="urn:schemas-microsoft-com:vml"><w:pict><v:shape style="width:99pt;height:40pt"><v:textbox>'
        "<w:txbxContent><w:p><w:r><w:t>Closed on the first Monday</w:t></w:r></w:p></w:txbxContent></v:textbox>"
        "</v:shape></w:pict></w:r>"
    )
    file.add_paragraph()._p.append(parse_xml(shape))


def _changed(file: Any) -> None:
    from docx.oxml import parse_xml

    mark = 'w:id="9" w:author="Noor" w:date="2025-01-01T00:00:00Z"'
    paragraph = file.add_paragraph("The fee is ")
    paragraph._p.append(parse_xml(f"<w:del {_W} {mark}><w:r><w:delText>ninety</w:delText></w:r></w:del>"))
    paragraph._p.append(parse_xml(f"<w:ins {_W} {mark}><w:r><w:t>eighty-five</w:t></w:r></w:ins>"))
    paragraph.add_run(" euro a month.")


def _strict() -> bytes:
    data = office.docx(topics()["travel-expenses"])

    def edit(part: bytes) -> bytes:
        for old, new in _STRICT:
            part = part.replace(old, new)
        return part

    names = (
        "word/document.xml",
        "word/styles.xml",
        "_rels/.rels",
        "word/_rels/document.xml.rels",
        "word/numbering.xml",
    )
    return edited(data, dict.fromkeys(names, edit))


def _file(name: str, fault: str, write: Callable[[Any], None], *pieces: str, **truth: Any) -> TruthFile:
    return TruthFile(f"{name}.docx", lambda: docx(write), pieces, fault=fault, **truth)


def files() -> Iterator[TruthFile]:
    """Yield Word documents with one fault each."""
    yield _file(
        "commented", "comments", _commented, "The bridge carries forty tonnes.", "Ask the engineer for the new figure."
    )
    yield _file(
        "framed",
        "headers and footers",
        _framed,
        "Harbour authority, internal",
        "Ships above ninety metres need a pilot.",
        "Version 7 of 4 May",
    )
    heads = ("Dish", "Price small", "Price large")
    yield _file(
        "menu",
        "merged cells",
        _merged,
        *("Dish", "Price", "small", "large", "Soup 4.20 6.10", "Stew 7.80 11.40"),
        tables=((heads, ("Soup", "4.20", "6.10"), ("Stew", "7.80", "11.40")),),
    )
    yield _file(
        "pictured",
        "alternative texts",
        _pictured,
        "The new bridge was opened in May.",
        "Ribbon cut by the mayor on the bridge",
        "Traffic doubled within a month.",
    )
    yield _file("equation", "equations", _equation, "The mean speed is", "v=", "distance", "time")
    numbers = ("1. Object of the contract", "2. Duties", "2.1 The carrier insures the goods.", "2.2 The sender pays.")
    yield _file("clauses", "numbers of clauses", _numbered, *numbers)
    yield _file("boxed", "text boxes", _text_box, "Opening hours are on the board.", "Closed on the first Monday")
    yield _file("changed", "proposed changes", _changed, "The fee is eighty-five euro a month.", absent=("ninety",))
    topic = topics()["travel-expenses"]
    yield TruthFile("strict.docx", _strict, topic.pieces, topic.headings, topic.tables, fault="Strict OOXML")
