"""Charts, shapes and pictures of XLS files (Excel before 2007), which are beside the cells."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Types of records: start and end of a part of the workbook, a text of a chart, a drawn object, its text, and more of
#: the record before.
_BEGIN, _END, _CHART_TEXT, _OBJECT, _SHAPE_TEXT, _MORE = 0x0809, 0x000A, 0x100D, 0x005D, 0x01B6, 0x003C
#: What a part of the workbook is.
_WORKSHEET, _CHART = 0x0010, 0x0020
#: Kinds of drawn objects: a picture, and a comment.
_PICTURE, _COMMENT = 0x08, 0x19
#: The version of Excel whose texts have a byte with their form.
_EXCEL_97 = 0x0600


@dataclass
class SheetDrawing:
    """A chart, shape or picture, the number of its sheet among the worksheets from 1, and its texts.

    A chart that is a sheet itself has no number.
    """

    kind: str
    sheet: int | None
    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Add a text that is new."""
        text = " ".join(text.split())
        if text and text not in self.texts:
            self.texts.append(text)


def read_drawings(data: bytes) -> list[SheetDrawing]:
    """Return the charts, shapes with texts and pictures of a workbook, in order."""
    drawings: list[SheetDrawing] = []
    charts: list[SheetDrawing | None] = []
    sheet, version, kind_of_object = 0, _EXCEL_97, 0
    for kind, body, more in _records(_stream(data)):
        if kind == _BEGIN and len(body) >= 4:
            version, part = struct.unpack_from("<HH", body)
            sheet += part == _WORKSHEET and not charts
            charts.append(SheetDrawing("chart", sheet if charts else None) if part == _CHART else None)
            drawings += filter(None, charts[-1:])
        elif kind == _END and charts:
            charts.pop()
        elif kind == _CHART_TEXT and charts and charts[-1] is not None:
            charts[-1].add(_chart_text(body, version))
        elif kind == _OBJECT and version >= _EXCEL_97 and len(body) >= 6:
            kind_of_object = body[4]
            drawings += [SheetDrawing("picture", sheet)] if kind_of_object == _PICTURE else []
        elif kind == _SHAPE_TEXT and kind_of_object != _COMMENT and len(body) >= 12:
            shape = SheetDrawing("shape", sheet)
            shape.add(_shape_text(int.from_bytes(body[10:12], "little"), more))
            drawings += [shape] if shape.texts else []
    return drawings


def _stream(data: bytes) -> bytes:
    import olefile

    if not data.startswith(olefile.MAGIC):
        return data
    file = olefile.OleFileIO(io.BytesIO(data))
    name = next((name for name in ("Workbook", "Book") if file.exists(name)), "")
    return bytes(file.openstream(name).read()) if name else b""


def _records(stream: bytes) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """Yield the type and content of each record, and of those that continue it."""
    last: tuple[int, bytes, list[bytes]] | None = None
    at = 0
    while at + 4 <= len(stream):
        kind, size = struct.unpack_from("<HH", stream, at)
        body = stream[at + 4 : at + 4 + size]
        at += 4 + size
        if kind == _MORE and last is not None:
            last[2].append(body)
            continue
        if last is not None:
            yield last
        last = kind, body, []
    if last is not None:
        yield last


def _chart_text(body: bytes, version: int) -> str:
    """Return a text of a chart: it comes after a number and its length."""
    if len(body) < 4:
        return ""
    return _letters(body[3:], body[2]) if version >= _EXCEL_97 else body[3 : 3 + body[2]].decode("cp1252", "replace")


def _shape_text(length: int, parts: list[bytes]) -> str:
    text = ""
    for part in parts:
        if len(text) < length:
            text += _letters(part, length - len(text))
    return text


def _letters(data: bytes, count: int) -> str:
    """Return at most so many letters, after a byte with their form."""
    if data[:1] and data[0] & 1:
        return data[1 : 1 + 2 * count].decode("utf-16-le", "replace")
    return data[1 : 1 + count].decode("latin-1")
