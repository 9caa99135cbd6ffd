"""PDF files for tests: objects that are written by hand, and pages that are drawn with reportlab."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

#: reportlab's canvas, which has no types.
Canvas = Any
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def raw_pdf(objects: Sequence[bytes]) -> bytes:
    """Return a PDF of objects with the numbers 1, 2, ...; the first is the catalogue."""
    out, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)


def stream(content: str, entries: str = "") -> bytes:
    """Return a stream object."""
    return f"<<{entries}/Length {len(content)}>>stream\n{content}\nendstream".encode("latin-1")


def one_page(content: str, *, annotations: Sequence[bytes] = (), form: str = "", font: bytes = FONT) -> bytes:
    """Return a PDF of one page; object 5 is the font F1, annotations have the numbers from 6."""
    numbers = " ".join(f"{number} 0 R" for number in range(6, 6 + len(annotations)))
    return raw_pdf(
        [
            f"<</Type/Catalog/Pages 2 0 R{form}>>".encode(),
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>"
            f"/Annots[{numbers}]>>".encode(),
            stream(content),
            font,
            *annotations,
        ]
    )


def drawn_pdf(*pages: Callable[[Canvas], None], **options: Any) -> bytes:
    """Return a PDF of pages that functions draw; ``options`` are those of reportlab's canvas."""
    from reportlab.pdfgen.canvas import Canvas as Writer

    buffer = io.BytesIO()
    canvas = Writer(buffer, pagesize=(595, 842), **options)
    for draw in pages:
        draw(canvas)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def text_page(*lines: tuple[float, float, str], size: float = 10, font: str = "Helvetica") -> Callable[[Canvas], None]:
    """Return a function that draws lines: from the left, from below, text."""

    def draw(canvas: Canvas) -> None:
        canvas.setFont(font, size)
        for left, bottom, text in lines:
            canvas.drawString(left, bottom, text)

    return draw


def scan(canvas: Canvas) -> None:
    """Draw a picture over the whole page."""
    from PIL import Image
    from reportlab.lib.utils import ImageReader

    canvas.drawImage(ImageReader(Image.new("L", (60, 80), 200)), 0, 0, 595, 842)
