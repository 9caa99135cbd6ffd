"""OCR: the models on pages with known text, the order of lines, the cache, pictures of all formats, limits."""

from __future__ import annotations

import socket
import sqlite3
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import PIL.Image
import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY, ocr, picture
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.ocr import engine, page_reader
from nearfield.corpus.extractors.ocr.engine import OcrLine
from nearfield.corpus.extractors.ocr.layout import paragraphs
from nearfield.corpus.extractors.ocr.page_reader import OcrPage, OcrPageReader, add_page, page_losses, page_of
from nearfield.corpus.extractors.options import ExtractionOptions, OcrMode
from nearfield.corpus.extractors.pdf import PdfExtractor
from nearfield.corpus.extractors.picture import PictureExtractor
from nearfield.corpus.extractors.reader import DocumentReader, uses_ocr
from nearfield.corpus.extractors.recognition_cache import RecognitionCache
from nearfield.corpus.extractors.sandbox import ExtractorSandbox
from nearfield.errors import InputError, MissingExtra
from tests.support import hostile_clients, sample_documents
from tests.support import scanned_pages as scans
from tests.support.cli_runner import python

TEXT = """The tenant pays the monthly rent of 1,284.50 euros in advance, at the latest on the third working day.

Heating and hot water are settled once a year, within twelve months after the end of the period.

Either party may terminate the agreement with a notice of three months, in writing and signed by hand."""
ON = ExtractionOptions(ocr=True)


def extract(data: bytes, name: str, options: ExtractionOptions = ON) -> Document:
    extractor = PictureExtractor()
    extractor.options = options
    return extractor.extract(data, name)


def share(expected: str, text: str) -> float:
    """Return the share of words that a text has in the same order."""
    words, read = expected.split(), text.replace("|", " ").split()
    blocks = SequenceMatcher(None, words, read, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(words)


def line(text: str, left: float, top: float, width: float = 300, height: float = 20, score: float = 1.0) -> OcrLine:
    return OcrLine(text, score, left, top, left + width, top + height)


@pytest.fixture(scope="module")
def pages() -> OcrPageReader:
    return OcrPageReader(ON)


# -- pages with known text ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", [14, 32])
def test_sizes_of_letters(pages: OcrPageReader, size: int) -> None:
    page = pages.read(scans.page(TEXT, size))
    assert share(TEXT, page.text) >= 0.98
    assert not (page.unread or page.foreign)
    assert size == 14 or len(page.paragraphs) == 3  # at 14, each paragraph is one line


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_pages(pages: OcrPageReader, degrees: int) -> None:
    turned = scans.page(TEXT, 22, columns=2, title="Lease").rotate(degrees, expand=True)
    assert share(f"Lease {TEXT}", pages.read(turned).text) >= 0.97


@pytest.mark.slow
def test_a_page_of_few_long_lines_is_not_turned_over(pages: OcrPageReader) -> None:
    text = "\n\n".join(part[:100].rsplit(" ", 1)[0] for part in TEXT.split("\n\n"))  # each is one line
    for turned in (scans.page(text, 14), scans.page(text, 14).rotate(180)):
        page = pages.read(turned)
        assert not page.foreign and share(text, page.text) >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("size", [14, 32])
def test_short_lines_that_stand_alone(pages: OcrPageReader, size: int) -> None:
    for words in ("Only one short line.", "Page 7"):
        assert pages.read(scans.page(words, size)).text == words
    letter = scans.page(TEXT, size)
    scans.draw(letter, ["Acme Ltd"], 950, 30, size)
    scans.draw(letter, ["Page 7"], 600, 1660, size)
    read = pages.read(letter).text.split("\n")
    assert read[0] == "Acme Ltd" and read[-1].replace(" ", "") == "Page7"  # narrow spaces may be missed


@pytest.mark.slow
def test_hebrew_is_at_least_declared_as_hard(pages: OcrPageReader) -> None:
    page = pages.read(scans.page("שלום עולם זה טקסט", 26))
    assert page.hard + page.unread + page.foreign == 1  # its letters look like Latin ones to the model


@pytest.mark.slow
def test_columns_under_a_title_tilted_and_noisy(pages: OcrPageReader) -> None:
    columns = scans.page(TEXT, 20, columns=2, title="Lease agreement")
    for picture_ in (columns, scans.skewed(columns, 1.5), scans.noisy(columns, 25)):
        page = pages.read(picture_)
        assert share(f"Lease agreement {TEXT}", page.text) >= 0.97
        assert page.paragraphs[0].kind == "heading" and page.paragraphs[0].text == "Lease agreement"


@pytest.mark.slow
def test_tables_have_rows(pages: OcrPageReader) -> None:
    rows = [("Item", "Number", "Price"), ("Desk lamp", "4", "39.90"), ("Chair", "12", "184.00"), ("Sum", "16", "")]
    sheet = scans.blank((1000, 500))
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            scans.draw(sheet, [cell], 80 + column * 300, 80 + row * 60, 24)
    (table,) = pages.read(sheet).paragraphs
    assert table.kind == "table"
    assert table.text.splitlines()[2:] == ["| Desk lamp | 4 | 39.90 |", "| Chair | 12 | 184.00 |", "| Sum | 16 |  |"]


@pytest.mark.slow
def test_light_on_dark_small_pictures_and_long_ones(pages: OcrPageReader) -> None:
    dark = scans.blank(colour="#202028")
    scans.draw(dark, scans.wrap(TEXT.replace("\n\n", " "), 22, 1000), 100, 100, 22, fill="white")
    assert share(TEXT, pages.read(dark).text) >= 0.97
    label = scans.blank((230, 34))
    scans.draw(label, ["Invoice 2024-17"], 2, 2, 24)
    assert pages.read(label).text == "Invoice 2024-17"
    long = scans.blank((900, 7000))
    numbered = [f"Line {number} of a long page" for number in range(1, 121)]
    scans.draw(long, numbered, 60, 60, 38)
    assert share(" ".join(numbered), pages.read(long).text) >= 0.97
    assert pages.read(scans.blank()) == OcrPage()


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["Привет мир, это проверка чтения", "Ελληνικό κείμενο για δοκιμή", "مرحبا بالعالم هذا نص"],
)
def test_other_scripts_are_declared(pages: OcrPageReader, text: str) -> None:
    page = pages.read(scans.page(text, 26))
    assert page.foreign + page.unread == 1 and page.missing_words >= 2
    (loss,) = page_losses({3: page})
    assert loss.pages == (3,) and loss.words == page.missing_words and loss.reason.startswith("1 line ")


