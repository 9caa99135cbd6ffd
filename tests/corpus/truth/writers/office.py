"""Writers of office formats: DOCX, PPTX, XLSX, OpenDocument and RTF."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from html import escape
from typing import Any

from tests.corpus.truth.model import ContentNode, HeadingNode, ListNode, TableNode, TableRows, Topic
from tests.support import sample_documents

_OFFICE = "urn:oasis:names:tc:opendocument:xmlns"
_MANIFEST = f"{_OFFICE}:manifest:1.0"


def docx(topic: Topic) -> bytes:
    """Return a Word document."""

    def write(file: Any) -> None:
        for node in topic.nodes:
            _add_to_docx(file, node)

    return sample_documents.docx(write)


def _add_to_docx(file: Any, node: ContentNode) -> None:
    if isinstance(node, HeadingNode):
        file.add_heading(node.text, node.level)
    elif isinstance(node, ListNode):
        for depth, text in node.items:
            style = "List Number" if node.ordered else "List Bullet"
            file.add_paragraph(text, style=f"{style} {depth + 1}" if depth else style)
    elif isinstance(node, TableNode):
        table = file.add_table(len(node.rows), len(node.rows[0]))
        for row, cells in enumerate(node.rows):
            for column, cell in enumerate(cells):
                table.cell(row, column).text = cell
    else:
        file.add_paragraph(node.text)


def pptx(topic: Topic) -> bytes:
    """Return a presentation with a slide for each heading."""

    def write(file: Any) -> None:
        slide = None
        for node in topic.nodes:
            if isinstance(node, HeadingNode):
                slide = file.slides.add_slide(file.slide_layouts[5])
                slide.shapes.title.text = node.text
            else:
                _add_to_slide(slide, node)

    return sample_documents.pptx(write)


def _add_to_slide(slide: Any, node: ContentNode) -> None:
    from pptx.util import Cm

    top = Cm(5 + 3 * (len(slide.shapes) - 1))
    if isinstance(node, TableNode):
        table = slide.shapes.add_table(len(node.rows), len(node.rows[0]), Cm(2), top, Cm(20), Cm(3)).table
        for row, cells in enumerate(node.rows):
            for column, cell in enumerate(cells):
                table.cell(row, column).text = cell
        return
    frame = slide.shapes.add_textbox(Cm(2), top, Cm(20), Cm(3)).text_frame
    frame.text = "\n".join(text for _, text in node.items) if isinstance(node, ListNode) else node.text


def workbook(tables: Mapping[str, TableRows]) -> bytes:
    """Return a workbook with a sheet for each table."""
    return sample_documents.xlsx(tables)


def xlsx(topic: Topic) -> bytes:
    """Return a workbook with the first table of a topic."""
    return workbook({"Data": topic.tables[0]})


def odt(topic: Topic) -> bytes:
    """Return an OpenDocument text."""
    body = "".join(map(_odf_text, topic.nodes))
    return open_document("text", f"<office:text>{body}</office:text>")


def odp(topic: Topic) -> bytes:
    """Return an OpenDocument presentation with a page for each heading."""
    pages: list[str] = []
    for node in topic.nodes:
        if isinstance(node, HeadingNode):
            pages.append("")
            kind = ' presentation:class="title"'
            text = f"<text:p>{escape(node.text)}</text:p>"
        else:
            kind, text = "", _odf_text(node)
        size = 'svg:width="20cm" svg:height="3cm" svg:x="2cm"'
        box = text if isinstance(node, TableNode) else f"<draw:text-box>{text}</draw:text-box>"
        pages[-1] += f'<draw:frame {size} svg:y="{pages[-1].count("<draw:frame") * 4 + 1}cm"{kind}>{box}</draw:frame>'
    slides = "".join(f'<draw:page draw:name="page{at}">{page}</draw:page>' for at, page in enumerate(pages, 1))
    return open_document("presentation", f"<office:presentation>{slides}</office:presentation>")


def ods(topic: Topic) -> bytes:
    """Return an OpenDocument spreadsheet with the first table of a topic."""
    return open_document("spreadsheet", f"<office:spreadsheet>{_odf_table(topic.tables[0])}</office:spreadsheet>")


def _odf_text(node: ContentNode) -> str:
    if isinstance(node, HeadingNode):
        return f'<text:h text:outline-level="{node.level}">{escape(node.text)}</text:h>'
    if isinstance(node, TableNode):
        return _odf_table(node.rows)
    if isinstance(node, ListNode):
        out, level = "<text:list>", 0
        for at, (depth, text) in enumerate(node.items):
            if depth > level:
                out += "<text:list>"
            elif at:
                out += "</text:list-item>" + "</text:list></text:list-item>" * (level - depth)
            out += f"<text:list-item><text:p>{escape(text)}</text:p>"
            level = depth
        return out + "</text:list-item>" + "</text:list></text:list-item>" * level + "</text:list>"
    return f"<text:p>{escape(node.text)}</text:p>"


def _odf_table(rows: TableRows) -> str:
    out = f'<table:table table:name="Data"><table:table-column table:number-columns-repeated="{len(rows[0])}"/>'
    for row in rows:
        cells = (
            f'<table:table-cell office:value-type="string"><text:p>{escape(cell)}</text:p></table:table-cell>'
            for cell in row
        )
        out += f"<table:table-row>{''.join(cells)}</table:table-row>"
    return out + "</table:table>"


def open_document(kind: str, body: str) -> bytes:
    """Return an OpenDocument file of a kind (text, spreadsheet, presentation) with this body."""
    media = f"application/vnd.oasis.opendocument.{kind}"
    names = ("office", "text", "table", "presentation")
    spaces = " ".join(f'xmlns:{name}="{_OFFICE}:{name}:1.0"' for name in names)
    spaces += f' xmlns:draw="{_OFFICE}:drawing:1.0" xmlns:svg="{_OFFICE}:svg-compatible:1.0"'
    content = f"<office:body>{body}</office:body>"
    content = f"<office:body>{body}</office:body>"
    content = f'<office:document-content {spaces} office:version="1.3">{content}</office:document-content>'
    entries = "".join(
        f'<manifest:file-entry manifest:full-path="{path}" manifest:media-type="{type_}"/>'
        for path, type_ in (("/", media), ("content.xml", "text/xml"))
    )
    start = '<?xml version="1.0" encoding="UTF-8"?>\n'
    manifest = f'<manifest:manifest xmlns:manifest="{_MANIFEST}" manifest:version="1.3">{entries}</manifest:manifest>'
    return archive({"mimetype": media, "content.xml": start + content, "META-INF/manifest.xml": start + manifest})


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """Return a zip file; an entry named ``mimetype`` is stored without compression, as OpenDocument and EPUB ask."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content, zipfile.ZIP_STORED if name == "mimetype" else None)
    return buffer.getvalue()


