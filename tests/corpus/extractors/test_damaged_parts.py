"""Zipped documents with a damaged part: the other parts are read, and the report names what is missing."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY
from nearfield.corpus.indexing.accounting import WordCount, account
from nearfield.corpus.manifest.records import DocumentRecord
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from tests.corpus.truth.writers.office import open_document
from tests.support import sample_documents, sample_files
from tests.support.office_packages import paragraph, word

Damage = Callable[[bytes, str], bytes]


def read(data: bytes, kind: str) -> Document:
    document = REGISTRY.load(kind)().extract(data, f"a.{kind}")
    words = WordCount(count_words(document.text))
    assert account(DocumentRecord("a", "", "", "", "", ""), document, words, has_chunks=True).partial
    return document


def reasons(document: Document) -> list[str]:
    return [loss.reason for loss in document.losses]


def cut(data: bytes, part: str) -> bytes:
    """Cut the XML of a part in its middle."""
    return sample_documents.edited(data, {part: lambda old: old[: len(old) * 6 // 10]})


def scrambled(data: bytes, part: str) -> bytes:
    """Overwrite the packed bytes of a part behind its middle."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        info = file.getinfo(part)
    start = info.header_offset + 30 + len(part) + info.compress_size * 5 // 8
    size = min(24, info.compress_size // 4)
    return data[:start] + b"\xff" * size + data[start + size :]


def wrong_sum(data: bytes, part: str) -> bytes:
    """Change a part's checksum: its content can be read."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        checksum = file.getinfo(part).CRC.to_bytes(4, "little")
    return data.replace(checksum, b"\0\1\2\3")


def unknown_method(data: bytes, part: str) -> bytes:
    """Say that a part is compressed by a method that Python does not know."""
    local, central = data.index(part.encode()), data.rindex(part.encode())
    changed = bytearray(data)
    changed[local - 30 + 8], changed[central - 46 + 10] = 97, 97
    return bytes(changed)


def removed(data: bytes, part: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(held, "w") as new:
        for entry in old.infolist():
            if entry.filename != part:
                new.writestr(entry.filename, old.read(entry))
    return held.getvalue()


def workbook() -> bytes:
    sheets = {
        name: [["name", "place"], *([f"{name} {n}", f"place number {n * 7919}"] for n in range(60))]
        for name in ("First", "Second", "Third")
    }
    return sample_documents.xlsx(sheets)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, r"the rows after row \d\d of the sheet 'Second', which is damaged"),
        (scrambled, r"the rows after row \d+ of the sheet 'Second', which is damaged"),
        (wrong_sum, "cells of the sheet 'Second', which is damaged"),
        (unknown_method, "the cells of the sheet 'Second', which is damaged"),
        (removed, "the sheet 'Second', which is missing from the file"),
    ],
)
def test_a_damaged_sheet_costs_no_other_sheet(damage: Damage, reason: str) -> None:
    document = read(damage(workbook(), "xl/worksheets/sheet2.xml"), "xlsx")
    assert "name: First 59" in document.text and "name: Third 59" in document.text
    (loss,) = document.losses
    assert re.fullmatch(reason, loss.reason) and loss.pages == (2,) and loss.advice
    rows = re.search(r"row (\d+)", loss.reason)
    count = int(rows[1]) - 1 if rows else 60 if damage is wrong_sum else 0
    assert document.text.count("name: Second ") == count


@pytest.mark.parametrize("damage", [cut, scrambled, wrong_sum])
def test_what_all_sheets_share_may_be_damaged(damage: Damage) -> None:
    document = read(damage(workbook(), "xl/styles.xml"), "xlsx")
    assert "name: Third 59\nplace: place number 467221" in document.text
    assert reasons(document) == ["1 damaged part of the file (xl/styles.xml)"]


def slides() -> bytes:
    def write(file: Any) -> None:
        for title in ("One", "Two", "Three"):
            slide = file.slides.add_slide(file.slide_layouts[1])
            slide.shapes.title.text = f"Slide {title}"
            slide.placeholders[1].text = "\n".join(f"The text {n * 7919} of {title}." for n in range(40))

    return sample_documents.pptx(write)


@pytest.mark.parametrize("damage", [cut, scrambled, wrong_sum, unknown_method, removed])
def test_a_damaged_slide_costs_no_other_slide(damage: Damage) -> None:
    document = read(damage(slides(), "ppt/slides/slide2.xml"), "pptx")
    assert "The text 0 of One." in document.text and "The text 308841 of Three." in document.text
    (loss,) = document.losses
    assert loss.reason == "parts of slide 2 (damaged or missing)" and loss.pages == (2,)
    assert ("Slide Two" in document.text) == (damage not in (unknown_method, removed))


def sheets() -> bytes:
    def row(*cells: str) -> str:
        texts = "".join(
            f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>' for cell in cells
        )
        return f"<table:table-row>{texts}</table:table-row>"

    tables = "".join(
        f'<table:table table:name="{name}">{row("name", "place")}'
        + "".join(row(f"{name} {n}", f"place {n * 7919}") for n in range(60))
        + "</table:table>"
        for name in ("First", "Second", "Third")
    )
    return open_document("spreadsheet", f"<office:spreadsheet>{tables}</office:spreadsheet>")


@pytest.mark.parametrize("damage", [cut, scrambled, wrong_sum])
def test_what_comes_before_the_damage_of_an_opendocument_sheet_is_read(damage: Damage) -> None:
    document = read(damage(sheets(), "content.xml"), "ods")
    assert "name: First 59\nplace: place 467221" in document.text
    assert reasons(document) == ["what is damaged in the file (content.xml)"]


@pytest.mark.parametrize("damage", [cut, scrambled, wrong_sum])
@pytest.mark.parametrize("part", ["styles.xml", "meta.xml"])
def test_damaged_styles_cost_no_text(damage: Damage, part: str) -> None:
    more = f"<office:document-meta>{'<office:meta/>' * 99}</office:document-meta>"
    data = sample_documents.with_files(sheets(), {part: more}) if part == "meta.xml" else sheets()
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        if part not in file.namelist():
            data = sample_documents.with_files(data, {part: more})
    document = read(damage(data, part), "ods")
    assert "name: Third 59" in document.text and reasons(document) == [f"what is damaged in the file ({part})"]


@pytest.mark.parametrize("damage", [cut, scrambled, wrong_sum])
def test_what_comes_before_the_damage_of_a_text_is_read(damage: Damage) -> None:
    body = "".join(paragraph(f"Paragraph {n} of {n * 7919}.") for n in range(200))
    document = read(damage(word(body), "word/document.xml"), "docx")
    assert "Paragraph 60 of 475140." in document.text
    assert reasons(document) == ["1 damaged part of the file (word/document.xml)"]


@pytest.mark.parametrize("damage", [cut, scrambled, unknown_method, removed])
def test_a_damaged_chapter_costs_no_other_chapter(damage: Damage) -> None:
    chapters = {
        name: "".join(f"<p>Paragraph {n * 7919} of {name}.</p>" for n in range(90)) for name in ("one", "two", "three")
    }
    document = REGISTRY.load("epub")().extract(damage(sample_files.epub(chapters), "OEBPS/text/two.xhtml"), "a.epub")
    assert "Paragraph 704791 of one." in document.text and "Paragraph 704791 of three." in document.text
    whole = damage is cut  # readers of pages close what is open
    expected = [] if whole else ["1 chapter (damaged or missing: two.xhtml)"]
    assert reasons(document) == expected
    assert ("Paragraph 0 of two." in document.text) == (damage in (cut, scrambled))


def test_a_part_with_several_versions_is_named() -> None:
    data = word(paragraph("The first version."))
    other = word(paragraph("Another version."))
    with zipfile.ZipFile(io.BytesIO(other)) as file:
        document_part = file.read("word/document.xml")
    for name, same in (("word/document.xml", False), ("Word\\Document.xml", False), ("word/DOCUMENT.xml", True)):
        held = io.BytesIO(data)
        with zipfile.ZipFile(held, "a") as file:
            content = file.read("word/document.xml") if same else document_part
            if name in file.namelist():
                with pytest.warns(UserWarning, match="Duplicate name"):
                    file.writestr(name, content)
            else:
                file.writestr(name, content)
        document = REGISTRY.load("docx")().extract(held.getvalue(), "a.docx")
        named = "other versions of 1 part that the file has several times (word/document.xml)"
        assert reasons(document) == ([] if same else [named])


@pytest.mark.parametrize("part", ["xl/workbook.xml", "ppt/presentation.xml"])
def test_a_file_without_its_main_part_is_refused(part: str) -> None:
    data, kind = (workbook(), "xlsx") if part.startswith("xl") else (slides(), "pptx")
    with pytest.raises(InputError, match="damaged"):
        REGISTRY.load(kind)().extract(unknown_method(data, part), f"a.{kind}")


def test_large_pictures_are_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    from nearfield.corpus.extractors import zip_safety

    data = sample_documents.with_files(word(paragraph("A text.")), {"word/media/image1.bmp": "x" * 2**20})
    assert "word/media/image1.bmp" in zip_safety.check_archive(data, "a.docx", max_bytes=2**19)
    with pytest.raises(InputError, match="zip bomb"):
        zip_safety.check_archive(data.replace(b".bmp", b".xml"), "a.docx", max_bytes=2**19)