@pytest.mark.slow
def test_what_is_hard_to_read_is_declared(pages: OcrPageReader) -> None:
    clean = scans.page(TEXT, 22)
    assert pages.read(clean).hard == 0
    blurred = pages.read(scans.blurred(clean, 3))
    noisy = pages.read(scans.noisy(clean, 130))
    for page in (blurred, noisy):
        assert share(TEXT, page.text) < 0.97  # otherwise nothing is to be declared
        assert page.hard + page.unread > 0
    reasons = " ".join(loss.reason for loss in page_losses({1: blurred, 2: noisy}))
    assert "may be wrong" in reasons


@pytest.mark.slow
def test_lines_that_are_not_even_detected_are_declared(pages: OcrPageReader) -> None:
    page = pages.read(scans.blurred(scans.page(TEXT, 22), 4))
    assert share(TEXT, page.text) < 0.5 and page.hard + page.unread + page.foreign >= 3
    chart = scans.blank()
    for row in range(6):  # bars may be declared as lines, but are no text
        chart.paste((60, 90, 160), (200, 200 + row * 100, 400 + row * 120, 240 + row * 100))
    assert not pages.read(chart).paragraphs


@pytest.mark.slow
def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("OCR used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    engine._engine.cache_clear()
    assert share(TEXT, OcrPageReader(ON).read(scans.page(TEXT, 22)).text) >= 0.98


@pytest.mark.parametrize(
    "use",
    [
        "import numpy; from nearfield.corpus.extractors.ocr import engine; engine._detect(numpy.ones((9, 9, 3), 'B'))",
        "import nearfield.testing, pathlib; nearfield.testing.tiny_encoder(pathlib.Path(place)).encode(['cat'])",
    ],
)
def test_openvino_is_imported_without_its_telemetry(tmp_path: Path, use: str) -> None:
    """Its package sends an event to Google Analytics when OpenVINO is imported, and writes to ``~/intel``."""
    program = f"import os, sys; place = {str(tmp_path / 'model')!r}; os.environ['HOME'] = {str(tmp_path)!r}\n{use}\n"
    ended = python(program + "print([name for name in sys.modules if 'openvino_telemetry' in name])")
    assert ended.splitlines()[-1] == "[]"
    assert not (tmp_path / "intel").exists()


def test_missing_models_are_named_and_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"since version 3\.10 \(rec is missing\)"):
        engine._model(tmp_path, "rec")