def rtf(topic: Topic) -> bytes:
    """Return rich text, with outline levels for headings."""
    body = "\n".join(map(_rtf_text, topic.nodes))
    fonts = r"{\fonttbl{\f0\fswiss Helvetica;}{\f1\froman Times New Roman;}}"
    info = r"{\info{\author Nearfield tests}}{\*\generator truth;}"
    return (r"{\rtf1\ansi\ansicpg1252\deff0" + fonts + info + "\n" + body + "\n}").encode("ascii")


def _rtf_text(node: ContentNode) -> str:
    if isinstance(node, HeadingNode):
        return rf"{{\pard\outlinelevel{node.level - 1}\b\fs{40 - 6 * node.level} {_rtf(node.text)}\par}}"
    if isinstance(node, ListNode):
        return "\n".join(rf"{{\pard\li{360 * (depth + 1)}\bullet\tab {_rtf(text)}\par}}" for depth, text in node.items)
    if isinstance(node, TableNode):
        rows = []
        for row in node.rows:
            edges = "".join(rf"\cellx{2500 * at}" for at in range(1, len(row) + 1))
            cells = "".join(rf"\pard\intbl {_rtf(cell)}\cell" for cell in row)
            rows.append(rf"\trowd{edges}{cells}\row")
        return "\n".join(rows) + r"\pard"
    return rf"{{\pard\f1 {_rtf(node.text)}\par}}"


def _rtf(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("{", "\\{").replace("}", "\\}")
    return "".join(mark if mark < "\x80" else rf"\u{ord(mark)}?" for mark in text)
