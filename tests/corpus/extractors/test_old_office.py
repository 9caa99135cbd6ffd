"""Files of Office before 2007, which LibreOffice wrote: DOC, XLS and PPT."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import olefile
import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY, zip_safety
from nearfield.corpus.extractors.office.sheets.xls_drawings import read_drawings
from nearfield.corpus.extractors.powerpoint_binary import shape_description
from nearfield.corpus.extractors.reader import kind_of
from nearfield.errors import InputError
from tests.support import sample_documents, sample_files
from tests.support.office_packages import converted
from tests.support.paths import ROOT


def sample(kind: str) -> bytes:
    """Return a file that LibreOffice wrote from DOCX, XLSX or PPTX."""
    path = ROOT / "tests/data/office" / f"sample.{kind}"
    return path.read_bytes() if path.exists() else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())


def read(kind: str, data: bytes) -> Document:
    return REGISTRY.load(kind)().extract(data, f"a.{kind}")


def pieces(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def test_doc() -> None:
    document = read("doc", sample("doc"))
    assert pieces(document) == [
        ("heading", "Supply of tea"),
        ("list", "1. Term\n  1.1 Start\n    1.1(a) by letter"),
        ("paragraph", "Price of Käse — чай added"),
        ("paragraph", "Footnote 1: Without tax."),
        ("table", "| Item | 2023 Q1 | 2023 Q2 |\n| --- | --- | --- |\n| Tea | 1 | 2 |"),
        ("heading", "Below"),
        ("paragraph", "a link"),
    ]
    assert [block.level for block in document.blocks if block.level] == [1, 2]
    assert document.visible_words == 24 and not document.losses


def test_xls() -> None:
    document = read("xls", sample("xls"))
    assert pieces(document) == [
        ("heading", "Sheet"),
        (
            "table",
            "Item: Tea\nShare Shop: 12.5%\nShare Online: 1,234.50\nDue: 2025-03-09\nComment on B3: Measured again.",
        ),
        ("table", "Second: x\nTable: 5"),
    ]
    assert document.page_unit == "sheet" and document.blocks[1].page == 1


def test_ppt() -> None:
    document = read("ppt", sample("ppt"))
    assert [(block.page, *piece) for block, piece in zip(document.blocks, pieces(document), strict=True)] == [
        (1, "heading", "First"),
        (1, "list", "- one\n- two"),
        (1, "paragraph", "Say it."),
        (2, "heading", "Second"),
        (2, "table", "| a | b |\n| --- | --- |\n| c | d |"),
    ]
    assert document.page_unit == "slide" and not document.losses


@pytest.mark.parametrize("kind", ["doc", "xls", "ppt"])
def test_damaged_files_raise_nothing_else(kind: str) -> None:
    data = sample(kind)
    assert kind_of(data, f"a.{kind}") == kind_of(data, "a.docx") == kind
    for end in (600, len(data) // 3, len(data) // 2, len(data) - 100):
        try:
            read(kind, data[:end])
        except InputError:
            pass
    for at in range(512, min(len(data), 20_000), 397):
        try:
            read(kind, data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        except InputError:
            pass


def test_files_that_are_not_read_say_what_to_do() -> None:
    locked = zip_safety.OLD + bytes(600) + "EncryptedPackage".encode("utf-16-le")
    with pytest.raises(InputError, match=r"a\.docx: encrypted with a password"):
        kind_of(locked, "a.docx")
    for name, advice in {"a.xlsb": ".xlsx", "a.pages": ".docx", "a.key": ".pptx", "a.numbers": ".xlsx"}.items():
        with pytest.raises(InputError, match=f"files are not read. Save it as \\{advice}"):
            kind_of(b"PK\x03\x04\0\0", name)


# -- charts and objects of other programs --------------------------------------------------------------------------


def record(kind: int, *parts: bytes, instance: int = 0) -> bytes:
    """Return a record of PowerPoint: a container of records if its type is one."""
    body, is_container = (
        b"".join(parts),
        kind in (1000, 1006, 1033, 4044, 4046, 4080, 1036, 0xF002, 0xF003, 0xF004, 0xF011),
    )
    return struct.pack("<HHI", instance << 4 | (15 if is_container else 0), kind, len(body)) + body


def frame(number: int, description: str = "") -> bytes:
    """Return a shape that shows a picture, or the object of a number."""
    text = f"{description}\0".encode("utf-16-le") if description else b""
    options = record(0xF00B, struct.pack("<HI", 0xC381, len(text)) + text if text else b"", instance=bool(text))
    client = record(0xF011, record(3009, struct.pack("<I", number))) if number else b""
    return record(0xF004, record(0xF00A, bytes(8), instance=75), options, client)


def presentation(frames: list[bytes], objects: dict[int, tuple[int, str]]) -> bytes:
    """Return a presentation with a slide for each frame, and objects by number: kind of program, and its name."""
    embedded = [
        record(
            4044,
            record(4035, struct.pack("<IIIIII", 1, 0, number, program, 0, 0)),
            record(4026, name.encode("utf-16-le"), instance=2),
        )
        for number, (program, name) in objects.items()
    ]
    listed = b"".join(
        record(1011, struct.pack("<IIII", number + 2, 0, 0, 256 + number), bytes(4))
        + record(3999, struct.pack("<I", 0)) + record(4000, f"Slide {number + 1}".encode("utf-16-le"))
        for number in range(len(frames))
    )  # fmt: skip
    document = record(1000, record(1033, *embedded), record(4080, listed))
    slides = [record(1006, record(1036, record(0xF002, record(0xF003, shape)))) for shape in frames]
    places, at = [0], len(document)
    for slide in slides:
        places.append(at)
        at += len(slide)
    directory = record(6002, struct.pack(f"<I{len(places)}I", len(places) << 20 | 1, *places))
    edit = record(4085, struct.pack("<IIIIIII", 0, 0, 0, at, 1, 0, 0))
    return sample_files.compound_file({
        "PowerPoint Document": document + b"".join(slides) + directory + edit,
        "Current User": bytes(16) + struct.pack("<I", at + len(directory)) + bytes(12),
    })  # fmt: skip


def test_charts_and_objects_of_slides_are_stated() -> None:
    frames = [frame(7), frame(8, "Sales by year"), frame(9), frame(0), frame(5), frame(0, "A barn")]
    objects = {7: (14, "Excel.Chart.8"), 8: (0, "LibreOffice.ChartDocument.1"), 9: (2, "Word.Document.8")}
    document = read("ppt", presentation(frames, objects))
    assert "Picture: Sales by year" in document.text and "Picture: A barn" in document.text
    assert [(loss.reason, loss.pages, bool(loss.advice)) for loss in document.losses] == [
        ("2 charts", (1, 2), True),
        ("1 embedded object", (3,), True),
        ("2 pictures without a description", (4, 5), False),
    ]


def biff(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("<HH", kind, len(body)) + body


def chart(*texts: str, wide: bool = False, version: int = 0x0600) -> bytes:
    """Return a chart of a workbook with texts."""
    records = []
    for text in texts:
        letters = text.encode("utf-16-le") if wide else text.encode("cp1252")
        form = bytes([wide]) if version == 0x0600 else b""
        records.append(biff(0x100D, bytes(2) + bytes([len(text)]) + form + letters))
    return biff(0x0809, struct.pack("<HH", version, 0x20) + bytes(12)) + b"".join(records) + biff(0x000A)


def with_charts(charts: bytes, after: bytes = b"") -> bytes:
    """Return the sample workbook with charts in its sheet, and charts that are sheets."""
    file = olefile.OleFileIO(io.BytesIO(sample("xls")))
    stream = file.openstream("Workbook").read()
    end = stream.rindex(biff(0x000A))
    return sample_files.compound_file({"Workbook": stream[:end] + charts + biff(0x000A) + after})


def test_texts_of_charts_in_workbooks() -> None:
    data = with_charts(chart("Sales of tea", "North", "North") + chart("Käse — чай", wide=True), chart("A sheet of it"))
    document = read("xls", data)
    assert [(block.page, *piece) for block, piece in zip(document.blocks, pieces(document), strict=True)][-4:] == [
        (1, "paragraph", "Sales of tea"),
        (1, "paragraph", "North"),
        (1, "paragraph", "Käse — чай"),
        (None, "paragraph", "A sheet of it"),
    ]
    assert not document.losses and document.visible_words == read("xls", sample("xls")).visible_words + 10  # type: ignore[operator]
    assert read_drawings(chart("Umsätze", version=0x0500))[0].texts == ["Umsätze"]


def test_charts_without_texts_are_stated() -> None:
    document = read("xls", with_charts(chart() + chart("Title") + chart(), chart()))
    assert [(loss.reason, loss.pages) for loss in document.losses] == [("3 charts without a description", (1,))]


def drawn(kind: int, text: str = "") -> bytes:
    """Return a drawn object of a workbook, whose text is in two records."""
    head = biff(0x005D, struct.pack("<HHHH", 0x15, 0x12, kind, 1) + bytes(18))
    if not text:
        return head
    parts = [biff(0x003C, b"\1" + half.encode("utf-16-le")) for half in (text[:4], text[4:]) if half]
    formats = biff(0x003C, bytes(16))
    return head + biff(0x01B6, bytes(10) + struct.pack("<HH", len(text), 16) + bytes(4)) + b"".join(parts) + formats


def test_texts_of_shapes_in_workbooks() -> None:
    document = read(
        "xls", with_charts(drawn(0x19, "A comment") + drawn(6, "Numbers of чай") + drawn(8) + drawn(2, "  "))
    )
    assert pieces(document)[-1] == ("paragraph", "Numbers of чай") and "A comment" not in document.text
    assert [(loss.reason, loss.pages) for loss in document.losses] == [("1 picture without a description", (1,))]


def test_descriptions_are_among_the_options_of_a_shape() -> None:
    text = "Timber frame\0".encode("utf-16-le")
    options = struct.pack("<HIHIHI", 0x0104, 1, 0x8105, 4, 0xC381, len(text)) + b"name" + text
    assert shape_description(3, options) == "Timber frame"
    assert shape_description(2, options[:12] + options[18:]) == ""
    assert shape_description(9, options[:20]) == ""


@pytest.mark.slow
@pytest.mark.process
def test_pictures_are_stated_with_their_slides(tmp_path: Path) -> None:
    from tests.corpus.truth.special.word import picture

    def write(file: Any) -> None:
        for _ in range(2):
            slide = file.slides.add_slide(file.slide_layouts[5])
            slide.shapes.title.text = "Hall"
            slide.shapes.add_picture(io.BytesIO(picture()), 0, 0)

    document = read("ppt", converted(sample_documents.pptx(write), ".pptx", "ppt", tmp_path))
    assert [(loss.reason, loss.pages) for loss in document.losses] == [("2 pictures without a description", (1, 2))]
