"""Files of Office before 2007, which LibreOffice wrote: DOC, XLS and PPT."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY, zip_safety
from nearfield.corpus.extractors.powerpoint_binary import shape_description
from nearfield.corpus.extractors.reader import kind_of
from nearfield.errors import InputError
from tests.support import sample_documents
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
