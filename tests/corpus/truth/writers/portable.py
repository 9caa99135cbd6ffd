"""Writers of PDF, by reportlab: paragraphs, lists and tables as its layout engine places them on pages."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from tests.corpus.truth.model import ContentNode, HeadingNode, ListNode, TableNode, Topic

#: A flowable, style or canvas of reportlab, which has no types.
Drawn = Any


def pdf(topic: Topic) -> bytes:
    """Return a PDF with ruled tables."""
    return build_pdf([part for node in topic.nodes for part in flowables(node)], title=topic.title)


def pdf_without_rules(topic: Topic) -> bytes:
    """Return a PDF whose tables have no lines, and whose headings are bold in the size of the text."""
    return build_pdf([part for node in topic.nodes for part in flowables(node, plain=True)])


def build_pdf(parts: Sequence[Drawn], title: str = "", on_page: Callable[[Drawn, Drawn], None] | None = None) -> bytes:
    """Return a PDF of flowables; ``on_page`` draws headers and footers."""
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import SimpleDocTemplate

    buffer = io.BytesIO()
    file = SimpleDocTemplate(buffer, pagesize=A4, title=title, invariant=1)
    draw = on_page or (lambda canvas, document: None)
    file.build(list(parts), onFirstPage=draw, onLaterPages=draw)
    return buffer.getvalue()


def flowables(node: ContentNode, *, plain: bool = False) -> list[Drawn]:
    """Return a node as flowables; ``plain`` for headings of the text's size and tables without lines."""
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import ListFlowable, Paragraph

    styles = getSampleStyleSheet()
    body = styles["BodyText"]
    if isinstance(node, HeadingNode):
        return [
            Paragraph(f"<b>{node.text}</b>", body) if plain else Paragraph(node.text, styles[f"Heading{node.level}"])
        ]
    if isinstance(node, TableNode):
        return [_table(node, plain=plain)]
    if isinstance(node, ListNode):
        kind = "1" if node.ordered else "bullet"
        items = [Paragraph(text, body) for _, text in node.items]
        return [ListFlowable(items, bulletType=kind)]
    return [Paragraph(node.text, body)]


def _table(node: TableNode, *, plain: bool) -> Drawn:
    from reportlab.lib import colors
    from reportlab.platypus import Table

    ruled = [("GRID", (0, 0), (-1, -1), 0.5, colors.black), ("FONTNAME", (0, 0), (-1, 0), "Helvetica-Bold")]
    return Table([list(row) for row in node.rows], style=ruled[1:] if plain else ruled, spaceBefore=6, spaceAfter=6)


def canvas_pdf(draw: Callable[[Drawn], None]) -> bytes:
    """Return a PDF that a function draws on reportlab's canvas."""
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    draw(canvas)
    canvas.save()
    return buffer.getvalue()
