"""Pictures in Office files and books: their text at its place with OCR, bounded; and their bytes with their places."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import REGISTRY, picture
from nearfield.corpus.extractors.embedded import picture_texts
from nearfield.corpus.extractors.embedded.embedded_pictures import WITH_PICTURES, embedded_pictures
from nearfield.corpus.extractors.ocr.layout import OcrParagraph
from nearfield.corpus.extractors.ocr.page_reader import OcrPage
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.corpus.extractors.reader import uses_ocr
from nearfield.errors import InputError
from tests.support import sample_documents

Image = pytest.importorskip("PIL.Image", reason="the extra ocr is not installed")
ON = ExtractionOptions(ocr=True)
#: What the stand-in for OCR reads in pictures of these colours.
COLOURS = {"receipt": (200, 0, 0), "invoice": (0, 200, 0), "": (0, 0, 200)}
BOTH = ["receipt", "invoice"]


def picture_of(word: str, size: tuple[int, int] = (60, 40)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, COLOURS[word]).save(file, "PNG")
    return file.getvalue()


class ColourReader:
    """Stands for OCR: reads the word of a colour, as a heading, and counts the pictures."""

    read_pictures = 0

    def __init__(self, options: ExtractionOptions, on_page: Callable[[], None], *, name: str = "") -> None:
        self._on_page = on_page

    def read(self, image: Any) -> OcrPage:
        type(self).read_pictures += 1
        self._on_page()
        mean = np.asarray(image).reshape(-1, 3).mean(0)
        word = min(COLOURS, key=lambda word: float(np.abs(mean - COLOURS[word]).sum()))
        return OcrPage(
            [OcrParagraph(f"The {word} of the day", "heading", 1)] if word else [], hard=int(word == "invoice")
        )


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> type[ColourReader]:
    monkeypatch.setattr(picture, "OcrPageReader", ColourReader)
    monkeypatch.setattr(picture, "require_ocr", lambda _: None)
    ColourReader.read_pictures = 0
    return ColourReader


# -- files with two pictures, one after the other ----------------------------------------------------------------------


def docx(words: Sequence[str]) -> bytes:
    def write(file: Any) -> None:
        file.add_heading("Costs", 1)
        for number, word in enumerate(words):
            file.add_paragraph(f"Before picture {number}.")
            file.add_picture(io.BytesIO(picture_of(word)))
        file.add_paragraph("The end.")

    return sample_documents.docx(write)


def pptx(words: Sequence[str]) -> bytes:
    def write(file: Any) -> None:
        for number, word in enumerate(words):
            slide = file.slides.add_slide(file.slide_layouts[5])
            slide.shapes.title.text = f"Slide {number}"
            shape = slide.shapes.add_picture(io.BytesIO(picture_of(word)), 0, 0)
            shape._element.nvPicPr.cNvPr.set("descr", "")

    return sample_documents.pptx(write)


def xlsx(words: Sequence[str]) -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    from openpyxl.drawing.image import Image as SheetImage

    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, word in enumerate(words):
        sheet = book.create_sheet(f"Sheet {number}")
        sheet["A1"] = f"row of {number}"
        sheet.add_image(SheetImage(io.BytesIO(picture_of(word))), "C3")
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


_ODF = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:xlink="http://www.w3.org/1999/xlink"'
)


def _odf(media: str, body: str, words: Sequence[str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", f"application/vnd.oasis.opendocument.{media}")
        content = f"<office:document-content {_ODF}><office:body>{body}</office:body></office:document-content>"
        archive.writestr("content.xml", content)
        for number, word in enumerate(words):
            archive.writestr(f"Pictures/{number}.png", picture_of(word))
    return file.getvalue()


def _frame(number: int) -> str:
    return f'<draw:frame><draw:image xlink:href="Pictures/{number}.png"/></draw:frame>'


def odt(words: Sequence[str]) -> bytes:
    parts = "".join(f"<text:p>Before picture {n}.{_frame(n)}</text:p>" for n in range(len(words)))
    return _odf("text", f"<office:text>{parts}<text:p>The end.</text:p></office:text>", words)


def odp(words: Sequence[str]) -> bytes:
    pages = "".join(
        f"<draw:page><draw:frame><draw:text-box><text:p>Slide {n}</text:p></draw:text-box></draw:frame>{_frame(n)}"
        "</draw:page>"
        for n in range(len(words))
    )
    return _odf("presentation", f"<office:presentation>{pages}</office:presentation>", words)


def epub(words: Sequence[str]) -> bytes:
    chapters = range(len(words))
    items = "".join(f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in chapters)
    spine = "".join(f'<itemref idref="c{n}"/>' for n in chapters)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OPS/book.opf"/></rootfiles></container>',
        )
        archive.writestr(
            "OPS/book.opf",
            f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest><spine>{spine}</spine></package>',
        )
        for number, word in enumerate(words):
            page = f'<body><h1>Chapter {number}</h1><p>Some text.</p><img src="i/{number}.png"/></body>'
            archive.writestr(f"OPS/c{number}.xhtml", f'<html xmlns="http://www.w3.org/1999/xhtml">{page}</html>')
            archive.writestr(f"OPS/i/{number}.png", picture_of(word))
    return file.getvalue()


WRITERS = {"docx": docx, "pptx": pptx, "xlsx": xlsx, "odt": odt, "odp": odp, "epub": epub}
PAGED = ("pptx", "xlsx", "odp")


def extract(data: bytes, kind: str, options: ExtractionOptions = ON) -> Document:
    extractor = REGISTRY.load(kind)()
    extractor.options = options
    return extractor.extract(data, f"a.{kind}")


def pages_of(document: Document, text: str) -> list[int | None]:
    return [block.page for block in document.blocks if text in document.text[block.start : block.end]]


# -- their text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_the_text_of_pictures_is_at_its_place(kind: str) -> None:
    document = extract(WRITERS[kind](BOTH), kind)
    first, second = document.text.index("The receipt"), document.text.index("The invoice")
    assert first < second
    if kind in PAGED:
        assert pages_of(document, "The receipt") == [1]
        assert pages_of(document, "The invoice") == [2]
    else:
        between = {"docx": "Before picture 1.", "odt": "Before picture 1.", "epub": "Chapter 1"}[kind]
        assert first < document.text.index(between) < second
    (loss,) = document.losses
    assert loss == Loss(loss.reason, 0, (2,) if kind in PAGED else (), loss.advice)
    assert "hard to read" in loss.reason
    picture_blocks = [block for block in document.blocks if "of the day" in document.text[block.start : block.end]]
    assert all(block.kind == "paragraph" for block in picture_blocks), "the headings of a picture are none of the text"
    assert document.visible_words is not None
    assert document.visible_words >= 10


@pytest.mark.parametrize("kind", WRITERS)
def test_without_ocr_nothing_is_read(kind: str, colours: type[ColourReader]) -> None:
    document = extract(WRITERS[kind](BOTH), kind, ExtractionOptions())
    assert "of the day" not in document.text
    assert colours.read_pictures == 0
    assert [loss.reason for loss in document.losses if "without a description" in loss.reason] == [
        "2 pictures without a description"
    ] or kind in ("docx", "xlsx")  # python-docx and openpyxl write a description
    assert uses_ocr(WRITERS[kind](BOTH), f"a.{kind}")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_picture_without_text_is_stated_as_before(kind: str) -> None:
    document = extract(WRITERS[kind](["receipt", ""]), kind)
    reasons = [loss.reason for loss in document.losses]
    assert reasons == ["1 picture without a description"] or (kind in ("docx", "xlsx") and not reasons)


def test_the_same_picture_is_read_once(colours: type[ColourReader]) -> None:
    document = extract(pptx(["receipt"] * 3), "pptx")
    assert colours.read_pictures == 1
    assert document.text.count("The receipt") == 1
    assert not document.losses


def test_icons_and_pictures_beyond_the_limits_are_not_read(
    colours: type[ColourReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_texts, "MAX_PICTURES", 1)
    document = extract(odt(BOTH), "odt")
    assert colours.read_pictures == 1
    assert "the text of 1 further picture, beyond 1, or too large" in [loss.reason for loss in document.losses]
    with monkeypatch.context() as patch:
        patch.setattr(picture_texts, "_MIN_SIDE", 50)
        extract(odt(BOTH), "odt")
    assert colours.read_pictures == 1


def test_a_damaged_picture_costs_its_text_alone() -> None:
    whole, broken = odt(BOTH), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data[:40] if name == "Pictures/0.png" else data)
    document = extract(broken.getvalue(), "odt")
    assert "The invoice" in document.text
    assert "The receipt" not in document.text
    assert "1 picture without a description" in [loss.reason for loss in document.losses]


def test_pictures_of_flat_files_are_read() -> None:
    binary = f"<office:binary-data>{base64.b64encode(picture_of('receipt')).decode()}</office:binary-data>"
    body = (
        f"<office:text><text:p>Text.<draw:frame><draw:image>{binary}</draw:image></draw:frame></text:p></office:text>"
    )
    flat = f"<office:document {_ODF}><office:body>{body}</office:body></office:document>".encode()
    assert "The receipt" in extract(flat, "odt").text
    (picture,) = embedded_pictures(flat, "a.fodt", "odt")
    assert picture.data == picture_of("receipt")


# -- their bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_pictures_are_listed_as_bytes_with_their_places(kind: str) -> None:
    pictures = list(embedded_pictures(WRITERS[kind](BOTH), f"a.{kind}", kind))
    assert [np.asarray(Image.open(io.BytesIO(picture.data))).mean((0, 1)).tolist() for picture in pictures] == [
        list(COLOURS[word]) for word in BOTH
    ]
    assert [picture.page for picture in pictures] == ([1, 2] if kind in PAGED else [None, None])
    assert {picture.page_unit for picture in pictures} == {"slide" if kind in ("pptx", "odp") else "sheet"} or (
        kind not in PAGED or kind == "xlsx"
    )


def test_other_kinds_are_refused() -> None:
    assert set(WRITERS) < set(WITH_PICTURES)
    with pytest.raises(InputError, match=r"pictures are listed of docx, .*, not of pdf"):
        list(embedded_pictures(b"%PDF-", "a.pdf", "pdf"))
    with pytest.raises(InputError, match="damaged"):
        list(embedded_pictures(b"PK\3\4 broken", "a.docx", "docx"))
