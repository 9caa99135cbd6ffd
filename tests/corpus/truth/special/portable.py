"""PDF: edges of pages, forms, annotations, columns, and structure without marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from tests.corpus.truth.model import HeadingNode, ParagraphNode, TableNode, Topic, TruthFile
from tests.corpus.truth.topics import topics
from tests.corpus.truth.writers import portable

#: reportlab's canvas, which has no types.
Canvas = Any
_MONTHS = ("January", "February", "March", "April")
_BALANCES = ("4,812.55", "5,020.10", "3,977.42", "6,104.88")
_LEFT, _TOP, _STEP = 72, 780, 14


def _lines(canvas: Canvas, lines: Sequence[str], top: float = _TOP, left: float = _LEFT, size: float = 11) -> None:
    canvas.setFont("Helvetica", size)
    for at, line in enumerate(lines):
        canvas.drawString(left, top - at * _STEP, line)


def _statement_pages(canvas: Canvas, *, top: bool) -> None:
    for at, (month, balance) in enumerate(zip(_MONTHS, _BALANCES, strict=True), 1):
        edge = f"Closing balance {balance} EUR"
        body = [f"Account movements of {month}", f"Rent paid to landlord, {month}", f"Salary received, {month}"]
        _lines(canvas, [edge, "", *body] if top else body)
        if not top:
            _lines(canvas, [edge], top=60)
        _lines(canvas, [str(at)], top=30, left=300)
        canvas.showPage()


def _statement_pieces(*, top: bool) -> Iterator[str]:
    for month, balance in zip(_MONTHS, _BALANCES, strict=True):
        body = (f"Account movements of {month}", f"Rent paid to landlord, {month}", f"Salary received, {month}")
        edge = f"Closing balance {balance} EUR"
        yield from (edge, *body) if top else (*body, edge)


_FORM = {"Surname": "Okonkwo", "Policy": "HX-20931", "City": "Antwerp", "Remarks": "Water in the cellar since Friday"}


def _form(canvas: Canvas) -> None:
    canvas.setFont("Helvetica", 11)
    canvas.drawString(_LEFT, _TOP, "Claim form")
    for at, (label, value) in enumerate(_FORM.items(), 1):
        canvas.drawString(_LEFT, _TOP - at * 40, label)
        canvas.acroForm.textfield(name=label, value=value, x=200, y=_TOP - at * 40 - 6, width=250, height=20)
    canvas.drawString(_LEFT, _TOP - 240, "Paid in full")
    canvas.acroForm.checkbox(name="paid", checked=True, x=200, y=_TOP - 246, size=14)


_NOTES = ("Please check this total with Ms Arendt.", "Superseded by order 7741.")


def _annotations(canvas: Canvas) -> None:
    _lines(canvas, ["Order 7740 over twelve pumps", "Total: 8,940 euro"])
    canvas.textAnnotation(_NOTES[0], [400, 760, 420, 780])
    canvas.freeTextAnnotation(_NOTES[1], "/Helv 12 Tf", [72, 600, 320, 640])


_COLUMNS = (
    (
        "The harbour of Lund was deepened twice",
        "in the last century, and each time the",
        "town paid for it with a tax on salt.",
        "Merchants complained to the governor,",
        "who answered after three years only.",
    ),
    (
        "Today ferries leave from the east quay",
        "while the west quay is a market hall.",
        "Fishing boats moor behind the new mole",
        "and sell their catch before breakfast.",
        "The old crane still lifts small yachts.",
    ),
)


def _columns(canvas: Canvas) -> None:
    """Draw both columns line by line, as some programs do."""
    canvas.setFont("Helvetica", 10)
    for at, row in enumerate(zip(*_COLUMNS, strict=True)):
        for left, line in zip((60, 320), row, strict=True):
            canvas.drawString(left, 760 - at * 13, line)


def _footnotes(canvas: Canvas) -> None:
    for at, (section, note) in enumerate(_FOOTNOTES, 1):
        _lines(canvas, [section, f"The figure is explained below ({at})."])
        _lines(canvas, [note], top=50, size=8)
        canvas.showPage()


_FOOTNOTES = tuple(
    (f"Section on {name} emissions", f"{at} Measured over {days} days in {year}.")
    for at, (name, days, year) in enumerate((("steel", 31, 2019), ("cement", 28, 2020), ("glass", 30, 2021)), 1)
)


def _rotated(canvas: Canvas) -> None:
    """Draw upwards along the page, which viewers turn by 90 degrees."""
    canvas.setPageRotation(90)
    canvas.rotate(90)
    canvas.translate(0, -595)
    _lines(canvas, ["Landscape page with the plan of the orchard", "Row seven holds the quince trees"], top=540)


_DAMAGED = ("First page about lanterns", "Second page about kites", "Third page about drums")


def _with_damaged_page() -> bytes:
    def draw(canvas: Canvas) -> None:
        for line in _DAMAGED:
            _lines(canvas, [line])
            canvas.showPage()

    data = portable.canvas_pdf(draw)
    # The second page's content is no stream any more: its compressed bytes are replaced.
    start = data.index(b"stream", data.index(b"endstream") + 9) + 7
    end = data.index(b"endstream", start)
    return data[:start] + b"~" * (end - start) + data[end:]


def _watermarked(canvas: Canvas) -> None:
    _lines(canvas, ["Contract between the mill and the bakery", "Deliveries are due every Thursday"])
    canvas.saveState()
    canvas.setFont("Helvetica-Bold", 60)
    canvas.translate(200, 300)
    canvas.rotate(45)
    canvas.drawString(0, 0, "VOID")
    canvas.restoreState()


_SENTENCES = tuple(
    f"In chapter {number} of the log the mate {verb} while the ship lay {place}, and the cook noted how much was left."
    for number, (verb, place) in enumerate(
        (verb, place)
        for verb in (
            "mended sails",
            "counted barrels",
            "wrote letters",
            "fished for cod",
            "taught knots",
            "slept at noon",
        )
        for place in ("off Cadiz", "near Vigo", "in the Skagerrak", "below Reval", "at Sund", "before Bergen")
    )
)
_RUNNING = "Log of the brig Adeline"


def _flowing() -> bytes:
    """Return paragraphs over several pages, with a running head and page numbers."""

    def draw(canvas: Canvas, document: Canvas) -> None:
        canvas.setFont("Helvetica", 9)
        canvas.drawString(_LEFT, 810, _RUNNING)
        canvas.drawCentredString(297, 30, f"Page {document.page} of 3")

    return portable.build_pdf(
        [part for text in _SENTENCES for part in portable.flowables(ParagraphNode(text * 2))], "", draw
    )


def _invoice(canvas: Canvas) -> None:
    for page, (item, total) in enumerate(_ITEMS, 1):
        _lines(canvas, ["Adler Pumps, Linz", f"Delivery {page}", item])
        _lines(canvas, [f"Subtotal {total}"], top=46, left=400)
        canvas.showPage()


_ITEMS = (("Valve, brass", "1.204,00"), ("Hose, rubber", "318,50"), ("Motor, 3 kW", "2.990,00"))
_LANGUAGES = (
    "Η πόλη βρίσκεται δίπλα στη θάλασσα.",
    "Поезд приходит в семь часов утра.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Çiçekler bahçede sabah açıyor.",
)


def _multilingual(canvas: Canvas) -> None:
    from matplotlib import get_data_path
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    pdfmetrics.registerFont(TTFont("DejaVu", f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf"))
    canvas.setFont("DejaVu", 12)
    for at, line in enumerate(_LANGUAGES):
        canvas.drawString(_LEFT, _TOP - at * 30, line)


_TITLE = "A long title about the migration of storks between the delta and the northern plains"
_STORKS = "Storks follow the coast and rest for eleven days in the delta before they cross the sea."


def _two_line_title() -> bytes:
    nodes = (HeadingNode(_TITLE, 1), ParagraphNode(_STORKS), HeadingNode("Rest", 2), ParagraphNode(_STORKS))
    return portable.pdf(Topic("storks", nodes, "", ""))


_WIDE = TableNode(
    (
        ("Station", "Rain", "Days above 30 degrees"),
        ("Aurich", "790", "6"),
        ("Bolzano", "710", "41"),
        ("Cluj", "560", "23"),
    )
)


def files() -> Iterator[TruthFile]:
    """Yield PDFs with one fault each."""
    for top in (False, True):
        yield TruthFile(
            f"statements-{'top' if top else 'bottom'}.pdf",
            partial(portable.canvas_pdf, partial(_statement_pages, top=top)),
            tuple(_statement_pieces(top=top)),
            fault="balances at the edges of pages",
        )
    yield TruthFile(
        "footnotes.pdf",
        lambda: portable.canvas_pdf(_footnotes),
        tuple(text for section, note in _FOOTNOTES for text in (section, note)),
        fault="footnotes at the edges of pages",
    )
    yield TruthFile(
        "filled-form.pdf",
        lambda: portable.canvas_pdf(_form),
        ("Claim form", *(text for pair in _FORM.items() for text in pair), "Paid in full"),
        fault="filled forms",
    )
    yield TruthFile(
        "annotated.pdf",
        lambda: portable.canvas_pdf(_annotations),
        ("Order 7740 over twelve pumps", "Total: 8,940 euro", *_NOTES),
        fault="annotations",
    )
    yield TruthFile(
        "columns.pdf",
        lambda: portable.canvas_pdf(_columns),
        (*_COLUMNS[0], *_COLUMNS[1]),
        fault="columns that are drawn line by line",
    )
    yield TruthFile(
        "landscape.pdf",
        lambda: portable.canvas_pdf(_rotated),
        ("Landscape page with the plan of the orchard", "Row seven holds the quince trees"),
        fault="turned pages",
    )
    yield TruthFile("damaged-page.pdf", _with_damaged_page, (_DAMAGED[0], _DAMAGED[2]), fault="a damaged page")
    yield TruthFile(
        "stamped.pdf",
        lambda: portable.canvas_pdf(_watermarked),
        ("Contract between the mill and the bakery", "Deliveries are due every Thursday", "VOID"),
        fault="stamps",
    )
    yield TruthFile(
        "two-line-title.pdf",
        _two_line_title,
        (_TITLE, _STORKS, "Rest", _STORKS),
        (_TITLE, "Rest"),
        fault="titles over two lines",
    )
    for name in ("wine-cellar", "chess-club"):
        topic = topics()[name]
        yield TruthFile(
            f"{name}-plain.pdf",
            partial(portable.pdf_without_rules, topic),
            topic.pieces,
            topic.headings,
            topic.tables,
            fault="bold headings of body size, tables without rules",
        )
    yield TruthFile(
        "wide-table.pdf",
        lambda: portable.build_pdf(portable.flowables(ParagraphNode(_STORKS)) + portable.flowables(_WIDE)),
        (_STORKS, *(cell for row in _WIDE.rows for cell in row)),
        tables=(_WIDE.rows,),
        fault="ruled tables",
    )
    yield TruthFile("log.pdf", _flowing, tuple(f"{text} {text}" for text in _SENTENCES), fault="paragraphs over pages")
    yield TruthFile(
        "invoice.pdf",
        lambda: portable.canvas_pdf(_invoice),
        tuple(text for item, total in _ITEMS for text in (item, f"Subtotal {total}")),
        fault="balances at the edges of pages",
    )
    yield TruthFile("languages.pdf", lambda: portable.canvas_pdf(_multilingual), _LANGUAGES, fault="scripts")