# -- the order of lines ------------------------------------------------------------------------------------------------


def texts(lines: list[OcrLine]) -> list[str]:
    return [paragraph.text for paragraph in paragraphs(lines)]


def test_columns_are_read_one_after_the_other() -> None:
    left = [line(f"left column has line {number}", 50, 100 + 30 * number) for number in range(5)]
    right = [line(f"right column has line {number}", 400, 104 + 30 * number) for number in range(5)]
    wide = [line("a line over both of the columns", 50, 40, 650), line("and a line below both of them", 50, 300, 650)]
    read = "\n".join(texts([*right, *wide, *left])).split("\n")
    assert read == [item.text for item in (wide[0], *left, *right, wide[1])]


def test_paragraphs_end_at_gaps_indents_and_items() -> None:
    assert texts([line("one two", 50, 0), line("three.", 50, 30), line("four", 50, 120)]) == ["one two\nthree.", "four"]
    assert texts([line("The end.", 50, 0), line("A start", 80, 30)]) == ["The end.", "A start"]
    assert texts([line("Things:", 50, 0), line("1. one", 50, 30), line("2. two", 50, 60)]) == [
        "Things:",
        "1. one",
        "2. two",
    ]
    assert texts([line("a broken agree-", 50, 0), line("ment is joined", 50, 30)]) == ["a broken agreement\n is joined"]


def test_parts_of_a_line_are_joined() -> None:
    assert texts([line("Total:", 50, 0, 80), line("12.50 euros", 300, 1, 150), line("was paid", 50, 30)]) == [
        "Total: 12.50 euros\nwas paid"
    ]
    assert paragraphs([]) == []


def test_scores_decide_what_is_text() -> None:
    page = page_of(
        [
            line("a clear line with words", 0, 0),
            line("an unsure line with words", 0, 40, score=0.9),
            line("a line of bad luck", 0, 80, score=0.4),
            line("нет", 0, 120, width=500),
            line("", 0, 160, width=400),
            line("", 0, 200, width=25),  # a part of a drawing
        ]
    )
    assert (page.hard, page.unread, page.foreign) == (1, 1, 2)
    assert page.text == "a clear line with words\nan unsure line with words"
    losses = page_losses({2: page, 5: OcrPage(hard=2), 7: OcrPage()})
    assert [loss.pages for loss in losses] == [(2, 5), (2,), (2,)]
    assert losses[0].reason == "3 lines hard to read, with text that may be wrong" and losses[0].words == 0
    assert "Latin, Chinese and Japanese" in losses[2].advice


def test_drawn_things_are_no_lines_of_another_script() -> None:
    knob, dot, box = line("1", 0, 0, 48, 28, 0.67), line("●", 0, 40, 29, 21, 0.73), line("", 0, 80, 39, 20, 0.9)
    page = page_of([knob, dot, box, line("weights of the parts", 60, 0)])
    assert page.text == "weights of the parts" and (page.hard, page.unread, page.foreign) == (0, 1, 0)
    assert page_of([line("–", 0, 0, 20, 20)]).text == "–"
    assert page_of([line("e", 0, 0, 60, 20, 0.8), line("", 0, 40, 60, 20, 0.8)]).foreign == 2


