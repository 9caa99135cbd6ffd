"""Further documents: PDF, Word, workbooks, presentations and pages with other structures than the other modules."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from tests.corpus.truth.model import HeadingNode, ParagraphNode, TableNode, TableRows, TruthFile
from tests.corpus.truth.writers import portable
from tests.support.sample_documents import docx, pptx, xlsx

_LONG = "The crew checks the pumps, the lamps and the ropes before the ship leaves the harbour in the morning."
_WATCHES: TableRows = (
    ("Watch", "Officer", "Remark"),
    *(
        (f"Watch {number}", name, f"Depth {number * 7} fathoms")
        for number, name in enumerate(("Berg", "Lie", "Moe") * 18)
    ),
)
_CELLS: TableRows = (
    ("Part", "Task", "Days"),
    ("Hull", "Scrape, sand and paint with two coats of primer", "9"),
    ("Mast", "", "2"),
    ("Sails", "Mend the seams and renew all the reef points", "5"),
)


def _pages_pdf(pages: Sequence[Sequence[str]], foot: Sequence[str]) -> bytes:
    """Return a PDF whose pages have lines at the top and one line at the foot."""

    def draw(canvas: Any) -> None:
        for lines, last in zip(pages, foot, strict=True):
            canvas.setFont("Helvetica", 11)
            for at, line in enumerate(lines):
                canvas.drawString(72, 780 - at * 14, line)
            canvas.drawString(72, 50, last)
            canvas.showPage()

    return portable.canvas_pdf(draw)


def _choices(canvas: Any) -> None:
    canvas.setFont("Helvetica", 11)
    canvas.drawString(72, 780, "Berth application")
    canvas.drawString(72, 740, "Kind of boat")
    canvas.acroForm.choice(name="kind", value="Ketch", options=["Sloop", "Ketch", "Yawl"], x=200, y=730, width=120)
    canvas.drawString(72, 700, "Insured")
    for at, value in enumerate(("yes", "no")):
        canvas.acroForm.radio(name="insured", value=value, selected=not at, x=200 + 40 * at, y=695, size=14)


def _two_columns() -> bytes:
    from reportlab.platypus import BalancedColumns

    head = portable.flowables(HeadingNode("On tides", 1))
    body = [part for text in _COLUMN for part in portable.flowables(ParagraphNode(text))]
    return portable.build_pdf([*head, BalancedColumns(body, nCols=2)])


_COLUMN = tuple(
    f"Tide {number} rose {name} and the pilots waited until the bar could be crossed by the larger ships."
    for number, name in enumerate(("slowly", "quickly", "twice", "late", "early", "hardly"), 1)
)


def _two_tables() -> bytes:
    nodes = (TableNode(_CELLS), ParagraphNode(_LONG), TableNode(_WATCHES[:4]))
    return portable.build_pdf([part for node in nodes for part in portable.flowables(node)])


def _nested_table(file: Any) -> None:
    table = file.add_table(2, 2)
    table.cell(0, 0).text, table.cell(0, 1).text, table.cell(1, 0).text = "Ship", "Cargo", "Fram"
    cell = table.cell(1, 1)
    cell.text = "Two holds"
    inner = cell.add_table(2, 2)
    for at, text in enumerate(("Hold", "Tons", "fore", "31")):
        inner.cell(at // 2, at % 2).text = text


def _linked(file: Any) -> None:
    from docx.oxml import parse_xml

    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    paragraph = file.add_paragraph("Rules are in ")
    run = "<w:r><w:t>the harbour act</w:t></w:r>"
    paragraph._p.append(parse_xml(f'<w:hyperlink {space} w:anchor="act">{run}</w:hyperlink>'))
    control = "<w:sdtContent><w:p><w:r><w:t>Approved by the board</w:t></w:r></w:p></w:sdtContent>"
    file.element.body.insert(1, parse_xml(f"<w:sdt {space}><w:sdtPr/>{control}</w:sdt>"))
    field = '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText> DATE </w:instrText></w:r>'
    field += '<w:r><w:fldChar w:fldCharType="separate"/></w:r><w:r><w:t>9 May 2025</w:t></w:r>'
    field += '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    file.add_paragraph("Date: ")._p.append(parse_xml(f"<w:ins {space}>{field}</w:ins>"))


def _columns_pptx(file: Any) -> None:
    slide = file.slides.add_slide(file.slide_layouts[3])
    slide.shapes.title.text = "Old and new cranes"
    slide.placeholders[1].text_frame.text = "Old crane lifts four tons"
    slide.placeholders[2].text_frame.text = "New crane lifts thirty tons"


def _merged_pptx(file: Any) -> None:
    from pptx.util import Cm

    slide = file.slides.add_slide(file.slide_layouts[5])
    slide.shapes.title.text = "Berths"
    table = slide.shapes.add_table(3, 3, Cm(2), Cm(5), Cm(20), Cm(5)).table
    rows = (("Quay", "Summer", "Winter"), ("East", "40", "12"), ("", "Total 40", "Total 12"))
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    table.cell(1, 0).merge(table.cell(2, 0))


_BOOK: dict[str, tuple[tuple[Any, ...], ...]] = {
    "Ports": (
        ("Port", "Open", "Opened"),
        ("Vardo", True, datetime.datetime(1958, 5, 1, 14, 30)),
        ("Mehamn", False, None),
    ),
    "Notes": (("Ask the pilot before noon",),),
    "Depths": (("Sounding", 3, 5, 8), ("North", 2.5, 4.25, 7), ("South", -1, 0, 6)),
}

_PAGE = """<!DOCTYPE html><html><head><title>Locks</title></head><body><h1>Locks of the canal</h1>
<table><tr><td>Lock one</td><td>4.2 m</td></tr><tr><td>Lock two</td><td>3.9 m</td></tr></table>
<p>Call<br>before noon</p><pre>open --gate 1
close --gate 2</pre><blockquote>Water is patient.</blockquote><p hidden>secret remark</p>
<p>Fee: 5&euro; &ndash; cash only</p><h2>Rules</h2><ol start="3"><li>Wait</li><li>Moor</li></ol></body></html>"""
_DEEP = """<html><body><div><div><h1>Ferry</h1><section><h2>Prices</h2><table><tbody><tr><th scope="row">Adult</th>
<td>12 euro</td></tr><tr><th scope="row">Child</th><td>6 euro</td></tr></tbody></table></section>
<section><h2>Questions</h2><div class="faq">
<button>May I bring a dog?</button><div>Yes, on a lead.</div></div></section>
</div></div></body></html>"""


def _file(name: str, build: Callable[[], bytes], fault: str, *pieces: str, **truth: Any) -> TruthFile:
    return TruthFile(name, build, pieces, fault=fault, **truth)


def files() -> Iterator[TruthFile]:
    """Yield documents with one fault each."""
    totals = ("12,450", "13,075", "9,980", "15,300")
    pages = [
        [f"Sales of region {name}", f"Shops in {name}: {len(name)}"] for name in ("North", "West", "Coast", "Isle")
    ]
    yield _file(
        "totals.pdf",
        partial(_pages_pdf, pages, totals),
        "numbers alone at the edges of pages",
        *(text for lines, total in zip(pages, totals, strict=True) for text in (*lines, total)),
    )
    heads = [f"Statement of 2025-0{month}-28" for month in range(1, 5)]
    dated = [[head, f"Interest was paid in month {month}."] for month, head in enumerate(heads, 1)]
    yield _file(
        "dated.pdf",
        partial(_pages_pdf, dated, ("- 1 -", "- 2 -", "- 3 -", "- 4 -")),
        "dates at the edges of pages",
        *(text for lines in dated for text in lines),
    )
    yield _file(
        "choices.pdf",
        partial(portable.canvas_pdf, _choices),
        "filled forms",
        *("Berth application", "Kind of boat", "Ketch", "Insured"),
    )
    yield _file("tides.pdf", _two_columns, "columns", "On tides", *_COLUMN, headings=("On tides",))
    cells = tuple(cell for row in (*_CELLS, _LONG, *_WATCHES[:4]) for cell in ((row,) if isinstance(row, str) else row))
    yield _file("two-tables.pdf", _two_tables, "several tables", *cells, tables=(_CELLS, _WATCHES[:4]))
    yield _file(
        "long-table.pdf",
        lambda: portable.build_pdf(portable.flowables(TableNode(_WATCHES))),
        "tables over pages",
        *(cell for row in _WATCHES for cell in row),
        tables=(_WATCHES[:20],),
    )
    yield _file(
        "nested-table.docx",
        partial(docx, _nested_table),
        "tables in cells",
        *("Ship", "Cargo", "Fram", "Two holds", "Hold", "Tons", "fore", "31"),
    )
    yield _file(
        "linked.docx",
        partial(docx, _linked),
        "links, controls and fields",
        *("Rules are in the harbour act", "Approved by the board", "Date: 9 May 2025"),
    )
    yield _file(
        "cranes.pptx",
        partial(pptx, _columns_pptx),
        "columns",
        *("Old and new cranes", "Old crane lifts four tons", "New crane lifts thirty tons"),
        headings=("Old and new cranes",),
    )
    yield _file(
        "berths.pptx",
        partial(pptx, _merged_pptx),
        "merged cells",
        *("Berths", "Quay Summer Winter", "East 40 12", "Total 40", "Total 12"),
        headings=("Berths",),
        tables=((("Quay", "Summer", "Winter"), ("East", "40", "12"), ("East", "Total 40", "Total 12")),),
    )
    yield _file(
        "ports.xlsx",
        partial(xlsx, _BOOK),
        "several sheets",
        *("Vardo TRUE 1958-05-01 14:30", "Mehamn FALSE", "Ask the pilot before noon"),
        *("North 2.5 4.25 7", "South -1 0 6"),
        tables=((("Port", "Open"), ("Vardo", "TRUE"), ("Mehamn", "FALSE")),),
    )
    yield _file(
        "locks.html",
        _PAGE.encode,
        "line breaks, code and quotes",
        *("Locks of the canal", "Lock one 4.2 m", "Lock two 3.9 m", "Call before noon", "open --gate 1"),
        *("close --gate 2", "Water is patient.", "Fee: 5€ – cash only", "Rules", "Wait", "Moor"),
        headings=("Locks of the canal", "Rules"),
        absent=("secret remark", "&euro;"),
    )
    yield _file(
        "ferry.html",
        _DEEP.encode,
        "heads of rows, questions",
        *("Ferry", "Prices", "Adult 12 euro", "Child 6 euro", "Questions", "May I bring a dog?", "Yes, on a lead."),
        headings=("Ferry", "Prices", "Questions"),
    )
