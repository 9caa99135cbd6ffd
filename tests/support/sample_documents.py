"""Sample documents: small files of the supported types, created by the libraries that write them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: Where a line stands (points from the left and from below), its size, and its text.
Line = tuple[float, float, float, str]
Edit = Callable[[bytes], bytes]


def pdf(pages: Sequence[Sequence[Line]], info: Mapping[str, str] | None = None, extra: str = "") -> bytes:
    """Return a PDF of lines in Helvetica; ``extra`` goes into its trailer."""
    bodies = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for lines in pages:
        drawn = "\n".join(f"BT /F1 {size} Tf {x} {y} Td ({_escaped(text)}) Tj ET" for x, y, size, text in lines)
        bodies.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
        font = "<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
        box, content = "[0 0 595 842]", f"{len(bodies)} 0 R"
        bodies.append(f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Resources {font} /Contents {content} >>")
        kids.append(f"{len(bodies)} 0 R")
    bodies[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    bodies.append("<< " + " ".join(f"/{name} ({_escaped(value)})" for name, value in (info or {}).items()) + " >>")
    return file_of(bodies, extra)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def file_of(bodies: Sequence[str], extra: str = "") -> bytes:
    """Return a PDF of objects, the last of which has its properties; ``extra`` goes into its trailer."""
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    start = len(out)
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    count = len(bodies) + 1
    out += f"xref\n0 {count}\n0000000000 65535 f \n{table}".encode()
    trailer = f"<< /Size {count} /Root 1 0 R /Info {len(bodies)} 0 R {extra} >>"
    return out + f"trailer\n{trailer}\nstartxref\n{start}\n%%EOF\n".encode()


def column(*texts: str, top: float = 780, left: float = 72, size: float = 11, gap: float = 14) -> list[Line]:
    """Return lines one below the other."""
    return [(left, top - number * gap, size, text) for number, text in enumerate(texts)]


def docx(write: Callable[[Any], None]) -> bytes:
    """Return what is written to a new Word document."""
    import docx as library

    file = library.Document()
    write(file)
    return _saved(file)


def pptx(write: Callable[[Any], None]) -> bytes:
    """Return what is written to a new presentation."""
    from pptx import Presentation

    file = Presentation()
    write(file)
    return _saved(file)


def xlsx(sheets: Mapping[str, Sequence[Sequence[Any]]]) -> bytes:
    """Return a workbook of these rows."""
    from openpyxl import Workbook

    file = Workbook()
    file.remove(file.active)
    for name, rows in sheets.items():
        sheet = file.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    return _saved(file)


def _saved(file: Any) -> bytes:
    held = io.BytesIO()
    file.save(held)
    return held.getvalue()


def edited(data: bytes, edits: Mapping[str, Edit]) -> bytes:
    """Return a zip file with some of its parts replaced."""
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            edit = edits.get(entry.filename, bytes)
            new.writestr(entry.filename, edit(old.read(entry)))
    return held.getvalue()


def with_files(data: bytes, files: Mapping[str, str]) -> bytes:
    """Return a zip file with further files."""
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()