def test_pages_become_blocks() -> None:
    builder = DocumentBuilder()
    heading = line("Report", 50, 0, 200, 44)
    add_page(builder, page_of([heading, line("Words that follow the heading.", 50, 80)]), 4)
    blocks = builder.document("prose").blocks
    assert [(block.kind, block.page) for block in blocks] == [("heading", 4), ("paragraph", 4)]


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_the_cache_is_bounded_and_drops_the_oldest(tmp_path: Path) -> None:
    cache = RecognitionCache(tmp_path / "pages.db", max_bytes=1000)
    for number in range(12):
        cache.put(str(number), bytes(100))
        assert cache.get("0") == bytes(100)  # used again each time
    stored = [number for number in range(12) if cache.get(str(number)) is not None]
    assert stored == [0, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    cache.put("large", bytes(5000))
    assert cache.get("large") is None and cache.get("0") is None


def test_a_damaged_cache_costs_no_document(tmp_path: Path) -> None:
    path = tmp_path / "pages.db"
    path.write_bytes(b"no database at all" * 100)
    cache = RecognitionCache(path)
    assert cache.get("a") is None
    cache.put("a", b"1")  # removes the damaged file
    cache.put("a", b"2")
    assert cache.get("a") == b"2"
    nowhere = RecognitionCache(tmp_path / "missing" / "pages.db")
    nowhere.put("a", b"1")
    assert nowhere.get("a") is None and RecognitionCache(None).get("a") is None


def test_a_page_is_recognised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def recognise(pixels: Any) -> list[OcrLine]:
        calls.append(1)
        return [line("some words of a page", 0, 0)]

    monkeypatch.setattr(engine, "recognise", recognise)
    path, recognised = tmp_path / "pages.db", []
    options = ExtractionOptions(ocr=True, ocr_cache=str(path))
    pictures = [np.zeros((9, 9, 3), np.uint8), np.ones((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)]
    for _ in range(2):
        reader = OcrPageReader(options, lambda: recognised.append(1))
        assert [reader.read(item).text for item in pictures] == ["some words of a page"] * 3
    assert len(calls) == 2 and len(recognised) == 6
    with sqlite3.connect(path) as database:
        database.execute("UPDATE pages SET value = 'x'")
    database.close()
    assert OcrPageReader(options).read(pictures[0]).text and len(calls) == 3
    monkeypatch.setattr(page_reader, "_VERSION", 99)
    assert OcrPageReader(options).read(pictures[0]).text and len(calls) == 4


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_formats_of_pictures() -> None:
    page = scans.page(TEXT, 22)
    grey = page.convert("L")
    transparent = page.convert("RGBA")
    transparent.putalpha(grey.point(lambda value: 0 if value > 200 else 255))
    files = {
        "a.jpg": scans.encode(page, "JPEG", quality=85),
        "a.webp": scans.encode(page, "WEBP"),
        "a.bmp": scans.encode(page.convert("1"), "BMP"),
        "a.gif": scans.encode(page, "GIF"),
        "a.tiff": scans.encode(grey, "TIFF"),
        "cmyk.jpeg": scans.encode(page.convert("CMYK"), "JPEG"),
        "transparent.png": scans.encode(transparent),
        "deep.png": scans.encode(_sixteen_bits(grey)),
    }
    assert set(PictureExtractor.suffixes) >= {Path(name).suffix for name in files}
    for name, data in files.items():
        document = extract(data, name)
        assert share(TEXT, document.text) >= 0.97, name
        assert not document.losses and all(block.page is None for block in document.blocks)


def _sixteen_bits(grey: Any) -> Any:
    from PIL import Image

    return Image.fromarray(np.asarray(grey).astype(np.uint16) * 200)


@pytest.mark.slow
def test_pages_of_a_tiff_frames_of_an_animation_and_exif() -> None:
    first, second = scans.page("Words of the first page.", 30), scans.page("Words of the second page.", 30)
    tiff = extract(scans.encode(first, "TIFF", save_all=True, append_images=[second]), "a.tif")
    assert [(tiff.text[block.start : block.end], block.page) for block in tiff.blocks] == [
        ("Words of the first page.", 1),
        ("Words of the second page.", 2),
    ]
    moving = extract(scans.encode(first, "GIF", save_all=True, append_images=[second]), "a.gif")
    assert moving.text == "Words of the first page."
    assert [loss.reason for loss in moving.losses] == ["1 further frame of an animation"]
    exif = first.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert extract(scans.encode(first.rotate(90, expand=True), "JPEG", exif=exif), "a.jpg").text == moving.text


def test_bombs_and_damaged_pictures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = scans.encode(scans.blank((20_000, 20_000)).convert("1"))
    assert len(bomb) < 200_000
    limit = PIL.Image.MAX_IMAGE_PIXELS
    with pytest.raises(InputError, match=r"bomb\.png: 400,000,000 pixels\. Pictures of up to 120 million"):
        extract(bomb, "bomb.png")
    large = scans.encode(scans.blank((12_000, 11_000)).convert("1"))
    with pytest.raises(InputError, match=r"large\.png: 12,000 x 11,000 pixels\. Pictures of up to 120 million"):
        extract(large, "large.png")
    assert limit == PIL.Image.MAX_IMAGE_PIXELS, "the limit is one of the whole process"
    small = scans.encode(scans.page(TEXT))
    for data in (small[: len(small) // 2], b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(50)):
        with pytest.raises(InputError, match=r"bad\.png"):
            extract(data, "bad.png")
    monkeypatch.setattr(engine, "recognise", lambda _: [])
    with pytest.raises(InputError, match=r"a\.png: OCR recognised no text in the picture"):
        extract(small, "a.png")


def test_large_pictures_are_scaled_down(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    def recognise(pixels: Any) -> list[OcrLine]:
        shapes.append(pixels.shape)
        return []

    monkeypatch.setattr(engine, "_recognise", recognise)
    engine.recognise(np.zeros((5000, 9000, 3), np.uint8))
    engine.recognise(np.zeros((20, 300, 3), np.uint8))
    engine.recognise(np.zeros((20_000, 1000, 3), np.uint8))
    assert shapes[0][:2] == (1778, 3200) and min(shapes[1][:2]) >= 256
    assert len(shapes) > 5 and all(max(shape) <= 3200 and max(shape[:2]) <= 4 * min(shape[:2]) for shape in shapes)
    big = picture._upright(_opened(scans.blank((12_000, 7000))))
    assert max(big.size) <= 7000


def _opened(image: Any) -> Any:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(scans.encode(image)))


# -- without OCR -------------------------------------------------------------------------------------------------------


def test_without_the_option_the_message_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"a\.png: a picture, .*pip install 'nearfield\[ocr\]'.*ocr = true"):
        extract(scans.encode(scans.blank((9, 9))), "a.png", ExtractionOptions())
    assert uses_ocr(b"x", "a.jpg") and not uses_ocr(b"x", "a.txt") and not uses_ocr(b"\0" * 9, "a.unknown")


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "find_spec", lambda name: None if name == "rapidocr" else object())
    with pytest.raises(MissingExtra, match=r"^a\.png: reading it needs 'rapidocr': pip install 'nearfield\[ocr\]'$"):
        extract(scans.encode(scans.blank((9, 9))), "a.png")
    with pytest.raises(MissingExtra, match=r"^OCR needs 'rapidocr'"):
        ocr.require_ocr()


# -- the sandbox -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pictures_are_read_in_a_worker_process(tmp_path: Path) -> None:
    options = ExtractionOptions(ocr=True, ocr_cache=str(tmp_path / "pages.db"))
    with DocumentReader(options=options) as reader:
        document, kind = reader.document(scans.encode(scans.page(TEXT, 22)), "a.png")
        assert kind == "picture" and share(TEXT, document.text) >= 0.98
        assert reader.document(scans.encode(scans.page(TEXT, 22)), "again.png")[0].text == document.text
    with sqlite3.connect(tmp_path / "pages.db") as database:
        assert database.execute("SELECT count(*) FROM pages").fetchone() == (1,)
    database.close()


def test_the_deadline_begins_again_after_each_page() -> None:
    sandbox = ExtractorSandbox(deadline=4.0)
    try:
        document = sandbox.extract(hostile_clients.Paged, b"3", "x.pdf", ON)  # 3 pages of 2.5 seconds each
        assert document.text == "3 pages, True"
        with pytest.raises(InputError, match="took more than 4 seconds"):
            sandbox.extract(hostile_clients.Paged, b"-1", "x.pdf", ON)
    finally:
        sandbox.close()


def test_options_are_sent_as_json() -> None:
    for mode in (False, True, "damaged"):
        options = ExtractionOptions(ocr=mode, ocr_cache="x")
        assert msgspec.json.decode(msgspec.json.encode(options), type=ExtractionOptions) == options


# -- scanned PDFs ------------------------------------------------------------------------------------------------------


def read_pdf(data: bytes, mode: OcrMode = True) -> Document:
    extractor = PdfExtractor()
    extractor.options = ExtractionOptions(ocr=mode)
    return extractor.extract(data, "scan.pdf")


@pytest.mark.slow
def test_scanned_pages_of_a_pdf_are_read() -> None:
    turned = scans.page("Words of the third page, turned.", 30).rotate(90, expand=True)
    data = scans.pdf([scans.page(TEXT, 22, columns=2, title="Lease"), scans.noisy(scans.page(TEXT, 20)), turned])
    with pytest.raises(InputError, match=r"scan\.pdf: no text layer, .*ocr = true"):
        read_pdf(data, mode=False)
    document = read_pdf(data)
    texts = {page: " ".join(_texts(document, page)) for page in (1, 2, 3)}
    assert share(f"Lease {TEXT}", texts[1]) >= 0.97 and share(TEXT, texts[2]) >= 0.97
    assert texts[3] == "Words of the third page, turned."
    assert all("hard to read" in loss.reason and loss.pages == (2,) for loss in document.losses)  # the noisy page
    assert document.visible_words == pytest.approx(len(document.text.split()), rel=0.1)
    assert document.title == "Lease"


def _texts(document: Document, page: int) -> list[str]:
    return [document.text[block.start : block.end] for block in document.blocks if block.page == page]


@pytest.mark.slow
def test_a_pdf_with_text_and_scans_keeps_its_order() -> None:
    words = "These are the words of a page with a text layer, which OCR must leave alone: there are enough of them."
    data = _merged(
        [
            sample_documents.pdf([[(40, 750, 9, words), (40, 735, 9, words)]]),
            scans.pdf([scans.page("A scanned page.", 30)]),
        ]
    )
    without, document = read_pdf(data, mode=False), read_pdf(data)
    assert [loss.reason for loss in without.losses] == ["1 page without text"] and without.losses[0].pages == (2,)
    assert not document.losses and _texts(document, 2) == ["A scanned page."]
    assert _texts(document, 1) == _texts(without, 1)


@pytest.mark.slow
def test_pages_whose_pictures_have_no_text_are_declared() -> None:
    drawing = scans.blank()
    for left in range(100, 1100, 10):  # a smooth gradient: no letters
        drawing.paste((left // 5, 120, 255 - left // 5), (left, 200, left + 10, 1500))
    document = read_pdf(scans.pdf([scans.page("A page with words.", 30), drawing]))
    assert document.text == "A page with words."
    assert [(loss.reason, loss.pages) for loss in document.losses] == [
        ("1 page with pictures in which OCR found no text", (2,))
    ]
    with pytest.raises(InputError, match=r"OCR recognised no text \(1 page with pictures"):
        read_pdf(scans.pdf([drawing]))


@pytest.mark.slow
def test_damaged_text_is_replaced_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "The notice period is three months and the deposit is three monthly rents."
    data = sample_documents.pdf([[(60, 750, 12, words)]])
    monkeypatch.setattr("nearfield.corpus.extractors.pdf.pages.damage", lambda *_: "letters without a meaning")
    monkeypatch.setattr(engine, "recognise", lambda _: [line("Recognised words instead.", 0, 0)])
    kept = read_pdf(data)
    assert "notice period" in kept.text and "looks damaged" in kept.losses[0].reason
    replaced = read_pdf(data, mode="damaged")
    assert replaced.text == "Recognised words instead." and not replaced.losses


def _merged(files: list[bytes]) -> bytes:
    import io

    from pypdfium2 import PdfDocument

    target = PdfDocument.new()
    for data in files:
        target.import_pages(PdfDocument(data))
    file = io.BytesIO()
    target.save(file)
    return file.getvalue()


@pytest.mark.slow
def test_attached_pictures_and_scans_of_a_mail_are_read() -> None:
    from email.message import EmailMessage

    mail = EmailMessage()
    mail["Subject"] = "The receipt"
    mail.set_content("Please find the receipt attached.")
    picture_ = scans.encode(scans.page("A receipt for 12.50 euros.", 28))
    mail.add_attachment(picture_, maintype="image", subtype="png", filename="receipt.png")
    scan = scans.pdf([scans.page("A scanned page.", 30)])
    mail.add_attachment(scan, maintype="application", subtype="pdf", filename="scan.pdf")
    extractor = REGISTRY.load("eml")()
    assert [loss.reason.split(" (")[0] for loss in extractor.extract(mail.as_bytes(), "a.eml").losses] == [
        "the attachment receipt.png",
        "the attachment scan.pdf",
    ]
    extractor.options = ON
    document = extractor.extract(mail.as_bytes(), "a.eml")
    assert "A receipt for 12.50 euros." in document.text and "A scanned page." in document.text
    assert not document.losses and uses_ocr(mail.as_bytes(), "a.eml")
